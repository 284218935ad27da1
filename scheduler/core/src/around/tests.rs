//! Pods whose places depend on one another find theirs: together, apart, and in whatever order of their kinds leads there.

use std::collections::BTreeSet;

use proptest::{collection::vec, option, prelude::*};
use serde_json::json;

use super::*;
use crate::{
    filter,
    plan::Decision,
    testing::{World, gpus},
};

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
        let mut world = World::of_gpus(&[1, 2, 4, 4]);
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
    let mut world = World::of_gpus(&[5, 4]);
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
    world.gang_of_gpus("g", &[3, 2]);
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
    let mut world = World::of_gpus(&[4, 1, 4, 4]);
    for (node, zone) in [("n0", "a"), ("n1", "a"), ("n2", "b"), ("n3", "b")] {
        world.change_node(node, |node| node["metadata"]["labels"]["zone"] = json!(zone));
    }
    world.gang_of_gpus("g", &[3, 3, 1]);
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
    let mut world = World::of_gpus(&[2, 2]);
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
    world.gang_of_gpus("all", &[2, 2]);
    let placed = |decision: &Decision| matches!(decision, Decision::Place { group, .. } if group == "ns/all");
    assert!(plan(&mut world).iter().any(placed));
}

#[test]
fn pods_of_one_template_may_have_their_volumes_on_different_nodes() {
    let mut world = World::of_gpus(&[2, 1]);
    world.class("made", "csi.example.com", |_| ());
    world.claim("data-0", "made", |_| ());
    world.bound("data-1", "v1", |volume| {
        let expression = json!({ "key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"] });
        volume["spec"]["nodeAffinity"] =
            json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": [expression] }] } });
    });
    world.gang_of_gpus("g", &[1, 1]);
    for at in 0..2 {
        world.pod(&format!("g-{at}"), &gpus(1), |pod| {
            pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "g" });
            let claim = json!({ "claimName": format!("data-{at}") });
            pod["spec"]["volumes"] = json!([{ "name": "data", "persistentVolumeClaim": claim }]);
        });
    }
    let decisions = plan(&mut world);
    assert!(matches!(&decisions[..], [Decision::Place { .. }]), "{decisions:?}");
}

#[test]
fn a_gang_that_brings_the_company_it_wants_is_not_told_that_it_lacks_it() {
    let said = |company: &str| {
        let mut world = World::of_gpus(&[1, 1]);
        world.gang_of_gpus("g", &[1, 2]);
        for (pod, count, role) in [("g-0", 1, "leader"), ("g-1", 2, "worker")] {
            world.pod(pod, &gpus(count), |pod| {
                pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "g", "role": role });
                if role == "worker" {
                    pod["spec"]["affinity"] = json!({ "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{
                        "labelSelector": { "matchLabels": { "role": company } }, "topologyKey": "kubernetes.io/hostname" }] } });
                }
            });
        }
        let Some(Decision::Hold { message, .. }) = plan(&mut world).into_iter().next() else { panic!() };
        message
    };
    let of_gpus = "no room for 2 pods at once: 2 of 2 nodes may be used; needs 3 nvidia.com/gpu, 2 free";
    assert_eq!(said("leader"), of_gpus);
    assert_eq!(
        said("nobody"),
        format!("{of_gpus}; 2 ruled out by PodAffinityMismatch kubernetes.io/hostname")
    );
}

/// A pod of a gang: GPUs, its role, and whom it wants near (or not near), where.
type Asks = (i64, usize, Option<(bool, usize, usize)>);

const ROLES: [&str; 2] = ["a", "b"];
const KEYS: [&str; 2] = ["zone", "kubernetes.io/hostname"];

fn asks() -> impl Strategy<Value = Asks> {
    (1_i64..4, 0_usize..2, option::of((any::<bool>(), 0_usize..2, 0_usize..2)))
}

