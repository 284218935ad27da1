//! Groups of pods that are placed all or nothing: gangs, and each pod of no gang by itself. Which of them wait, and in
//! which order they are looked at.

use std::{cmp::Reverse, collections::BTreeSet};

use super::{Cluster, Hope, Known, upstream_names, waiting::Waiting};
use crate::{
    elastic::Round,
    gang::GangFacts,
    labels::Text,
    node::PodId,
    notice::{self, Unplaced},
    pod::Pod,
};

/// Where a group is in the queue: by the least priority of its pods and then its gang's own number, higher first; then the
/// older one, then by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn(Reverse<(i32, i32)>, i64, Text);

impl Turn {
    /// Whose turn it is.
    pub(crate) fn key(&self) -> &Text {
        &self.2
    }
}

/// Pods that are placed all or nothing.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// The gang's object; none for a pod of no gang, and where it isn't there (yet).
    pub(crate) gang: Option<GangFacts>,
    /// Its pods that aren't being deleted.
    pub(crate) members: BTreeSet<PodId>,
    /// Those of them that have no node and haven't ended.
    pub(crate) waiting: Waiting,
    /// A plan of ours for it is being carried out.
    pub(crate) is_busy: bool,
    /// It was told that there is no room, and nothing about it has changed since.
    pub(crate) is_held: bool,
    pub(super) queued: Option<Turn>,
    /// The search for room for it that is under way.
    pub(crate) round: Option<Box<Round>>,
    /// For which of its kinds it is first tried to make room.
    pub(crate) evicts_from: usize,
}

impl Group {
    pub(crate) fn has_journal(&self) -> bool {
        self.gang.as_ref().is_some_and(|gang| !gang.journal.is_empty())
    }

    /// Whether pods are missing that must start with the others. A gang that was scheduled may lose them all.
    fn lacks_pods(&self, needed: usize) -> bool {
        let lacks = |gang: &GangFacts| {
            let is_awaited = !self.members.is_empty() || !gang.is_scheduled;
            is_awaited && !gang.is_terminating && self.members.len() < needed
        };
        self.gang.as_ref().is_some_and(lacks)
    }
}

/// Whether the key is that of a pod of no gang.
pub fn is_single(key: &str) -> bool {
    key.contains("/pod:")
}

/// Whether the key is that of a gang which wasn't made for an upstream PodGroup: its pods go together whatever else they are
/// in.
pub(crate) fn is_gang(key: &str) -> bool {
    !is_single(key) && upstream_names(key).is_none()
}

/// The namespace of a group's key.
pub fn namespace_of(key: &str) -> &str {
    key.split_once('/').map_or("", |(namespace, _)| namespace)
}

impl Cluster {
    /// The key of what the pod is placed with: its gang, its upstream PodGroup, or itself; each but the gang's with a mark that
    /// no gang's name can have.
    pub(super) fn group_of(&mut self, pod: &Pod) -> Text {
        let namespace = pod.namespace();
        let upstream = self.placing_pod_group(pod).filter(|key| !self.is_loose(key));
        match pod.labels.get(&self.names.gang_label).cloned() {
            Some(gang) => self.shared.texts.share(&format!("{namespace}/{gang}")),
            None => match upstream {
                Some(upstream) => self.shared.texts.share(&upstream),
                None => self.shared.texts.share(&format!("{namespace}/pod:{}", pod.name)),
            },
        }
    }

    /// How many of a group's pods must run together.
    pub fn needed_of(&self, key: &str) -> usize {
        self.groups.get(key).map_or(1, |group| self.needed(key, group))
    }

    /// How many of a group's pods must start together. Of a gang that was made for an upstream PodGroup that decides.
    pub(crate) fn needed(&self, key: &str, group: &Group) -> usize {
        self.min_count(key).or(group.gang.as_ref().map(|gang| gang.min_member)).unwrap_or(1)
    }

