//! Pods and gangs that wait for volumes: what they are promised, and how far that is.

use proptest::prelude::*;
use serde_json::json;

use crate::{
    Decision, Placement, StorageKind, VolumeStep, VolumesState,
    testing::{World, gpus},
};

/// Two nodes, and a gang of pods that each use the claim of their own name, of the class `class`.
fn world(pods: usize, class: &str) -> World {
    let mut world = World::default();
    world.node("a", &gpus(8));
    world.node("b", &gpus(8));
    world.class("local", "kubernetes.io/no-provisioner", |_| ());
    world.class("made", "csi.example.com", |_| ());
    world.gang("g", &vec![&gpus(1)[..]; pods]);
    for at in 0..pods {
        world.claim(&format!("g-{at}"), class, |_| ());
        member(&mut world, at);
    }
    world
}

fn member(world: &mut World, at: usize) {
    world.pod(&format!("g-{at}"), &gpus(1), |pod| {
        pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "g" });
        let claim = json!({ "claimName": format!("g-{at}") });
        pod["spec"]["volumes"] = json!([{ "name": "data", "persistentVolumeClaim": claim }]);
    });
}

fn local(world: &mut World, name: &str, node: &str) {
    let expression = json!({ "key": "kubernetes.io/hostname", "operator": "In", "values": [node] });
    world.volume(name, "local", |volume| {
        volume["spec"]["nodeAffinity"] =
            json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": [expression] }] } });
    });
}

fn placed(world: &mut World) -> Option<Vec<Placement>> {
    match world.cluster.plan(100).pop()? {
        Decision::Place { placements, .. } => Some(placements),
        _ => None,
    }
}

fn bound_volume(step: &VolumeStep) -> (&str, &str) {
    match step {
        VolumeStep::Bind { claim, volume } => (&claim.name, volume),
        VolumeStep::Provision { .. } => panic!("{step:?}"),
    }
}

#[test]
fn two_pods_of_a_gang_get_a_volume_each_and_are_where_it_is() {
    let mut world = world(2, "local");
    local(&mut world, "v-a", "a");
    assert_eq!(placed(&mut world), None, "one volume is not two");
    local(&mut world, "v-b", "b");
    let placements = placed(&mut world).unwrap();
    for Placement { pod, node, volumes, .. } in &placements {
        let [step] = &volumes[..] else { panic!("{volumes:?}") };
        assert_eq!(bound_volume(step), (&**pod, &*format!("v-{node}")));
    }
    assert_ne!(placements[0].node, placements[1].node);
}

#[test]
fn a_volume_that_is_promised_is_nobody_elses_until_the_pod_gives_it_up() {
    let mut world = world(1, "local");
    local(&mut world, "v", "a");
    placed(&mut world).unwrap();
    world.claim("late", "local", |_| ());
    world.pod("late", &gpus(1), |pod| {
        pod["spec"]["volumes"] = json!([{ "name": "d", "persistentVolumeClaim": { "claimName": "late" } }]);
    });
    assert_eq!(placed(&mut world), None);
    world.cluster.release("g-0");
    let placements = placed(&mut world).unwrap();
    assert_eq!((&*placements[0].pod, bound_volume(&placements[0].volumes[0])), ("late", ("late", "v")));
}

#[test]
fn a_promise_is_over_with_its_pod() {
    let mut world = world(1, "local");
    local(&mut world, "v", "a");
    placed(&mut world).unwrap();
    world.cluster.remove_pod("g-0");
    world.claim("late", "local", |_| ());
    world.pod("late", &gpus(1), |pod| {
        pod["spec"]["volumes"] = json!([{ "name": "d", "persistentVolumeClaim": { "claimName": "late" } }]);
    });
    assert!(placed(&mut world).is_some());
}

#[test]
fn pods_that_share_a_claim_go_to_the_node_for_which_its_volume_is_made() {
    let mut world = world(3, "made");
    for at in 0..3 {
        world.pod(&format!("g-{at}"), &gpus(3), |pod| {
            pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "g" });
            let claim = json!({ "claimName": "g-0" });
            pod["spec"]["volumes"] = json!([{ "name": "data", "persistentVolumeClaim": claim }]);
        });
    }
    assert_eq!(placed(&mut world), None, "9 GPUs are on no single node");
    world.cluster.remove_pod("g-2");
    world.cluster.set_gang(crate::GangFacts { key: "ns/g".to_owned(), min_member: 2, ..Default::default() });
    let placements = placed(&mut world).unwrap();
    assert_eq!(placements[0].node, placements[1].node);
    assert_eq!(placements[0].volumes, placements[1].volumes);
}

#[test]
fn a_claim_that_was_promised_a_volume_gets_no_other_made_elsewhere() {
    let mut world = world(1, "made");
    let expression = json!({ "key": "kubernetes.io/hostname", "operator": "In", "values": ["a"] });
    let terms = json!([{ "matchExpressions": [expression] }]);
    world.volume("v", "made", |volume| {
        volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"] = terms
    });
    assert_eq!(bound_volume(&placed(&mut world).unwrap()[0].volumes[0]), ("g-0", "v"));
    world.pod("late", &gpus(8), |pod| {
        pod["spec"]["volumes"] = json!([{ "name": "d", "persistentVolumeClaim": { "claimName": "g-0" } }]);
    });
    assert_eq!(placed(&mut world), None, "there is room on the other node only");
}

