//! What is remembered of each node, whoever calls and however often.

use plasma_settlement_core::Told;
use plasma_types::Duration;

use super::*;

fn uid(pod: u16) -> PodUid {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&pod.to_be_bytes());
    PodUid(bytes)
}

fn line(pod: u16) -> Line {
    let told = Told {
        id: "GPU-0".to_owned(),
        device: "GPU-0".to_owned(),
        board: "GPU-0".to_owned(),
        milli: 1000,
        kind: None,
        start: UnixMillis(1000),
        end: UnixMillis(2000),
        healthy: Duration(1000),
        last: true,
        simulated: false,
        exact: false,
    };
    Line::Of { pod: uid(pod), told: Some(told), over: true }
}

fn meters() -> Meters {
    Meters::new(MeterMetrics::new())
}

#[test]
fn a_newer_call_of_a_node_ends_the_earlier_and_of_no_other() {
    let meters = meters();
    let (first, other) = (meters.begin("n", "j", 1), meters.begin("m", "j", 1));
    let second = meters.begin("n", "j", 1);
    assert_eq!(first.take(1, &line(1)), Err(NotTaken::Replaced));
    assert_eq!(second.take(1, &line(1)), Ok(()));
    assert!(first.replaced.is_cancelled() && !other.replaced.is_cancelled());
    drop(first);
    assert!(meters.view("n", uid(1)).connected, "the newer one goes on");
    assert_eq!(meters.metrics.nodes.get(), 2);
    drop(second);
    assert!(!meters.view("n", uid(1)).connected && meters.view("n", uid(1)).told.is_some());
    assert_eq!(meters.metrics.nodes.get(), 1);
}

#[test]
fn what_is_acknowledged_is_what_nobody_needs() {
    let meters = meters();
    let mut call = meters.begin("n", "j", 1);
    call.take(1, &line(1)).unwrap();
    call.take(2, &line(2)).unwrap();
    call.take(3, &Line::Nobody).unwrap();
    assert_eq!(*call.acknowledged.borrow_and_update(), 0);
    let looked = meters.places();
    call.take(4, &line(3)).unwrap();
    let need = |node: &str, pod| match (node, pod == uid(2)) {
        ("n", true) => Need::Receipt,
        _ => Need::OtherNode,
    };
    meters.forget(&looked, need);
    assert_eq!(meters.metrics.count("other_node"), 1);
    assert_eq!(*call.acknowledged.borrow_and_update(), 1, "pod 2 is needed");
    meters.forget(&looked, |_, _| Need::Nobody);
    assert_eq!(*call.acknowledged.borrow_and_update(), 3, "pod 3 came after the look");
    meters.forget(&meters.places(), |_, _| Need::Nobody);
    assert_eq!(*call.acknowledged.borrow_and_update(), 4);
    drop(call);
    meters.forget(&meters.places(), |_, _| Need::Nobody);
    assert!(meters.places().is_empty(), "nothing is remembered of a node that has gone");
}

#[test]
fn a_node_that_tells_of_too_many_pods_waits_for_the_next_round_and_harms_no_other() {
    let meters = meters();
    let (hostile, other) = (meters.begin("n", "j", 1), meters.begin("m", "j", 1));
    let mut taken = 0;
    while taken < 10_000 && hostile.take(taken + 1, &line(u16::try_from(taken).unwrap())) == Ok(()) {
        taken += 1;
    }
    assert_eq!(taken, 4097);
    assert_eq!(hostile.take(taken + 1, &line(9)), Err(NotTaken::Full));
    assert_eq!(other.take(1, &line(1)), Ok(()));
    let mut rounds = hostile.rounds();
    meters.forget(&meters.places(), |_, _| Need::Nobody);
    assert!(rounds.has_changed().unwrap());
    rounds.mark_unchanged();
    assert_eq!(hostile.take(taken + 1, &line(9)), Ok(()));
}
