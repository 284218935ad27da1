//! Upstream PodGroups (`scheduling.k8s.io`): whether the API server has them, which there are, the gangs that are made for
//! them, and the condition that says on each whether its pods have their places.

mod condition;
mod discovery;
mod gang;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Resource,
    core::{ApiResource, DynamicResourceScope},
};
use plasma_scheduler_core::{Cluster, PodGroupDocument, Served, upstream_key, upstream_names};
use serde::{Deserialize, Deserializer};

pub(crate) use condition::{INITIALLY_SCHEDULED, Stands};
pub(crate) use discovery::watch;
pub(crate) use gang::{Made, Wanted, group_of, pod_group_uid as uid_of};

use crate::observe::Change;

/// How long is waited for the watch to show a condition that was written, before it is written again.
const AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// A PodGroup, with as much of its metadata as a watcher asks for. In which version of the API, is found out by asking.
#[derive(Clone, Debug)]
pub(crate) struct PodGroup {
    meta: ObjectMeta,
    pub(crate) document: PodGroupDocument,
}

impl<'de> Deserialize<'de> for PodGroup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let document = PodGroupDocument::deserialize(deserializer)?;
        let meta = ObjectMeta {
            name: Some(document.metadata.name.clone()),
            resource_version: Some(document.metadata.resource_version.clone()),
            ..ObjectMeta::default()
        };
        Ok(Self { meta, document })
    }
}

impl Resource for PodGroup {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

/// A PodGroup that something is to be said on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) resource: ApiResource,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// What was seen of a PodGroup last.
struct Seen {
    uid: String,
    /// Its pods had their places once, and it says so: that is said for ever.
    is_scheduled: bool,
}

/// The PodGroups as the watch shows them, by `namespace/podgroup:name`.
#[derive(Default)]
pub(crate) struct PodGroups {
    resource: Option<ApiResource>,
    seen: HashMap<String, Seen>,
    listed: Option<HashSet<String>>,
    /// When it was last written on a PodGroup that its pods have their places.
    written: HashMap<String, Timestamp>,
}

impl PodGroups {
    /// The API server was asked whether it has PodGroups.
    pub(crate) fn found(&mut self, resource: Option<ApiResource>, cluster: &mut Cluster) {
        if resource.is_none() {
            self.seen.clear();
            cluster.set_pod_groups_served(Served::No);
        } else if resource != self.resource {
            // Which there are is known when they are listed.
            cluster.set_pod_groups_served(Served::Unknown);
        }
        self.resource = resource;
    }

    /// Takes in what the watch tells.
    pub(crate) fn observe(&mut self, change: Change<PodGroup>, cluster: &mut Cluster) {
        match change {
            Change::ListBegins => self.listed = Some(HashSet::new()),
            Change::Is(PodGroup { document, .. }) => {
                let key = key_of(&document);
                if let Some(listed) = &mut self.listed {
                    listed.insert(key.clone());
                }
                let condition = document.condition(INITIALLY_SCHEDULED);
                let is_scheduled = condition.is_some_and(|condition| condition.status == "True");
                cluster.set_pod_group(&document);
                self.seen.insert(key, Seen { uid: document.metadata.uid, is_scheduled });
            }
            Change::Gone(PodGroup { document, .. }) => {
                let key = key_of(&document);
                self.seen.remove(&key);
                cluster.remove_pod_group(&key);
            }
            Change::ListEnds => {
                let listed = self.listed.take().unwrap_or_default();
                self.seen.retain(|key, _| listed.contains(key));
                cluster.retain_pod_groups(|key| listed.contains(key));
                cluster.set_pod_groups_served(Served::Yes);
            }
        }
    }

    /// A PodGroup by its key, as it was seen last.
    pub(crate) fn find(&self, key: &str) -> Option<Target> {
        let (namespace, name) = upstream_names(key)?;
        Some(Target {
            resource: self.resource.clone()?,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: self.seen.get(key)?.uid.clone(),
        })
    }

    /// The PodGroups whose pods have their places and that don't say so yet: each with how many.
    pub(crate) fn placed(&mut self, cluster: &Cluster, now: Timestamp) -> Vec<(Target, usize)> {
        let seen = &self.seen;
        let is_untold = |key: &String| seen.get(key).is_some_and(|seen| !seen.is_scheduled);
        self.written.retain(|key, at| is_untold(key) && now.duration_since(*at) < AGAIN);
        let untold = self.seen.keys().filter(|key| is_untold(key) && !self.written.contains_key(*key));
        let placed = untold.filter_map(|key| Some((key.clone(), cluster.placed_of_pod_group(key)?)));
        let placed: Vec<_> = placed.collect();
        self.written.extend(placed.iter().map(|(key, _)| (key.clone(), now)));
        placed.into_iter().filter_map(|(key, count)| Some((self.find(&key)?, count))).collect()
    }
}

/// The key that the core gives a PodGroup.
fn key_of(document: &PodGroupDocument) -> String {
    upstream_key(&document.metadata.namespace, &document.metadata.name)
}