    /// A plan for the group is being carried out (or no more): until then nothing else is planned for it.
    pub fn set_busy(&mut self, key: &str, is_busy: bool) {
        let Some(group) = self.groups.get_mut(key) else { return };
        if group.is_busy != is_busy {
            group.is_busy = is_busy;
            self.evictable_anew(key);
            let key = self.shared.texts.share(key);
            self.touch(&key);
        }
    }

    /// Of the groups of these namespaces none waits to be looked at, until another call names other ones: they keep no room,
    /// and are told nothing.
    pub fn set_crowded(&mut self, namespaces: BTreeSet<String>) {
        let before = std::mem::replace(&mut self.crowded, namespaces);
        let changed: BTreeSet<&str> =
            before.symmetric_difference(&self.crowded).map(String::as_str).collect();
        if changed.is_empty() {
            return;
        }
        let is_changed = |key: &&Text| changed.contains(namespace_of(key));
        let keys: Vec<Text> = self.groups.keys().filter(is_changed).cloned().collect();
        keys.iter().for_each(|key| self.touch(key));
    }

    /// Whether the group's pods may be evicted is found anew: while a plan for it is carried out, they may not.
    pub(super) fn evictable_anew(&mut self, key: &str) {
        let Some(group) = self.groups.get(key) else { return };
        let is_idle = !group.is_busy && !group.has_journal();
        let on_nodes =
            group.members.iter().filter_map(|id| self.known(*id)).filter(|known| known.on.is_some());
        let least = on_nodes.map(|known| known.pod.priority).min();
        self.changes.prey(least.filter(|_| is_idle));
    }

    /// Whether the group waits to be planned over.
    pub fn waits(&self, key: &str) -> bool {
        self.groups.get(key).is_some_and(|group| group.queued.is_some())
    }

    /// Whether there is such a group.
    pub fn knows(&self, key: &str) -> bool {
        self.groups.contains_key(key)
    }

    /// How many pods of a group are on a node or on their way to one. Those that have succeeded there count, those that have
    /// failed don't.
    pub fn bound_of(&self, key: &str) -> usize {
        let Some(group) = self.groups.get(key) else { return 0 };
        let is_bound = |known: &&Known| known.pod.node.is_some() || known.assumed.is_some();
        self.members(group).filter(|known| !known.pod.stage.has_failed).filter(is_bound).count()
    }

    /// The pods of a gang that the API server knows on a node: UID, node, and whether they have started. Of those that have
    /// failed only the ones that its journal is about.
    pub fn bound_members(&self, key: &str) -> Vec<(String, String, bool)> {
        let Some(group) = self.groups.get(key) else { return Vec::new() };
        let journal = || group.gang.iter().flat_map(|gang| &gang.journal);
        let counts = |pod: &Pod| !pod.stage.has_failed || journal().any(|(planned, _)| **planned == *pod.uid);
        let bound = |known: &Known| {
            let node = known.pod.node.as_ref().filter(|_| counts(&known.pod))?;
            Some((known.pod.uid.to_string(), node.to_string(), known.pod.stage.has_started))
        };
        self.members(group).filter_map(bound).collect()
    }

