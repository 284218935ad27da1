//! Documents of the core as objects that kube's watcher can follow.

use std::borrow::Cow;

use k8s_openapi::{
    api::core::v1::{Namespace, Node, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use plasma_scheduler_core::{Meta, NamespaceDocument, NodeDocument, PodDocument};
use serde::{Deserialize, Deserializer};

/// A document that stands for a kind of the API.
pub(crate) trait Document {
    /// That kind.
    type Kind: Resource<DynamicType = ()>;

    /// What the object says about itself.
    fn metadata(&self) -> &Meta;
}

impl Document for PodDocument {
    type Kind = Pod;

    fn metadata(&self) -> &Meta {
        &self.metadata
    }
}

impl Document for NodeDocument {
    type Kind = Node;

    fn metadata(&self) -> &Meta {
        &self.metadata
    }
}

impl Document for NamespaceDocument {
    type Kind = Namespace;

    fn metadata(&self) -> &Meta {
        &self.metadata
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
        let Meta { name, resource_version, .. } = document.metadata();
        let (name, resource_version) = (Some(name.clone()), Some(resource_version.clone()));
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
