//! A case: a small cluster and pods that wait in it, as plain Kubernetes JSON.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// All that there is, as an API server would store it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Case {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) nodes: Vec<Value>,
    /// Pods that are on nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) pods: Vec<Value>,
    /// Pods that wait. Each is judged by itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) incoming: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) pvcs: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) pvs: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) storage_classes: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) csi_nodes: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) csi_drivers: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) csi_storage_capacities: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) volume_attachments: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) namespaces: Vec<Value>,
}

impl Case {
    /// All pods: those on nodes, then those that wait.
    pub(super) fn all_pods(&mut self) -> impl Iterator<Item = &mut Value> {
        self.pods.iter_mut().chain(self.incoming.iter_mut())
    }

    /// The nodes' names.
    pub(super) fn node_names(&self) -> Vec<String> {
        self.nodes.iter().map(name).collect()
    }

    /// Every list of objects, with the kind that is in it.
    pub(super) fn lists(&mut self) -> [&mut Vec<Value>; 11] {
        [
            &mut self.incoming,
            &mut self.nodes,
            &mut self.pods,
            &mut self.pvcs,
            &mut self.pvs,
            &mut self.storage_classes,
            &mut self.csi_nodes,
            &mut self.csi_drivers,
            &mut self.csi_storage_capacities,
            &mut self.volume_attachments,
            &mut self.namespaces,
        ]
    }
}

/// An object's name.
pub(super) fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// Appends to a list that may not be there yet.
pub(super) fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        missing => *missing = json!([item]),
    }
}

/// The elements of a list that may not be there.
pub(super) fn each(list: &mut Value) -> impl Iterator<Item = &mut Value> {
    list.as_array_mut().into_iter().flatten()
}
