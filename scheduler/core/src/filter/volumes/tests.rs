//! The rules about volumes, one by one.

use serde_json::{Value, json};

use super::{Refusal, VolumeFilter};
use crate::{
    cluster::StorageKind,
    testing::{World, gpus},
};

const DRIVER: &str = "csi.example.com";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Two nodes, `a` and `b`, in the zones `za` and `zb`; classes that wait and one that doesn't.
fn world() -> World {
    let mut world = World::default();
    for name in ["a", "b"] {
        world.node(name, &gpus(8));
        world.change_node(name, |node| node["metadata"]["labels"][ZONE] = json!(format!("z{name}")));
    }
    world.class("local", "kubernetes.io/no-provisioner", |_| ());
    world.class("made", DRIVER, |_| ());
    world.class("immediate", DRIVER, |class| class["volumeBindingMode"] = json!("Immediate"));
    world
}

fn of_claims(claims: &[&str]) -> Value {
    claims
        .iter()
        .map(|name| json!({ "name": name, "persistentVolumeClaim": { "claimName": name } }))
        .collect()
}

/// What is said about a pod with these volumes and each of the two nodes.
fn said(world: &mut World, volumes: Value) -> [Vec<Refusal>; 2] {
    world.pod("p", &gpus(1), |pod| pod["spec"]["volumes"] = volumes);
    let mut verdicts = world.cluster.verdicts("p");
    assert_eq!(world.cluster.problem("p"), None);
    verdicts.sort_by(|one, other| one.node.cmp(&other.node));
    let refusals: Vec<_> = verdicts.into_iter().map(|verdict| verdict.refusals).collect();
    refusals.try_into().unwrap()
}

fn not_usable(filter: VolumeFilter, why: &str) -> Refusal {
    Refusal::ClaimNotUsable(filter, why.to_owned())
}

fn hostname(node: &str) -> Value {
    let expression = json!({ "key": "kubernetes.io/hostname", "operator": "In", "values": [node] });
    json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": [expression] }] } })
}

#[test]
fn a_claim_that_is_not_there_keeps_its_pod_from_every_node() {
    let missing = |filter| not_usable(filter, "ns/data isn't there");
    let all = [VolumeFilter::Binding, VolumeFilter::Restrictions, VolumeFilter::Zone, VolumeFilter::Limits]
        .map(missing);
    assert_eq!(said(&mut world(), of_claims(&["data"])), [all.to_vec(), all.to_vec()]);
}

#[test]
fn a_claim_in_a_bad_state_is_named_with_the_state() {
    for (change, why) in [
        (json!({ "status": { "phase": "Lost" } }), "has lost its volume"),
        (json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } }), "is being deleted"),
        (json!({ "spec": { "volumeName": "v" } }), "is being bound to its volume"),
        (
            json!({ "spec": { "storageClassName": "immediate" } }),
            "isn't bound yet: its class binds without waiting for a pod",
        ),
        (json!({ "spec": { "storageClassName": "gone" } }), "isn't bound, and its storage class isn't there"),
        (json!({ "spec": { "storageClassName": null } }), "isn't bound yet, and names no storage class"),
        (
            json!({ "spec": { "resources": { "requests": { "storage": "much" } } } }),
            "spec.resources.requests: \"much\" is not a quantity such as 500m, 2, 1.5Gi or 1e3",
        ),
    ] {
        let mut world = world();
        world.claim("data", "made", |claim| merge(claim, &change));
        let expected = not_usable(VolumeFilter::Binding, &format!("ns/data {why}"));
        let [here, there] = said(&mut world, of_claims(&["data"]));
        assert!(here.contains(&expected) && there.contains(&expected), "{here:?}");
    }
}

fn merge(value: &mut Value, change: &Value) {
    match (value, change) {
        (Value::Object(fields), Value::Object(changes)) => {
            for (name, change) in changes {
                merge(fields.entry(name).or_insert(Value::Null), change);
            }
        }
        (value, change) => *value = change.clone(),
    }
}

