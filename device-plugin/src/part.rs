//! Objects of which only a part is read. The whole type of a Pod or a Node is a megabyte of code, which would lie in the
//! memory of every node for fields that nobody looks at.

use std::{borrow::Cow, marker::PhantomData};

use k8s_openapi::{
    api::core::v1::{ContainerStatus, Node, NodeCondition, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use serde::Deserialize;

/// An object of the kind `K`: its metadata, and so much of its status.
#[derive(Deserialize)]
pub(crate) struct Part<K, S> {
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) status: S,
    #[serde(skip)]
    kind: PhantomData<fn() -> K>,
}

/// A Node's conditions.
pub(crate) type NodePart = Part<Node, NodeStatus>;
/// How a Pod's containers are.
pub(crate) type PodPart = Part<Pod, PodStatus>;

/// See [`NodePart`].
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct NodeStatus {
    pub(crate) conditions: Option<Vec<NodeCondition>>,
}

/// See [`PodPart`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodStatus {
    pub(crate) phase: Option<String>,
    pub(crate) container_statuses: Option<Vec<ContainerStatus>>,
    pub(crate) init_container_statuses: Option<Vec<ContainerStatus>>,
}

impl<K, S: Clone> Clone for Part<K, S> {
    fn clone(&self) -> Self {
        Self { metadata: self.metadata.clone(), status: self.status.clone(), kind: PhantomData }
    }
}

impl<K, S: std::fmt::Debug> std::fmt::Debug for Part<K, S> {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Part").field("metadata", &self.metadata).field("status", &self.status).finish()
    }
}

impl<K: Resource<DynamicType = ()>, S> Resource for Part<K, S> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_part_is_of_the_whole_kind_and_skips_what_nobody_reads() {
        assert_eq!(NodePart::url_path(&(), None), "/api/v1/nodes");
        assert_eq!(PodPart::url_path(&(), Some("n")), "/api/v1/namespaces/n/pods");
        let whole = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" }, "spec": { "containers": [] },
            "status": { "phase": "Running", "hostIP": "10.0.0.1" },
        });
        let part: PodPart = serde_json::from_value(whole).unwrap();
        assert_eq!(
            (part.metadata.name.as_deref(), part.status.phase.as_deref()),
            (Some("p"), Some("Running"))
        );
        let bare: NodePart = serde_json::from_value(json!({ "metadata": {} })).unwrap();
        assert!(bare.status.conditions.is_none(), "a node without a status");
    }
}
