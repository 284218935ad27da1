//! The rules, one by one: what a node must be, and who may be near.

use serde_json::{Value, json};

use super::Refusal;
use crate::{
    cluster::Verdict,
    testing::{World, gpus},
};

/// A cluster of one node `n` in zone `a` with 8 GPUs.
fn world() -> World {
    let mut world = World::default();
    world.node("n", &gpus(8));
    world.change_node("n", |node| {
        node["metadata"]["labels"] = json!({ "zone": "a", "gpus": "8", "kubernetes.io/hostname": "n" });
    });
    world
}

/// What is said about a pod with these fields and the node `n`.
fn said(world: &mut World, field: &str, value: &Value) -> Vec<Refusal> {
    world.pod("p", &gpus(1), |pod| pod["spec"][field] = value.clone());
    let verdicts = world.cluster.verdicts("p");
    verdicts.into_iter().find(|Verdict { node, .. }| node == "n").unwrap().refusals
}

#[test]
fn a_taint_keeps_away_who_does_not_tolerate_it() {
    for (effect, expected) in [
        ("NoSchedule", vec![Refusal::UntoleratedTaint("gpu=yes:NoSchedule".to_owned())]),
        ("NoExecute", vec![Refusal::UntoleratedTaint("gpu=yes:NoExecute".to_owned())]),
        ("PreferNoSchedule", vec![]),
    ] {
        let mut world = world();
        let taint = json!([{ "key": "gpu", "value": "yes", "effect": effect }]);
        world.change_node("n", |node| node["spec"] = json!({ "taints": taint }));
        assert_eq!(said(&mut world, "tolerations", &json!([])), expected, "{effect}");
    }
}

#[test]
fn tolerations_are_matched_as_kubernetes_matches_them() {
    for (toleration, passes) in [
        (json!({ "key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule" }), true),
        (json!({ "key": "gpu", "value": "yes" }), true),
        (json!({ "key": "gpu", "value": "no" }), false),
        (json!({ "key": "gpu", "operator": "Exists" }), true),
        (json!({ "key": "cpu", "operator": "Exists" }), false),
        (json!({ "operator": "Exists" }), true),
        (json!({ "operator": "Exists", "effect": "NoExecute" }), false),
        (json!({ "key": "gpu", "operator": "FromTheFuture" }), false),
    ] {
        let mut world = world();
        let taint = json!([{ "key": "gpu", "value": "yes", "effect": "NoSchedule" }]);
        world.change_node("n", |node| node["spec"] = json!({ "taints": taint }));
        assert_eq!(said(&mut world, "tolerations", &json!([toleration])).is_empty(), passes, "{toleration}");
    }
}

#[test]
fn a_cordoned_node_takes_only_who_tolerates_it() {
    let mut world = world();
    world.cordon("n");
    assert_eq!(said(&mut world, "tolerations", &json!([])), [Refusal::Unschedulable]);
    assert_eq!(said(&mut world, "tolerations", &json!([{ "operator": "Exists" }])), []);
}

#[test]
fn required_affinity_is_one_of_its_terms() {
    let expression = |key: &str, operator: &str, values: &[&str]| json!([{ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] }]);
    let field = |name: &str| json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [name] }] }]);
    for (terms, passes) in [
        (expression("zone", "In", &["a", "b"]), true),
        (expression("zone", "NotIn", &["a"]), false),
        (expression("rack", "NotIn", &["a"]), true),
        (expression("gpus", "Gt", &["7"]), true),
        (expression("gpus", "Lt", &["8"]), false),
        (expression("zone", "Gt", &["1"]), false),
        (expression("rack", "DoesNotExist", &[]), true),
        (field("n"), true),
        (field("m"), false),
        (json!([{}]), false),
        (json!([]), false),
        (json!([{}, { "matchExpressions": [{ "key": "zone", "operator": "Exists" }] }]), true),
    ] {
        let required = json!({ "nodeSelectorTerms": terms });
        let affinity =
            json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": required } });
        let expected = if passes { vec![] } else { vec![Refusal::NodeAffinity] };
        assert_eq!(said(&mut world(), "affinity", &affinity), expected, "{terms}");
    }
}

