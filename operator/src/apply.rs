//! Writing a job's children: server-side apply of deterministic names, never over an object that isn't the job's, nor
//! again over one that is: what a child is made of never changes, and an attempt that was ended stays ended.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{Patch, PatchParams},
};
use plasma_api::names::field_manager::OPERATOR;
use plasma_operator_core::{Children, Claim, Key, Refusal, claim};
use serde::{Serialize, de::DeserializeOwned};

use crate::controller::Failure;

/// Asks the API server for every child without making any: why one can't be made, where that is so.
pub(crate) async fn rehearse(
    client: &Client,
    key: &Key,
    children: &Children,
) -> Result<Option<Refusal>, Failure> {
    write(client, key, children, &PatchParams::apply(OPERATOR).dry_run()).await
}

/// Makes the children that aren't there.
pub(crate) async fn apply(client: &Client, key: &Key, children: &Children) -> Result<(), Failure> {
    // Not forced: if somebody makes such an object between our two requests, theirs stands.
    let refused = write(client, key, children, &PatchParams::apply(OPERATOR)).await?;
    // The rehearsal went well a moment ago; the next one tells what changed.
    refused.map_or(Ok(()), |refusal| Err(Failure::Refused(refusal)))
}

/// In the order in which they need each other: addresses and gang before the pods.
async fn write(
    client: &Client,
    key: &Key,
    children: &Children,
    params: &PatchParams,
) -> Result<Option<Refusal>, Failure> {
    if let Some(refusal) = write_one(client, key, &children.service, params).await? {
        return Ok(Some(refusal));
    }
    if let Some(refusal) = write_one(client, key, &children.gang, params).await? {
        return Ok(Some(refusal));
    }
    for job in &children.jobs {
        if let Some(refusal) = write_one(client, key, job, params).await? {
            return Ok(Some(refusal));
        }
    }
    Ok(None)
}

async fn write_one<K>(
    client: &Client,
    key: &Key,
    child: &K,
    params: &PatchParams,
) -> Result<Option<Refusal>, Failure>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), &key.namespace);
    let (kind, name) = (K::kind(&()).into_owned(), child.name_any());
    let failure = |fault| Failure::Write(kind.clone(), name.clone(), Box::new(fault));
    let existing = api.get_metadata_opt(&name).await.map_err(failure)?;
    match existing.map(|existing| claim(&existing.metadata, key)) {
        Some(Claim::Ours) => Ok(None),
        Some(Claim::Leaving) => Ok(Some(Refusal::NameNotFreeYet { kind, name })),
        Some(Claim::Foreign) => Ok(Some(Refusal::NameTaken { kind, name })),
        None => match api.patch(&name, params, &Patch::Apply(child)).await {
            Ok(_) => Ok(None),
            Err(kube::Error::Api(told)) => {
                let refusal = Refusal::rejected(&kind, &name, told.code, &told.message);
                refusal.map(Some).ok_or_else(|| failure(kube::Error::Api(told)))
            }
            Err(fault) => Err(failure(fault)),
        },
    }
}
