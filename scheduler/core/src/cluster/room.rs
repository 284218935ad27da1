//! Room that is kept or imagined: nodes kept for pods for which room is being made there, and pods taken off their nodes to
//! see what would fit without them.

use super::{Cluster, Known, Step};
use crate::{
    labels::Text,
    node::{NodeId, PodId},
    pod::{Kind, Pod},
};

/// What beside its own document says where a pod counts.
#[derive(Debug, Default)]
pub(super) struct Lot {
    pub(super) assumed: Option<NodeId>,
    pub(super) steps: Vec<Step>,
    pub(super) reserved: Option<NodeId>,
    pub(super) is_leaving: bool,
}

/// A pod that was taken off its node for a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifted {
    pod: PodId,
    node: NodeId,
}

/// A pod that is said to get a node once there is room: `status.nominatedNodeName`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nomination {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its UID.
    pub uid: String,
}

impl Cluster {
    /// For each group for which nodes are kept: it has so many seconds from when this is first asked. Those whose time
    /// is over give the nodes back. Answers the pods for which no node was kept any more before that, and that have none:
    /// their status is to say so.
    pub fn end_reservations(&mut self, now: i64, seconds: i64) -> Vec<Nomination> {
        let given_up = self.given_up();
        let mut over = Vec::new();
        for (key, until) in &mut self.reservations {
            let until = *until.get_or_insert(now.saturating_add(seconds));
            if until <= now {
                over.push(key.clone());
            }
        }
        over.iter().for_each(|key| self.cancel_reservation(key));
        // Those that were placed, or are gone, need none.
        let (groups, pods) = (&self.groups, &self.pods);
        let is_reserved = |id: &PodId| {
            pods.get(id.index()).and_then(Option::as_ref).is_some_and(|known| known.reserved.is_some())
        };
        self.reservations
            .retain(|key, _| groups.get(key).is_some_and(|group| group.members.iter().any(is_reserved)));
        given_up
    }

    /// The status of a pod still names a node that isn't kept for it any more.
    pub fn is_still_nominated(&mut self, uid: &str) {
        self.given_up.extend(self.pod_ids.get_key_value(uid).map(|(uid, _)| uid.clone()));
    }

    fn given_up(&mut self) -> Vec<Nomination> {
        let given_up = std::mem::take(&mut self.given_up);
        let known = given_up.iter().filter_map(|uid| self.known_by_uid(uid));
        let known = known.filter(|known| known.reserved.is_none() && known.pod.node.is_none());
        let nomination = |known: &Known| Nomination {
            namespace: known.pod.namespace().to_string(),
            pod: known.pod.name.to_string(),
            uid: known.pod.uid.to_string(),
        };
        known.map(nomination).collect()
    }

    /// No node is kept for the group any more.
    pub fn cancel_reservation(&mut self, key: &str) {
        if self.reservations.remove(key).is_none() {
            return;
        }
        // A plan that is being made may have passed by those who gain by it.
        self.has_more = true;
        let members = self.groups.get(key).map(|group| group.members.clone()).unwrap_or_default();
        for id in members {
            if self.unreserve(id).is_some() {
                let uid = self.known(id).map(|known| known.pod.uid.clone());
                self.given_up.extend(uid);
            }
        }
        let key = self.shared.texts.share(key);
        self.touch(&key);
    }

    /// A pod that was to be evicted stays after all.
    pub fn spare(&mut self, uid: &str) {
        let Some(id) = self.pod_ids.get(uid) else { return };
        self.set_leaving(*id, false);
        self.rouse_reserved();
    }

    fn set_leaving(&mut self, id: PodId, is_leaving: bool) {
        let Some(known) = self.pods.get_mut(id.index()).and_then(Option::as_mut) else { return };
        known.is_leaving = is_leaving;
        if known.on.is_some() && known.is_ending() {
            self.ending.insert(id);
        } else {
            self.ending.remove(&id);
        }
        self.changes.prey(Some(i32::MIN));
    }

    /// The pod is to be evicted: from now on it counts as one that is ending.
    pub(crate) fn sends_away(&mut self, id: PodId) {
        self.set_leaving(id, true);
    }

    /// Nodes are kept for the group, with a deadline that is still to be decided.
    pub(crate) fn begin_reservation(&mut self, key: &Text) {
        self.reservations.insert(key.clone(), None);
    }

    /// The node that is kept for a pod: the one we kept, or the one that its status names when it is seen first. Its status
    /// names it long after we gave it up, too. Who joins another group leaves behind what was kept for the first.
    pub(super) fn reserved_for(&mut self, pod: &Pod, left: Option<&Known>) -> Option<NodeId> {
        if pod.node.is_some() || pod.stage.is_finished || pod.stage.is_terminating {
            return None;
        }
        if let Some(left) = left {
            let reserved = left.reserved?;
            if left.group.as_ref() == Some(&self.group_of(pod)) {
                return Some(reserved);
            }
            self.given_up.push(pod.uid.clone());
            return None;
        }
        let nominated = pod.nominated.clone().filter(|_| pod.scheduler == self.scheduler)?;
        Some(self.node_id(&nominated))
    }

