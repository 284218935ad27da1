//! Who is evicted, and who never is.

mod elsewhere;
mod exhaustive;
mod late;
mod mirrors;
mod moved;
mod pod_groups;

use serde_json::{Value, json};

use super::*;
use crate::testing::{GPU, World, gpus};

/// The priority of who makes room.
const MINE: i32 = 3;

fn world(nodes: &[(&str, i64)]) -> World {
    let mut world = World::default();
    nodes.iter().for_each(|(name, count)| world.node(name, &gpus(*count)));
    world
}

/// The only decision of a plan.
fn decision(world: &mut World) -> Decision {
    let mut plan = world.cluster.plan(1000);
    assert_eq!(plan.len(), 1, "{plan:?}");
    plan.remove(0)
}

fn victims(decision: &Decision) -> Vec<&str> {
    let Decision::Preempt { victims, .. } = decision else { panic!("{decision:?}") };
    let mut pods: Vec<&str> = victims.iter().map(|victim| victim.pod.as_str()).collect();
    pods.sort_unstable();
    pods
}

fn held(decision: &Decision) -> &str {
    let Decision::Hold { message, .. } = decision else { panic!("{decision:?}") };
    message
}

fn free(world: &mut World, node: &str) -> i64 {
    let gpu = world.cluster.shared.resources.id(GPU);
    world.cluster.existing().find(|(_, found)| &*found.name == node).unwrap().1.free(gpu)
}

/// What the watch shows when a pod is being deleted.
fn ends(world: &mut World, name: &str, priority: i32, place: (i64, Option<&str>), gang: Option<&str>) {
    world.ranked_pod(name, priority, place, |pod| {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        if let Some(gang) = gang {
            pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": gang });
        }
    });
}

#[test]
fn a_whole_gang_goes_and_no_other() {
    let mut world = world(&[("a", 2), ("b", 2)]);
    world.ranked_gang("low", 1, &[(1, Some("a")), (1, Some("a"))]);
    world.ranked_gang("mid", 2, &[(1, Some("b")), (1, Some("b"))]);
    world.ranked_gang("high", 9, &[(1, None)]);
    let decision = decision(&mut world);
    assert_eq!(victims(&decision), ["low-0", "low-1"]);
    let Decision::Preempt { group, priority, nominations, message, .. } = &decision else { panic!() };
    assert_eq!((group.as_str(), *priority, nominations[0].node.as_str()), ("ns/high", 9, "a"));
    assert_eq!(message, "evicts 1 groups of lower priority (2 pods) to make room: ns/low");
}

#[test]
fn nobody_goes_where_the_whole_gang_would_not_fit_all_the_same() {
    let mut world = world(&[("a", 2)]);
    world.ranked_gang("low", 1, &[(1, Some("a")), (1, Some("a"))]);
    world.ranked_gang("high", 9, &[(1, None), (1, None), (1, None)]);
    assert!(held(&decision(&mut world)).ends_with("evicting pods of lower priority would not make room"));
    assert_eq!(free(&mut world, "a"), 0);
}

#[test]
fn equals_stay_and_so_does_everybody_for_a_pod_that_never_preempts() {
    let mut world = world(&[("a", 1)]);
    world.ranked_pod("low", 5, (1, Some("a")), |_| ());
    world.ranked_pod("equal", 5, (1, None), |_| ());
    assert!(held(&decision(&mut world)).starts_with("no room"));
    world.ranked_pod("polite", 6, (1, None), |pod| pod["spec"]["preemptionPolicy"] = json!("Never"));
    assert!(held(&decision(&mut world)).starts_with("no room"));
    world.ranked_pod("rude", 6, (1, None), |_| ());
    assert_eq!(victims(&decision(&mut world)), ["low"]);
}

#[test]
fn what_no_eviction_mends_evicts_nobody() {
    let taint = json!([{ "key": "k", "effect": "NoSchedule" }]);
    let mut world = world(&[("a", 1), ("b", 1)]);
    world.change_node("a", |node| node["spec"]["taints"] = taint);
    world.cordon("b");
    world.ranked_pod("low-a", 0, (1, Some("a")), |_| ());
    world.ranked_pod("low-b", 0, (1, Some("b")), |_| ());
    world.ranked_pod("high", 9, (1, None), |_| ());
    held(&decision(&mut world));
}

