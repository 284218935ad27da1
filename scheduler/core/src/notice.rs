//! What pods that have no node say of that, for whoever tells them why.

use crate::{
    cluster::Known,
    document::{Meta, PodStatus},
};

/// A pod's condition `PodScheduled`, where that is `False`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotScheduled {
    /// A CamelCase reason: `Unschedulable`, `SchedulerError`, `SchedulingGated`.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// Since when it is `False`, as RFC 3339 text.
    pub since: Option<String>,
}

/// A pod without a node, as the API server knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unplaced<'a> {
    /// Its name.
    pub pod: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// The version in which it was seen.
    pub version: &'a str,
    /// The generation of what is asked for.
    pub generation: Option<i64>,
    /// A plan sends it to a node.
    pub is_on_its_way: bool,
    /// What it says already.
    pub said: Option<&'a NotScheduled>,
}

/// What of that is kept beside a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    version: Box<str>,
    generation: Option<i64>,
    said: Option<NotScheduled>,
    /// A priority class that nobody has made a number of.
    pub(crate) class: Option<String>,
}

impl Notice {
    pub(crate) fn new(metadata: &Meta, status: Option<&PodStatus>, class: Option<String>) -> Self {
        let conditions = status.into_iter().flat_map(|status| &status.conditions);
        let mut said = conditions.filter(|condition| condition.is("PodScheduled", "False"));
        let said = said.next().map(|condition| NotScheduled {
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            since: condition.last_transition_time.clone(),
        });
        Self {
            version: metadata.resource_version.as_str().into(),
            generation: metadata.generation,
            said,
            class,
        }
    }
}

/// The pod as its teller sees it; nothing for one that has a node, or has ended.
pub(crate) fn unplaced(known: &Known) -> Option<Unplaced<'_>> {
    let notice = known.pod.notice.as_ref().filter(|_| !known.pod.stage.is_finished)?;
    Some(Unplaced {
        pod: &known.pod.name,
        uid: &known.pod.uid,
        version: &notice.version,
        generation: notice.generation,
        is_on_its_way: known.assumed.is_some(),
        said: notice.said.as_ref(),
    })
}
