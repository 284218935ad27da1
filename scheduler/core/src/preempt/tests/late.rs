//! Who is ending is waited for if that takes no long time; who doesn't end when it was to isn't waited for.

use serde_json::json;

use super::{decision, held, victims, world};
use crate::{plan::Decision, testing::World};

const NOW: i64 = 1_767_225_600;

/// A pod on a node that is to be gone so many seconds from now.
fn ends_in(world: &mut World, name: &str, node: &str, seconds: i64) {
    let at = jiff::Timestamp::from_second(NOW + seconds).unwrap();
    world.ranked_pod(name, 0, (1, Some(node)), |pod| {
        pod["metadata"]["deletionTimestamp"] = json!(at.to_string());
    });
}

/// A pod on `a` that is to be gone so many seconds from now, one of a lower priority on `b`, and one that wants a node.
fn dilemma(seconds: i64) -> World {
    let mut world = world(&[("a", 1), ("b", 1)]);
    world.cluster.pass_time(NOW);
    ends_in(&mut world, "ending", "a", seconds);
    world.ranked_pod("low", 0, (1, Some("b")), |_| ());
    world.ranked_pod("high", 5, (1, None), |_| ());
    world
}

/// That what waits for it was said, and done.
fn waits(world: &mut World) {
    let waits = decision(world);
    assert!(matches!(&waits, Decision::Preempt { victims, .. } if victims.is_empty()), "{waits:?}");
    world.cluster.set_busy("ns/pod:high", false);
    assert!(held(&decision(world)).starts_with("waits for 1 pods to end"));
}

#[test]
fn who_is_to_be_gone_soon_is_waited_for_and_who_is_to_be_gone_much_later_or_long_ago_is_not() {
    for seconds in [300, 30, 0, -60] {
        waits(&mut dilemma(seconds));
    }
    for seconds in [301, 86_400, -61, -86_400] {
        assert_eq!(victims(&decision(&mut dilemma(seconds))), ["low"], "{seconds}");
    }
    let mut world = dilemma(0);
    world.ranked_pod("ending", 0, (1, Some("a")), |pod| {
        pod["metadata"]["deletionTimestamp"] = json!("tomorrow");
    });
    assert_eq!(victims(&decision(&mut world)), ["low"]);
}

#[test]
fn one_that_does_not_end_is_waited_for_no_longer_than_a_minute_and_others_are_evicted_then() {
    let mut world = dilemma(30);
    waits(&mut world);
    for seconds in [31, 90] {
        world.cluster.pass_time(NOW + seconds);
        assert_eq!(world.cluster.plan(10), [], "{seconds}");
    }
    world.cluster.pass_time(NOW + 91);
    assert_eq!(victims(&decision(&mut world)), ["low"]);
}

#[test]
fn nodes_are_kept_for_nobody_where_others_do_not_end() {
    let mut world = dilemma(30);
    world.cluster.remove_pod("low");
    world.cluster.remove_node("b");
    waits(&mut world);
    assert_eq!(world.cluster.kept(), 1);
    world.cluster.pass_time(NOW + 91);
    assert_eq!(world.cluster.plan(10), []);
    assert_eq!(world.cluster.kept(), 0);
    let told = world.cluster.explain(1);
    assert!(held(&told[0]).ends_with("evicting pods of lower priority would not make room"));
}

#[test]
fn one_that_was_to_be_gone_much_later_is_waited_for_when_that_is_soon() {
    let mut world = dilemma(1_000);
    world.ranked_pod("low", 9, (1, Some("b")), |_| ());
    assert!(held(&decision(&mut world)).ends_with("evicting pods of lower priority would not make room"));
    world.cluster.pass_time(NOW + 699);
    assert_eq!(world.cluster.plan(10), []);
    world.cluster.pass_time(NOW + 700);
    waits(&mut world);
}

/// One victim that takes its time on `b`, and another that could be evicted on `c`.
fn slow_victim(world: &mut World) {
    world.node("c", &crate::testing::gpus(1));
    world.ranked_pod("other", 1, (1, Some("c")), |_| ());
    ends_in(world, "low", "b", 1_000);
}

#[test]
fn nobody_else_is_evicted_because_a_victim_takes_its_time_but_because_it_is_late() {
    let mut world = dilemma(-100);
    assert_eq!(victims(&decision(&mut world)), ["low"]);
    world.cluster.set_busy("ns/pod:high", false);
    slow_victim(&mut world);
    assert!(held(&decision(&mut world)).starts_with("waits for 1 pods to end"));
    world.cluster.end_reservations(NOW, 600);
    world.cluster.end_reservations(NOW + 600, 600);
    waits(&mut world);
    world.cluster.pass_time(NOW + 1_061);
    assert_eq!(victims(&decision(&mut world)), ["other"]);
}

#[test]
fn who_begins_anew_waits_for_all_that_end_on_nodes_that_are_kept_as_long_as_they_are() {
    let mut world = dilemma(-100);
    slow_victim(&mut world);
    world.cluster.remove_pod("high");
    world.ranked_pod("high", 5, (1, None), |pod| pod["status"]["nominatedNodeName"] = json!("b"));
    assert!(held(&decision(&mut world)).starts_with("waits for 1 pods to end"));
    world.cluster.end_reservations(NOW, 600);
    world.cluster.end_reservations(NOW + 600, 600);
    assert_eq!(victims(&decision(&mut world)), ["other"]);
}