#[test]
fn a_missing_label_is_named() {
    let expected = [Refusal::NodeSelector("zone=b".to_owned())];
    assert_eq!(said(&mut world(), "nodeSelector", &json!({ "zone": "b" })), expected);
}

#[test]
fn the_gpus_that_a_node_shares_are_shared_within_one_namespace() {
    let shared = "nvidia.com/gpu.shared";
    let refused = vec![Refusal::SharedByAnother(shared.to_owned())];
    for (sharing, namespace, expected) in
        [(&[][..], "mine", vec![]), (&["mine"], "mine", vec![]), (&["theirs"], "mine", refused.clone())]
    {
        let mut world = World::default();
        world.node("n", &[(shared, 8), ("nvidia.com/gpu", 8)]);
        for owner in sharing {
            world.pod(owner, &[(shared, 1)], |pod| {
                pod["metadata"]["namespace"] = json!(owner);
                pod["spec"]["nodeName"] = json!("n");
            });
        }
        for (resource, expected) in [(shared, expected), ("nvidia.com/gpu", vec![])] {
            world.pod("p", &[(resource, 1)], |pod| pod["metadata"]["namespace"] = json!(namespace));
            assert_eq!(world.cluster.verdicts("p")[0].refusals, expected, "{resource} beside {sharing:?}");
        }
    }
}

#[test]
fn a_port_of_the_node_is_had_once() {
    let port = |address: &str, protocol: &str| json!([{ "name": "c", "ports": [{ "hostPort": 80, "hostIP": address, "protocol": protocol }] }]);
    for (taken, wanted, passes) in [
        (port("", "TCP"), port("", "TCP"), false),
        (port("", "TCP"), port("", "UDP"), true),
        (port("10.0.0.1", "TCP"), port("", "TCP"), false),
        (port("10.0.0.1", "TCP"), port("10.0.0.1", "TCP"), false),
        (port("10.0.0.1", "TCP"), port("10.0.0.2", "TCP"), true),
    ] {
        let mut world = world();
        world.pod("there", &[], |pod| {
            pod["spec"]["nodeName"] = json!("n");
            pod["spec"]["containers"] = taken.clone();
        });
        let expected = if passes {
            vec![]
        } else {
            vec![Refusal::HostPort(format!("80/{}", wanted[0]["ports"][0]["protocol"].as_str().unwrap()))]
        };
        assert_eq!(said(&mut world, "containers", &wanted), expected, "{taken} {wanted}");
    }
}

#[test]
fn beside_a_pod_that_makes_no_sense_nothing_is_placed() {
    let mut world = world();
    world.pod("there", &[], |pod| pod["spec"] = json!({ "nodeName": "n", "containers": "none" }));
    assert_eq!(said(&mut world, "tolerations", &json!([])), [Refusal::UnreadablePod("ns/there".to_owned())]);
    world.cluster.remove_pod("there");
    assert_eq!(said(&mut world, "tolerations", &json!([])), []);
}

#[test]
fn a_feature_that_the_node_has_not_declared_is_missed() {
    let mut world = world();
    let rule = json!([{ "name": "c", "restartPolicyRules": [{ "action": "RestartAllContainers" }] }]);
    let feature = "RestartAllContainersOnContainerExits";
    assert_eq!(said(&mut world, "containers", &rule), [Refusal::MissingFeature(feature.to_owned())]);
    world.change_node("n", |node| node["status"]["declaredFeatures"] = json!([feature]));
    assert_eq!(said(&mut world, "containers", &rule), []);
}

