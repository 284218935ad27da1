//! Whether a node has, or can get, the volumes that a pod claims.

use serde_json::{Value, json};

use super::{
    super::super::{
        base::{HOSTNAME, ZONE},
        case::{Case, push},
        random::Random,
    },
    claims,
};

/// Classes that wait for their first consumer, by how a volume comes to be.
const WAITING: &[&str] = &["local", "zonal", "counted"];

/// Claims in every state, and volumes that some nodes reach.
pub(crate) fn binding(random: &mut Random, case: &mut Case) {
    classes(random, case);
    for _ in 0..random.between(0, 4) {
        let class = random.pick(&["local", "local", "zonal", "counted"]);
        let volume = claims::volume(case, class);
        decorate(random, case, &volume);
    }
    let mut incoming = std::mem::take(&mut case.incoming);
    for pod in &mut incoming {
        for _ in 0..random.pick(&[0, 1, 1, 1, 1, 2]) {
            claim(random, case, pod);
        }
    }
    case.incoming = incoming;
}

fn classes(random: &mut Random, case: &mut Case) {
    claims::class(case, "immediate", claims::DRIVER, false);
    claims::class(case, "local", "kubernetes.io/no-provisioner", true);
    claims::class(case, "zonal", "zonal.example.com", true);
    claims::class(case, "counted", "counted.example.com", true);
    if let Some(zonal) = claims::find(&mut case.storage_classes, "zonal") {
        let count = random.between(1, 2);
        let zones = random.several(count, &["za", "zb", "zc"]);
        let mut terms = json!([{ "matchLabelExpressions": [{ "key": ZONE, "values": zones }] }]);
        if random.percent(25) {
            let disk = json!({ "key": "disk", "values": ["ssd"] });
            if random.percent(50) {
                push(&mut terms[0]["matchLabelExpressions"], disk);
            } else {
                push(&mut terms, json!({ "matchLabelExpressions": [disk] }));
            }
        }
        zonal["allowedTopologies"] = terms;
    }
    if random.percent(85) {
        let driver = json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": { "name": "counted.example.com" },
            "spec": { "storageCapacity": random.percent(85), "attachRequired": false },
        });
        case.csi_drivers.push(driver);
    }
    for index in 0..random.between(0, 4) {
        let capacity = capacity(random, index);
        case.csi_storage_capacities.push(capacity);
    }
}

fn capacity(random: &mut Random, index: usize) -> Value {
    let mut capacity = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "CSIStorageCapacity",
        "metadata": { "name": format!("capacity-{index}"), "namespace": "storage" },
        "storageClassName": random.pick(&["counted", "counted", "counted", "zonal"]),
    });
    match random.between(0, 5) {
        0 => {}
        1 => capacity["nodeTopology"] = json!({}),
        2 => {
            capacity["nodeTopology"] = json!({ "matchExpressions": [{ "key": "disk", "operator": "In", "values": ["ssd", "hdd"] }] });
        }
        _ => capacity["nodeTopology"] = json!({ "matchLabels": { ZONE: random.pick(&["za", "zb", "zc"]) } }),
    }
    if random.percent(85) {
        capacity["capacity"] = json!(random.pick(&["0", "2Gi", "100Gi", "100Gi"]));
    }
    if random.percent(25) {
        capacity["maximumVolumeSize"] = json!(random.pick(&["1Gi", "3Gi", "50Gi"]));
    }
    capacity
}

