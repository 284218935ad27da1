//! Upstream PodGroups: which pods are placed together because of one, what keeps such pods from being planned over, and
//! how they may be evicted.

use std::collections::{BTreeSet, HashMap};

use super::{Cluster, Group, Known, is_single, room::Lot};
use crate::{
    aside::Aside, document::PodGroupDocument, labels::Text, node::PodId, pod::Pod, pod_group::PodGroup,
    unsupported::Unsupported,
};

/// Whether the API server has PodGroups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Served {
    /// Nobody knows yet, or they aren't listed yet.
    #[default]
    Unknown,
    /// It hasn't.
    No,
    /// It has, and those that are known are all there are.
    Yes,
}

/// The PodGroups, and which pods say that they belong to one. Each by `namespace/podgroup:name`.
#[derive(Debug, Default)]
pub(super) struct PodGroups {
    served: Served,
    known: HashMap<Text, PodGroup>,
    pods: HashMap<Text, Members>,
}

/// The pods that say that they belong to a PodGroup, whoever places them.
#[derive(Debug, Default)]
struct Members {
    all: BTreeSet<PodId>,
    /// Those that want something that isn't what the PodGroup says.
    odd: BTreeSet<PodId>,
}

/// The key of a PodGroup, and of its pods where they are placed together. No gang has such a name.
pub fn upstream_key(namespace: &str, name: &str) -> String {
    format!("{namespace}/podgroup:{name}")
}

/// A PodGroup's namespace, and its name, where the key is one's.
pub fn upstream_names(key: &str) -> Option<(&str, &str)> {
    key.split_once("/podgroup:")
}

impl Cluster {
    /// Whether the API server has PodGroups. Where it hasn't, none is known any more.
    pub fn set_pod_groups_served(&mut self, served: Served) {
        let forgets = served == Served::No && !self.pod_groups.known.is_empty();
        if self.pod_groups.served == served && !forgets {
            return;
        }
        self.pod_groups.served = served;
        if forgets {
            self.pod_groups.known.clear();
        }
        let of_gangs = self.groups.keys().filter(|key| upstream_names(key).is_some());
        let keys: BTreeSet<Text> = self.pod_groups.pods.keys().chain(of_gangs).cloned().collect();
        keys.iter().for_each(|key| self.regroup(key));
    }

    /// A PodGroup is there, or has changed.
    pub fn set_pod_group(&mut self, document: &PodGroupDocument) {
        let meta = &document.metadata;
        let key = self.shared.texts.share(&upstream_key(&meta.namespace, &meta.name));
        let group = PodGroup::read(document);
        if self.pod_groups.known.get(&key) != Some(&group) {
            self.pod_groups.known.insert(key.clone(), group);
            self.regroup(&key);
        }
    }

    /// A PodGroup is gone: `namespace/podgroup:name`.
    pub fn remove_pod_group(&mut self, key: &str) {
        if let Some((key, _)) = self.pod_groups.known.remove_entry(key) {
            self.regroup(&key);
        }
    }

    /// Keeps the PodGroups of a complete list, and takes the others for gone.
    pub fn retain_pod_groups(&mut self, is_listed: impl Fn(&str) -> bool) {
        let gone: Vec<Text> = self.pod_groups.known.keys().filter(|key| !is_listed(key)).cloned().collect();
        gone.iter().for_each(|key| self.remove_pod_group(key));
    }

    /// How many pods of a PodGroup are on nodes and haven't failed there, once they are as many as must start together, all of
    /// them ours, and no plan for them is being carried out.
    pub fn placed_of_pod_group(&self, key: &str) -> Option<usize> {
        let group = self.pod_groups.known.get(key).filter(|group| group.problem.is_none())?;
        let pods = || self.pods_of_pod_group(key).filter(|known| !known.pod.stage.has_failed);
        let is_settled = |known: &Known| {
            let own = known.group.as_ref().and_then(|key| self.find_group(key));
            own.is_some_and(|group| !group.is_busy && !group.has_journal())
        };
        let placed = pods().filter(|known| known.pod.node.is_some()).count();
        (placed >= group.min_count.unwrap_or(1) && pods().all(is_settled)).then_some(placed)
    }

