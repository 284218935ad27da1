//! A plan holds as long as nothing that it counted on has changed, and what has is named.

use proptest::{collection::vec, option, prelude::*};
use serde_json::{Value, json};

use super::*;
use crate::{
    plan::Decision,
    testing::{GPU, World, gpus},
};

const KEY: &str = "ns/g";

fn world(free: &[i64]) -> World {
    let mut world = World::of_gpus(free);
    for at in 0..free.len() {
        world.change_node(&format!("n{at}"), |node| {
            node["metadata"]["labels"]["zone"] = json!(format!("z{}", at % 2));
        });
    }
    world
}

/// The gang's plan, as it is made.
fn plan(world: &mut World) -> Vec<Placement> {
    let decisions = world.cluster.plan(1000);
    let places = decisions.into_iter().find_map(|decision| match decision {
        Decision::Place { group, placements } if group == KEY => Some(placements),
        _ => None,
    });
    places.unwrap_or_default()
}

/// A gang of two pods, a GPU each, and its plan.
fn planned(free: &[i64]) -> (World, Vec<Placement>) {
    let mut world = world(free);
    world.gang("g", &[&gpus(1), &gpus(1)]);
    let plan = plan(&mut world);
    assert_eq!(plan.len(), 2);
    assert_eq!(world.cluster.outdated(KEY, &plan), None);
    (world, plan)
}

fn refusal(world: &mut World, plan: &[Placement]) -> Option<Refusal> {
    match world.cluster.outdated(KEY, plan)? {
        Outdated::Refused { refusal, .. } => Some(refusal),
        other => panic!("{other}"),
    }
}

#[test]
fn a_node_that_is_cordoned_tainted_or_gone_takes_nobody_but_those_that_are_there() {
    let (mut world, plan) = planned(&[2]);
    world.cordon("n0");
    assert_eq!(refusal(&mut world, &plan), Some(Refusal::Unschedulable));
    for pod in ["g-0", "g-1"] {
        world.pod(pod, &gpus(1), |pod| {
            pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "g" });
            pod["spec"]["nodeName"] = json!("n0");
        });
    }
    assert_eq!(refusal(&mut world, &plan), None, "they are there already");

    let (mut world, plan) = planned(&[2]);
    let taint = json!([{ "key": "broken", "value": "yes", "effect": "NoSchedule" }]);
    world.change_node("n0", |node| node["spec"]["taints"] = taint);
    let untolerated = Refusal::UntoleratedTaint("broken=yes:NoSchedule".to_owned());
    assert_eq!(refusal(&mut world, &plan), Some(untolerated));

    let (mut world, plan) = planned(&[2]);
    world.cluster.remove_node("n0");
    let outdated = world.cluster.outdated(KEY, &plan).unwrap();
    assert_eq!(outdated.to_string(), "node n0 isn't there any more");
}

#[test]
fn room_that_others_took_is_missed_and_the_pods_own_is_not() {
    let (mut world, plan) = planned(&[3]);
    let theirs = |pod: &mut Value| {
        pod["spec"]["schedulerName"] = json!("another");
        pod["spec"]["nodeName"] = json!("n0");
    };
    world.pod("theirs", &gpus(1), theirs);
    assert_eq!(refusal(&mut world, &plan), None);
    world.pod("theirs-too", &gpus(1), theirs);
    assert_eq!(refusal(&mut world, &plan), Some(Refusal::Insufficient(GPU.to_owned())));
}

#[test]
fn room_that_is_only_kept_for_others_is_not_missed() {
    let (mut world, plan) = planned(&[2]);
    world.pod("theirs", &gpus(2), |pod| {
        pod["spec"]["schedulerName"] = json!("another");
        pod["status"]["nominatedNodeName"] = json!("n0");
    });
    assert_eq!(refusal(&mut world, &plan), None);
}

#[test]
fn a_pod_that_is_not_the_groups_any_more_outdates_its_plan() {
    let (mut world, plan) = planned(&[2]);
    world.pod("g-1", &gpus(1), |pod| {
        pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "other" });
    });
    let outdated = world.cluster.outdated(KEY, &plan).unwrap();
    assert_eq!(outdated, Outdated::Stranger { pod: "g-1".to_owned() });
}

#[test]
fn a_pod_that_is_being_deleted_before_it_is_bound_outdates_its_plan() {
    let (mut world, plan) = planned(&[2]);
    world.pod("g-1", &gpus(1), |pod| {
        pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "g" });
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    let outdated = world.cluster.outdated(KEY, &plan).unwrap();
    assert_eq!(outdated, Outdated::Left { pod: "g-1".to_owned() });
}

