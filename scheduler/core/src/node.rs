//! A node at one instant.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::quantity::Resources;

/// A node, and what is free on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// Whether it is cordoned.
    pub unschedulable: bool,
    /// What its pods don't use of its allocatable resources. `pods` counts pods.
    pub free: Resources,
    /// The namespaces of the pods on it that have a share of a GPU.
    pub sharing: BTreeSet<String>,
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
    pub effect: String,
}
