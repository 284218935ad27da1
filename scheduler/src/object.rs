//! Documents of the core as objects that kube's watcher can follow.

use std::borrow::Cow;

use k8s_openapi::{
    api::{
        core::v1::{Namespace, Node, Pod},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use plasma_scheduler_core::{BudgetDocument, NamespaceDocument, NodeDocument, PodDocument};
use serde::{Deserialize, Deserializer};

/// A document that stands for a kind of the API.
pub(crate) trait Document {
    /// That kind.
    type Kind: Resource<DynamicType = ()>;

    /// The object's name, and the version in which it was seen.
    fn identity(&self) -> (&str, &str);
}

impl Document for PodDocument {
    type Kind = Pod;

    fn identity(&self) -> (&str, &str) {
        (&self.metadata.name, &self.metadata.resource_version)
    }
}

impl Document for NodeDocument {
    type Kind = Node;

    fn identity(&self) -> (&str, &str) {
        (&self.metadata.name, &self.metadata.resource_version)
    }
}

impl Document for NamespaceDocument {
    type Kind = Namespace;

    fn identity(&self) -> (&str, &str) {
        (&self.metadata.name, &self.metadata.resource_version)
    }
}

impl Document for BudgetDocument {
    type Kind = PodDisruptionBudget;

    fn identity(&self) -> (&str, &str) {
        (&self.metadata.name, &self.metadata.resource_version)
    }
}

/// A document, with as much of its metadata as a watcher asks for.
#[derive(Clone, Debug)]
pub(crate) struct Object<D> {
    meta: ObjectMeta,
    pub(crate) document: D,
}

impl<'de, D: Document + Deserialize<'de>> Deserialize<'de> for Object<D> {
    fn deserialize<T: Deserializer<'de>>(deserializer: T) -> Result<Self, T::Error> {
        let document = D::deserialize(deserializer)?;
        let (name, resource_version) = document.identity();
        let (name, resource_version) = (Some(name.to_owned()), Some(resource_version.to_owned()));
        Ok(Self { meta: ObjectMeta { name, resource_version, ..ObjectMeta::default() }, document })
    }
}

impl<D: Document> Resource for Object<D> {
    type DynamicType = ();
    type Scope = <D::Kind as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        D::Kind::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        D::Kind::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        D::Kind::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        D::Kind::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}
