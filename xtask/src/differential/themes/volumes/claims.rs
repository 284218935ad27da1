//! Claims, volumes and classes, as the controllers leave them.

use serde_json::{Value, json};

use super::super::super::case::{Case, push};

/// The driver of everything that isn't special.
pub(super) const DRIVER: &str = "csi.example.com";

/// A volume of its own for a claim of its own, bound to each other: their names.
pub(super) fn bound(case: &mut Case, namespace: &str) -> (String, String) {
    let claim = unbound(case, namespace, "plain");
    let volume = volume(case, "plain");
    bind(case, &volume, &claim);
    (volume, claim)
}

/// Lets both say that they are bound to each other.
pub(super) fn bind(case: &mut Case, volume: &str, claim: &str) {
    let Some(pvc) = find(&mut case.pvcs, claim) else { return };
    pvc["spec"]["volumeName"] = json!(volume);
    pvc["status"]["phase"] = json!("Bound");
    pvc["metadata"]["annotations"] = json!({
        "pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes",
    });
    let reference = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": claim,
        "namespace": pvc["metadata"]["namespace"], "uid": pvc["metadata"]["uid"],
    });
    let Some(pv) = find(&mut case.pvs, volume) else { return };
    pv["spec"]["claimRef"] = reference;
    pv["status"]["phase"] = json!("Bound");
}

/// A claim that nothing is bound to, of a size that no other has: its name.
pub(super) fn unbound(case: &mut Case, namespace: &str, class: &str) -> String {
    let index = case.pvcs.len();
    let name = format!("claim-{index}");
    // Claims of one size would be served in any order.
    let size = format!("{}Mi", 1024 + 700 * index);
    case.pvcs.push(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name, "namespace": namespace, "uid": format!("uid-{namespace}-{name}"), "resourceVersion": "1",
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": size } },
            "storageClassName": class, "volumeMode": "Filesystem",
        },
        "status": { "phase": "Pending" },
    }));
    name
}

/// A volume of a CSI driver that no claim has, of a size that no other has: its name.
pub(super) fn volume(case: &mut Case, class: &str) -> String {
    let index = case.pvs.len();
    let name = format!("pv-{index}");
    case.pvs.push(json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": { "name": name, "uid": format!("uid-{name}"), "resourceVersion": "1" },
        "spec": {
            "capacity": { "storage": format!("{}Mi", 1000 + 900 * index) }, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Delete", "storageClassName": class, "volumeMode": "Filesystem",
            "csi": { "driver": DRIVER, "volumeHandle": format!("handle-{index}") },
        },
        "status": { "phase": "Available" },
    }));
    name
}

/// A class, unless there is one of that name.
pub(super) fn class(case: &mut Case, name: &str, provisioner: &str, waits: bool) {
    if find(&mut case.storage_classes, name).is_none() {
        case.storage_classes.push(json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "metadata": { "name": name, "uid": format!("uid-{name}") },
            "provisioner": provisioner, "reclaimPolicy": "Delete",
            "volumeBindingMode": if waits { "WaitForFirstConsumer" } else { "Immediate" },
        }));
    }
}

/// Lets the pod use a claim.
pub(super) fn mount(pod: &mut Value, claim: &str) {
    let volume = json!({ "name": format!("of-{claim}"), "persistentVolumeClaim": { "claimName": claim } });
    add(pod, volume);
}

/// Gives the pod a volume, unless it has one of that name.
pub(super) fn add(pod: &mut Value, volume: Value) {
    let has_it =
        pod["spec"]["volumes"].as_array().into_iter().flatten().any(|one| one["name"] == volume["name"]);
    if !has_it {
        push(&mut pod["spec"]["volumes"], volume);
    }
}

/// The object of this name in a list where names are unique.
pub(super) fn find<'a>(list: &'a mut [Value], name: &str) -> Option<&'a mut Value> {
    list.iter_mut().find(|object| object["metadata"]["name"] == name)
}
