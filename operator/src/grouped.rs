//! Upstream's PodGroups at the API server: in which version it serves them, and writing one. Asked anew for each attempt,
//! since a gate may be switched while we run.

use kube::{
    Api, Client,
    api::PatchParams,
    core::{ApiResource, DynamicObject, TypeMeta},
};
use plasma_operator_core::{Group, GroupVersion, Key, Refusal, has_pod_groups};

use crate::{apply::write_one, controller::Failure};

const KIND: &str = "PodGroup";

/// The newest version that has PodGroups; nothing where none has.
///
/// # Errors
/// The API server doesn't say: then it isn't known, and no attempt is made on a guess.
pub(crate) async fn served(client: &Client) -> Result<Option<GroupVersion>, Failure> {
    for version in GroupVersion::NEWEST_FIRST {
        match client.list_api_group_resources(&version.api_version()).await {
            Ok(discovered) if has_pod_groups(&discovered) => return Ok(Some(version)),
            Ok(_) => {}
            Err(kube::Error::Api(told)) if told.code == 404 => {}
            Err(fault) => return Err(Failure::Read("what scheduling.k8s.io serves", Box::new(fault))),
        }
    }
    Ok(None)
}

/// Writes the PodGroup as any other child.
pub(crate) async fn write_group(
    client: &Client,
    key: &Key,
    group: &Group,
    params: &PatchParams,
) -> Result<Result<(), Refusal>, Failure> {
    let resource = resource(group.version);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &key.namespace, &resource);
    let object = DynamicObject {
        types: Some(TypeMeta { api_version: resource.api_version.clone(), kind: KIND.to_owned() }),
        metadata: group.pod_group.metadata.clone(),
        data: serde_json::json!({ "spec": group.pod_group.spec }),
    };
    match write_one((api, KIND.to_owned()), key, &object, params).await {
        // We may not even look for it, as with the rights of an older chart: then it can't be had.
        Err(Failure::Write(kind, name, fault)) => match *fault {
            kube::Error::Api(told) if told.code == 403 => {
                Ok(Err(Refusal::Rejected { kind, name, words: told.message }))
            }
            fault => Err(Failure::Write(kind, name, Box::new(fault))),
        },
        written => Ok(written?.map(drop)),
    }
}

fn resource(version: GroupVersion) -> ApiResource {
    ApiResource {
        group: GroupVersion::GROUP.to_owned(),
        version: version.version().to_owned(),
        api_version: version.api_version(),
        kind: KIND.to_owned(),
        plural: "podgroups".to_owned(),
    }
}
