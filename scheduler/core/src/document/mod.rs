//! Kubernetes objects as the watches bring them: the part that placing pods needs, read once, and not kept.
//!
//! A pod's spec is read exhaustively: a field that isn't known here is told, for it could say where the pod must not be.

mod budget;
mod claim;
mod disk;
mod node;
mod parts;
mod pod;
mod pod_group;
mod skip;
mod storage;
mod volume;

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};

pub use budget::BudgetDocument;
pub use claim::{ClaimDocument, StorageMeta, VolumeDocument};
pub(crate) use disk::TakenOver;
pub use node::{NodeDocument, Taint};
use parts::Parts;
pub use pod::PodDocument;
pub(crate) use pod::{Container, ContainerStatus, PodAffinity, PodAffinityTerm, PodSpec, PodStatus, Spread};
pub(crate) use pod_group::PodGroupSpec;
pub use pod_group::{ConditionDocument, PodGroupDocument};
pub use storage::{AttachmentDocument, CapacityDocument, ClassDocument, CsiDriverDocument, CsiNodeDocument};
pub(crate) use volume::Volume;

/// What every object says about itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its namespace; empty for objects of the whole cluster.
    #[serde(default)]
    pub namespace: String,
    /// Its UID.
    #[serde(default)]
    pub uid: String,
    /// The version in which it was seen.
    #[serde(default)]
    pub resource_version: String,
    /// The generation of its spec.
    pub generation: Option<i64>,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When it was created, as RFC 3339 text.
    pub creation_timestamp: Option<String>,
    /// Those of its annotations that say what it is.
    annotations: Option<Annotations>,
    /// Set while it is being deleted: when it is to be gone, its grace period included, as RFC 3339 text.
    pub(crate) deletion_timestamp: Option<String>,
}

/// Annotations that say what an object is; all others are for others.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Option<IgnoredAny>,
}

impl Meta {
    /// Whether it only shows a static pod, which a kubelet runs without asking anybody: deleting it ends nothing.
    pub(crate) fn is_mirror(&self) -> bool {
        self.annotations.as_ref().is_some_and(|annotations| annotations.mirror.is_some())
    }

    /// Whether it is being deleted.
    pub fn is_terminating(&self) -> bool {
        self.deletion_timestamp.is_some()
    }
}

/// A namespace: its labels say which pods may be near which.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Parts")]
pub struct NamespaceDocument {
    /// What it says about itself.
    pub metadata: Meta,
    /// Why not all of that can be read.
    pub(crate) fault: Option<String>,
}

impl From<Parts> for NamespaceDocument {
    fn from(parts: Parts) -> Self {
        let (metadata, fault) = parts.metadata();
        Self { metadata, fault }
    }
}

/// A label selector, of pods or namespaces.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LabelSelector {
    #[serde(default)]
    pub(crate) match_labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) match_expressions: Vec<LabelRequirement>,
}

/// One of its expressions.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct LabelRequirement {
    pub(crate) key: String,
    pub(crate) operator: String,
    #[serde(default)]
    pub(crate) values: Vec<String>,
}

/// Amounts by resource name, as text or as a number.
pub(crate) type AmountTexts = BTreeMap<String, serde_json::Value>;