/// A gang with these pods; and on each node so many pods of lower priority, a GPU each.
fn small(nodes: &[(i64, usize, usize)], pods: &[Asks], gone: &BTreeSet<String>) -> World {
    let free: Vec<i64> = nodes.iter().map(|(free, ..)| *free).collect();
    let mut world = World::of_gpus(&free);
    for (at, (_, zone, low)) in nodes.iter().enumerate() {
        let node = format!("n{at}");
        world.change_node(&node, |node| node["metadata"]["labels"]["zone"] = json!(zone.to_string()));
        for name in (0..*low).map(|nth| format!("low{at}x{nth}")).filter(|name| !gone.contains(name)) {
            world.ranked_pod(&name, 0, (1, Some(&node)), |_| {});
        }
    }
    world.gang_of_gpus("g", &vec![1; pods.len()]);
    for (at, (count, role, near)) in pods.iter().enumerate() {
        world.ranked_pod(&format!("g-{at}"), 10, (*count, None), |pod| {
            pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "g", "role": ROLES[*role] });
            if let Some((wants, whom, key)) = near {
                let kind = if *wants { "podAffinity" } else { "podAntiAffinity" };
                pod["spec"]["affinity"] = json!({ kind: { "requiredDuringSchedulingIgnoredDuringExecution": [{
                    "labelSelector": { "matchLabels": { "role": ROLES[*whom] } }, "topologyKey": KEYS[*key] }] } });
            }
        });
    }
    world
}

/// Whether there is a place for each of them, in any order.
fn some_way(cluster: &mut Cluster, pods: &[PodId]) -> bool {
    let may = |cluster: &Cluster, pod: PodId, node: NodeId| {
        let (pod, node) = (&cluster.known(pod).unwrap().pod, &cluster.nodes[node.index()]);
        filter::refusals(&pod.kind, node, &cluster.shared).is_empty()
            && Surroundings::of(cluster, pod).refusal(node).is_none()
    };
    let nodes: Vec<NodeId> = cluster.existing().map(|(id, _)| id).collect();
    pods.is_empty()
        || pods.iter().any(|pod| {
            let rest: Vec<PodId> = pods.iter().copied().filter(|other| other != pod).collect();
            nodes.iter().any(|node| {
                if !may(cluster, *pod, *node) {
                    return false;
                }
                cluster.assume_at(*pod, *node);
                let is_found = some_way(cluster, &rest);
                cluster.put_back(*pod);
                is_found
            })
        })
}

fn fits(mut world: World) -> bool {
    let pods: Vec<PodId> = world.alike("g").iter().flat_map(|alike| alike.pods.clone()).collect();
    world.cluster.changes.begin_trial();
    let is_found = some_way(&mut world.cluster, &pods);
    world.cluster.changes.end_trial();
    is_found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn few_pods_are_placed_exactly_when_there_is_a_way_and_only_those_are_evicted_who_must_go(
        nodes in vec((1_i64..5, 0_usize..2, 0_usize..3), 1..4),
        pods in vec(asks(), 1..4),
    ) {
        let with_low = |gone: &BTreeSet<String>| small(&nodes, &pods, gone);
        let mut world = with_low(&BTreeSet::new());
        let decisions = plan(&mut world);
        let is_placed = matches!(decisions.first(), Some(Decision::Place { .. }));
        prop_assert_eq!(is_placed, fits(with_low(&BTreeSet::new())), "{:?}", decisions);
        match decisions.into_iter().next() {
            Some(Decision::Place { group, placements }) => {
                prop_assert_eq!(world.cluster.outdated(&group, &placements), None);
            }
            Some(Decision::Preempt { victims, .. }) => {
                let gone: BTreeSet<String> = victims.into_iter().map(|victim| victim.pod).collect();
                prop_assert!(fits(with_low(&gone)), "{:?}", gone);
                for stays in &gone {
                    let others = gone.iter().filter(|other| *other != stays).cloned().collect();
                    prop_assert!(!fits(with_low(&others)), "{} of {:?} need not go", stays, gone);
                }
            }
            _ => {
                let low = nodes.iter().enumerate().flat_map(|(at, (.., low))| (0..*low).map(move |nth| format!("low{at}x{nth}")));
                prop_assert!(!fits(with_low(&low.collect())), "it is held, and could have had room");
            }
        }
    }
}