#[test]
fn a_port_and_company_that_is_shunned_are_freed() {
    let port = json!([{ "containerPort": 80, "hostPort": 80 }]);
    let shuns = json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{
        "labelSelector": { "matchLabels": { "app": "x" } }, "topologyKey": "kubernetes.io/hostname" }] } });
    let with_port = |pod: &mut Value| pod["spec"]["containers"][0]["ports"] = port.clone();
    let is_x = |pod: &mut Value| pod["metadata"]["labels"] = json!({ "app": "x" });
    let shuns_x = |pod: &mut Value| pod["spec"]["affinity"] = shuns.clone();
    type Change<'a> = &'a dyn Fn(&mut Value);
    let cases: [(Change<'_>, Change<'_>); 3] =
        [(&with_port, &with_port), (&is_x, &shuns_x), (&shuns_x, &is_x)];
    for (low, high) in cases {
        let mut world = world(&[("a", 4)]);
        world.ranked_pod("other", 0, (1, Some("a")), |_| ());
        world.ranked_pod("low", 0, (1, Some("a")), low);
        world.ranked_pod("high", 9, (1, None), high);
        assert_eq!(victims(&decision(&mut world)), ["low"]);
    }
}

#[test]
fn a_gang_with_one_precious_pod_stays_and_so_does_one_on_its_way() {
    let mut world = world(&[("a", 1), ("b", 1)]);
    world.ranked_gang("low", 1, &[(1, Some("a")), (1, Some("b"))]);
    let gang = json!({ "compute.plasma.dev/gang": "low" });
    world.ranked_pod("low-1", 9, (1, Some("b")), |pod| pod["metadata"]["labels"] = gang.clone());
    world.ranked_pod("high", 9, (1, None), |_| ());
    held(&decision(&mut world));
    world.ranked_pod("low-1", 1, (1, None), |pod| pod["metadata"]["labels"] = gang.clone());
    world.cluster.assume("low-1", "b");
    assert_eq!(world.cluster.plan(10), [], "it is held as before");
    world.ranked_pod("low-1", 1, (1, Some("b")), |pod| pod["metadata"]["labels"] = gang);
    assert_eq!(victims(&decision(&mut world)), ["low-0", "low-1"]);
}

#[test]
fn of_those_that_are_equal_the_youngest_goes_and_whoever_a_budget_protects_stays() {
    let young = "2026-02-01T00:00:00Z";
    let started = |at: &str| {
        let at = at.to_owned();
        move |pod: &mut Value| {
            pod["status"]["startTime"] = json!(at);
            pod["metadata"]["labels"] = json!({ "app": at[..7] });
        }
    };
    for (protects, expected) in
        [(None, "young"), (Some((0, "2026-02")), "old"), (Some((1, "2026-02")), "young")]
    {
        let mut world = world(&[("a", 1), ("b", 1)]);
        world.ranked_pod("old", 0, (1, Some("a")), started("2026-01-01T00:00:00Z"));
        world.ranked_pod("young", 0, (1, Some("b")), started(young));
        if let Some((allowed, month)) = protects {
            let budget = json!({
                "metadata": { "name": "b", "namespace": "ns" },
                "spec": { "selector": { "matchLabels": { "app": month } } },
                "status": { "disruptionsAllowed": allowed },
            });
            assert_eq!(world.cluster.set_budget(&serde_json::from_value(budget).unwrap()), []);
        }
        world.ranked_pod("high", 9, (1, None), |_| ());
        assert_eq!(victims(&decision(&mut world)), [expected], "{protects:?}");
    }
}

#[test]
fn a_budget_that_cannot_be_read_protects_everybody_in_its_namespace() {
    let mut world = world(&[("a", 1), ("b", 1)]);
    world.ranked_pod("old", 0, (1, Some("a")), |_| ());
    world.ranked_pod("young", 0, (1, Some("b")), |pod| {
        pod["status"]["startTime"] = json!("2026-02-01T00:00:00Z");
        pod["metadata"]["namespace"] = json!("other");
    });
    world.cluster.set_unreadable_budget("other", "b");
    world.ranked_pod("high", 9, (1, None), |_| ());
    assert_eq!(victims(&decision(&mut world)), ["old"]);
}

