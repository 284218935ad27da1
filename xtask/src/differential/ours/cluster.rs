//! A case, told to the scheduler's core as the watches would tell it.

use anyhow::{Context as _, Result, ensure};
use plasma_scheduler_core::{Cluster, Names};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::case::{Case, name};

/// In which order things are heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Each thing once, as it is.
    Straight,
    /// Pods first, then what they need; everything as something else before it is what it is; and some that go again.
    Detour,
}

/// The cluster without the pods that wait.
///
/// # Errors
/// An object can't be read.
pub(super) fn filled(case: &Case, way: Way) -> Result<Cluster> {
    let mut cluster = Cluster::new(Names {
        scheduler: "default-scheduler".to_owned(),
        gang_label: "compute.plasma.dev/gang".to_owned(),
        job_label: "compute.plasma.dev/job-uid".to_owned(),
    });
    if way == Way::Detour {
        detour(&mut cluster, case)?;
    }
    for namespace in &case.namespaces {
        cluster.set_namespace(&read(namespace)?);
    }
    for node in &case.nodes {
        let faults = cluster.set_node(&read(node)?);
        ensure!(faults.is_empty(), "{faults:?}");
    }
    fill_storage(&mut cluster, case)?;
    for pod in &case.pods {
        cluster.set_pod(&read(pod)?);
    }
    Ok(cluster)
}

/// What of it was before: pods that wait and have no labels yet, then all of them on nodes that aren't there; each node as an
/// empty one with a stranger's pod on it, which goes; another cluster's worth of pods, which go with their node.
fn detour(cluster: &mut Cluster, case: &Case) -> Result<()> {
    for pod in &case.pods {
        let mut waiting = pod.clone();
        waiting["status"] = json!({ "phase": "Pending" });
        for (part, field) in [("spec", "nodeName"), ("metadata", "labels"), ("metadata", "deletionTimestamp")]
        {
            if let Value::Object(fields) = &mut waiting[part] {
                fields.remove(field);
            }
        }
        cluster.set_pod(&read(&waiting)?);
        cluster.set_pod(&read(pod)?);
    }
    for (number, pod) in case.incoming.iter().enumerate() {
        let mut stranger = pod.clone();
        let uid = format!("stranger-{number}");
        stranger["metadata"]["uid"] = json!(uid);
        stranger["metadata"]["name"] = json!(uid);
        stranger["spec"]["nodeName"] = json!(case.nodes.get(number).map_or("decoy".to_owned(), name));
        cluster.set_pod(&read(&stranger)?);
    }
    for node in case.node_names().iter().map(String::as_str).chain(["decoy"]) {
        let taints = json!([{ "key": "new", "effect": "NoSchedule" }]);
        let empty = json!({ "metadata": { "name": node }, "spec": { "taints": taints }, "status": {} });
        cluster.set_node(&read(&empty)?);
    }
    cluster.remove_node("decoy");
    (0..case.incoming.len()).for_each(|number| cluster.remove_pod(&format!("stranger-{number}")));
    Ok(())
}

fn fill_storage(cluster: &mut Cluster, case: &Case) -> Result<()> {
    let mut faults = Vec::new();
    for class in &case.storage_classes {
        cluster.set_class(&read(class)?);
    }
    for claim in &case.pvcs {
        faults.extend(cluster.set_claim(&read(claim)?));
    }
    for volume in &case.pvs {
        faults.extend(cluster.set_volume(&read(volume)?));
    }
    for node in &case.csi_nodes {
        cluster.set_csi_node(&read(node)?);
    }
    for driver in &case.csi_drivers {
        cluster.set_csi_driver(&read(driver)?);
    }
    for capacity in &case.csi_storage_capacities {
        faults.extend(cluster.set_capacity(&read(capacity)?));
    }
    for attachment in &case.volume_attachments {
        cluster.set_attachment(&read(attachment)?);
    }
    ensure!(faults.is_empty(), "{faults:?}");
    Ok(())
}

/// An object as text, as the watches bring it.
pub(super) fn read<T: DeserializeOwned>(object: &Value) -> Result<T> {
    serde_json::from_str(&object.to_string()).with_context(|| format!("read {}", name(object)))
}
