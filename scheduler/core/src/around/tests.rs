//! Pods whose places depend on one another find theirs: together, apart, and in whatever order of their kinds leads there.

use std::collections::BTreeSet;

use serde_json::json;

use crate::{
    plan::Decision,
    testing::{World, gpus},
};

fn world(free: &[i64]) -> World {
    let mut world = World::default();
    for (at, free) in free.iter().enumerate() {
        world.node(&format!("n{at}"), &gpus(*free));
    }
    world
}

fn gang(world: &mut World, name: &str, pods: &[i64]) {
    let pods: Vec<_> = pods.iter().map(|count| gpus(*count)).collect();
    let pods: Vec<_> = pods.iter().map(|pod| &pod[..]).collect();
    world.gang(name, &pods);
}

fn plan(world: &mut World) -> Vec<Decision> {
    world.cluster.plan(1000)
}

#[test]
fn pods_that_shun_one_another_are_placed_apart_and_those_that_want_one_another_together() {
    let term = |key: &str| {
        json!({ "requiredDuringSchedulingIgnoredDuringExecution":
            [{ "labelSelector": { "matchLabels": { "compute.plasma.dev/gang": "g" } }, "topologyKey": key }] })
    };
    for (affinity, pods, expected) in [
        (json!({ "podAntiAffinity": term("kubernetes.io/hostname") }), 4, Some(4)),
        (json!({ "podAntiAffinity": term("kubernetes.io/hostname") }), 5, None),
        // Zone a, which is begun in, is too small for six; zone b isn't.
        (json!({ "podAffinity": term("zone") }), 6, Some(2)),
        (json!({ "podAffinity": term("zone") }), 9, None),
    ] {
        let mut world = world(&[1, 2, 4, 4]);
        for (node, zone) in [("n0", "a"), ("n1", "a"), ("n2", "b"), ("n3", "b")] {
            world.change_node(node, |node| node["metadata"]["labels"]["zone"] = json!(zone));
        }
        let facts = crate::gang::GangFacts { key: "ns/g".to_owned(), min_member: pods, ..Default::default() };
        world.cluster.set_gang(facts);
        for at in 0..pods {
            world.pod(&format!("p{at}"), &gpus(1), |pod| {
                let labels = json!({ "compute.plasma.dev/gang": "g", "index": at.to_string() });
                pod["metadata"]["labels"] = labels;
                pod["spec"]["affinity"] = affinity.clone();
            });
        }
        let decisions = plan(&mut world);
        let nodes = match &decisions[0] {
            Decision::Place { placements, .. } => {
                Some(placements.iter().map(|place| place.node.as_str()).collect::<BTreeSet<_>>().len())
            }
            _ => None,
        };
        assert_eq!(nodes, expected, "{affinity} {pods}: {decisions:?}");
    }
}

#[test]
fn pods_for_which_others_leave_no_place_come_first() {
    let mut world = world(&[5, 4]);
    let with_port = json!([{ "containerPort": 80, "hostPort": 80 }]);
    // The larger one would take the fullest node, which has the port.
    for (pod, node, count, has_port) in [("a", "n0", 1, false), ("b", "n0", 0, false), ("web", "n1", 0, true)]
    {
        world.pod(pod, &gpus(count), |pod| {
            pod["spec"]["schedulerName"] = json!("another");
            pod["spec"]["nodeName"] = json!(node);
            if has_port {
                pod["spec"]["containers"][0]["ports"] = with_port.clone();
            }
        });
    }
    gang(&mut world, "g", &[3, 2]);
    world.pod("g-1", &gpus(2), |pod| {
        pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "g" });
        pod["spec"]["containers"][0]["ports"] = with_port;
    });
    let decisions = plan(&mut world);
    let Some(Decision::Place { placements, .. }) = decisions.first() else { panic!("{decisions:?}") };
    let places: Vec<_> = placements.iter().map(|place| (place.pod.as_str(), place.node.as_str())).collect();
    assert_eq!(
        places,
        [("g-1", "n0"), ("g-0", "n1")],
        "in the order in which it is asked later whether they hold"
    );
    let placements = placements.clone();
    assert_eq!(world.cluster.outdated("ns/g", &placements), None);
}

#[test]
fn pods_that_want_smaller_ones_of_their_gang_near_come_after_them() {
    let mut world = world(&[4, 1, 4, 4]);
    for (node, zone) in [("n0", "a"), ("n1", "a"), ("n2", "b"), ("n3", "b")] {
        world.change_node(node, |node| node["metadata"]["labels"]["zone"] = json!(zone));
    }
    gang(&mut world, "g", &[3, 3, 1]);
    for (pod, count) in [("g-0", 3), ("g-1", 3), ("g-2", 1)] {
        world.pod(pod, &gpus(count), |pod| {
            let role = if count == 1 { "leader" } else { "worker" };
            pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "g", "role": role });
            if role == "worker" {
                pod["spec"]["affinity"] = json!({ "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{
                    "labelSelector": { "matchLabels": { "role": "leader" } }, "topologyKey": "zone" }] } });
            }
        });
    }
    let decisions = plan(&mut world);
    let Some(Decision::Place { placements, .. }) = decisions.first() else { panic!("{decisions:?}") };
    let nodes: BTreeSet<&str> = placements.iter().map(|place| place.node.as_str()).collect();
    assert_eq!(nodes, BTreeSet::from(["n2", "n3"]), "zone a, which is begun in, is too small");
}

#[test]
fn what_was_tried_in_vain_is_as_it_was() {
    let mut world = world(&[2, 2]);
    let shuns = json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{
        "labelSelector": {}, "topologyKey": "kubernetes.io/hostname" }] } });
    let facts = crate::gang::GangFacts { key: "ns/g".to_owned(), min_member: 3, ..Default::default() };
    world.cluster.set_gang(facts);
    for at in 0..3 {
        world.pod(&format!("p{at}"), &gpus(1), |pod| {
            pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "g" });
            pod["spec"]["affinity"] = shuns.clone();
        });
    }
    assert!(matches!(&plan(&mut world)[0], Decision::Hold { .. }));
    assert_eq!(world.cluster.plan(1000), [], "trying freed nothing");
    gang(&mut world, "all", &[2, 2]);
    let placed = |decision: &Decision| matches!(decision, Decision::Place { group, .. } if group == "ns/all");
    assert!(plan(&mut world).iter().any(placed));
}
