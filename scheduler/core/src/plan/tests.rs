//! Plans as a whole: all or nothing, in order, never more than there is.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use super::*;
use crate::{
    cluster::Served,
    testing::{GPU, World, gpus, some_way_exists},
};

fn plan(world: &mut World) -> Vec<Decision> {
    world.cluster.plan(1000)
}

#[test]
fn a_gang_is_placed_whole_or_not_at_all() {
    let mut world = World::of_gpus(&[2, 1]);
    world.gang_of_gpus("a", &[1, 1]);
    world.gang_of_gpus("b", &[1, 1]);
    let decisions = plan(&mut world);
    assert!(matches!(&decisions[0], Decision::Place { placements, .. } if placements.len() == 2));
    let Decision::Hold { message, blockers, .. } = &decisions[1] else { panic!("{decisions:?}") };
    assert_eq!(
        message,
        "no room for 2 pods at once: 2 of 2 nodes may be used; needs 2 nvidia.com/gpu, 1 free"
    );
    assert_eq!(blockers[0].free, Some(Quantity::whole(1)));
}

#[test]
fn the_fullest_node_that_fits_is_taken_so_that_large_pods_keep_their_place() {
    let mut world = World::of_gpus(&[8, 1, 4]);
    world.gang_of_gpus("a", &[1]);
    let decisions = plan(&mut world);
    let Decision::Place { placements, .. } = &decisions[0] else { panic!("{decisions:?}") };
    assert_eq!(placements[0].node, "n1");
}

#[test]
fn higher_priority_goes_first_then_age() {
    let mut world = World::of_gpus(&[2]);
    for (name, priority, created) in [("a-young", 0, 2), ("old", 0, 1), ("urgent", 1, 9)] {
        world.gang_of_gpus(name, &[1]);
        let mut facts = world.cluster.find_group(&format!("ns/{name}")).unwrap().gang.clone().unwrap();
        (facts.priority, facts.created) = (priority, created);
        world.cluster.set_gang(facts);
    }
    let decisions = plan(&mut world);
    let order = decisions.iter().map(|decision| match decision {
        Decision::Place { group, .. } => group.as_str(),
        _ => "held",
    });
    assert_eq!(order.collect::<Vec<_>>(), ["ns/urgent", "ns/old", "held"]);
}

/// Who is placed, in that order, where there is room for so many GPUs.
fn placed_in_order(world: &mut World, room: i64) -> Vec<String> {
    world.node("n", &gpus(room));
    let placed = plan(world).into_iter().filter_map(|decision| match decision {
        Decision::Place { group, .. } => Some(group),
        _ => None,
    });
    placed.collect()
}

#[test]
fn the_priority_of_its_pods_comes_before_the_number_of_a_gang() {
    let mut world = World::default();
    world.ranked_gang("a", 0, &[(1, None)]);
    world.ranked_gang("b", 5, &[(1, None)]);
    let mut facts = world.cluster.find_group("ns/a").unwrap().gang.clone().unwrap();
    facts.priority = 9;
    world.cluster.set_gang(facts);
    let mut facts = world.cluster.find_group("ns/b").unwrap().gang.clone().unwrap();
    facts.priority = 0;
    world.cluster.set_gang(facts);
    world.ranked_pod("c", 7, (1, None), |_| ());
    assert_eq!(placed_in_order(&mut world, 2), ["ns/pod:c", "ns/b"]);
}

#[test]
fn a_gang_of_pods_of_several_priorities_is_where_the_least_of_those_that_wait_puts_it() {
    let mixed = || {
        let mut world = World::default();
        world.gang("mixed", &[&gpus(1), &gpus(1)]);
        for (at, priority) in [9, 3].into_iter().enumerate() {
            world.ranked_pod(&format!("mixed-{at}"), priority, (1, None), |pod| {
                pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "mixed" });
            });
        }
        world.ranked_pod("x", 5, (1, None), |_| ());
        world
    };
    assert_eq!(placed_in_order(&mut mixed(), 3), ["ns/pod:x", "ns/mixed"]);
    // The least one is on a node already, or was made anew with another priority.
    let change = |node: Option<&str>, priority| {
        let mut world = mixed();
        world.ranked_pod("mixed-1", priority, (1, node), |pod| {
            pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "mixed" });
        });
        placed_in_order(&mut world, 3)
    };
    assert_eq!(change(Some("elsewhere"), 3), ["ns/mixed", "ns/pod:x"]);
    assert_eq!(change(None, 6), ["ns/mixed", "ns/pod:x"]);
    let mut world = mixed();
    world.ranked_pod("mixed-2", 1, (1, None), |pod| {
        pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "mixed" });
    });
    world.ranked_pod("y", 2, (1, None), |_| ());
    world.cluster.remove_pod("mixed-2");
    assert_eq!(placed_in_order(&mut world, 4), ["ns/pod:x", "ns/mixed", "ns/pod:y"]);
}

