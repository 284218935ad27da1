//! Nothing that a meter tells, in whatever order and however often, bills a device's millisecond twice.

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;

const LIFE: Life =
    Life { created: UnixMillis(1000), seen_over: UnixMillis(2_000_000), ended: None, devices: 4 };

fn told(device: &str, (start, end): (u64, u64), healthy: u64) -> Told {
    Told {
        id: device.to_owned(),
        device: device.to_owned(),
        board: device.to_owned(),
        milli: WHOLE,
        kind: None,
        start: UnixMillis(start),
        end: UnixMillis(end),
        healthy: Duration(healthy),
        last: false,
        simulated: false,
        exact: false,
    }
}

fn meter<'a>(all: impl IntoIterator<Item = &'a Told>) -> PodMeter {
    let mut meter = PodMeter::default();
    all.into_iter().for_each(|told| meter.add(told));
    meter
}

fn device_ms(meter: &PodMeter, life: &Life) -> u64 {
    match meter.usage(life, Unit::Board) {
        Usage::Known { device_ms, .. } => device_ms,
        _ => 0,
    }
}

#[test]
fn it_is_billed_from_the_first_moment_to_the_last_for_the_healthy_time_of_each_device() {
    let all = [told("a", (5000, 9000), 3000), told("b", (6000, 9000), 3000), told("b", (9000, 9500), 500)];
    let expected = Usage::Known { end: UnixMillis(9500), duration: Duration(4500), device_ms: 6500 };
    assert_eq!(meter(&all).usage(&LIFE, Unit::Board), expected);
}

#[test]
fn what_is_told_of_no_device_is_unknown() {
    assert_eq!(PodMeter::default().usage(&LIFE, Unit::Board), Usage::Unknown { end: LIFE.seen_over });
}

#[test]
fn a_gap_is_not_billed() {
    assert_eq!(
        device_ms(&meter(&[told("a", (5000, 6000), 1000), told("a", (8000, 9000), 1000)]), &LIFE),
        2000
    );
}

#[test]
fn what_contradicts_itself_is_billed_once_and_in_the_payers_favour() {
    let again = [told("a", (5000, 9000), 4000), told("a", (5000, 9000), 4000)];
    assert_eq!(device_ms(&meter(&again), &LIFE), 4000);
    let longer = [told("a", (5000, 9000), 4000), told("a", (4000, 10_000), 5000)];
    assert_eq!(device_ms(&meter(&longer), &LIFE), 4000, "the new second was unhealthy");
    let smaller = [told("a", (5000, 6000), 1000), Told { milli: 500, ..told("a", (6000, 7000), 1000) }];
    assert_eq!(device_ms(&meter(&smaller), &LIFE), 1000);
}

#[test]
fn a_part_of_a_device_costs_that_part_rounded_down() {
    let part = Told { milli: 142, board: "GPU-1".to_owned(), ..told("MIG-1", (5000, 5999), 999) };
    assert_eq!(device_ms(&meter([&part]), &LIFE), 141);
    let sold_as_it_is = meter([&part]).usage(&LIFE, Unit::Device);
    assert!(matches!(sold_as_it_is, Usage::Known { device_ms: 999, .. }), "{sold_as_it_is:?}");
}

/// A quarter of a GPU, as a plugin that tells ids has it, and as an older one has it.
fn share(id: Option<&str>, span: (u64, u64), last: bool) -> Told {
    let healthy = span.1 - span.0;
    let told = Told { milli: 250, last, ..told("GPU-1", span, healthy) };
    Told { id: id.unwrap_or("GPU-1").to_owned(), ..told }
}

#[test]
fn each_share_of_one_gpu_counts() {
    let (first, second) = (Some("GPU-1::0"), Some("GPU-1::3"));
    let mut two = meter(&[share(first, (5000, 9000), true), share(second, (5000, 9000), true)]);
    two.end();
    assert_eq!((device_ms(&two, &LIFE), two.is_complete()), (2000, true));
    let uuids: Vec<_> = two.devices().map(|(uuid, held)| (uuid, held.board.as_str())).collect();
    assert_eq!(uuids, [("GPU-1", "GPU-1"); 2]);
    let again = meter(&[share(first, (5000, 9000), true), share(first, (5000, 9000), true)]);
    assert_eq!(device_ms(&again, &LIFE), 1000, "one share that is told twice");
}

