//! Storage classes and what CSI drivers say of nodes, as the API server stores them.

use serde::Deserialize;

use super::{LabelSelector, claim::StorageMeta};

/// A StorageClass.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassDocument {
    /// What it says about itself.
    pub metadata: StorageMeta,
    #[serde(default)]
    pub(crate) provisioner: String,
    pub(crate) volume_binding_mode: Option<String>,
    #[serde(default)]
    pub(crate) allowed_topologies: Vec<TopologyTerm>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct TopologyTerm {
    pub(crate) match_label_expressions: Vec<TopologyExpression>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TopologyExpression {
    pub(crate) key: String,
    pub(crate) values: Vec<String>,
}

/// A CSINode: the drivers of a node.
#[derive(Clone, Debug, Deserialize)]
pub struct CsiNodeDocument {
    /// What it says about itself; it is called as its node.
    pub metadata: StorageMeta,
    #[serde(default)]
    pub(crate) spec: CsiNodeSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CsiNodeSpec {
    /// A node without drivers says `null`.
    pub(crate) drivers: Option<Vec<NodeDriver>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeDriver {
    pub(crate) name: String,
    pub(crate) allocatable: Option<NodeDriverRoom>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeDriverRoom {
    pub(crate) count: Option<i64>,
}

/// A CSIDriver.
#[derive(Clone, Debug, Deserialize)]
pub struct CsiDriverDocument {
    /// What it says about itself.
    pub metadata: StorageMeta,
    #[serde(default)]
    pub(crate) spec: CsiDriverSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct CsiDriverSpec {
    pub(crate) storage_capacity: Option<bool>,
    pub(crate) prevent_pod_scheduling_if_missing: Option<bool>,
}

/// A CSIStorageCapacity: how much can be provisioned of a class, for which nodes.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CapacityDocument {
    /// What it says about itself.
    pub metadata: StorageMeta,
    #[serde(default)]
    pub(crate) storage_class_name: String,
    pub(crate) node_topology: Option<LabelSelector>,
    pub(crate) capacity: Option<serde_json::Value>,
    pub(crate) maximum_volume_size: Option<serde_json::Value>,
}

/// A VolumeAttachment: a volume that is being attached to a node, or is.
#[derive(Clone, Debug, Deserialize)]
pub struct AttachmentDocument {
    /// What it says about itself.
    pub metadata: StorageMeta,
    #[serde(default)]
    pub(crate) spec: AttachmentSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct AttachmentSpec {
    pub(crate) attacher: String,
    pub(crate) node_name: String,
    pub(crate) source: AttachmentSource,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct AttachmentSource {
    pub(crate) persistent_volume_name: Option<String>,
}