#[test]
fn company_is_wanted_shunned_and_shunned_by() {
    let term = |app: &str| {
        json!({ "requiredDuringSchedulingIgnoredDuringExecution":
            [{ "labelSelector": { "matchLabels": { "app": app } }, "topologyKey": "zone" }] })
    };
    let there = |world: &mut World, app: &str, affinity: Value| {
        world.pod("there", &[], |pod| {
            pod["metadata"]["labels"] = json!({ "app": app });
            pod["spec"]["affinity"] = affinity;
            pod["spec"]["nodeName"] = json!("n");
        });
    };
    let zone = || "zone".to_owned();
    let mut world = world();
    let wants = json!({ "podAffinity": term("db") });
    assert_eq!(said(&mut world, "affinity", &wants), [Refusal::PodAffinity(zone())]);
    there(&mut world, "db", json!({}));
    assert_eq!(said(&mut world, "affinity", &wants), []);
    let shuns = json!({ "podAntiAffinity": term("db") });
    assert_eq!(said(&mut world, "affinity", &shuns), [Refusal::PodAntiAffinity(zone())]);
    there(&mut world, "db", json!({ "podAntiAffinity": term("web") }));
    world.pod("p", &gpus(1), |pod| pod["metadata"]["labels"] = json!({ "app": "web" }));
    assert_eq!(world.cluster.verdicts("p")[0].refusals, [Refusal::OthersAntiAffinity(zone())]);
    world.cluster.remove_pod("there");
    assert_eq!(world.cluster.verdicts("p")[0].refusals, []);
}

#[test]
fn the_first_of_a_series_needs_no_company_but_a_topology() {
    let mut world = world();
    world.node("bare", &gpus(8));
    let own = json!({ "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution":
        [{ "labelSelector": { "matchLabels": { "app": "me" } }, "topologyKey": "zone" }] } });
    world.pod("p", &gpus(1), |pod| {
        pod["metadata"]["labels"] = json!({ "app": "me" });
        pod["spec"]["affinity"] = own;
    });
    let verdicts = world.cluster.verdicts("p");
    assert_eq!(verdicts[0].refusals, []);
    assert_eq!(verdicts[1].refusals, [Refusal::PodAffinity("zone".to_owned())]);
}

#[test]
fn spread_allows_only_so_much_difference() {
    let mut world = world();
    world.node("m", &gpus(8));
    world.change_node("m", |node| node["metadata"]["labels"]["zone"] = json!("b"));
    let constraint = json!([{ "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app": "me" } } }]);
    let me = |world: &mut World, name: &str, node: Option<&str>| {
        world.pod(name, &gpus(1), |pod| {
            pod["metadata"]["labels"] = json!({ "app": "me" });
            pod["spec"]["topologySpreadConstraints"] = constraint.clone();
            if let Some(node) = node {
                pod["spec"]["nodeName"] = json!(node);
            }
        });
    };
    me(&mut world, "first", Some("n"));
    me(&mut world, "p", None);
    let refusals =
        |world: &World| world.cluster.verdicts("p").into_iter().map(|v| v.refusals).collect::<Vec<_>>();
    assert_eq!(refusals(&world), [vec![Refusal::TopologySpread("zone".to_owned())], vec![]]);
    me(&mut world, "second", Some("m"));
    assert_eq!(refusals(&world), [vec![], vec![]]);
    world.node("bare", &gpus(8));
    assert_eq!(refusals(&world)[2], [Refusal::NoTopology("zone".to_owned())]);
}

#[test]
fn a_namespace_that_is_not_known_yet_is_selected_only_where_all_are() {
    let near = |selector: Value| {
        let mut world = world();
        world.pod("other", &gpus(1), |pod| pod["spec"]["nodeName"] = json!("n"));
        let term = json!({ "topologyKey": "zone", "labelSelector": {}, "namespaceSelector": selector });
        let affinity =
            json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } });
        !said(&mut world, "affinity", &affinity).is_empty()
    };
    assert!(near(json!({})));
    assert!(!near(
        json!({ "matchExpressions": [{ "key": "env", "operator": "NotIn", "values": ["prod"] }] })
    ));
}