    /// A group's pods that were made for its job.
    pub(crate) fn members<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = &'a Known> {
        let known = group.members.iter().filter_map(|id| self.known(*id));
        known.filter(|known| self.is_member(group, &known.pod))
    }

    /// Whether the pod is one of the gang's: made for the same job.
    pub(crate) fn is_member(&self, group: &Group, pod: &Pod) -> bool {
        let job = group.gang.as_ref().and_then(|gang| gang.job.as_deref());
        let label = pod.labels.get(&self.names.job_label);
        job.is_none_or(|job| label.is_some_and(|label| **label == *job))
    }

    pub(super) fn group(&mut self, key: &Text) -> &mut Group {
        self.groups.entry(key.clone()).or_default()
    }

    pub(crate) fn find_group(&self, key: &str) -> Option<&Group> {
        self.groups.get(key)
    }

    pub(crate) fn find_group_mut(&mut self, key: &str) -> Option<&mut Group> {
        self.groups.get_mut(key)
    }

    pub(super) fn join(&mut self, key: &Text, id: PodId, known: &Known) {
        if known.pod.stage.is_terminating {
            return;
        }
        let group = self.group(key);
        group.members.insert(id);
        if known.waits() {
            group.waiting.add(known.pod.priority);
        }
    }

    pub(super) fn leave(&mut self, key: &Text, id: PodId, known: &Known) {
        let Some(group) = self.groups.get_mut(key) else { return };
        if group.members.remove(&id) && known.waits() {
            group.waiting.remove(known.pod.priority);
        }
    }

    /// Something about the group has changed: its place in the queue is found anew, and it is looked at again.
    pub(super) fn touch(&mut self, key: &Text) {
        let Some(group) = self.groups.get(key) else { return };
        let is_idle = !group.is_busy && !group.has_journal() && !self.crowded.contains(namespace_of(key));
        let wants = if is_idle && (!group.waiting.is_none() || group.lacks_pods(self.needed(key, group))) {
            self.turn(key, group)
        } else {
            None
        };
        let is_empty = group.members.is_empty() && group.gang.is_none() && !group.is_busy;
        self.changes.group();
        let group = self.group(key);
        group.is_held = false;
        group.round.iter_mut().for_each(|round| round.since = None);
        let before = std::mem::replace(&mut group.queued, wants.clone());
        if let Some(before) = before.filter(|before| wants.as_ref() != Some(before)) {
            self.queue.remove(&before);
        }
        self.queue.extend(wants.map(|turn| (turn, Hope::Open)));
        if is_empty {
            self.groups.remove(key);
        }
    }

    fn turn(&self, key: &Text, group: &Group) -> Option<Turn> {
        let is_upstream = upstream_names(key).is_some();
        if is_upstream && !self.knows_pod_groups() {
            return None;
        }
        // Of a gang that was made for an upstream PodGroup, that decides.
        let number = group.gang.as_ref().filter(|_| !is_upstream).map_or(0, |gang| gang.priority);
        let created = match &group.gang {
            Some(gang) => gang.created,
            None => self.known(*group.members.first()?)?.pod.created,
        };
        let priority = self.pod_group_priority(key).or_else(|| group.waiting.least()).unwrap_or(0);
        Some(Turn(Reverse((priority, number)), created, key.clone()))
    }

    /// A pod that is part of a journalled plan is on its way from the moment it is known.
    pub(super) fn adopt_from_journal(&mut self, id: PodId) {
        let Some(known) = self.known(id) else { return };
        let group = known.group.as_ref().and_then(|group| self.groups.get(group));
        let group = group.filter(|group| self.is_member(group, &known.pod));
        let Some(gang) = group.and_then(|group| group.gang.as_ref()) else { return };
        let planned = gang.journal.iter().find(|(planned, _)| **planned == *known.pod.uid);
        if let Some((uid, node)) = planned.cloned() {
            self.assume(&uid, &node);
        }
    }

    /// A plan for the group isn't carried out, or not whole: these of its pods, by UID, were not bound and won't be. What they
    /// held is free again, and they wait as before.
    pub fn give_up<'a>(&mut self, key: &str, unbound: impl IntoIterator<Item = &'a str>) {
        unbound.into_iter().for_each(|uid| self.release(uid));
        self.set_busy(key, false);
    }

    /// The pods of a group that the API server knows on no node, and what they say of that.
    pub fn unplaced(&self, key: &str) -> impl Iterator<Item = Unplaced<'_>> {
        let members = self.groups.get(key).into_iter().flat_map(|group| self.members(group));
        members.filter_map(notice::unplaced)
    }

    /// The pods without a node that have the gang's label, and aren't of its job.
    pub fn strangers(&self, key: &str) -> impl Iterator<Item = Unplaced<'_>> {
        let group = self.groups.get(key).into_iter();
        let all = group.flat_map(|group| group.members.iter().map(move |id| (group, id)));
        let strangers = all.filter_map(|(group, id)| {
            self.known(*id).filter(|known| known.waits() && !self.is_member(group, &known.pod))
        });
        strangers.filter_map(notice::unplaced)
    }
}