#[test]
fn what_a_plugin_without_ids_told_counts_and_goes_on_under_the_ids_of_the_next() {
    let older = share(None, (5000, 6000), false);
    assert_eq!(device_ms(&meter([&older]), &LIFE), 250);
    let later = ["GPU-1::0", "GPU-1::3"].map(|id| share(Some(id), (6000, 8000), true));
    let mut both = meter([&older].into_iter().chain(&later));
    both.end();
    assert_eq!((device_ms(&both, &LIFE), both.is_complete()), (250 + 2 * 500, true));
}

#[test]
fn sums_that_were_kept_without_ids_and_kinds_are_read() {
    let kept = r#"{"devices":{"GPU-1":{"board":"GPU-1","milli":1000,"start":5000,"end":6000,"healthy":1000,"ended":false}},
        "simulated":false,"over":false}"#;
    let mut kept: PodMeter = serde_json::from_str(kept).unwrap();
    let kind = Some(Kind { board: "H100".to_owned(), part: None });
    kept.add(&Told { kind: kind.clone(), ..told("GPU-1", (6000, 7000), 1000) });
    assert_eq!(device_ms(&kept, &LIFE), 2000);
    let [(uuid, held)] = kept.devices().collect::<Vec<_>>()[..] else { panic!("one device: {kept:?}") };
    assert_eq!((uuid, &held.kind), ("GPU-1", &kind));
    let written = serde_json::to_string(&kept).unwrap();
    assert_eq!(serde_json::from_str::<PodMeter>(&written).unwrap(), kept);
}

#[test]
fn more_devices_than_were_asked_for_are_not_billed() {
    let all: Vec<_> = ["a", "b", "c", "d", "e", "f"].map(|name| told(name, (5000, 6000), 1000)).into();
    assert_eq!(device_ms(&meter(&all), &LIFE), 4000);
}

#[test]
fn a_clock_that_is_wrong_bills_no_more_than_the_pods_life() {
    let life = Life { created: UnixMillis(5000), seen_over: UnixMillis(8000), ended: None, devices: 4 };
    let hour_ahead = meter(&[told("a", (3_605_000, 3_608_000), 3000)]);
    assert_eq!(device_ms(&hour_ahead, &life), 0);
    let set_right = meter(&[told("a", (6000, 3_607_000), 3_601_000)]);
    let expected = Usage::Known { end: UnixMillis(8000), duration: Duration(2000), device_ms: 2000 };
    assert_eq!(set_right.usage(&life, Unit::Board), expected);
}

#[test]
fn an_end_that_the_meter_learnt_of_late_is_the_one_that_the_status_tells() {
    // The kubelet was away for ten minutes, in which the pod ended.
    let late = meter(&[told("a", (24_000, 640_000), 616_000)]);
    let life = Life { seen_over: UnixMillis(641_000), ended: Some(UnixMillis(48_000)), ..LIFE };
    let expected = Usage::Known { end: UnixMillis(49_000), duration: Duration(25_000), device_ms: 25_000 };
    assert_eq!(late.usage(&life, Unit::Board), expected);
    let exact = meter(&[told("a", (24_000, 48_400), 24_400)]);
    assert_eq!(device_ms(&exact, &life), 24_400, "a kubelet tells whole seconds");
    let absurd = Life { ended: Some(UnixMillis(0)), ..life };
    assert_eq!(device_ms(&late, &absurd), 0, "it ended before it was made");
}

#[test]
fn an_end_that_the_meter_knew_in_time_counts_though_the_nodes_clock_was_an_hour_behind_then() {
    let span = Told { exact: true, ..told("a", (4_000_000, 4_600_000), 600_000) };
    let life = Life { seen_over: UnixMillis(4_601_000), ended: Some(UnixMillis(1_000_000)), ..LIFE };
    assert_eq!(device_ms(&meter(std::slice::from_ref(&span)), &life), 600_000);
    assert_eq!(device_ms(&meter(&[Told { exact: false, ..span.clone() }]), &life), 0);
    let later = [span, told("a", (4_600_000, 4_700_000), 100_000)];
    assert_eq!(device_ms(&meter(&later), &life), 0, "its last moment is what counts");
}

#[test]
fn a_meter_whose_clock_is_off_is_billed_as_if_it_were_right() {
    let life = Life { created: UnixMillis(9_000_000), seen_over: UnixMillis(9_700_000), ..LIFE };
    let right = told("a", (9_005_000, 9_695_000), 690_000);
    for off in [-3_600_000_i64, -1_000, 0, 2_500, 3_600_000] {
        let moved = |moment: UnixMillis| UnixMillis(moment.0.checked_add_signed(off).unwrap());
        let mut clock = NodeClock::default();
        clock.showed(moved(UnixMillis(8_000_000)), UnixMillis(8_000_000));
        let by_its_clock = Told { start: moved(right.start), end: moved(right.end), ..right.clone() };
        assert_eq!(device_ms(&meter(&[by_its_clock]).by(&clock), &life), 690_000, "{off}");
    }
}

