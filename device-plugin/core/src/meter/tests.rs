//! Whatever happens to looks, clocks, drivers, the kubelet and this program: nothing is lost, nothing is doubled.

mod clocks;
mod held;
mod properties;
mod world;

use std::time::Duration;

use super::*;
use crate::Known;
use world::{RULES, World, gpu};

#[test]
fn a_whole_gpu_is_held_from_start_to_finish_and_the_rest_is_nobodys() {
    let mut world = World::new(&[1]);
    world.pass(10_000, 100);
    world.hold("a", 0, 0, 1_007_000);
    world.pass(20_000, 500);
    world.end("a", 1_026_000);
    world.pass(10_000, 100);
    world.close();
    let [of_a] = world.of("a")[..] else { panic!("one record: {:?}", world.records) };
    assert_eq!((of_a.start_ms, of_a.end_ms, of_a.healthy_ms), (1_007_000, 1_026_000, 19_000));
    assert_eq!((of_a.time_quality, of_a.last, of_a.pod_is_over), (Quality::Exact, true, true));
    let energy = of_a.energy.as_ref().unwrap();
    // At 7 s the looks at 6 and 8 s are as near; at 26 s there was one.
    assert_eq!((energy.start_mj, energy.end_mj, energy.quality), (7_400, 7_500 + 8 * 500, Quality::Exact));
    assert_eq!(energy.driver_epoch, "boot/1");
    assert!(of_a.gaps.is_empty());
    world.check_energy().unwrap();
    world.check_rows().unwrap();
}

#[test]
fn what_is_held_for_long_is_recorded_every_minute() {
    let mut world = World::new(&[1]);
    world.hold("a", 0, 0, 1_000_000);
    world.pass(200_000, 10);
    let spans: Vec<_> = world.of("a").iter().map(|record| record.end_ms - record.start_ms).collect();
    assert_eq!(spans, [60_000, 60_000, 60_000]);
    assert!(world.of("a").iter().all(|record| !record.last && record.healthy_ms == 60_000));
}

#[test]
fn several_holders_share_and_what_nobody_holds_of_it_is_nobodys() {
    let mut world = World::new(&[3]);
    world.hold("a", 0, 0, 1_000_000);
    world.hold("b", 0, 1, 1_000_000);
    world.pass(30_000, 1_000);
    world.end("a", 1_030_000);
    world.end("b", 1_030_000);
    world.close();
    world.check_energy().unwrap();
    let used: Vec<u64> = ["a", "b"].iter().map(|pod| world.of(pod)[0].used_mj()).collect();
    assert_eq!(used, [4_662, 4_662], "333 thousandths of 14 looks' energy: the first is where it begins");
    let energy = world.of("a")[0].energy.clone().unwrap();
    assert_eq!((energy.quality, energy.end_mj - energy.start_mj), (Quality::Apportioned, 4_662));
    let idle = world.records.iter().find(|record| record.holder.is_none()).unwrap();
    assert_eq!((idle.milli_gpu, idle.used_mj()), (334, 14_000 - 2 * 4_662));
}

#[test]
fn a_driver_that_is_loaded_anew_cuts_the_row() {
    let mut world = World::new(&[1]);
    world.hold("a", 0, 0, 1_000_000);
    world.pass(20_000, 100);
    world.counters[0] = 0;
    world.driver = Some("boot again".to_owned());
    world.pass(20_000, 100);
    world.end("a", 1_040_000);
    world.close();
    let epochs: Vec<_> =
        world.of("a").iter().map(|record| record.energy.clone().unwrap().driver_epoch).collect();
    assert_eq!(epochs, ["boot/1", "boot again/2"]);
    assert!(world.of("a")[1].gaps.concat().contains("counter began anew"));
    world.check_energy().unwrap();
    world.check_rows().unwrap();
}

