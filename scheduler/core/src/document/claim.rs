//! Claims and the volumes that they are bound to, as the API server stores them.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};

use super::{AmountTexts, LabelSelector, disk::TakenOver};
use crate::pod::Affinity;

/// What an object about storage says about itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StorageMeta {
    /// Its name.
    pub name: String,
    /// Its namespace; empty for objects of the whole cluster.
    pub namespace: String,
    /// Its UID.
    pub uid: String,
    /// The version in which it was seen.
    pub resource_version: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) owner_references: Vec<Owner>,
    pub(crate) deletion_timestamp: Option<IgnoredAny>,
}

impl StorageMeta {
    /// What the object is called within its kind: `namespace/name`, or its name where it has no namespace.
    pub fn key(&self) -> String {
        if self.namespace.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }

    /// The storage class, that an annotation named before there was a field for it.
    pub(crate) fn class<'a>(&'a self, field: Option<&'a String>) -> &'a str {
        self.annotations.get("volume.beta.kubernetes.io/storage-class").or(field).map_or("", |class| class)
    }
}

/// Whose an object is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Owner {
    pub(crate) uid: String,
    pub(crate) controller: Option<bool>,
}

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, Deserialize)]
pub struct ClaimDocument {
    /// What it says about itself.
    pub metadata: StorageMeta,
    #[serde(default)]
    pub(crate) spec: ClaimSpec,
    #[serde(default)]
    pub(crate) status: Phase,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClaimSpec {
    pub(crate) access_modes: Vec<String>,
    pub(crate) resources: ClaimResources,
    pub(crate) selector: Option<LabelSelector>,
    pub(crate) storage_class_name: Option<String>,
    pub(crate) volume_attributes_class_name: Option<String>,
    pub(crate) volume_mode: Option<String>,
    pub(crate) volume_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ClaimResources {
    pub(crate) requests: AmountTexts,
}

/// How far a claim or a volume is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Phase {
    pub(crate) phase: Option<String>,
}

/// A PersistentVolume.
#[derive(Clone, Debug, Deserialize)]
pub struct VolumeDocument {
    /// What it says about itself.
    pub metadata: StorageMeta,
    #[serde(default)]
    pub(crate) spec: VolumeSpec,
    #[serde(default)]
    pub(crate) status: Phase,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct VolumeSpec {
    pub(crate) access_modes: Vec<String>,
    pub(crate) capacity: AmountTexts,
    pub(crate) claim_ref: Option<ClaimReference>,
    pub(crate) csi: Option<CsiSource>,
    pub(crate) node_affinity: VolumeAffinity,
    pub(crate) storage_class_name: Option<String>,
    pub(crate) volume_attributes_class_name: Option<String>,
    pub(crate) volume_mode: Option<String>,
    #[serde(flatten)]
    pub(crate) taken_over: TakenOver,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct VolumeAffinity {
    pub(crate) required: Option<Affinity>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ClaimReference {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct CsiSource {
    pub(crate) driver: String,
    pub(crate) volume_handle: String,
}