#[test]
fn it_is_complete_when_the_pod_is_over_and_each_device_told_its_last() {
    let last = |name| Told { last: true, ..told(name, (6000, 7000), 1000) };
    let mut one = meter(&[told("a", (5000, 6000), 1000), told("b", (5000, 6000), 1000), last("a")]);
    one.end();
    assert!(!one.is_complete(), "b's last isn't told");
    one.add(&last("b"));
    assert!(one.is_complete());
    let mut other = meter(&[last("a")]);
    assert!(!other.is_complete(), "the pod may come back to it");
    other.add(&told("a", (7000, 8000), 1000));
    other.end();
    assert!(!other.is_complete(), "a later container holds it again");
}

#[test]
fn simulated_is_what_any_record_says_is() {
    assert!(!meter(&[told("a", (5000, 6000), 1000)]).is_simulated());
    let simulated = Told { simulated: true, ..told("a", (6000, 7000), 1000) };
    assert!(meter(&[told("a", (5000, 6000), 1000), simulated]).is_simulated());
}

/// The time of each of a GPU's shares cut into spans that follow each other, each healthy for a part of it: what a right
/// meter tells.
fn truth() -> impl Strategy<Value = Vec<Told>> {
    vec((1_u64..5000, 0_u64..=100, 0_u8..3), 1..20).prop_map(|cuts| {
        let mut now = [5000_u64; 3];
        let tell = |(length, percent, device): (u64, u64, u8)| {
            let start = now[usize::from(device)];
            now[usize::from(device)] += length;
            let told = told("GPU", (start, start + length), length * percent / 100);
            Told { id: format!("GPU::{device}"), ..told }
        };
        cuts.into_iter().map(tell).collect()
    })
}

/// Whatever anyone may tell.
fn anything() -> impl Strategy<Value = Vec<Told>> {
    let one = (0_u64..900, 0_u64..900, 0_u64..=100, 0_u8..3).prop_map(|(from, length, percent, device)| {
        told(&device.to_string(), (from, from + length), length * percent / 100)
    });
    vec(one, 1..20)
}

/// How many milliseconds of each device lie within any span, by counting them.
fn covered(all: &[Told], life: &Life) -> u64 {
    let devices: std::collections::BTreeSet<&String> = all.iter().map(|told| &told.device).collect();
    let is_told = |device: &String, at: u64| {
        all.iter().any(|told| told.device == *device && told.start.0 <= at && at < told.end.0)
    };
    let moments = || life.created.0..life.seen_over.0.min(30_000);
    devices.into_iter().map(|device| moments().filter(|at| is_told(device, *at)).count() as u64).sum()
}

proptest! {
    #[test]
    fn what_a_right_meter_tells_is_billed_to_the_millisecond_however_often(
        all in truth(), again in vec(any::<Index>(), 0..10),
    ) {
        let healthy: u64 = all.iter().map(|told| told.healthy.0).sum();
        prop_assert_eq!(device_ms(&meter(&all), &LIFE), healthy);
        let repeated = again.iter().map(|index| index.get(&all));
        prop_assert_eq!(device_ms(&meter(all.iter().chain(repeated)), &LIFE), healthy);
    }

    #[test]
    fn another_order_never_bills_more(all in truth(), order in vec(any::<Index>(), 1..40)) {
        let healthy: u64 = all.iter().map(|told| told.healthy.0).sum();
        prop_assert!(device_ms(&meter(order.iter().map(|index| index.get(&all))), &LIFE) <= healthy);
    }

    #[test]
    fn nothing_that_is_told_bills_a_millisecond_twice_or_one_outside_of_the_pods_life(
        all in anything(), created in 0_u64..900, lived in 0_u64..900,
        ended in proptest::option::of(0_u64..900),
    ) {
        let life = Life { created: UnixMillis(created), seen_over: UnixMillis(created + lived), ended: ended.map(UnixMillis), devices: 4 };
        let meter = meter(&all);
        prop_assert!(device_ms(&meter, &life) <= covered(&all, &life));
        let Usage::Known { end, duration, .. } = meter.usage(&life, Unit::Board) else {
            return Err(TestCaseError::fail("it is known"));
        };
        prop_assert!(end <= life.seen_over && duration.0 <= lived);
        let told = ended.map_or(u64::MAX, |ended| created.max(ended + 1000));
        prop_assert!(end.0 <= told, "it ended within that second");
    }
}