#[test]
fn a_gpu_that_does_not_count_has_no_energy_and_its_time_all_the_same() {
    let mut world = World::new(&[1]);
    let look = |world: &mut World| {
        world.now += 2_000;
        let board = BoardLook {
            gpu_uuid: gpu(0),
            product: "old".to_owned(),
            counter_mj: None,
            usable: true,
            sick_parts: Vec::new(),
            parts: vec![Part::whole(&gpu(0))],
        };
        let look = MeterLook { at_ms: world.now, boards: vec![board], ..MeterLook::default() };
        world.ledger.look(&look, &RULES());
        world.advance(world.now);
    };
    look(&mut world);
    world.hold("a", 0, 0, 1_003_000);
    (0..100).for_each(|_| look(&mut world));
    world.end("a", 1_200_000);
    (0..10).for_each(|_| look(&mut world));
    let ms: u64 = world.of("a").iter().map(|record| record.end_ms - record.start_ms).sum();
    assert_eq!(ms, 197_000);
    assert!(world.records.iter().all(|record| record.energy.is_none()));
}

#[test]
fn a_sick_gpu_is_held_and_not_healthy() {
    let mut world = World::new(&[1]);
    world.hold("a", 0, 0, 1_000_000);
    world.pass(10_000, 1);
    let sick = |at_ms, usable| MeterLook {
        at_ms,
        driver: Some("boot".to_owned()),
        boards: vec![BoardLook {
            gpu_uuid: gpu(0),
            product: "H100".to_owned(),
            counter_mj: None,
            usable,
            sick_parts: Vec::new(),
            parts: vec![Part::whole(&gpu(0))],
        }],
        ..MeterLook::default()
    };
    world.ledger.look(&sick(1_010_500, false), &RULES());
    world.ledger.look(&sick(1_020_000, true), &RULES());
    world.now = 1_020_000;
    world.pass(10_000, 1);
    world.end("a", 1_030_000);
    world.close();
    let [of_a] = world.of("a")[..] else { panic!("one record") };
    assert_eq!((of_a.end_ms - of_a.start_ms, of_a.healthy_ms), (28_000, 28_000 - 9_500));
}

#[test]
fn a_sick_instance_is_not_healthy_and_its_neighbour_is() {
    let mut world = World::new(&[1]);
    let instance = |uuid: &str| Part { milli_gpu: 142, ..Part::whole(uuid) };
    let parts = vec![Part::whole(&gpu(0)), instance("MIG-a"), instance("MIG-b")];
    world.parts[0].clone_from(&parts);
    world.hold("a", 0, 1, 1_000_000);
    world.hold("b", 0, 2, 1_000_000);
    world.pass(10_000, 1);
    let look = |at_ms, sick_parts: &[&str]| MeterLook {
        at_ms,
        driver: Some("boot".to_owned()),
        boards: vec![BoardLook {
            gpu_uuid: gpu(0),
            product: "H100".to_owned(),
            counter_mj: None,
            usable: true,
            sick_parts: sick_parts.iter().map(|uuid| (*uuid).to_owned()).collect(),
            parts: parts.clone(),
        }],
        ..MeterLook::default()
    };
    world.ledger.look(&look(1_010_500, &["MIG-a"]), &RULES());
    world.ledger.look(&look(1_020_000, &[]), &RULES());
    world.now = 1_020_000;
    // It is gone for a while, which nobody could use either.
    world.parts[0].remove(1);
    world.pass(6_000, 1);
    world.parts[0] = parts;
    world.restart();
    world.pass(4_000, 1);
    world.end("a", 1_030_000);
    world.end("b", 1_030_000);
    world.close();
    let healthy = |pod: &str| world.of(pod).iter().map(|record| record.healthy_ms).sum::<u64>();
    assert_eq!(healthy("b"), 28_000, "from the first look on: {:#?}", world.of("b"));
    assert_eq!(healthy("a"), 28_000 - 9_500 - 6_000, "{:#?}", world.of("a"));
}