#[test]
fn unlike_pods_find_the_one_way_in_which_they_fit() {
    // Largest first and best fit would put 3 beside 3 and leave 2+2 nowhere: 3+2, 3+2 is the only way.
    let mut world = World::of_gpus(&[5, 5]);
    world.gang_of_gpus("a", &[3, 2, 3, 2]);
    assert!(matches!(plan(&mut world)[0], Decision::Place { .. }));
}

#[test]
fn a_node_that_is_ruled_out_is_counted_under_its_reason() {
    let mut world = World::of_gpus(&[4]);
    world.gang_of_gpus("a", &[1]);
    world.cordon("n0");
    let Decision::Hold { message, .. } = &plan(&mut world)[0] else { panic!() };
    let expected = "no room for 1 pods at once: 0 of 1 nodes may be used; needs 1 nvidia.com/gpu, 0 free; \
                    1 ruled out by NodeUnschedulable spec.unschedulable";
    assert_eq!(message, expected);
}

#[test]
fn a_gang_is_not_looked_at_again_before_something_was_freed() {
    let mut world = World::of_gpus(&[2]);
    world.gang_of_gpus("first", &[1, 1]);
    world.gang_of_gpus("second", &[1]);
    assert_eq!(world.cluster.plan(1000).len(), 2);
    assert_eq!(world.cluster.plan(1000), []);
    world.gang_of_gpus("third", &[1]);
    assert_eq!(world.cluster.plan(1000).len(), 1, "only the new one is looked at");
    world.cluster.remove_pod("first-0");
    assert!(matches!(&world.cluster.plan(1000)[0], Decision::Place { group, .. } if group == "ns/second"));
}

#[test]
fn who_is_of_a_crowded_namespace_holds_no_room_and_is_looked_at_once_it_is_not_any_more() {
    let mut world = World::of_gpus(&[1]);
    world.gang_of_gpus("a", &[1]);
    world.gang_of_gpus("b", &[1]);
    let placed = |decisions: Vec<Decision>| {
        let placed = decisions.into_iter().filter_map(|decision| match decision {
            Decision::Place { group, .. } => Some(group),
            _ => None,
        });
        placed.collect::<Vec<_>>()
    };
    let key = world.cluster.next_in_queue(std::ops::Bound::Unbounded).unwrap().key().to_string();
    let namespace = key.split_once('/').unwrap().0.to_owned();
    world.cluster.set_crowded(BTreeSet::from([namespace, "another".to_owned()]));
    assert_eq!((plan(&mut world), world.cluster.explain(8)), (vec![], vec![]));
    assert!(!world.cluster.has_more());
    world.cluster.set_crowded(BTreeSet::from(["another".to_owned()]));
    assert_eq!(placed(plan(&mut world)), [key]);
}

#[test]
fn a_plan_ends_when_enough_pods_have_a_node() {
    let mut world = World::of_gpus(&[8]);
    (0..4).for_each(|at| world.gang_of_gpus(&format!("g{at}"), &[1, 1]));
    assert_eq!(world.cluster.plan(3).len(), 2);
    assert_eq!(world.cluster.plan(3).len(), 2);
    assert_eq!(world.cluster.plan(3), []);
}