    /// The PodGroup of a group's pods, by its key, where they are all of one.
    pub fn pod_group_of(&self, group: &str) -> Option<String> {
        let mut keys = self.members(self.find_group(group)?).map(|known| pod_group_key(&known.pod));
        let first = keys.next()??;
        keys.all(|key| key.as_ref() == Some(&first)).then_some(first)
    }

    /// The PodGroup that says with which others the pod is placed: none where it has a gang.
    pub(super) fn placing_pod_group(&self, pod: &Pod) -> Option<String> {
        let has_gang = pod.labels.get(&self.names.gang_label).is_some();
        if has_gang { None } else { pod_group_key(pod) }
    }

    /// Whether its pods are placed one by one.
    pub(super) fn is_loose(&self, key: &str) -> bool {
        match self.pod_groups.served {
            Served::Unknown => false,
            // They are refused, each by itself: there is nothing else that it could be said on.
            Served::No => true,
            Served::Yes => self.pod_groups.known.get(key).is_some_and(PodGroup::is_basic),
        }
    }

    /// A pod is there, or has changed.
    pub(super) fn enter_pod_group(&mut self, id: PodId) {
        let Some(known) = self.known(id) else { return };
        let Some(key) = pod_group_key(&known.pod) else { return };
        let is_odd = self.oddity(&key, &known.pod).is_some();
        let key = self.shared.texts.share(&key);
        let members = self.pod_groups.pods.entry(key.clone()).or_default();
        let is_new = members.all.insert(id);
        let has_turned = if is_odd { members.odd.insert(id) } else { members.odd.remove(&id) };
        self.touch_members(&key, is_new, has_turned);
    }

    /// A pod is gone.
    pub(super) fn leave_pod_group(&mut self, id: PodId, pod: &Pod) {
        let Some(key) = pod_group_key(pod) else { return };
        let key = self.shared.texts.share(&key);
        let Some(members) = self.pod_groups.pods.get_mut(&key) else { return };
        members.all.remove(&id);
        let was_odd = members.odd.remove(&id);
        if members.all.is_empty() {
            self.pod_groups.pods.remove(&key);
        }
        self.touch_members(&key, true, was_odd);
    }

    /// One that isn't as the PodGroup says, or not any more, changes what becomes of all others.
    fn touch_members(&mut self, key: &Text, is_news: bool, for_all: bool) {
        if for_all {
            let own = self.pods_of_pod_group(key).filter_map(|known| known.group.clone());
            let own: Vec<Text> = own.filter(|own| is_single(own)).collect();
            own.iter().for_each(|own| self.touch(own));
        }
        if is_news || for_all {
            self.touch(key);
        }
    }

    fn pods_of_pod_group(&self, key: &str) -> impl Iterator<Item = &Known> {
        let members = self.pod_groups.pods.get(key).into_iter().flat_map(|members| &members.all);
        members.filter_map(|id| self.known(*id))
    }

    /// What is known of a PodGroup has changed: with whom its pods are placed is found anew, and they are looked at again.
    fn regroup(&mut self, key: &Text) {
        let pods = self.pod_groups.pods.get(key).map(|members| members.all.clone()).unwrap_or_default();
        for id in pods {
            self.enter_pod_group(id);
            let Some(before) = self.known(id).and_then(|known| known.group.clone()) else { continue };
            let Some(known) = self.take(id) else { continue };
            let Known { assumed, reserved, is_leaving, .. } = known;
            self.put(id, known.pod, Lot { assumed, steps: known.steps, reserved, is_leaving }, None);
            self.touch(&before);
            if reserved.is_some() {
                self.adopt_reservation(id);
            }
        }
        self.touch(key);
        // Whom one may evict has changed too.
        self.changes.prey(Some(i32::MIN));
    }

    /// How many of a PodGroup's pods must start together, where it says so.
    pub(crate) fn min_count(&self, key: &str) -> Option<usize> {
        self.pod_groups.known.get(key)?.min_count
    }

    /// The priority by which a PodGroup's pods are ordered, where it is known.
    pub(super) fn pod_group_priority(&self, key: &str) -> Option<i32> {
        Some(self.pod_groups.known.get(key)?.priority)
    }

