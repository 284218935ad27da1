//! Whatever happens to looks, clocks, drivers, the kubelet and this program: nothing is lost, nothing is doubled.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{End, Known, Tenure};

const RULES: fn() -> MeterRules = || MeterRules::for_looks_every(2_000);

/// A node as it really is, and what the ledger was told of it.
struct World {
    now: u64,
    ledger: Ledger,
    driver: Option<String>,
    session: u64,
    counters: Vec<u64>,
    parts: Vec<Vec<Part>>,
    tenures: Vec<Tenure>,
    records: Vec<Record>,
    /// By board, what the readings that were taken add up to, and the last of them.
    used: Vec<(u64, Option<u64>)>,
    /// The driver and the session of the last reading, as far as this process knows.
    read_from: (Option<String>, Option<u64>),
    peak: u64,
    until_ms: u64,
}

impl World {
    /// Boards that are each given away in so many parts.
    fn new(boards: &[u32]) -> Self {
        let part = |board: usize, of: u32, n: u32| match of {
            1 => Part::whole(&gpu(board)),
            of => Part { id: format!("{}::{n}", gpu(board)), uuid: gpu(board), milli_gpu: 1000 / of },
        };
        let parts = boards.iter().enumerate();
        Self {
            now: 1_000_000,
            ledger: Ledger::default(),
            driver: Some("boot".to_owned()),
            session: 0,
            counters: vec![7_000; boards.len()],
            parts: parts.map(|(board, of)| (0..*of).map(|n| part(board, *of, n)).collect()).collect(),
            tenures: Vec::new(),
            records: Vec::new(),
            used: vec![(0, None); boards.len()],
            read_from: (None, None),
            peak: 0,
            until_ms: 0,
        }
    }

    fn look(&mut self) {
        self.look_and_advance(self.now);
    }

    fn look_and_advance(&mut self, complete_ms: u64) {
        let board = |at: usize| BoardLook {
            gpu_uuid: gpu(at),
            product: "H100".to_owned(),
            counter_mj: Some(self.counters[at]),
            usable: true,
            sick_parts: Vec::new(),
            parts: self.parts[at].clone(),
        };
        let boards = (0..self.counters.len()).map(board).collect();
        let (driver, session) = (self.driver.clone(), self.session);
        let look = MeterLook { at_ms: self.now, driver, session, simulated: false, boards };
        let is_another = match (&self.read_from.0, &self.driver) {
            (Some(was), Some(is)) => was != is,
            _ => self.read_from.1.is_some_and(|was| was != self.session),
        };
        self.read_from = (self.driver.clone(), Some(self.session));
        for ((used, last), now) in self.used.iter_mut().zip(&self.counters) {
            *used += match *last {
                // It began at zero in between.
                Some(last) if *now < last => *now,
                Some(last) if !is_another => now - last,
                // Where it began isn't known.
                _ => 0,
            };
            *last = Some(*now);
        }
        self.ledger.look(&look, &RULES());
        self.advance(complete_ms);
    }

    fn reload(&mut self, name: Option<&str>) {
        self.session += 1;
        self.driver = name.map(str::to_owned);
    }

    fn advance(&mut self, complete_ms: u64) {
        self.peak = self.peak.max(self.now);
        let out = self.ledger.advance(&self.tenures, Some(complete_ms), self.now, &RULES());
        for record in &out.records {
            assert!(record.end_ms >= self.until_ms, "promised to {}, came later: {record:?}", self.until_ms);
        }
        self.until_ms = out.until_ms.unwrap();
        self.records.extend(out.records);
    }

    /// So much time passes with looks, each with so much energy.
    fn pass(&mut self, ms: u64, mj: u64) {
        let end = self.now + ms;
        while self.now < end {
            self.now = (self.now + 2_000).min(end);
            self.counters.iter_mut().for_each(|counter| *counter += mj);
            self.look();
        }
    }

    fn hold(&mut self, pod: &str, board: usize, part: usize, started_ms: u64) {
        let device = self.parts[board][part].id.clone();
        self.tenures.push(Tenure { device, holder: holder(pod), started_ms, end: None });
    }

    fn end(&mut self, pod: &str, at_ms: u64) {
        let of_pod = self.tenures.iter_mut().filter(|one| one.holder.pod_uid == pod && one.end.is_none());
        of_pod.for_each(|one| one.end = Some(End { at_ms: at_ms.max(one.started_ms), told: true }));
    }

    /// Everything is written down, and read by another process.
    fn restart(&mut self) {
        let written = serde_json::to_string(&self.ledger).unwrap();
        self.ledger = serde_json::from_str(&written).unwrap();
        self.session = 0;
        self.read_from.1 = None;
    }