#[test]
fn a_bound_claim_is_where_its_volume_is() {
    let mut world = world();
    world.bound("data", "v", |volume| volume["spec"]["nodeAffinity"] = hostname("a"));
    assert_eq!(
        said(&mut world, of_claims(&["data"])),
        [vec![], vec![Refusal::VolumeAffinity("v".to_owned())]]
    );
    world.cluster.remove_storage(StorageKind::Volume, "v");
    let expected = vec![
        not_usable(VolumeFilter::Zone, "ns/data is bound to a volume that isn't there"),
        Refusal::VolumeMissing("v".to_owned()),
    ];
    assert_eq!(said(&mut world, of_claims(&["data"])), [expected.clone(), expected]);
}

#[test]
fn the_zones_of_a_volume_are_any_of_those_in_its_label() {
    for (label, zones, passes) in [
        (ZONE, "za", [true, false]),
        (ZONE, "za__zb", [true, true]),
        (ZONE, "zx", [false, false]),
        (ZONE, "", [true, true]),
        ("failure-domain.beta.kubernetes.io/zone", "zb", [false, true]),
        ("somewhere", "else", [true, true]),
    ] {
        let mut world = world();
        world.bound("data", "v", |volume| volume["metadata"]["labels"] = json!({ label: zones }));
        let refused =
            |passes: bool| if passes { vec![] } else { vec![Refusal::VolumeElsewhere("v".to_owned())] };
        assert_eq!(said(&mut world, of_claims(&["data"])), passes.map(refused), "{label}={zones}");
    }
}

#[test]
fn a_waiting_claim_goes_where_it_finds_a_volume_that_suits() {
    let none = || vec![Refusal::NoVolume("ns/data".to_owned())];
    for (change, suits) in [
        (json!({}), true),
        (json!({ "spec": { "capacity": { "storage": "999Mi" } } }), false),
        (json!({ "spec": { "accessModes": ["ReadWriteMany"] } }), false),
        (json!({ "spec": { "volumeMode": "Block" } }), false),
        (json!({ "spec": { "storageClassName": "other" } }), false),
        (json!({ "spec": { "volumeAttributesClassName": "fast" } }), false),
        (json!({ "status": { "phase": "Released" } }), false),
        (json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } }), false),
        (json!({ "spec": { "claimRef": { "name": "other", "namespace": "ns" } } }), false),
        (json!({ "spec": { "claimRef": { "name": "data", "namespace": "ns" } } }), true),
        (json!({ "spec": { "claimRef": { "name": "data", "namespace": "ns", "uid": "older" } } }), false),
    ] {
        let mut world = world();
        world.claim("data", "local", |_| ());
        world.volume("v", "local", |volume| {
            volume["spec"]["nodeAffinity"] = hostname("a");
            merge(volume, &change);
        });
        let here = if suits { vec![] } else { none() };
        assert_eq!(said(&mut world, of_claims(&["data"])), [here, none()], "{change}");
    }
}

#[test]
fn a_claims_selector_chooses_among_volumes() {
    let mut world = world();
    world.claim("data", "local", |claim| {
        claim["spec"]["selector"] = json!({ "matchLabels": { "tier": "gold" } })
    });
    world.volume("v", "local", |_| ());
    let none = || vec![Refusal::NoVolume("ns/data".to_owned())];
    assert_eq!(said(&mut world, of_claims(&["data"])), [none(), none()]);
    world.volume("v", "local", |volume| volume["metadata"]["labels"] = json!({ "tier": "gold" }));
    assert_eq!(said(&mut world, of_claims(&["data"])), [vec![], vec![]]);
}

