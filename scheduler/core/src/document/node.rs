//! A node as the API server stores it.

use serde::Deserialize;

use super::{
    AmountTexts, Meta,
    parts::{Parts, part},
};

/// A node.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Parts")]
pub struct NodeDocument {
    /// What it says about itself.
    pub metadata: Meta,
    pub(crate) spec: NodeSpec,
    pub(crate) status: NodeStatus,
    /// What of it can't be read, and why.
    pub(crate) faults: Vec<String>,
}

impl From<Parts> for NodeDocument {
    fn from(parts: Parts) -> Self {
        let (metadata, fault) = parts.metadata();
        let mut faults = Vec::from_iter(fault);
        let mut say = |what: &str, fault: serde_json::Error| faults.push(format!("{what}: {fault}"));
        let spec = part(parts.spec.as_deref()).map_err(|fault| say("spec", fault)).unwrap_or_default();
        let status = part(parts.status.as_deref()).map_err(|fault| say("status", fault)).unwrap_or_default();
        Self { metadata, spec, status, faults }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct NodeSpec {
    #[serde(default)]
    pub(crate) unschedulable: bool,
    #[serde(default)]
    pub(crate) taints: Vec<Taint>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeStatus {
    #[serde(default)]
    pub(crate) allocatable: AmountTexts,
    #[serde(default)]
    pub(crate) declared_features: Vec<String>,
}

/// A taint of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    #[serde(default)]
    pub effect: String,
}