    /// Whether it is known whether the API server has PodGroups.
    pub(super) fn knows_pod_groups(&self) -> bool {
        self.pod_groups.served != Served::Unknown
    }

    /// What keeps a group's pods from being planned over, as far as it is a matter of an upstream PodGroup.
    pub(crate) fn pod_group_aside(&self, key: &str, group: &Group) -> Option<Aside> {
        let first = self.members(group).find(|known| known.waits()).or_else(|| self.members(group).next());
        let of_pods = first.and_then(|known| self.placing_pod_group(&known.pod));
        let upstream = of_pods.or_else(|| upstream_names(key).map(|_| key.to_owned()))?;
        let (_, name) = upstream_names(&upstream)?;
        if self.pod_groups.served == Served::No {
            return Some(Aside::Refused(Unsupported::not_served()));
        }
        let Some(found) = self.pod_groups.known.get(&*upstream) else {
            return Some(Aside::Awaits(format!("PodGroup {name} doesn't exist (yet)")));
        };
        if let Some(problem) = found.problem.as_ref() {
            return Some(Aside::Refused(problem.clone()));
        }
        if found.is_terminating {
            return Some(Aside::Awaits(format!("PodGroup {name} is being deleted, and gets no more nodes")));
        }
        if let Some(odd) = self.odd_one_out(&upstream) {
            return Some(Aside::Refused(odd));
        }
        // A group whose pods are placed one by one needs no gang.
        let min_count = found.min_count?;
        match group.gang.as_ref() {
            None => Some(Aside::NoGang { uid: found.uid.clone(), min_count, priority: found.priority }),
            Some(gang) if gang.pod_group.as_ref() == Some(&found.uid) => None,
            Some(_) => Some(Aside::Awaits(format!(
                "Gang {name} was made for an earlier PodGroup of that name, and is still there"
            ))),
        }
    }

    /// What one of the pods wants that isn't what its PodGroup says.
    fn odd_one_out(&self, key: &str) -> Option<Unsupported> {
        let odd = self.pod_groups.pods.get(key)?.odd.first()?;
        self.oddity(key, &self.known(*odd)?.pod)
    }

    /// What a pod wants that isn't what its PodGroup says: a group's pods have one scheduler, and the group's priority.
    fn oddity(&self, key: &str, pod: &Pod) -> Option<Unsupported> {
        let group = self.pod_groups.known.get(key)?;
        let (_, group_name) = upstream_names(key)?;
        let (field, why) = if pod.stage.is_terminating || pod.stage.is_finished {
            return None;
        } else if pod.scheduler != self.scheduler {
            ("spec.schedulerName", format!("{} is not {}", pod.scheduler, self.scheduler))
        } else if pod.priority != group.priority {
            ("spec.priority", format!("{} is not the PodGroup's, {}", pod.priority, group.priority))
        } else if group.may_preempt.is_some_and(|may| may != pod.may_preempt) {
            ("spec.preemptionPolicy", "it is not the PodGroup's".to_owned())
        } else {
            return None;
        };
        let why = format!("pod {}: {why}; the pods of PodGroup {group_name} must agree on it", pod.name);
        Some(Unsupported::nonsense(field, why))
    }

    /// The priority below which nobody evicts the pod: its own, or its PodGroup's if that is higher.
    pub(crate) fn guarded_priority(&self, pod: &Pod) -> i32 {
        let of_group = pod_group_key(pod).and_then(|key| self.pod_group_priority(&key));
        of_group.map_or(pod.priority, |priority| priority.max(pod.priority))
    }

    /// The PodGroup with whose pods the pod is evicted together. Where nothing is known of it, its pods go together.
    pub(crate) fn evicted_with(&self, pod: &Pod) -> Option<Text> {
        let key = pod_group_key(pod)?;
        let is_single = self.pod_groups.known.get(&*key).is_some_and(|group| !group.goes_whole);
        (!is_single).then(|| key.into())
    }
}

fn pod_group_key(pod: &Pod) -> Option<String> {
    pod.pod_group.as_ref().map(|name| upstream_key(pod.namespace(), name))
}