    /// Lets every open span be recorded.
    fn close(&mut self) {
        self.pass(20_000, 1);
        self.now += 700_000;
        self.look();
        self.now += 20_000;
        self.advance(self.now);
    }

    fn of(&self, pod: &str) -> Vec<&Record> {
        let is_of = |record: &&Record| record.holder.as_ref().is_some_and(|holder| holder.pod_uid == pod);
        self.records.iter().filter(is_of).collect()
    }

    fn check_energy(&self) -> Result<(), TestCaseError> {
        for (board, (used, _)) in self.used.iter().enumerate() {
            let of_board = self.records.iter().filter(|record| record.gpu_uuid == gpu(board));
            prop_assert_eq!(of_board.map(Record::used_mj).sum::<u64>(), *used, "GPU {}", board);
        }
        Ok(())
    }

    /// The records of a GPU that is given away as a whole follow each other: it has one holder at a time.
    fn check_rows(&self) -> Result<(), TestCaseError> {
        let numbers: Vec<u64> = self.records.iter().map(|record| record.sequence).collect();
        prop_assert_eq!(numbers, (1..=self.records.len() as u64).collect::<Vec<_>>());
        let mut ends = BTreeMap::new();
        for record in &self.records {
            prop_assert!(
                record.start_ms <= record.end_ms && record.healthy_ms <= record.end_ms - record.start_ms
            );
            if self.parts.iter().any(|parts| parts.len() == 1 && parts[0].uuid == record.gpu_uuid)
                && let Some(before) = ends.insert(&record.gpu_uuid, record.end_ms)
            {
                prop_assert_eq!(before, record.start_ms);
            }
        }
        Ok(())
    }

    /// Of each pod and device one record is the last, and of each pod one says that it is over.
    fn check_ends(&self) -> Result<(), TestCaseError> {
        let mut over = BTreeSet::new();
        for record in self.records.iter().filter(|record| record.holder.is_some()) {
            let pod = &record.holder.as_ref().unwrap().pod_uid;
            prop_assert!(!over.contains(pod), "{} comes after its pod was over", record.sequence);
            if record.pod_is_over {
                prop_assert!(record.last);
                over.insert(pod.clone());
            }
        }
        let is_its_business = |tenure: &&Tenure| tenure.end.is_some_and(|end| end.at_ms > 1_000_000);
        for tenure in self.tenures.iter().filter(is_its_business) {
            let records = self.of(&tenure.holder.pod_uid);
            prop_assert!(over.contains(&tenure.holder.pod_uid), "{:?} is over: {:?}", tenure, records);
        }
        Ok(())
    }
}

fn gpu(at: usize) -> String {
    format!("GPU-{at}")
}

fn holder(pod: &str) -> Holder {
    Holder {
        pod_uid: pod.to_owned(),
        namespace: "n".to_owned(),
        pod: "p".to_owned(),
        container: "c".to_owned(),
    }
}

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
    let instance = |uuid: &str| Part { id: uuid.to_owned(), uuid: uuid.to_owned(), milli_gpu: 142 };
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
    let (mut known, at) = (Known::default(), |world: &World| Duration::from_millis(world.now));
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

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    Look {
        ms: u64,
        mj: u64,
    },
    /// Nobody looks, whatever is used.
    Unseen {
        ms: u64,
        mj: u64,
    },
    Reset,
    Reload(Option<bool>),
    Hold {
        board: usize,
        part: usize,
        late_ms: u64,
    },
    End {
        late_ms: u64,
    },
    ClockBack {
        ms: u64,
    },
    Restart,
    /// The kubelet is silent for so long.
    Silent {
        ms: u64,
    },
}

fn event(calm: bool) -> impl Strategy<Value = Event> {
    let late = if calm { 3_000_u64 } else { 200_000 };
    let looks = prop_oneof![
        6 => (1_u64..4_000, 0_u64..5_000).prop_map(|(ms, mj)| Event::Look { ms, mj }),
        2 => (0_usize..3, 0_usize..4, 0..late)
            .prop_map(|(board, part, late_ms)| Event::Hold { board, part, late_ms }),
        2 => (0..late).prop_map(|late_ms| Event::End { late_ms }),
        1 => Just(Event::Restart),
    ];
    let storms = prop_oneof![
        (1_u64..400_000, 0_u64..900_000).prop_map(|(ms, mj)| Event::Unseen { ms, mj }),
        Just(Event::Reset),
        any::<Option<bool>>().prop_map(Event::Reload),
        (1_u64..100_000).prop_map(|ms| Event::ClockBack { ms }),
        (1_u64..100_000).prop_map(|ms| Event::Silent { ms }),
    ];
    let storms = prop_oneof![2 => looks.clone(), 1 => storms];
    if calm { looks.boxed() } else { storms.boxed() }
}