#[test]
fn the_cheapest_of_many_is_found_wherever_it_is() {
    for (cheapest, pods) in [(0, 1), (37, 1), (59, 1), (37, 2)] {
        let mut world = World::default();
        for at in 0..60 {
            let node = format!("n{at}");
            world.node(&node, &gpus(2));
            let priority = if at == cheapest { 0 } else { 1 };
            world.ranked_pod(&format!("p{at}"), priority, (2, Some(node.as_str())), |_| ());
        }
        world.ranked_gang("high", 9, &vec![(2, None); pods]);
        let decision = decision(&mut world);
        let victims = victims(&decision);
        assert_eq!(victims.len(), pods);
        assert!(victims.contains(&format!("p{cheapest}").as_str()), "{victims:?}");
    }
}

#[test]
fn pods_that_are_far_from_the_node_go_where_only_they_are_in_the_way() {
    // Every node of the zone is shunned for one pod on one of them.
    let shuns = json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{
        "labelSelector": { "matchLabels": { "app": "x" } }, "topologyKey": "zone" }] } });
    let mut world = world(&[("a", 2), ("b", 1)]);
    for node in ["a", "b"] {
        world.change_node(node, |node| node["metadata"]["labels"]["zone"] = json!("z"));
    }
    world.ranked_pod("low", 0, (1, Some("b")), |pod| pod["metadata"]["labels"] = json!({ "app": "x" }));
    world.ranked_pod("high", 9, (2, None), |pod| pod["spec"]["affinity"] = shuns);
    assert_eq!(victims(&decision(&mut world)), ["low"]);
}

#[test]
fn one_large_group_is_cheaper_than_many_small_ones() {
    let mut world = world(&[("a", 4), ("b", 4)]);
    (0..4).for_each(|at| world.ranked_pod(&format!("small-{at}"), 0, (1, Some("a")), |_| ()));
    world.ranked_pod("large", 0, (4, Some("b")), |_| ());
    world.ranked_pod("high", 9, (4, None), |_| ());
    assert_eq!(victims(&decision(&mut world)), ["large"]);
}

#[test]
fn room_is_kept_from_those_below_and_not_from_those_above_until_it_is_given_up() {
    let mut world = world(&[("a", 1)]);
    world.ranked_pod("low", 0, (1, Some("a")), |_| ());
    world.ranked_pod("high", 5, (1, None), |_| ());
    assert_eq!(victims(&decision(&mut world)), ["low"]);
    assert_eq!(world.cluster.plan(10), [], "it is being evicted");
    world.cluster.set_busy("ns/pod:high", false);
    let waits = "waits for 1 pods to end that are ending; nodes are kept for it";
    assert_eq!(held(&decision(&mut world)), waits, "the watch doesn't show it yet");
    ends(&mut world, "low", 0, (1, Some("a")), None);
    assert_eq!(world.cluster.plan(10), []);
    world.cluster.remove_pod("low");
    world.ranked_pod("rival", 4, (1, None), |_| ());
    // The room is there: it is the preemptor's.
    let plan = world.cluster.plan(10);
    assert!(matches!(&plan[0], Decision::Place { group, .. } if group == "ns/pod:high"), "{plan:?}");
    assert!(matches!(&plan[1], Decision::Hold { group, .. } if group == "ns/pod:rival"), "{plan:?}");
}

#[test]
fn who_is_above_takes_what_is_kept_and_who_lost_it_evicts_anew() {
    let mut world = world(&[("a", 1), ("b", 1)]);
    world.ranked_pod("low-a", 0, (1, Some("a")), |_| ());
    world.ranked_pod("low-b", 1, (1, Some("b")), |_| ());
    world.ranked_pod("high", 5, (1, None), |_| ());
    assert_eq!(victims(&decision(&mut world)), ["low-a"]);
    world.cluster.set_busy("ns/pod:high", false);
    world.cluster.remove_pod("low-a");
    world.ranked_pod("higher", 6, (1, None), |_| ());
    let plan = world.cluster.plan(10);
    assert!(matches!(&plan[0], Decision::Place { group, .. } if group == "ns/pod:higher"), "{plan:?}");
    assert_eq!(victims(&plan[1]), ["low-b"]);
}

