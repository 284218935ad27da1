//! What is decided about groups of pods, and which of a group's pods are to be placed.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use crate::{
    aside::Aside,
    cluster::{Cluster, Group, Known, VolumeStep, is_gang, is_single},
    node::PodId,
    order::scarcest_first,
    pod::Kind,
    quantity::Quantity,
};

/// What is decided about one group: a gang, or a pod of no gang.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Every pod that waits has a node. It counts as there already.
    Place {
        /// Which group: `namespace/name`, of a pod of no gang `namespace/pod:name`.
        group: String,
        /// A node for each pod.
        placements: Vec<Placement>,
    },
    /// Not every pod has a node, so none gets one.
    Hold {
        /// Which group.
        group: String,
        /// What is missing, in words and numbers.
        message: String,
        /// What is missing, one entry a reason.
        blockers: Vec<Blocker>,
    },
    /// Not every pod has a node, but will have one when others are gone. Until then the nodes are kept for it.
    Preempt {
        /// Which group.
        group: String,
        /// The priority of its pods: none of the victims' is as high.
        priority: i32,
        /// Who must go; nobody where it is enough that pods are ending already.
        victims: Vec<Victim>,
        /// The node that is kept for each pod.
        nominations: Vec<Placement>,
        /// Who must go, in words and numbers.
        message: String,
    },
    /// It isn't planned over.
    Aside {
        /// Which group.
        group: String,
        /// Why.
        why: Aside,
    },
}

/// A pod that must go for another group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its UID.
    pub uid: String,
    /// The group that goes as a whole: as in [`Decision::Place`], or `namespace/podgroup:name` of an upstream PodGroup.
    pub group: String,
}

/// One pod's node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The pod's name.
    pub pod: String,
    /// The pod's UID.
    pub uid: String,
    /// The node's name.
    pub node: String,
    /// What must be done for its volumes before it is bound.
    pub volumes: Vec<VolumeStep>,
}

/// One reason why a gang can't be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// A CamelCase reason.
    pub reason: &'static str,
    /// What it is about.
    pub subject: String,
    /// How many nodes it rules out.
    pub nodes: usize,
    /// How much the whole gang needs, or one pod where it is about a single node; nothing where it isn't about an amount.
    pub needed: Option<Quantity>,
    /// How much is free: in sum on nodes that may be used for it, or on the best single one.
    pub free: Option<Quantity>,
}

impl Decision {
    /// Says something more to it.
    pub(crate) fn and_says(mut self, more: &str) -> Self {
        if let Self::Hold { message, .. } = &mut self {
            message.push_str(more);
        }
        self
    }
}

/// Pods of a group that want the same: whatever takes one of them takes any other.
#[derive(Clone)]
pub(crate) struct Alike {
    pub(crate) kind: Arc<Kind>,
    /// Ordered by name.
    pub(crate) pods: Vec<PodId>,
}

impl Cluster {
    /// The pods to be placed, or why they aren't yet. Nothing where nothing is to be said.
    pub(crate) fn ready(&self, key: &str, group: &Group) -> Option<Result<Vec<Alike>, Aside>> {
        if group.gang.as_ref().is_some_and(|gang| gang.is_terminating) {
            return None;
        }
        if let Some(why) = self.pod_group_aside(key, group) {
            return Some(Err(why));
        }
        if group.gang.is_none() && is_gang(key) {
            return Some(Err(Aside::GangMissing));
        }
        let (failed, members): (Vec<&Known>, Vec<&Known>) =
            self.members(group).partition(|known| known.pod.stage.has_failed);
        let needed = self.needed(key, group);
        if members.len() < needed {
            let (there, failed) = (members.len(), failed.len());
            return Some(Err(Aside::Gathering { there, needed, failed }));
        }
        let waiting = || members.iter().copied().filter(|known| known.waits());
        if waiting().next().is_none() {
            return self.strangers(key).next().map(|_| Err(Aside::OfAnotherJob));
        }
        let gated = || waiting().filter_map(|known| known.pod.gate.as_ref());
        if let Some(gate) = gated().min() {
            // What a gate means for a pod of no gang the API server has said on the pod itself.
            let (gate, pods, of) = (gate.to_string(), gated().count(), members.len());
            return (!is_single(key)).then_some(Err(Aside::Gated { gate, pods, of }));
        }
        if let Some(problem) = waiting().find_map(|known| known.pod.problem.as_deref()) {
            return Some(Err(Aside::Refused(problem.clone())));
        }
        Some(Ok(self.alike(group)))
    }

    /// The waiting pods by what they want, the largest first: they have the fewest places.
    pub(crate) fn alike(&self, group: &Group) -> Vec<Alike> {
        let mut by_kind: HashMap<*const Kind, Alike> = HashMap::new();
        for id in &group.members {
            let Some(known) = self.known(*id) else { continue };
            if known.waits() && self.is_member(group, &known.pod) {
                let kind = &known.pod.kind;
                let alike = || Alike { kind: kind.clone(), pods: Vec::new() };
                by_kind.entry(Arc::as_ptr(kind)).or_insert_with(alike).pods.push(*id);
            }
        }
        let name = |id: &PodId| self.known(*id).map(|known| known.pod.name.clone());
        let mut alike: Vec<Alike> = by_kind.into_values().collect();
        alike.iter_mut().for_each(|alike| alike.pods.sort_by_cached_key(name));
        let scarcest = scarcest_first(alike.iter().map(|alike| &*alike.kind), &self.shared.resources);
        alike.sort_by_cached_key(|alike| {
            let asks: Vec<i64> = scarcest.iter().map(|id| alike.kind.requests.get(*id)).collect();
            (Reverse(asks), alike.pods.first().and_then(name))
        });
        alike
    }
}

#[cfg(test)]
mod asleep;
#[cfg(test)]
mod tests;
