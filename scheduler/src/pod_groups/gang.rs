//! The gang that is made for a PodGroup: its status is where a plan is journalled, which a PodGroup has no place for.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Api, Client, ResourceExt, api::PostParams};
use plasma_api::{Gang, gang::GangSpec};
use plasma_scheduler_core::upstream_key;

use super::Target;

/// A gang that is to be made.
pub(crate) struct Wanted {
    pub(crate) pod_group: Target,
    pub(crate) min_count: usize,
    pub(crate) priority: i32,
}

/// How that ended.
pub(crate) enum Made {
    /// It is there.
    Is(Box<Gang>),
    /// It can't be, and why.
    Not(String),
}

/// The group of a gang, by the core's key: that of its PodGroup where it was made for one.
pub(crate) fn group_of(gang: &impl ResourceExt) -> String {
    let (namespace, name) = (gang.namespace().unwrap_or_default(), gang.name_any());
    match pod_group_uid(gang) {
        Some(_) => upstream_key(&namespace, &name),
        None => format!("{namespace}/{name}"),
    }
}

/// The UID of the PodGroup for which a gang was made, where it was made for one.
pub(crate) fn pod_group_uid(gang: &impl ResourceExt) -> Option<String> {
    let name = gang.name_any();
    let is_it = |owner: &&OwnerReference| {
        owner.controller == Some(true)
            && owner.kind == "PodGroup"
            && owner.api_version.starts_with("scheduling.k8s.io/")
            && owner.name == name
    };
    gang.owner_references().iter().find(is_it).map(|owner| owner.uid.clone())
}

impl Wanted {
    /// Makes it, or finds it made.
    pub(crate) async fn make(&self, client: &Client) -> Made {
        let Target { namespace, name, uid, .. } = &self.pod_group;
        let gangs: Api<Gang> = Api::namespaced(client.clone(), namespace);
        let fault = match gangs.create(&PostParams::default(), &self.gang()).await {
            Ok(gang) => return Made::Is(Box::new(gang)),
            Err(fault) => fault,
        };
        // Whether it was made all the same is read.
        match gangs.get_opt(name).await {
            Ok(Some(gang)) if pod_group_uid(&gang).as_ref() == Some(uid) => Made::Is(Box::new(gang)),
            Ok(Some(_)) => Made::Not(format!(
                "its pods need a Gang named {name}, and there is one already that isn't this PodGroup's: delete Gang \
                 {namespace}/{name}, or give the PodGroup another name"
            )),
            Ok(None) | Err(_) => Made::Not(format!("Gang {namespace}/{name} can't be made: {fault}")),
        }
    }

    fn gang(&self) -> Gang {
        let Target { resource, namespace, name, uid } = &self.pod_group;
        let spec = GangSpec {
            min_member: i32::try_from(self.min_count).unwrap_or(i32::MAX),
            max_runtime_seconds: None,
            priority: self.priority,
        };
        let owner = OwnerReference {
            api_version: resource.api_version.clone(),
            kind: resource.kind.clone(),
            name: name.clone(),
            uid: uid.clone(),
            controller: Some(true),
            block_owner_deletion: None,
        };
        let metadata = ObjectMeta {
            namespace: Some(namespace.clone()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        };
        let mut gang = Gang::new(name, spec);
        gang.metadata = ObjectMeta { name: gang.metadata.name.take(), ..metadata };
        gang
    }
}