#[test]
fn while_nvml_hangs_an_end_waits_for_a_look_and_then_no_longer() {
    let mut world = World::new(&[1]);
    world.hold("a", 0, 0, 1_000_000);
    world.pass(10_000, 100);
    world.end("a", 1_015_000);
    world.now = 1_030_000;
    world.advance(world.now);
    assert!(world.of("a").is_empty());
    world.now = 1_061_000;
    world.advance(world.now);
    let [of_a] = world.of("a")[..] else { panic!("it waited long enough") };
    assert_eq!(of_a.end_ms, 1_015_000, "the time is the kubelet's all the same");
    assert_eq!(of_a.energy.as_ref().unwrap().quality, Quality::Sampled);
    assert!(of_a.gaps.concat().contains("nobody could look"));
}

#[test]
fn a_pod_of_several_gpus_is_over_with_its_last_record() {
    let mut world = World::new(&[1, 1]);
    world.hold("a", 0, 0, 1_000_000);
    world.hold("a", 1, 0, 1_000_000);
    world.pass(10_000, 100);
    world.end("a", 1_010_000);
    world.close();
    let over: Vec<_> = world.of("a").iter().map(|record| (record.last, record.pod_is_over)).collect();
    assert_eq!(over, [(true, false), (true, true)]);
}

#[test]
fn a_pod_is_not_over_while_one_of_its_gpus_waits_for_a_look() {
    let mut world = World::new(&[1, 1]);
    world.hold("a", 0, 0, 1_000_000);
    world.hold("a", 1, 0, 1_000_000);
    world.pass(10_000, 100);
    // The second one doesn't answer any more.
    world.counters.pop();
    world.pass(4_000, 100);
    world.end("a", 1_013_000);
    let over = |world: &World| -> Vec<_> {
        world
            .of("a")
            .iter()
            .map(|record| (record.gpu_uuid.clone(), record.last, record.pod_is_over))
            .collect()
    };
    world.pass(10_000, 100);
    assert_eq!(over(&world), [(gpu(0), true, false)]);
    world.pass(40_000, 100);
    assert_eq!(over(&world), [(gpu(0), true, false), (gpu(1), true, true)]);
}

#[test]
fn what_was_over_before_it_was_told_of_has_its_record_and_no_time() {
    let mut world = World::new(&[1]);
    world.pass(700_000, 100);
    world.hold("a", 0, 0, 1_100_000);
    world.end("a", 1_101_000);
    world.hold("old", 0, 0, 900_000);
    world.end("old", 950_000);
    world.close();
    let [of_a] = world.of("a")[..] else { panic!("one record") };
    assert_eq!((of_a.end_ms - of_a.start_ms, of_a.pod_is_over), (0, true));
    assert!(of_a.gaps.concat().contains("told or looked at too late"));
    assert!(world.of("old").is_empty(), "what was over before the meter began isn't its business");
    world.check_rows().unwrap();
}

/// The review's case: a kubelet that was away tells first what the API server had, then how it was.
#[test]
fn a_pod_that_ended_while_the_kubelet_was_away_has_its_own_end() {
    let mut world = World::new(&[1]);
    let (mut known, at) =
        (Known::new(Duration::from_secs(30)), |world: &World| Duration::from_millis(world.now));
    let advance = |world: &mut World, known: &mut Known| {
        world.counters[0] += 10;
        let complete_ms = known.until(at(world), world.now, None).unwrap();
        world.look_and_advance(complete_ms);
    };
    known.is_told(at(&world));
    known.remember(0);
    world.hold("a", 0, 0, 1_001_000);
    for second in 1..700 {
        world.now = 1_000_000 + second * 1_000;
        match second {
            20 => known.is_silent(),
            // The driver is loaded anew meanwhile.
            300 => world.counters[0] = 0,
            // It runs, says the kubelet.
            620 => known.is_told(at(&world)),
            640 => {
                world.end("a", 1_024_000);
                world.hold("b", 0, 0, 1_630_000);
            }
            _ => {}
        }
        advance(&mut world, &mut known);
    }
    let ms: u64 = world.of("a").iter().map(|record| record.end_ms - record.start_ms).sum();
    assert_eq!(ms, 23_000, "{:#?}", world.of("a"));
    assert!(world.of("a").last().unwrap().pod_is_over);
    world.end("b", world.now);
    world.close();
    world.check_rows().unwrap();
}

