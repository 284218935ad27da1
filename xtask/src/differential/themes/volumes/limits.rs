//! How many volumes of a driver a node can have.

use serde_json::{Value, json};

use super::{
    super::super::{
        base::{ZONE, ZONES},
        case::{Case, name},
        random::Random,
    },
    claims,
};

const EBS: &str = "ebs.csi.aws.com";
const DRIVERS: &[&str] = &[claims::DRIVER, "other.example.com", EBS];

/// Nodes with few places, pods with many volumes.
pub(crate) fn limits(random: &mut Random, case: &mut Case) {
    claims::class(case, "other", "other.example.com", true);
    claims::class(case, "in-tree", "kubernetes.io/aws-ebs", true);
    drivers(random, case);
    nodes(random, case);
    let mut pods = std::mem::take(&mut case.pods);
    for pod in &mut pods {
        volumes(random, case, pod, 2);
    }
    let mut incoming = std::mem::take(&mut case.incoming);
    for pod in &mut incoming {
        // A claim of a pod that is somewhere already counts once.
        if random.percent(20)
            && let Some(other) = pods.iter().find(|other| in_the_same_namespace(other, pod))
            && let Some(volume) = other["spec"]["volumes"].get(0)
        {
            claims::add(pod, volume.clone());
        }
        volumes(random, case, pod, 3);
    }
    (case.pods, case.incoming) = (pods, incoming);
    attachments(random, case);
}

fn in_the_same_namespace(one: &Value, other: &Value) -> bool {
    one["metadata"]["namespace"] == other["metadata"]["namespace"]
}

fn drivers(random: &mut Random, case: &mut Case) {
    for driver in DRIVERS {
        if random.percent(60) && claims::find(&mut case.csi_drivers, driver).is_none() {
            let mut object = json!({
                "apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": { "name": driver },
                "spec": { "attachRequired": true, "podInfoOnMount": false, "volumeLifecycleModes": ["Persistent"] },
            });
            if random.percent(40) {
                object["spec"]["preventPodSchedulingIfMissing"] = json!(random.percent(80));
            }
            case.csi_drivers.push(object);
        }
    }
}

/// What drivers say of nodes: the places that they have there, and where that is.
fn nodes(random: &mut Random, case: &mut Case) {
    for node in &mut case.nodes {
        for driver in ["topology.ebs.csi.aws.com/zone", "topology.gke.io/zone"] {
            if random.percent(70) {
                node["metadata"]["labels"][driver] = json!(random.pick(ZONES));
            }
        }
    }
    for node in case.node_names() {
        if random.percent(10) || claims::find(&mut case.csi_nodes, &node).is_some() {
            continue;
        }
        let mut drivers = Vec::new();
        for driver in DRIVERS {
            if random.percent(80) {
                let mut entry = json!({ "name": driver, "nodeID": node });
                if random.percent(80) {
                    entry["allocatable"] = json!({ "count": random.pick(&[1, 1, 2, 3]) });
                }
                drivers.push(entry);
            }
        }
        let mut object = json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": { "name": node },
            "spec": { "drivers": drivers },
        });
        match random.between(0, 3) {
            0 => {}
            1 => {
                object["metadata"]["annotations"] =
                    json!({ "storage.alpha.kubernetes.io/migrated-plugins": "kubernetes.io/gce-pd" });
            }
            _ => {
                object["metadata"]["annotations"] = json!({
                    "storage.alpha.kubernetes.io/migrated-plugins": "kubernetes.io/aws-ebs,kubernetes.io/gce-pd",
                });
            }
        }
        case.csi_nodes.push(object);
    }
}

fn volumes(random: &mut Random, case: &mut Case, pod: &mut Value, most: usize) {
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    for index in 0..random.between(0, most) {
        match random.between(0, 9) {
            0..=4 => {
                let (volume, claim) = claims::bound(case, &namespace);
                let driver = random.pick(DRIVERS);
                if let Some(pv) = claims::find(&mut case.pvs, &volume) {
                    pv["spec"]["csi"]["driver"] = json!(driver);
                }
                claims::mount(pod, &claim);
            }
            5 => {
                let (volume, claim) = claims::bound(case, &namespace);
                in_tree(random, case, &volume);
                claims::mount(pod, &claim);
            }
            6 | 7 => {
                let class = random.pick(&["other", "other", "in-tree"]);
                let claim = claims::unbound(case, &namespace, class);
                claims::mount(pod, &claim);
            }
            8 => {
                let disk = random.pick(&["vol-1", "vol-2", "aws://za/vol-3"]);
                let volume =
                    json!({ "name": format!("ebs-{index}"), "awsElasticBlockStore": { "volumeID": disk } });
                claims::add(pod, volume);
            }
            _ => {
                let volume =
                    json!({ "name": format!("inline-{index}"), "csi": { "driver": claims::DRIVER } });
                claims::add(pod, volume);
            }
        }
    }
}

/// A disk that Kubernetes once looked after itself, and its driver does now.
fn in_tree(random: &mut Random, case: &mut Case, volume: &str) {
    let Some(pv) = claims::find(&mut case.pvs, volume) else { return };
    if let Value::Object(spec) = &mut pv["spec"] {
        spec.remove("csi");
    }
    let disk = format!("{}vol-of-{volume}", random.pick(&["", "", "", "", "aws://za/", "aws://za/not-a-"]));
    if random.percent(70) {
        pv["spec"]["awsElasticBlockStore"] = json!({ "volumeID": disk, "fsType": "ext4" });
    } else {
        pv["spec"]["gcePersistentDisk"] = json!({ "pdName": disk, "fsType": "ext4" });
    }
    // Where it is, the driver says by a label of its own.
    if random.percent(30) {
        pv["metadata"]["labels"][ZONE] =
            json!(random.pick(&["za", "zb", "za__zb", "us-east1-a__us-east1-b"]));
    }
    if random.percent(30) {
        let count = random.between(1, 2);
        let zones = random.several(count, ZONES);
        let expression = json!({ "key": ZONE, "operator": "In", "values": zones });
        pv["spec"]["nodeAffinity"] =
            json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": [expression] }] } });
    }
}

/// What is being attached, whose pod isn't there yet or any more.
fn attachments(random: &mut Random, case: &mut Case) {
    let nodes = case.node_names();
    let volumes: Vec<(String, Value)> =
        case.pvs.iter().map(|pv| (name(pv), pv["spec"]["csi"]["driver"].clone())).collect();
    for index in 0..random.between(0, 4) {
        let node = &nodes[random.between(0, nodes.len() - 1)];
        let gone = ("pv-that-is-gone".to_owned(), json!(claims::DRIVER));
        let (volume, driver) =
            volumes.get(random.between(0, volumes.len())).cloned().unwrap_or_else(|| gone.clone());
        let attacher = if driver.is_null() { json!(EBS) } else { driver };
        case.volume_attachments.push(json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment",
            "metadata": { "name": format!("attachment-{index}-{}", case.volume_attachments.len()) },
            "spec": { "attacher": attacher, "nodeName": node, "source": { "persistentVolumeName": volume } },
            "status": { "attached": random.percent(70) },
        }));
    }
}