#[test]
fn two_claims_of_one_pod_do_not_get_the_same_volume() {
    let mut world = world();
    world.claim("one", "local", |_| ());
    world.claim("two", "local", |_| ());
    world.volume("v", "local", |_| ());
    let [here, _] = said(&mut world, of_claims(&["one", "two"]));
    assert!(matches!(here[..], [Refusal::NoVolume(_)]), "{here:?}");
    world.volume("w", "local", |_| ());
    assert_eq!(said(&mut world, of_claims(&["one", "two"])), [vec![], vec![]]);
}

#[test]
fn a_volume_is_made_where_its_class_and_the_storage_allow() {
    let mut world = world();
    world.claim("data", "made", |_| ());
    assert_eq!(said(&mut world, of_claims(&["data"])), [vec![], vec![]]);
    let in_za = json!([{ "matchLabelExpressions": [{ "key": ZONE, "values": ["za"] }] }]);
    world.class("made", DRIVER, |class| class["allowedTopologies"] = in_za);
    let none = vec![Refusal::NoVolume("ns/data".to_owned())];
    assert_eq!(said(&mut world, of_claims(&["data"])), [vec![], none.clone()]);
    let full = vec![Refusal::StorageFull("ns/data".to_owned())];
    let driver = json!({ "metadata": { "name": DRIVER }, "spec": { "storageCapacity": true } });
    world.cluster.set_csi_driver(&serde_json::from_value(driver).unwrap());
    assert_eq!(said(&mut world, of_claims(&["data"])), [full.clone(), none.clone()]);
    for (capacity, largest, suffices) in
        [("2Gi", Value::Null, true), ("1Mi", Value::Null, false), ("2Gi", json!("1Mi"), false)]
    {
        let capacity = json!({
            "metadata": { "name": "c", "namespace": "storage" }, "storageClassName": "made",
            "nodeTopology": { "matchLabels": { ZONE: "za" } }, "capacity": capacity, "maximumVolumeSize": largest,
        });
        world.cluster.set_capacity(&serde_json::from_value(capacity).unwrap());
        let here = if suffices { vec![] } else { full.clone() };
        assert_eq!(said(&mut world, of_claims(&["data"])), [here, none.clone()]);
    }
}

#[test]
fn a_claim_for_which_a_node_is_selected_waits_for_that_node() {
    let mut world = world();
    let selected = json!({ "volume.kubernetes.io/selected-node": "b" });
    world.claim("data", "made", |claim| claim["metadata"]["annotations"] = selected);
    assert_eq!(
        said(&mut world, of_claims(&["data"])),
        [vec![Refusal::NoVolume("ns/data".to_owned())], vec![]]
    );
}

#[test]
fn a_volume_of_the_pods_own_is_a_claim_called_after_it_and_owned_by_it() {
    let own = || json!([{ "name": "scratch", "ephemeral": { "volumeClaimTemplate": {} } }]);
    let mut world = world();
    let not_there = "ns/p-scratch isn't there yet: it is made for the pod";
    let [here, _] = said(&mut world, own());
    assert_eq!(
        here,
        [VolumeFilter::Binding, VolumeFilter::Limits].map(|filter| not_usable(filter, not_there))
    );
    for (owner, passes) in [("p", true), ("another", false)] {
        world.claim("p-scratch", "made", |claim| {
            claim["metadata"]["ownerReferences"] = json!([{ "uid": owner, "controller": true }]);
        });
        assert_eq!(said(&mut world, own())[0].is_empty(), passes, "{owner}");
    }
}

#[test]
fn a_claim_for_one_pod_is_used_by_one() {
    let mut world = world();
    world.bound("data", "v", |_| ());
    world.claim("data", "made", |claim| {
        claim["spec"]["accessModes"] = json!(["ReadWriteOncePod"]);
        claim["spec"]["volumeName"] = json!("v");
        claim["metadata"]["annotations"] = json!({ "pv.kubernetes.io/bind-completed": "yes" });
    });
    assert_eq!(said(&mut world, of_claims(&["data"])), [vec![], vec![]]);
    world.pod("other", &[], |pod| {
        pod["spec"]["nodeName"] = json!("a");
        pod["spec"]["volumes"] = of_claims(&["data"]);
    });
    let used = vec![Refusal::ClaimInUse("ns/data".to_owned())];
    assert_eq!(said(&mut world, of_claims(&["data"])), [used.clone(), used]);
    world.pod("other", &[], |pod| {
        pod["spec"]["nodeName"] = json!("gone");
        pod["spec"]["volumes"] = of_claims(&["data"]);
    });
    assert_eq!(said(&mut world, of_claims(&["data"])), [vec![], vec![]]);
    world.cluster.remove_pod("other");
    assert_eq!(said(&mut world, of_claims(&["data"])), [vec![], vec![]]);
}