proptest! {
    #[test]
    fn small_gangs_are_placed_exactly_when_some_way_exists(free in vec(0_i64..6, 1..4), pods in vec(1_i64..4, 1..6)) {
        let mut world = World::of_gpus(&free);
        world.gang_of_gpus("a", &pods);
        let placed = matches!(plan(&mut world)[0], Decision::Place { .. });
        prop_assert_eq!(placed, some_way_exists(&mut free.clone(), &pods));
    }

    #[test]
    fn no_node_shares_its_gpus_between_namespaces(
        free in vec(0_i64..5, 1..4),
        sharing in vec(0_usize..4, 3),
        pods in vec((0_usize..3, 1_i64..3), 1..12),
    ) {
        let shared = |count| [("nvidia.com/gpu.shared", count)];
        let mut world = World::default();
        for (at, (free, already)) in free.iter().zip(&sharing).enumerate() {
            world.node(&format!("n{at}"), &shared(*free + 1));
            if *already < 3 {
                world.pod(&format!("old{at}"), &shared(1), |pod| {
                    pod["metadata"]["namespace"] = json!(format!("tenant-{already}"));
                    pod["spec"]["nodeName"] = json!(format!("n{at}"));
                });
            }
        }
        for (at, (tenant, count)) in pods.iter().enumerate() {
            world.pod(&format!("p{at}"), &shared(*count), |pod| {
                pod["metadata"]["namespace"] = json!(format!("tenant-{tenant}"));
            });
        }
        plan(&mut world);
        let mut on: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (pod, node) in world.cluster.placed() {
            on.entry(&node.name).or_default().insert(pod.namespace());
        }
        prop_assert!(on.values().all(|namespaces| namespaces.len() <= 1), "{:?}", on);
    }

    #[test]
    fn no_node_is_ever_over_committed_and_every_gang_is_whole(
        free in vec(0_i64..9, 1..5),
        gangs in vec(vec(1_i64..4, 1..5), 1..6),
    ) {
        let mut world = World::of_gpus(&free);
        gangs.iter().enumerate().for_each(|(at, pods)| world.gang_of_gpus(&format!("g{at}"), pods));
        let mut used: BTreeMap<String, i64> = BTreeMap::new();
        for decision in plan(&mut world) {
            let Decision::Place { group, placements } = decision else { continue };
            let pods = &gangs[group.trim_start_matches("ns/g").parse::<usize>().unwrap()];
            prop_assert_eq!(placements.len(), pods.len());
            for placement in placements {
                let at = placement.pod.rsplit_once('-').unwrap().1.parse::<usize>().unwrap();
                *used.entry(placement.node.clone()).or_default() += pods[at];
            }
        }
        for (index, free) in free.iter().enumerate() {
            prop_assert!(used.get(&format!("n{index}")).copied().unwrap_or(0) <= *free, "{} of {}", GPU, index);
        }
    }
}

#[test]
fn the_gang_decides_over_a_pod_that_is_in_an_upstream_group_too_and_without_one_the_pod_is_refused() {
    let mut world = World::of_gpus(&[2]);
    let in_group = |pod: &mut Value| pod["spec"]["schedulingGroup"] = json!({ "podGroupName": "upstream" });
    world.gang_of_gpus("a", &[]);
    world.pod("a-0", &gpus(1), |pod| {
        pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "a" });
        in_group(pod);
    });
    world.pod("alone", &gpus(1), in_group);
    world.cluster.set_pod_groups_served(Served::No);
    let decisions = plan(&mut world);
    assert!(matches!(&decisions[0], Decision::Place { group, .. } if group == "ns/a"), "{decisions:?}");
    let Decision::Aside { group, why: Aside::Refused(why) } = &decisions[1] else { panic!("{decisions:?}") };
    assert_eq!((group.as_str(), why.field.as_str()), ("ns/pod:alone", "spec.schedulingGroup"));
}

/// Whether a pod that waits and shuns pods of some namespaces is looked at again when one comes to be on a node.
fn is_roused(shuns: &Value, (namespace, its_shuns): (&str, Option<&Value>)) -> bool {
    let mut world = World::of_gpus(&[99, 99]);
    let mut pod = |name: &str, namespace: &str, shuns: Option<&Value>, node: Option<&str>| {
        world.pod(name, &gpus(1), |pod| {
            pod["metadata"]["namespace"] = json!(namespace);
            pod["metadata"]["labels"] = json!({ "app": namespace });
            pod["spec"]["nodeName"] = json!(node);
            if let Some(shuns) = shuns {
                let mut term = shuns.clone();
                term["topologyKey"] = json!("kubernetes.io/hostname");
                term["labelSelector"] = json!({ "matchLabels": { "app": "ns" } });
                pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
                    json!([term]);
            }
        });
        plan(&mut world);
        world.cluster.looks()
    };
    for node in ["n0", "n1"] {
        pod(node, "ns", Some(&json!({})), Some(node));
    }
    let before = pod("waits", "ns", Some(shuns), None);
    pod("comes", namespace, its_shuns, Some("n0")) > before
}

#[test]
fn who_looks_around_is_roused_by_pods_of_the_namespaces_it_looks_at_and_by_those_that_look_at_its_own() {
    let (own, of_ns, of_third) =
        (json!({}), json!({ "namespaces": ["ns"] }), json!({ "namespaces": ["third"] }));
    let (of_other, of_all) = (json!({ "namespaces": ["other"] }), json!({ "namespaceSelector": {} }));
    assert!(is_roused(&own, ("ns", None)));
    assert!(!is_roused(&own, ("other", None)));
    assert!(!is_roused(&own, ("other", Some(&own))));
    assert!(!is_roused(&of_ns, ("other", Some(&of_third))));
    assert!(is_roused(&own, ("other", Some(&of_ns))));
    assert!(is_roused(&own, ("other", Some(&of_all))));
    assert!(is_roused(&of_other, ("other", None)));
    assert!(is_roused(&of_all, ("other", None)));
}