    /// Room was being made for a pod when this was last written down: it is kept again.
    pub(super) fn adopt_reservation(&mut self, id: PodId) {
        if let Some(group) = self.known(id).and_then(|known| known.group.clone()) {
            self.reservations.entry(group).or_insert(None);
        }
    }

    /// Keeps a node for a pod.
    pub(crate) fn reserve(&mut self, id: PodId, node: NodeId) {
        self.change_place(id, |known| {
            known.reserved = Some(node);
            if known.pod.node.is_none() && known.assumed.is_none() {
                known.on = Some(node);
            }
        });
    }

    /// Keeps it no more. Answers which it was.
    pub(crate) fn unreserve(&mut self, id: PodId) -> Option<NodeId> {
        let node = self.known(id)?.reserved?;
        self.change_place(id, |known| {
            known.reserved = None;
            if known.pod.node.is_none() && known.assumed.is_none() {
                known.on = None;
            }
        });
        Some(node)
    }

    fn change_place(&mut self, id: PodId, change: impl FnOnce(&mut Known)) {
        let Some(mut known) = self.pods.get_mut(id.index()).and_then(Option::take) else { return };
        let left = known.on;
        self.leave_node(id, &mut known);
        change(&mut known);
        self.enter_node(id, &known);
        self.moved(&known.pod.kind, (left, known.on), None);
        self.pods[id.index()] = Some(known);
    }

    /// Takes a pod off its node to see what would fit without it. Nobody is told of it: it must be laid back.
    pub(crate) fn lift(&mut self, id: PodId) -> Option<Lifted> {
        let node = self.known(id)?.on?;
        self.change_place(id, |known| known.on = None);
        Some(Lifted { pod: id, node })
    }

    /// Puts a pod back where it was.
    pub(crate) fn lay_back(&mut self, lifted: Lifted) {
        self.change_place(lifted.pod, |known| known.on = Some(lifted.node));
    }

    /// Whether a pod of a lower priority holds something on a node.
    pub(crate) fn has_below(&self, priority: i32) -> bool {
        self.priorities.range(..priority).next().is_some()
    }

    /// Pods of a lower priority for which nodes are kept on which they aren't.
    pub(crate) fn promised_below(&self, priority: i32) -> Vec<PodId> {
        let is_below = |id: &&PodId| self.known(**id).is_some_and(|known| known.pod.priority < priority);
        self.promised.iter().filter(is_below).copied().collect()
    }

    /// Pods for which nodes are kept on which they aren't.
    pub(crate) fn promised(&self) -> Vec<PodId> {
        self.promised.iter().copied().collect()
    }

    /// Whether nodes are kept for any pod.
    pub(crate) fn has_promises(&self) -> bool {
        !self.promised.is_empty()
    }

    /// A pod that holds something is elsewhere than it was: there may be more room where it was, and there is something else
    /// around where it is.
    /// Who could have evicted it where it was gains nothing by that: by their priority.
    pub(super) fn moved(
        &mut self,
        kind: &Kind,
        (left, on): (Option<NodeId>, Option<NodeId>),
        evictable: Option<i32>,
    ) {
        if let Some(left) = left {
            self.changes.node(left, true);
            self.changes.chance(evictable);
        }
        if let Some(on) = on.filter(|on| left != Some(*on)) {
            self.changes.node(on, false);
        }
        if left.or(on).is_some() {
            self.changes.around_pod(kind);
        }
        // For whom a node is kept, that it was enough to wait there may hold no more: also where one came to be elsewhere that
        // doesn't want him near.
        let is_about_kept = || on.is_some_and(|on| self.nodes[on.index()].keeps());
        if !self.changes.is_trial() && (!kind.shuns.is_empty() || is_about_kept()) {
            self.rouse_reserved();
        }
    }

    /// A pod holds what it holds on its node from now on.
    pub(super) fn enter_node(&mut self, id: PodId, known: &Known) {
        if let Some(on) = known.on {
            self.nodes[on.index()].add(id, &known.pod);
            *self.priorities.entry(known.pod.priority).or_default() += 1;
            self.shunning.add(id, &known.pod.kind);
            if known.is_promised() {
                self.promised.insert(id);
                self.nodes[on.index()].keep(&known.pod);
            }
            if known.is_ending() {
                self.ending.insert(id);
            }
        }
        self.hold_volumes(id, known);
    }

    /// It doesn't any more.
    pub(super) fn leave_node(&mut self, id: PodId, known: &mut Known) {
        if let Some(on) = known.on {
            self.nodes[on.index()].remove(id, &known.pod);
            self.shunning.remove(id, &known.pod.kind);
            self.ending.remove(&id);
            if self.promised.remove(&id) {
                self.nodes[on.index()].keep_no_more(&known.pod);
            }
            if let Some(count) = self.priorities.get_mut(&known.pod.priority) {
                *count -= 1;
                if *count == 0 {
                    self.priorities.remove(&known.pod.priority);
                }
            }
        }
        self.let_volumes_go(id, known);
    }
}