#[test]
fn a_disk_is_had_once_unless_all_only_read_it() {
    let rbd = |monitor: &str, pool: &str, reads: bool| json!([{ "name": "d", "rbd": { "monitors": [monitor, "m0"], "pool": pool, "image": "i", "readOnly": reads } }]);
    let gce = |name: &str, reads: bool| json!([{ "name": "d", "gcePersistentDisk": { "pdName": name, "readOnly": reads } }]);
    let iscsi = |iqn: &str, reads: bool| json!([{ "name": "d", "iscsi": { "iqn": iqn, "lun": 0, "readOnly": reads } }]);
    let aws =
        |id: &str| json!([{ "name": "d", "awsElasticBlockStore": { "volumeID": id, "readOnly": true } }]);
    for (taken, wanted, collides) in [
        (gce("x", false), gce("x", true), true),
        (gce("x", true), gce("x", true), false),
        (gce("x", false), gce("y", false), false),
        (iscsi("x", true), iscsi("x", false), true),
        (iscsi("x", true), iscsi("x", true), false),
        (aws("x"), aws("x"), true),
        (aws("x"), gce("x", false), false),
        (rbd("m1", "p", false), rbd("m2", "p", true), true),
        (rbd("m1", "p", true), rbd("m2", "p", true), false),
        (rbd("m1", "p", false), rbd("m2", "q", false), false),
    ] {
        let mut world = world();
        world.pod("there", &[], |pod| {
            pod["spec"]["nodeName"] = json!("a");
            pod["spec"]["volumes"] = taken.clone();
        });
        let [here, elsewhere] = said(&mut world, wanted.clone());
        assert_eq!(matches!(here[..], [Refusal::DiskInUse(_)]), collides, "{taken} {wanted}: {here:?}");
        assert_eq!(elsewhere, []);
    }
}

/// A node `a` whose driver attaches one volume.
fn of_one_volume() -> World {
    let mut world = world();
    let drivers = json!([{ "name": DRIVER, "nodeID": "a", "allocatable": { "count": 1 } }]);
    let node = json!({ "metadata": { "name": "a" }, "spec": { "drivers": drivers } });
    world.cluster.set_csi_node(&serde_json::from_value(node).unwrap());
    world.bound("one", "v1", |_| ());
    world.bound("two", "v2", |_| ());
    world
}

#[test]
fn a_driver_attaches_so_many_volumes_of_a_node_and_one_volume_once() {
    let too_many = || vec![Refusal::TooManyVolumes(DRIVER.to_owned())];
    let mut world = of_one_volume();
    assert_eq!(said(&mut world, of_claims(&["one"])), [vec![], vec![]]);
    assert_eq!(said(&mut world, of_claims(&["one", "two"])), [too_many(), vec![]]);
    world.pod("there", &[], |pod| {
        pod["spec"]["nodeName"] = json!("a");
        pod["spec"]["volumes"] = of_claims(&["one"]);
    });
    assert_eq!(said(&mut world, of_claims(&["one"])), [vec![], vec![]]);
    assert_eq!(said(&mut world, of_claims(&["two"])), [too_many(), vec![]]);
    world.claim("new", "made", |_| ());
    assert_eq!(said(&mut world, of_claims(&["new"])), [too_many(), vec![]]);
}