#[test]
fn the_next_pod_of_a_gpu_begins_when_the_one_before_has_ended_whatever_the_clock_says() {
    let mut world = World::new(&[1]);
    world.pass(2_000, 1);
    world.hold("a", 0, 0, 1_002_000);
    world.pass(18_000, 1);
    world.end("a", 1_020_000);
    // The clock went back by a second.
    world.hold("b", 0, 0, 1_019_000);
    world.pass(10_000, 1);
    world.end("b", 1_030_000);
    world.close();
    let spans = |pod| world.of(pod).iter().map(|one| (one.start_ms, one.end_ms)).collect::<Vec<_>>();
    assert_eq!((spans("a"), spans("b")), (vec![(1_002_000, 1_020_000)], vec![(1_020_000, 1_030_000)]));
    world.check_rows().unwrap();
}

#[test]
fn a_pod_whose_end_nobody_tells_ends_when_another_has_its_gpu() {
    let mut world = World::new(&[1]);
    world.pass(2_000, 1);
    world.hold("a", 0, 0, 1_002_000);
    world.pass(18_000, 1);
    world.hold("b", 0, 0, 1_012_000);
    world.pass(20_000, 1);
    assert!(world.of("a").is_empty(), "its end may still be told");
    world.pass(10_000, 1);
    let [of_a] = world.of("a")[..] else { panic!("one record") };
    assert_eq!((of_a.end_ms, of_a.last, of_a.time_quality), (1_012_000, true, Quality::Sampled));
    assert!(of_a.gaps.concat().contains("another pod had the device"));
    world.check_rows().unwrap();
}

#[test]
fn a_gpu_that_left_is_recorded_to_its_end_and_forgotten() {
    let mut world = World::new(&[1, 1]);
    world.pass(20_000, 100);
    world.counters.pop();
    world.pass(4_000_000, 1);
    let of_it: Vec<_> = world.records.iter().filter(|record| record.gpu_uuid == gpu(1)).collect();
    assert_eq!(of_it.iter().map(|record| record.used_mj()).sum::<u64>(), 900);
    assert_eq!(world.ledger.open().0, []);
    assert!(!serde_json::to_string(&world.ledger).unwrap().contains("GPU-1"));
}

#[test]
fn a_pod_that_comes_again_under_its_uid_is_recorded_again() {
    let mut world = World::new(&[1]);
    world.pass(2_000, 1);
    world.hold("a", 0, 0, 1_002_000);
    world.pass(18_000, 1);
    world.end("a", 1_020_000);
    world.pass(10_000, 1);
    assert!(world.of("a").last().unwrap().pod_is_over);
    assert_eq!(world.ledger.ended(), [("a".to_owned(), 1_020_000)]);
    world.restart();
    world.hold("a", 0, 0, 1_025_000);
    world.pass(20_000, 1);
    world.end("a", 1_048_000);
    // And at once a third time, before anybody wrote anything down.
    world.hold("a", 0, 0, 1_049_000);
    world.pass(20_000, 1);
    world.end("a", 1_070_000);
    world.close();
    let spans: Vec<_> = world.of("a").iter().map(|one| (one.start_ms, one.end_ms, one.last)).collect();
    let lives = [(1_002_000, 1_020_000), (1_025_000, 1_048_000), (1_049_000, 1_070_000)];
    assert_eq!(spans, lives.map(|(start, end)| (start, end, true)));
    world.check_rows().unwrap();
    world.check_energy().unwrap();
}

#[test]
fn what_an_earlier_version_recorded_to_its_end_is_over() {
    let mut world = World::new(&[1]);
    world.hold("a", 0, 0, 1_000_000);
    world.pass(18_000, 1);
    world.end("a", 1_016_000);
    world.pass(10_000, 1);
    let written = serde_json::to_string(&world.ledger).unwrap();
    let earlier = written.replace("\"ended_ms\":1016000,", "");
    assert_ne!(earlier, written);
    world.ledger = serde_json::from_str(&earlier).unwrap();
    world.pass(10_000, 1);
    assert_eq!((world.of("a").len(), world.ledger.ended()), (1, vec![]));
}
