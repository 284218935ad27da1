//! Objects of which only a part is read. The whole type of a Pod or a Node is a megabyte of code, which would lie in the
//! memory of every node for fields that nobody looks at.

use std::{borrow::Cow, collections::BTreeMap, marker::PhantomData};

use k8s_openapi::{
    api::core::v1::{ContainerStatus, Node, NodeCondition, Pod},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use kube::Resource;
use serde::{Deserialize, de::IgnoredAny};

/// An object of the kind `K`: its metadata, and so much of its status and its spec.
#[derive(Deserialize)]
pub(crate) struct Part<K, S, P = IgnoredAny> {
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) spec: P,
    #[serde(default)]
    pub(crate) status: S,
    #[serde(skip)]
    kind: PhantomData<fn() -> K>,
}

/// A Node's conditions.
pub(crate) type NodePart = Part<Node, NodeStatus>;
/// How a Pod's containers are, and what they ask for.
pub(crate) type PodPart = Part<Pod, PodStatus, PodSpec>;

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

/// See [`PodPart`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    pub(crate) containers: Vec<Container>,
    pub(crate) init_containers: Vec<Container>,
}

/// A container by its name, and its limits.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) resources: Limits,
}

/// By resource.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Limits {
    pub(crate) limits: BTreeMap<String, Quantity>,
}

impl<K, S: Clone, P: Clone> Clone for Part<K, S, P> {
    fn clone(&self) -> Self {
        let (metadata, spec, status) = (self.metadata.clone(), self.spec.clone(), self.status.clone());
        Self { metadata, spec, status, kind: PhantomData }
    }
}

impl<K, S: std::fmt::Debug, P: std::fmt::Debug> std::fmt::Debug for Part<K, S, P> {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut part = to.debug_struct("Part");
        part.field("metadata", &self.metadata)
            .field("spec", &self.spec)
            .field("status", &self.status)
            .finish()
    }
}

impl<K: Resource<DynamicType = ()>, S, P> Resource for Part<K, S, P> {
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
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" }, "spec": { "nodeName": "n", "containers": [
                { "name": "c", "resources": { "limits": { "nvidia.com/gpu": "2" } } }, { "name": "d" },
            ] },
            "status": { "phase": "Running", "hostIP": "10.0.0.1" },
        });
        let part: PodPart = serde_json::from_value(whole).unwrap();
        assert_eq!(
            (part.metadata.name.as_deref(), part.status.phase.as_deref()),
            (Some("p"), Some("Running"))
        );
        let asked = part.spec.containers.iter().map(|one| one.resources.limits.get("nvidia.com/gpu"));
        assert_eq!(asked.collect::<Vec<_>>(), [Some(&Quantity("2".to_owned())), None]);
        let bare: NodePart = serde_json::from_value(json!({ "metadata": {} })).unwrap();
        assert!(bare.status.conditions.is_none(), "a node without a status");
    }
}