#[test]
fn what_is_being_attached_counts_with_or_without_its_pod() {
    let mut world = of_one_volume();
    let attachment = json!({
        "metadata": { "name": "x" },
        "spec": { "attacher": DRIVER, "nodeName": "a", "source": { "persistentVolumeName": "v1" } },
    });
    world.cluster.set_attachment(&serde_json::from_value(attachment).unwrap());
    let too_many = || vec![Refusal::TooManyVolumes(DRIVER.to_owned())];
    assert_eq!(said(&mut world, of_claims(&["two"])), [too_many(), vec![]]);
    world.cluster.remove_storage(StorageKind::Attachment, "x");
    assert_eq!(said(&mut world, of_claims(&["two"])), [vec![], vec![]]);
}

#[test]
fn a_driver_that_must_be_there_is_missed() {
    let mut world = of_one_volume();
    let driver = json!({ "metadata": { "name": DRIVER }, "spec": { "preventPodSchedulingIfMissing": true } });
    world.cluster.set_csi_driver(&serde_json::from_value(driver).unwrap());
    let missing = vec![Refusal::DriverMissing(DRIVER.to_owned())];
    assert_eq!(said(&mut world, of_claims(&["one"])), [vec![], missing]);
}

#[test]
fn a_disk_that_a_driver_took_over_counts_for_the_driver() {
    let mut world = world();
    let drivers = json!([{ "name": "ebs.csi.aws.com", "nodeID": "a", "allocatable": { "count": 1 } }]);
    let node = json!({ "metadata": { "name": "a" }, "spec": { "drivers": drivers } });
    world.cluster.set_csi_node(&serde_json::from_value(node).unwrap());
    let ebs = |id: &str| json!({ "name": id, "awsElasticBlockStore": { "volumeID": id } });
    let same = json!([ebs("vol-1"), ebs("aws://za/vol-1")]);
    assert_eq!(said(&mut world, same), [vec![], vec![]]);
    let two = json!([ebs("vol-1"), ebs("vol-2")]);
    assert_eq!(said(&mut world, two), [vec![Refusal::TooManyVolumes("ebs.csi.aws.com".to_owned())], vec![]]);
}

#[test]
fn a_volume_that_its_driver_can_not_make_sense_of_is_nowhere_and_counts_nowhere() {
    let gce = json!({ "gcePersistentDisk": { "pdName": "pd" } });
    let ebs = |id: &str| json!({ "awsElasticBlockStore": { "volumeID": id } });
    for (zones, source, is_there) in [
        ("za", gce.clone(), true),
        ("us-east1-a__us-east1-b", gce.clone(), true),
        ("za__zb", gce, false),
        ("za", ebs("aws://za/vol-1"), true),
        ("za", ebs("aws://za/disk-1"), false),
    ] {
        let mut world = world();
        let taken_over = "storage.alpha.kubernetes.io/migrated-plugins";
        let annotations = json!({ taken_over: "kubernetes.io/aws-ebs,kubernetes.io/gce-pd" });
        let node =
            json!({ "metadata": { "name": "a", "annotations": annotations }, "spec": { "drivers": null } });
        world.cluster.set_csi_node(&serde_json::from_value(node).unwrap());
        world.change_node("a", |node| {
            let labels = &mut node["metadata"]["labels"];
            for key in ["topology.gke.io/zone", "topology.ebs.csi.aws.com/zone", ZONE] {
                labels[key] = json!(zones.split("__").next());
            }
        });
        world.bound("data", "v", |volume| {
            volume["metadata"]["labels"] = json!({ ZONE: zones });
            volume["spec"]["csi"] = Value::Null;
            for (kind, value) in source.as_object().unwrap() {
                volume["spec"][kind] = value.clone();
            }
        });
        let [here, _] = said(&mut world, of_claims(&["data"]));
        let expected = if is_there { vec![] } else { vec![Refusal::VolumeAffinity("v".to_owned())] };
        assert_eq!(here, expected, "{zones} {source}");
    }
}