#[test]
fn room_is_given_back_after_its_time_and_kept_again_after_a_restart() {
    let mut world = world(&[("a", 1)]);
    world.ranked_pod("mine", 5, (1, None), |pod| pod["status"]["nominatedNodeName"] = json!("a"));
    world.ranked_pod("rival", 4, (1, None), |_| ());
    assert_eq!(free(&mut world, "a"), 0);
    assert_eq!(world.cluster.end_reservations(100, 60), []);
    assert_eq!(world.cluster.end_reservations(159, 60), []);
    assert_eq!(world.cluster.end_reservations(160, 60), [], "it may be kept again at once");
    let ended = world.cluster.end_reservations(161, 60);
    assert_eq!(ended.iter().map(|ended| ended.pod.as_str()).collect::<Vec<_>>(), ["mine"]);
    assert_eq!(free(&mut world, "a"), 1);
    // What its status still says doesn't bring it back.
    world.ranked_pod("mine", 5, (1, None), |pod| pod["status"]["nominatedNodeName"] = json!("a"));
    assert_eq!(free(&mut world, "a"), 1);
    assert_eq!(world.cluster.end_reservations(162, 60), []);
}

#[test]
fn pods_that_are_ending_are_waited_for_rather_than_others_evicted() {
    let mut world = world(&[("a", 1), ("b", 1)]);
    ends(&mut world, "ending", 7, (1, Some("a")), None);
    world.ranked_pod("low", 0, (1, Some("b")), |_| ());
    world.ranked_pod("high", 5, (1, None), |_| ());
    let decision = decision(&mut world);
    let Decision::Preempt { victims, nominations, message, .. } = &decision else { panic!("{decision:?}") };
    assert_eq!((victims.len(), nominations[0].node.as_str()), (0, "a"));
    assert!(message.starts_with("waits for 1 pods to end"), "{message}");
}

#[test]
fn a_victim_that_could_not_be_evicted_is_one_again() {
    let mut world = world(&[("a", 1)]);
    world.ranked_pod("low", 0, (1, Some("a")), |_| ());
    world.ranked_pod("high", 5, (1, None), |_| ());
    assert_eq!(victims(&decision(&mut world)), ["low"]);
    world.cluster.spare("low");
    world.cluster.set_busy("ns/pod:high", false);
    assert_eq!(victims(&decision(&mut world)), ["low"]);
    assert_eq!(world.cluster.end_reservations(0, 60), [], "it is kept, after all");
}

#[test]
fn a_refused_binding_leaves_the_room_kept() {
    let mut world = world(&[("a", 1)]);
    world.ranked_pod("mine", 5, (1, None), |pod| pod["status"]["nominatedNodeName"] = json!("a"));
    assert!(matches!(decision(&mut world), Decision::Place { .. }));
    world.cluster.give_up("ns/pod:mine", ["mine"]);
    world.cluster.set_busy("ns/pod:mine", true);
    world.ranked_pod("rival", 4, (1, None), |_| ());
    held(&decision(&mut world));
}

#[test]
fn a_gang_does_not_evict_its_own_pods() {
    let mut world = World::default();
    world.node("n", &gpus(1));
    world.gang("g", &[&gpus(1), &gpus(1)]);
    let member = |pod: &mut serde_json::Value| {
        pod["metadata"]["labels"] = serde_json::json!({ "compute.plasma.dev/gang": "g" });
    };
    world.pod("g-0", &gpus(1), |pod| {
        member(pod);
        pod["spec"]["nodeName"] = serde_json::json!("n");
    });
    world.pod("g-1", &gpus(1), |pod| {
        member(pod);
        pod["spec"]["priority"] = serde_json::json!(100);
    });
    let decisions = world.cluster.plan(10);
    assert!(matches!(decisions[..], [crate::Decision::Hold { .. }]), "{decisions:?}");
}

#[test]
fn a_node_where_unlike_pods_fit_together_counts_as_near() {
    let mut world = World::default();
    for (name, count) in [("n0", 3), ("n1", 5), ("n2", 4)] {
        world.node(name, &gpus(count));
    }
    world.ranked_gang("g0", 2, &[(1, Some("n2")), (2, Some("n2"))]);
    world.ranked_gang("g1", 2, &[(2, Some("n0"))]);
    world.ranked_gang("g2", 0, &[(1, Some("n1"))]);
    world.ranked_gang("mine", MINE, &[(3, None), (2, None)]);
    let Decision::Preempt { victims, .. } = decision(&mut world) else { panic!("nobody is evicted") };
    assert_eq!(victims.iter().map(|victim| victim.group.as_str()).collect::<Vec<_>>(), ["ns/g2"]);
}
