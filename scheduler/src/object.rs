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
use plasma_scheduler_core::{BudgetDocument, Meta, NamespaceDocument, NodeDocument, PodDocument};
use serde::{Deserialize, Deserializer};

/// A document that stands for a kind of the API.
pub(crate) trait Document {
    /// That kind.
    type Kind: Resource<DynamicType = ()>;

    /// Which object it is, and the version in which it was seen.
    fn identity(&self) -> Identity<'_>;
}

/// Which object a document is of; empty where it has no namespace.
pub(crate) struct Identity<'a> {
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) uid: &'a str,
    pub(crate) version: &'a str,
}

impl<'a> From<&'a Meta> for Identity<'a> {
    fn from(meta: &'a Meta) -> Self {
        let Meta { name, namespace, uid, resource_version, .. } = meta;
        Self { name, namespace, uid, version: resource_version }
    }
}

/// What an object is called within its kind: `namespace/name`, or its name where it has no namespace.
pub(crate) fn key(object: &impl kube::ResourceExt) -> String {
    match object.namespace().filter(|namespace| !namespace.is_empty()) {
        Some(namespace) => format!("{namespace}/{}", object.name_any()),
        None => object.name_any(),
    }
}

impl Document for PodDocument {
    type Kind = Pod;

    fn identity(&self) -> Identity<'_> {
        (&self.metadata).into()
    }
}

impl Document for NodeDocument {
    type Kind = Node;

    fn identity(&self) -> Identity<'_> {
        (&self.metadata).into()
    }
}

impl Document for NamespaceDocument {
    type Kind = Namespace;

    fn identity(&self) -> Identity<'_> {
        (&self.metadata).into()
    }
}

impl Document for BudgetDocument {
    type Kind = PodDisruptionBudget;

    fn identity(&self) -> Identity<'_> {
        (&self.metadata).into()
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
        let Identity { name, namespace, uid, version } = document.identity();
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let meta = ObjectMeta {
            name: given(name),
            namespace: given(namespace),
            uid: given(uid),
            resource_version: given(version),
            ..ObjectMeta::default()
        };
        Ok(Self { meta, document })
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
