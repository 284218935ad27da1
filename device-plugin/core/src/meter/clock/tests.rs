//! However the node's clock is set, each second is there once.

use proptest::{collection::vec, prelude::*};

use super::*;

const NOON: u64 = 43_200_000;
const HOUR: u64 = 3_600_000;

/// The node's clock is right at first: so long after the start, and off by so much.
fn reading(boot_ms: u64, off_ms: i64) -> Reading {
    Reading { boot_ms, wall_ms: (NOON + boot_ms).checked_add_signed(off_ms).unwrap() }
}

#[test]
fn an_hour_that_is_put_right_again_never_was() {
    let mut clock = MeterClock::new(reading(1_000, 0));
    assert_eq!(clock.observe(reading(2_000, 400)), None, "within what is no fault");
    assert_eq!(clock.observe(reading(60_000, 3_600_000)), Some(3_600_000));
    assert_eq!(clock.observe(reading(61_000, 3_600_000)), None);
    assert_eq!((clock.at(61_000), clock.ahead_ms()), (NOON + 61_000, 3_600_000));
    assert_eq!(clock.observe(reading(120_000, 300)), Some(-3_600_000), "and it agrees");
    assert_eq!((clock.at(120_000), clock.ahead_ms()), (NOON + 120_000, 0));
}

#[test]
fn what_the_kubelet_tells_is_when_it_was() {
    let mut clock = MeterClock::new(reading(0, 0));
    clock.observe(reading(60_000, 3_600_000));
    clock.observe(reading(120_000, 0));
    let now = NOON + 130_000;
    for (told, was) in [
        (NOON - 5 * HOUR, NOON - 5 * HOUR),
        (NOON + 30_000, NOON + 30_000),
        (NOON + HOUR + 90_000, NOON + 90_000),
        // Whole seconds, and noticed late.
        (NOON + HOUR + 59_000, NOON + 59_000),
        (NOON + 119_000, NOON + 119_000),
        (NOON + 129_000, NOON + 129_000),
    ] {
        assert_eq!(clock.of_wall(told, now), was, "{told}");
    }
    clock.observe(reading(130_000, -3_600_000));
    assert_eq!(clock.of_wall(NOON + 140_000 - HOUR, NOON + 141_000), NOON + 140_000);
    // It may have been an hour ago, too, and then it would have been told an hour ago.
    assert_eq!(clock.of_wall(NOON + 110_000, NOON + HOUR + 111_000), NOON + HOUR + 110_000);
    assert_eq!(clock.of_wall(NOON + 9 * HOUR, now), now + ROUGH_MS, "nothing that is told is still to come");
}

#[test]
fn a_machine_that_started_with_its_clock_long_ago_goes_on_where_it_was() {
    let mut clock = MeterClock::new(Reading { boot_ms: 5_000, wall_ms: 0 });
    clock.go_on_from(NOON, Reading { boot_ms: 9_000, wall_ms: 4_000 });
    assert_eq!((clock.at(9_000), clock.at(10_000)), (NOON, NOON + 1_000));
    assert_eq!(clock.observe(Reading { boot_ms: 10_000, wall_ms: 5_000 }), None);
    assert_eq!(clock.of_wall(5_000, NOON + 1_000), NOON + 1_000);
    clock.go_on_from(NOON - 1, Reading { boot_ms: 9_000, wall_ms: 0 });
    assert_eq!(clock.at(9_000), NOON, "it doesn't go back");
}

#[test]
fn it_is_written_down_and_read_by_another_process() {
    let mut clock = MeterClock::new(reading(0, 0));
    for n in 1..100 {
        clock.observe(reading(n * 60_000, if n % 2 == 0 { 0 } else { -90_000 }));
    }
    let written = serde_json::to_string(&clock).unwrap();
    assert!(written.len() < 2_000, "what is old is forgotten: {written}");
    assert_eq!(serde_json::from_str::<MeterClock>(&written).unwrap(), clock);
}

proptest! {
    /// Whenever the clock is set, by however much and whichever way: time goes on at its own pace, and what the kubelet
    /// tells within seconds, in whole ones, is put where it was.
    #[test]
    fn no_second_is_lost_and_none_comes_twice(
        steps in vec((1_000_u64..200_000, -200_i64..200), 1..25), told_after in 0_u64..3_000,
    ) {
        let (mut boot, mut clock) = (1_000, MeterClock::new(reading(1_000, 0)));
        for (for_ms, off) in steps {
            // Far enough that two moments can be told apart.
            let off = off * 20_000;
            let before = clock.at(boot);
            clock.observe(reading(boot, off));
            let happened = boot + for_ms;
            let now = reading(happened + told_after, off);
            clock.observe(now);
            prop_assert_eq!(clock.at(now.boot_ms) - before, for_ms + told_after);
            let told = reading(happened, off).wall_ms / 1_000 * 1_000;
            let put = clock.of_wall(told, clock.at(now.boot_ms));
            prop_assert!(put <= NOON + happened && NOON + happened - put < 1_000, "{} for {}", put, NOON + happened);
            boot = now.boot_ms;
        }
    }
}

#[test]
fn what_is_told_again_is_when_it_was_though_the_nodes_clock_came_there_again() {
    let asks = BTreeMap::from([("nvidia.com/gpu".to_owned(), 1)]);
    let (start, end) = (Some(NOON + 600_000), Some(NOON + 1_800_000));
    let container = crate::ContainerSeen { asks, started_ms: start, finished_ms: end, ..Default::default() };
    let seen = PodSeen { uid: "p".to_owned(), containers: vec![container], ..PodSeen::default() };
    let mut clock = MeterClock::new(reading(0, 0));
    let told = clock.pod(seen.clone(), NOON + 1_800_000);
    assert_eq!((told.containers[0].started_ms, told.containers[0].finished_ms), (start, end));
    clock.observe(reading(1_900_000, -3_600_000));
    let later = NOON + 1_900_000 + HOUR;
    assert!(
        clock.of_wall(NOON + 600_000, later) > NOON + 1_800_000,
        "told first now, it would be another life"
    );
    let mut clock: MeterClock = serde_json::from_str(&serde_json::to_string(&clock).unwrap()).unwrap();
    assert_eq!(clock.pod(seen.clone(), later), told, "by another process, too");
    clock.forget_but(|uid| uid != "p");
    assert_ne!(clock.pod(seen, later), told, "it is gone: what comes is another");
}