impl World {
    fn happens(&mut self, event: &Event, pods: &mut u32) {
        match *event {
            Event::Look { ms, mj } => {
                self.now += ms;
                self.counters.iter_mut().for_each(|counter| *counter += mj);
                self.look();
            }
            Event::Unseen { ms, mj } => {
                self.now += ms;
                self.counters.iter_mut().for_each(|counter| *counter += mj);
                self.advance(self.now);
            }
            Event::Reset => self.counters.iter_mut().for_each(|counter| *counter /= 7),
            Event::Reload(None) => self.reload(None),
            Event::Reload(Some(same)) => {
                let name = if same { "boot".to_owned() } else { format!("boot {}", self.session) };
                self.reload(Some(&name));
            }
            Event::Hold { board, part, late_ms } => {
                let board = board % self.parts.len();
                let part = part % self.parts[board].len();
                let id = &self.parts[board][part].id;
                // The kubelet gives it away when its pod is over; the clock may have gone back since.
                if self.tenures.iter().all(|one| one.device != *id || one.end.is_some()) {
                    *pods += 1;
                    let started = self.now.saturating_sub(late_ms) / 1000 * 1000;
                    self.hold(&format!("pod {pods}"), board, part, started);
                }
            }
            Event::End { late_ms } => {
                if let Some(open) = self.tenures.iter().find(|one| one.end.is_none()) {
                    let (pod, at) = (open.holder.pod_uid.clone(), self.now.saturating_sub(late_ms));
                    self.end(&pod, at / 1000 * 1000);
                }
            }
            Event::ClockBack { ms } => self.now -= ms,
            Event::Restart => self.restart(),
            Event::Silent { ms } => self.advance(self.now.saturating_sub(ms)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Counter resets, lost looks, clocks that go back, drivers and libraries that are loaded anew, restarts, a silent
    /// kubelet, news that come minutes late: what the records say was used is what the readings add up to.
    #[test]
    fn energy_always_adds_up(events in vec(event(false), 1..80), shared in 1_u32..4) {
        let mut world = World::new(&[1, shared]);
        let mut pods = 0;
        world.look();
        events.iter().for_each(|event| world.happens(event, &mut pods));
        // The clock is where it was before it went back.
        world.now = world.now.max(world.peak) + 10_000;
        world.look();
        let open: Vec<String> = world.tenures.iter().map(|one| one.holder.pod_uid.clone()).collect();
        open.iter().for_each(|pod| world.end(pod, world.now));
        world.close();
        world.check_energy()?;
        world.check_rows()?;
        world.check_ends()?;
    }

    /// Where the kubelet tells in time and the clock goes on, a holder's records cover its time to the millisecond,
    /// through any restarts.
    #[test]
    fn time_told_in_time_is_covered_exactly(events in vec(event(true), 1..120)) {
        let mut world = World::new(&[1, 1, 2]);
        let mut pods = 0;
        world.look();
        events.iter().for_each(|event| world.happens(event, &mut pods));
        let open: Vec<String> = world.tenures.iter().map(|one| one.holder.pod_uid.clone()).collect();
        open.iter().for_each(|pod| world.end(pod, world.now));
        world.close();
        world.check_energy()?;
        world.check_rows()?;
        world.check_ends()?;
        let mut free = BTreeMap::new();
        for (at, tenure) in world.tenures.iter().enumerate() {
            let end = tenure.end.unwrap().at_ms;
            // A device has one holder at a time, whatever the clock said when it began.
            let free = free.entry(&tenure.device).or_insert(1_000_000);
            let before = std::mem::replace(free, end.max(*free));
            let in_order = |(other, one): (usize, &Tenure)| {
                one.device != tenure.device || at.cmp(&other) == tenure.started_ms.cmp(&one.started_ms)
                    || tenure.started_ms == one.started_ms
            };
            // Of two that began in another order, as far as the clock says, the sum alone is certain.
            if !world.tenures.iter().enumerate().all(in_order) {
                continue;
            }
            let ms: u64 = world.of(&tenure.holder.pod_uid).iter().map(|one| one.end_ms - one.start_ms).sum();
            prop_assert_eq!(ms, end.saturating_sub(tenure.started_ms.max(before)), "{:?}", tenure);
        }
    }
}
