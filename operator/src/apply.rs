//! Writing a job's children: server-side apply of deterministic names, never over an object that isn't the job's, nor
//! again over one that is: what a child is made of never changes, and an attempt that was ended stays ended.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{Patch, PatchParams},
};
use plasma_api::names::field_manager::OPERATOR;
use plasma_operator_core::Children;
use serde::{Serialize, de::DeserializeOwned};

use crate::controller::{Failure, Key};

/// Writes the children in the order in which they need each other: addresses and gang before the pods.
pub(crate) async fn apply(client: &Client, key: &Key, children: &Children) -> Result<(), Failure> {
    apply_one(client, key, &children.service).await?;
    apply_one(client, key, &children.gang).await?;
    for job in &children.jobs {
        apply_one(client, key, job).await?;
    }
    Ok(())
}

async fn apply_one<K>(client: &Client, key: &Key, child: &K) -> Result<(), Failure>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), &key.namespace);
    let (kind, name) = (K::kind(&()).into_owned(), child.name_any());
    let write = |fault| Failure::Write(kind.clone(), name.clone(), Box::new(fault));
    let existing = api.get_metadata_opt(&name).await.map_err(write)?;
    let is_ours = |owners: &[_]| {
        owners.iter().any(|owner: &k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference| {
            owner.uid == key.uid
        })
    };
    match existing {
        Some(existing) if is_ours(existing.owner_references()) => Ok(()),
        Some(_) => Err(Failure::Foreign(kind, name)),
        // Not forced: if somebody makes that object between our two requests, theirs stands.
        None => {
            let written = api.patch(&name, &PatchParams::apply(OPERATOR), &Patch::Apply(child)).await;
            written.map(drop).map_err(write)
        }
    }
}