/// A volume that some nodes reach, and not every claim may have.
fn decorate(random: &mut Random, case: &mut Case, volume: &str) {
    let nodes = case.node_names();
    let Some(pv) = claims::find(&mut case.pvs, volume) else { return };
    if random.percent(80) {
        pv["spec"]["nodeAffinity"] = node_affinity(random, &nodes);
    }
    if random.percent(15) {
        pv["metadata"]["labels"]["tier"] = json!(random.pick(&["gold", "tin"]));
    }
    if random.percent(10) {
        pv["spec"]["accessModes"] = json!(["ReadOnlyMany"]);
    }
    if random.percent(8) {
        pv["spec"]["volumeMode"] = json!("Block");
    }
    if random.percent(8) {
        pv["status"]["phase"] = json!(random.pick(&["Released", "Failed", "Pending"]));
    }
    if random.percent(5) {
        pv["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    if random.percent(8) {
        pv["spec"]["claimRef"] = json!({ "name": "somebody", "namespace": "default", "uid": "uid-of-somebody", "apiVersion": "v1" });
    }
    if random.percent(8) {
        pv["spec"]["volumeAttributesClassName"] = json!("fast");
    }
}

fn node_affinity(random: &mut Random, nodes: &[String]) -> Value {
    let expression = match random.between(0, 5) {
        0 => json!({ "key": ZONE, "operator": "In", "values": [random.pick(&["za", "zb", "zc"])] }),
        1 => json!({ "key": ZONE, "operator": "NotIn", "values": [random.pick(&["za", "zb"])] }),
        2 => json!({ "key": "disk", "operator": "Exists" }),
        _ => {
            let at = random.between(0, nodes.len() - 1);
            json!({ "key": HOSTNAME, "operator": "In", "values": [nodes[at]] })
        }
    };
    let mut terms = json!([{ "matchExpressions": [expression] }]);
    if random.percent(25) {
        let another = json!({ "key": "disk", "operator": "In", "values": ["ssd"] });
        push(&mut terms, json!({ "matchExpressions": [another] }));
    }
    json!({ "required": { "nodeSelectorTerms": terms } })
}

/// A claim in some state, used by the pod.
fn claim(random: &mut Random, case: &mut Case, pod: &mut Value) {
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    match random.between(0, 29) {
        0 => claims::mount(pod, "claim-that-is-missing"),
        1..=9 => {
            let (volume, claim) = claims::bound(case, &namespace);
            let nodes = case.node_names();
            if let Some(pv) = claims::find(&mut case.pvs, &volume)
                && random.percent(90)
            {
                pv["spec"]["nodeAffinity"] = node_affinity(random, &nodes);
            }
            claims::mount(pod, &claim);
        }
        10 | 11 => broken(random, case, pod, &namespace),
        12..=14 => ephemeral(random, case, pod, &namespace),
        _ => {
            let class = random.pick(WAITING);
            let claim = claims::unbound(case, &namespace, class);
            waiting(random, case, &claim);
            claims::mount(pod, &claim);
        }
    }
}

/// A claim that waits for its first consumer, choosy in several ways.
fn waiting(random: &mut Random, case: &mut Case, claim: &str) {
    let nodes = case.node_names();
    let Some(pvc) = claims::find(&mut case.pvcs, claim) else { return };
    if random.percent(12) {
        pvc["spec"]["selector"] = json!({ "matchLabels": { "tier": random.pick(&["gold", "tin"]) } });
    }
    if random.percent(8) {
        pvc["spec"]["accessModes"] = json!(["ReadWriteMany"]);
    }
    if random.percent(6) {
        pvc["spec"]["volumeMode"] = json!("Block");
    }
    if random.percent(12) {
        let at = random.between(0, nodes.len() - 1);
        pvc["metadata"]["annotations"] = json!({ "volume.kubernetes.io/selected-node": nodes[at] });
    }
    if random.percent(6) {
        pvc["spec"]["volumeAttributesClassName"] = json!("fast");
    }
    // Some of the volumes may be promised to it already.
    if random.percent(8) {
        let reference = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": claim,
            "namespace": pvc["metadata"]["namespace"],
        });
        let class = pvc["spec"]["storageClassName"].clone();
        let free =
            |pv: &&mut Value| pv["spec"]["storageClassName"] == class && pv["spec"]["claimRef"].is_null();
        if let Some(pv) = case.pvs.iter_mut().find(free) {
            pv["spec"]["claimRef"] = reference;
        }
    }
}

/// A claim that no pod can use now.
fn broken(random: &mut Random, case: &mut Case, pod: &mut Value, namespace: &str) {
    let claim = match random.between(0, 4) {
        0 => claims::unbound(case, namespace, "immediate"),
        1 => claims::unbound(case, namespace, "class-that-is-missing"),
        2 => {
            // Given to it by hand, and not bound yet.
            let volume = claims::volume(case, "local");
            let claim = claims::unbound(case, namespace, "local");
            if let Some(pvc) = claims::find(&mut case.pvcs, &claim) {
                pvc["spec"]["volumeName"] = json!(volume);
            }
            claim
        }
        state => {
            let (volume, claim) = claims::bound(case, namespace);
            if let Some(pvc) = claims::find(&mut case.pvcs, &claim) {
                if state == 3 {
                    pvc["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                } else {
                    pvc["status"]["phase"] = json!("Lost");
                }
            }
            if state == 4 && random.percent(70) {
                case.pvs.retain(|pv| pv["metadata"]["name"] != volume.as_str());
            }
            claim
        }
    };
    claims::mount(pod, &claim);
}

/// A volume that lives as long as its pod: the claim is called after both and belongs to the pod.
fn ephemeral(random: &mut Random, case: &mut Case, pod: &mut Value, namespace: &str) {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let volume = "scratch-space";
    if pod["spec"]["volumes"]
        .as_array()
        .is_some_and(|volumes| volumes.iter().any(|one| one["name"] == volume))
    {
        return;
    }
    let class = random.pick(WAITING);
    let template = json!({ "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } },
        "storageClassName": class, "volumeMode": "Filesystem",
    } });
    push(
        &mut pod["spec"]["volumes"],
        json!({ "name": volume, "ephemeral": { "volumeClaimTemplate": template } }),
    );
    // The controller takes a moment.
    if random.percent(15) {
        return;
    }
    let claim = claims::unbound(case, namespace, class);
    let owner = if random.percent(85) { pod["metadata"]["uid"].clone() } else { json!("uid-of-another") };
    if let Some(pvc) = claims::find(&mut case.pvcs, &claim) {
        pvc["metadata"]["name"] = json!(format!("{name}-{volume}"));
        pvc["metadata"]["ownerReferences"] = json!([{ "apiVersion": "v1", "kind": "Pod", "name": name, "uid": owner, "controller": true, "blockOwnerDeletion": true }]);
    }
}