#[test]
fn a_pod_that_came_too_near_outdates_a_plan_and_pods_of_the_plan_are_asked_in_its_order() {
    let mut world = world(&[8, 8]);
    world.gang("g", &[]);
    let spread = json!([{
        "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "compute.plasma.dev/gang": "g" } },
    }]);
    let near = json!([{
        "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": "loud" } },
    }]);
    // The pods after the first one crowd its zone: it may be there, as it came first.
    for at in 0..5 {
        world.pod(&format!("g-{at}"), &gpus(1), |pod| {
            pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "g" });
            if at == 0 {
                pod["spec"]["topologySpreadConstraints"] = spread.clone();
                pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
                    near.clone();
            }
        });
    }
    let plan = plan(&mut world);
    let first = plan.iter().find(|placement| placement.pod == "g-0").unwrap().clone();
    assert_eq!(refusal(&mut world, &plan), None);
    world.pod("loud", &[], |pod| {
        pod["metadata"]["labels"] = json!({ "app": "loud" });
        pod["spec"]["nodeName"] = json!(first.node);
    });
    let shunned = Refusal::PodAntiAffinity("kubernetes.io/hostname".to_owned());
    assert_eq!(refusal(&mut world, &plan), Some(shunned));
}

#[test]
fn volumes_that_are_not_bound_outdate_a_plan() {
    let mut world = world(&[2]);
    world.class("made", "csi.example.com", |_| {});
    world.claim("c", "made", |_| {});
    world.gang("g", &[]);
    world.pod("g-0", &gpus(1), |pod| {
        pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "g" });
        pod["spec"]["volumes"] = json!([{ "name": "d", "persistentVolumeClaim": { "claimName": "c" } }]);
    });
    let plan = plan(&mut world);
    let outdated = world.cluster.outdated(KEY, &plan).unwrap();
    assert_eq!(outdated.to_string(), "pod g-0 can't have its volumes on node n0: claim ns/c isn't bound");
    world.bound("c", "v", |_| {});
    assert_eq!(world.cluster.outdated(KEY, &plan), None);
}

/// A pod of the gang: what it asks for, whether it takes a port, shuns its like on a node or in a zone, and how it spreads.
type Asks = (i64, bool, Option<usize>, Option<usize>);

const KEYS: [&str; 2] = ["kubernetes.io/hostname", "zone"];

fn pod(world: &mut World, at: usize, (count, port, shuns, spreads): Asks) {
    let like = json!({ "matchLabels": { "compute.plasma.dev/gang": "g" } });
    world.pod(&format!("g-{at}"), &gpus(count), |pod| {
        pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "g" });
        if port {
            pod["spec"]["containers"][0]["ports"] = json!([{ "containerPort": 80, "hostPort": 80 }]);
        }
        if let Some(key) = shuns {
            pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
                json!([{ "topologyKey": KEYS[key], "labelSelector": like }]);
        }
        if let Some(key) = spreads {
            pod["spec"]["topologySpreadConstraints"] = json!([{
                "maxSkew": 1, "topologyKey": KEYS[key], "whenUnsatisfiable": "DoNotSchedule", "labelSelector": like,
            }]);
        }
    });
}

/// By the rules as they are compared with kube-scheduler: the pods aren't on their way any more, and each may go to its node
/// beside those before it.
fn may_all_go(world: &mut World, plan: &[Placement]) -> bool {
    plan.iter().for_each(|placement| world.cluster.release(&placement.uid));
    plan.iter().all(|Placement { uid, node, .. }| {
        let verdicts = world.cluster.verdicts(uid);
        let may_go = verdicts.iter().any(|verdict| verdict.node == *node && verdict.refusals.is_empty());
        world.cluster.assume(uid, node);
        may_go
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_plan_holds_when_it_is_made_and_later_as_long_as_the_rules_say_so(
        free in vec(1_i64..6, 1..5),
        pods in vec((1_i64..3, any::<bool>(), option::of(0_usize..2), option::of(0_usize..2)), 1..4),
        others in vec((0_usize..4, 0_i64..3, any::<bool>()), 0..3),
        cordoned in option::weighted(0.2, 0_usize..4),
    ) {
        let mut world = world(&free);
        world.gang("g", &[]);
        pods.iter().enumerate().for_each(|(at, asks)| pod(&mut world, at, *asks));
        let plan = plan(&mut world);
        prop_assert_eq!(world.cluster.outdated(KEY, &plan), None);
        for (at, (node, count, is_alike)) in others.into_iter().enumerate() {
            world.pod(&format!("other-{at}"), &gpus(count), |pod| {
                pod["spec"]["nodeName"] = json!(format!("n{}", node % free.len()));
                if is_alike {
                    pod["spec"]["schedulerName"] = json!("another");
                    pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "g" });
                }
            });
        }
        if let Some(node) = cordoned {
            world.cordon(&format!("n{}", node % free.len()));
        }
        let outdated = world.cluster.outdated(KEY, &plan);
        prop_assert_eq!(world.cluster.outdated(KEY, &plan), outdated.clone(), "it was only asked");
        prop_assert_eq!(outdated.is_none(), may_all_go(&mut world, &plan), "{:?}", outdated);
    }
}