#[test]
fn a_volume_that_is_made_is_waited_for() {
    let mut world = world(1, "made");
    let placement = placed(&mut world).unwrap().remove(0);
    let [VolumeStep::Provision { claim, node }] = &placement.volumes[..] else { panic!("{placement:?}") };
    assert_eq!((&*claim.name, &*claim.uid, &**node), ("g-0", "uid-g-0", &*placement.node));
    let pending = VolumesState::Pending("ns/g-0".to_owned());
    assert_eq!(world.cluster.volumes_state("g-0"), pending);
    let selected = json!({ "volume.kubernetes.io/selected-node": node });
    world.claim("g-0", "made", |claim| claim["metadata"]["annotations"] = selected);
    assert_eq!(world.cluster.volumes_state("g-0"), pending);
    world.bound("g-0", "pv", |_| ());
    let mut both = json!({ "pv.kubernetes.io/bind-completed": "yes" });
    both["volume.kubernetes.io/selected-node"] = json!(node);
    world.claim("g-0", "made", |claim| {
        claim["metadata"]["annotations"] = both;
        claim["spec"]["volumeName"] = json!("pv");
    });
    assert_eq!(world.cluster.volumes_state("g-0"), VolumesState::Bound);
}

#[test]
fn a_provisioner_that_takes_the_node_off_again_has_given_up() {
    let mut world = world(1, "made");
    let node = placed(&mut world).unwrap().remove(0).node;
    let selected = json!({ "volume.kubernetes.io/selected-node": node });
    world.claim("g-0", "made", |claim| claim["metadata"]["annotations"] = selected);
    // That the pod changes meanwhile makes nobody forget it.
    member(&mut world, 0);
    world.claim("g-0", "made", |_| ());
    assert!(matches!(world.cluster.volumes_state("g-0"), VolumesState::Failed(_)));
}

#[test]
fn a_volume_that_somebody_else_got_is_told() {
    let mut world = world(1, "local");
    local(&mut world, "v", "a");
    placed(&mut world).unwrap();
    assert_eq!(world.cluster.volumes_state("g-0"), VolumesState::Pending("ns/g-0".to_owned()));
    world.volume("v", "local", |volume| {
        volume["spec"]["claimRef"] = json!({ "name": "other", "namespace": "ns", "uid": "uid-other" });
    });
    let VolumesState::Failed(why) = world.cluster.volumes_state("g-0") else { panic!() };
    assert!(why.contains("ns/g-0") && why.contains("another claim"), "{why}");
    world.cluster.remove_storage(StorageKind::Claim, "ns/g-0");
    assert!(matches!(world.cluster.volumes_state("g-0"), VolumesState::Failed(_)));
}

#[test]
fn who_waits_for_a_volume_is_looked_at_again_when_there_is_one() {
    let mut world = world(1, "local");
    assert_eq!(world.cluster.plan(100).len(), 1, "it is said what is missing");
    assert_eq!(world.cluster.plan(100), []);
    local(&mut world, "v", "a");
    assert!(placed(&mut world).is_some());
}

#[test]
fn a_list_takes_the_place_of_the_claims_that_were_known() {
    let mut world = world(2, "local");
    world.cluster.retain_storage(StorageKind::Claim, |key| key == "ns/g-0");
    let [Decision::Hold { message, .. }] = &world.cluster.plan(100)[..] else { panic!() };
    assert!(message.contains("ns/g-1 isn't there"), "{message}");
}

proptest! {
    /// However many volumes there are and wherever: no volume is promised twice, each is on its pod's node, and a gang
    /// of pods that each need one is placed whenever there are enough.
    #[test]
    fn no_volume_is_promised_twice(pods in 1_usize..6, volumes in prop::collection::vec(prop::bool::ANY, 0..9)) {
        let mut world = world(pods, "local");
        for (at, is_a) in volumes.iter().enumerate() {
            local(&mut world, &format!("v-{at}"), if *is_a { "a" } else { "b" });
        }
        let placements = placed(&mut world);
        prop_assert_eq!(placements.is_some(), volumes.len() >= pods);
        let mut taken = std::collections::BTreeSet::new();
        for placement in placements.iter().flatten() {
            let (claim, volume) = bound_volume(&placement.volumes[0]);
            prop_assert_eq!(claim, &placement.pod);
            prop_assert!(taken.insert(volume.to_owned()));
            let at: usize = volume.trim_start_matches("v-").parse().unwrap();
            prop_assert_eq!(if volumes[at] { "a" } else { "b" }, &placement.node);
        }
    }
}

#[test]
fn a_volume_that_somebody_gives_back_gives_hope_on_nodes_where_he_was_not() {
    let mut world = World::default();
    world.node("small", &gpus(1));
    world.node("large", &gpus(2));
    world.class("local", "kubernetes.io/no-provisioner", |_| ());
    let expression =
        json!({ "key": "kubernetes.io/hostname", "operator": "In", "values": ["small", "large"] });
    world.volume("only", "local", |volume| {
        volume["spec"]["nodeAffinity"] =
            json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": [expression] }] } });
    });
    let place = |world: &mut World, pod: &str, asked: i64| {
        world.claim(pod, "local", |_| ());
        world.pod(pod, &gpus(asked), |document| {
            document["spec"]["volumes"] =
                json!([{ "name": "data", "persistentVolumeClaim": { "claimName": pod } }]);
        });
        placed(world).map(|places| places[0].node.clone())
    };
    assert_eq!(place(&mut world, "first", 1).as_deref(), Some("small"));
    assert_eq!(place(&mut world, "second", 2), None, "there is one volume");
    world.cluster.remove_pod("first");
    assert_eq!(placed(&mut world).map(|places| places[0].node.clone()).as_deref(), Some("large"));
}
