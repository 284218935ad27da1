//! Writing a job's children: server-side apply of deterministic names, never over an object that isn't the job's, nor
//! again over one that is: what a child is made of never changes, and an attempt that was ended stays ended.

use std::fmt::Debug;

use k8s_openapi::{NamespaceResourceScope, api::batch::v1::Job};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{Patch, PatchParams},
};
use plasma_api::names::field_manager::OPERATOR;
use plasma_operator_core::{Children, Claim, Key, Refusal, Ungrouped, claim};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    controller::Failure,
    grouped::{served, write_group},
};

/// What came of a rehearsal.
pub(crate) struct Rehearsal {
    /// What can be made, or why nothing can.
    pub(crate) children: Result<Children, Refusal>,
    /// Why no PodGroup is among them, though the API server serves such.
    pub(crate) ungrouped: Option<Ungrouped>,
}

/// Asks the API server for every child without making any: in a PodGroup where it serves such and takes them so, else
/// without, for that is never required.
pub(crate) async fn rehearse(client: &Client, key: &Key, plain: Children) -> Result<Rehearsal, Failure> {
    let params = PatchParams::apply(OPERATOR).dry_run();
    let why = match served(client).await?.map(|version| plain.grouped(version)) {
        None => None,
        Some(Err(why)) => Some(why),
        Some(Ok(grouped)) => match write(client, key, &grouped, &params).await? {
            Ok(answers) if grouped.keep_group(&answers) => {
                return Ok(Rehearsal { children: Ok(grouped), ungrouped: None });
            }
            Ok(_) => Some(Ungrouped::Dropped),
            Err(Refusal::Rejected { kind, name, words }) => {
                Some(Ungrouped::NotTaken(format!("{kind} {name}: {words}")))
            }
            Err(refusal) => return Ok(Rehearsal { children: Err(refusal), ungrouped: None }),
        },
    };
    Ok(match write(client, key, &plain, &params).await? {
        Ok(_) => Rehearsal { children: Ok(plain), ungrouped: why },
        Err(refusal) => Rehearsal { children: Err(refusal), ungrouped: None },
    })
}

/// Makes the children that aren't there.
pub(crate) async fn apply(client: &Client, key: &Key, children: &Children) -> Result<(), Failure> {
    // Not forced: if somebody makes such an object between our two requests, theirs stands.
    let made = write(client, key, children, &PatchParams::apply(OPERATOR)).await?;
    // The rehearsal went well a moment ago; the next one tells what changed.
    made.map_or_else(|refusal| Err(Failure::Refused(refusal)), |_| Ok(()))
}

/// In the order in which they need each other: addresses and gang before the pods. The Jobs that weren't there, as the API
/// server answered.
async fn write(
    client: &Client,
    key: &Key,
    children: &Children,
    params: &PatchParams,
) -> Result<Result<Vec<Job>, Refusal>, Failure> {
    if let Err(refusal) = write_one(own(client, key), key, &children.service, params).await? {
        return Ok(Err(refusal));
    }
    if let Err(refusal) = write_one(own(client, key), key, &children.gang, params).await? {
        return Ok(Err(refusal));
    }
    if let Some(group) = &children.group
        && let Err(refusal) = write_group(client, key, group, params).await?
    {
        return Ok(Err(refusal));
    }
    let mut answers = Vec::new();
    for job in &children.jobs {
        match write_one(own(client, key), key, job, params).await? {
            Ok(answer) => answers.extend(answer),
            Err(refusal) => return Ok(Err(refusal)),
        }
    }
    Ok(Ok(answers))
}

/// Where the job's objects of that kind are, and the kind's name.
fn own<K>(client: &Client, key: &Key) -> (Api<K>, String)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    (Api::namespaced(client.clone(), &key.namespace), K::kind(&()).into_owned())
}

/// The API server's answer where the object wasn't there, nothing where it was; or why it can't be made.
pub(crate) async fn write_one<K>(
    (api, kind): (Api<K>, String),
    key: &Key,
    child: &K,
    params: &PatchParams,
) -> Result<Result<Option<K>, Refusal>, Failure>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    let name = child.name_any();
    let failure = |fault| Failure::Write(kind.clone(), name.clone(), Box::new(fault));
    let existing = api.get_metadata_opt(&name).await.map_err(failure)?;
    match existing.map(|existing| claim(&existing.metadata, key)) {
        Some(Claim::Ours) => Ok(Ok(None)),
        Some(Claim::Leaving) => Ok(Err(Refusal::NameNotFreeYet { kind, name })),
        Some(Claim::Foreign) => Ok(Err(Refusal::NameTaken { kind, name })),
        None => match api.patch(&name, params, &Patch::Apply(child)).await {
            Ok(answer) => Ok(Ok(Some(answer))),
            Err(kube::Error::Api(told)) => {
                let refusal = Refusal::rejected(&kind, &name, told.code, &told.message);
                refusal.map(Err).ok_or_else(|| failure(kube::Error::Api(told)))
            }
            Err(fault) => Err(failure(fault)),
        },
    }
}
