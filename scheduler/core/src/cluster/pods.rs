//! Pods come, change, are sent to nodes and go.

use super::{Cluster, Fault, Known, is_single, room::Lot};
use crate::{
    document::PodDocument,
    labels::{Labels, Text},
    node::{Node, NodeId, PodId},
    pod::{Pod, PodTerm},
    read,
};

impl Cluster {
    /// A pod is there, or has changed. Answers what of it makes no sense, where that matters to others than its own group.
    pub fn set_pod(&mut self, document: &PodDocument) -> Option<Fault> {
        let pod = read::pod(document, &mut self.shared);
        let uid = pod.uid.clone();
        let fault = fault_of(&pod);
        let before = self.pod_ids.get(&uid).copied();
        if let Some(id) = before
            && let Some(known) = self.pods[id.index()].as_mut()
            && known.pod.is_planned_as(&pod, pod.scheduler == self.scheduler)
        {
            known.pod = pod;
            self.adopt_from_journal(id);
            return fault;
        }
        let assumed = before.and_then(|id| self.known(id)).and_then(|known| known.assumed);
        // Where the API server knows it on a node, that is the truth, wherever we sent it.
        let assumed = if pod.node.is_some() || pod.stage.is_terminating { None } else { assumed };
        let (id, left) = match before {
            Some(id) => (id, self.take(id)),
            None => (self.vacancy(), None),
        };
        // What its volumes were promised stays theirs, until they or the pod are gone.
        let steps = left.as_ref().map_or_else(Vec::new, |left| left.steps.clone());
        let keeps = assumed.is_some() || (pod.node.is_some() && !pod.stage.is_over);
        let steps = if keeps { steps } else { Vec::new() };
        let reserved = self.reserved_for(&pod, left.as_ref());
        let is_leaving = left.as_ref().is_some_and(|left| left.is_leaving);
        self.put(id, pod, Lot { assumed, steps, reserved, is_leaving }, left.as_ref());
        self.notice(left.as_ref(), id);
        self.pod_ids.insert(uid.clone(), id);
        self.enter_pod_group(id);
        if before.is_none() && reserved.is_some() {
            self.adopt_reservation(id);
        }
        self.adopt_from_journal(id);
        fault
    }

    /// A pod is gone.
    pub fn remove_pod(&mut self, uid: &str) {
        let Some(id) = self.pod_ids.remove(uid) else { return };
        if let Some(known) = self.take(id) {
            self.leave_pod_group(id, &known.pod);
            let by = self.evictable_as(&known);
            self.moved(&known.pod.kind, (known.on, None), by);
            if let Some(group) = known.group {
                self.touch(&group);
            }
        }
        self.vacant.push(id);
    }

    /// Keeps the pods of a complete list, and takes the others for gone.
    pub fn retain_pods(&mut self, is_listed: impl Fn(&str) -> bool) {
        let gone: Vec<Text> = self.pod_ids.keys().filter(|uid| !is_listed(uid)).cloned().collect();
        gone.iter().for_each(|uid| self.remove_pod(uid));
    }

    /// We send a pod to a node: it holds its part there from now on. Nothing happens to one that is on a node already.
    pub fn assume(&mut self, uid: &str, node: &str) {
        let Some(id) = self.pod_ids.get(uid).copied() else { return };
        let node = self.shared.texts.share(node);
        let node = self.node_id(&node);
        self.assume_at(id, node);
    }

    /// It isn't on its way there any more.
    pub fn release(&mut self, uid: &str) {
        let Some(id) = self.pod_ids.get(uid).copied() else { return };
        if self.known(id).is_some_and(|known| known.assumed.is_some()) {
            let Some(known) = self.take(id) else { return };
            let (kind, group, left) = (known.pod.kind.clone(), known.group.clone(), known.on);
            self.put(id, known.pod, Lot { reserved: known.reserved, ..Lot::default() }, None);
            self.moved(&kind, (left, self.known(id).and_then(|known| known.on)), None);
            if let Some(group) = group {
                self.touch(&group);
            }
        }
        // Where a plan for its group stands in the journal by now, that one holds.
        self.adopt_from_journal(id);
    }

    /// The node that a pod is on or on its way to.
    pub fn node_of(&self, uid: &str) -> Option<&str> {
        let known = self.known(*self.pod_ids.get(uid)?)?;
        let assumed = known.assumed.map(|node| &*self.nodes[node.index()].name);
        known.pod.node.as_deref().or(assumed)
    }

    /// How many pods are known.
    pub fn pods(&self) -> usize {
        self.pod_ids.len()
    }

    /// How many pods are sent to nodes on which the API server doesn't know them yet.
    pub fn on_their_way(&self) -> usize {
        self.pods.iter().flatten().filter(|known| known.assumed.is_some()).count()
    }

    /// For how many pods nodes are kept.
    pub fn kept(&self) -> usize {
        self.pods.iter().flatten().filter(|known| known.reserved.is_some()).count()
    }

    pub(crate) fn assume_at(&mut self, id: PodId, node: NodeId) {
        let Some(known) = self.known(id) else { return };
        if known.pod.node.is_some() || known.assumed == Some(node) || known.pod.stage.is_finished {
            return;
        }
        let steps = self.steps_for(&known.pod, node);
        let Some(known) = self.take(id) else { return };
        let (kind, left) = (known.pod.kind.clone(), known.on);
        let lot = Lot { assumed: Some(node), steps, reserved: known.reserved, is_leaving: known.is_leaving };
        self.put(id, known.pod, lot, None);
        self.moved(&kind, (left, self.known(id).and_then(|known| known.on)), None);
    }

    /// Takes back an assumption that nobody saw: nothing was freed by it.
    pub(crate) fn put_back(&mut self, id: PodId) {
        if let Some(known) = self.take(id) {
            let (kind, left) = (known.pod.kind.clone(), known.on);
            self.put(id, known.pod, Lot { reserved: known.reserved, ..Lot::default() }, None);
            self.moved(&kind, (left, self.known(id).and_then(|known| known.on)), None);
        }
    }

    pub(crate) fn known(&self, id: PodId) -> Option<&Known> {
        self.pods.get(id.index())?.as_ref()
    }

    /// A pod's name, for people.
    pub(crate) fn name_of(&self, id: Option<&PodId>) -> String {
        id.and_then(|id| self.known(*id)).map_or_else(String::new, |known| known.pod.name.to_string())
    }

    pub(crate) fn pod_id(&self, uid: &str) -> Option<PodId> {
        self.pod_ids.get(uid).copied()
    }

    pub(crate) fn known_by_uid(&self, uid: &str) -> Option<&Known> {
        self.known(self.pod_id(uid)?)
    }

    /// Every pod that counts on a node that exists, with that node.
    pub(crate) fn placed(&self) -> impl Iterator<Item = (&Pod, &Node)> {
        self.existing().flat_map(move |(_, node)| {
            node.pods.iter().filter_map(move |id| Some((&self.known(*id)?.pod, node)))
        })
    }

    /// The pods that want a pod with these labels, in this namespace, not to be near them: once for each term, with it.
    pub(crate) fn shunning<'a>(
        &'a self,
        labels: &'a Labels,
        namespace: &'a Text,
    ) -> impl Iterator<Item = (&'a PodTerm, &'a Node)> {
        // To the terms of others, an unknown namespace is one without labels.
        let of_namespace = self.namespace_labels(namespace).cloned().unwrap_or_default();
        let about = self.shunning.about(labels);
        let meant = about.filter(move |(term, _)| term.matches(labels, namespace, Some(&of_namespace)));
        meant.flat_map(move |(term, pods)| {
            pods.iter().filter_map(move |id| {
                let node = &self.nodes[self.known(*id)?.on?.index()];
                node.exists.then_some((term, node))
            })
        })
    }

    /// The terms of all pods on nodes that want certain pods not to be near them.
    pub(crate) fn shunning_terms(&self) -> impl Iterator<Item = &PodTerm> {
        self.shunning.terms()
    }

    fn vacancy(&mut self) -> PodId {
        self.vacant.pop().unwrap_or_else(|| {
            self.pods.push(None);
            PodId(u32::try_from(self.pods.len() - 1).unwrap_or(u32::MAX))
        })
    }

    /// Takes a pod out of the list and off its node.
    pub(super) fn take(&mut self, id: PodId) -> Option<Known> {
        let mut known = self.pods.get_mut(id.index())?.take()?;
        self.leave_node(id, &mut known);
        if let Some(group) = &known.group {
            self.leave(group, id, &known);
        }
        Some(known)
    }

    /// Puts a pod into the list and onto its node.
    pub(super) fn put(&mut self, id: PodId, pod: Pod, lot: Lot, left: Option<&Known>) {
        let Lot { assumed, steps, reserved, is_leaving } = lot;
        let place = pod.node.clone().map(|name| self.node_id(&name));
        // Room that somebody made for a pod of his isn't anybody else's.
        let is_ours = pod.scheduler == self.scheduler;
        let nominated = pod.nominated.clone().filter(|_| !is_ours && pod.node.is_none());
        let nominated = nominated.map(|name| self.node_id(&name));
        let on = place.or(assumed).or(reserved).or(nominated).filter(|_| !pod.stage.is_over);
        let group = is_ours.then(|| self.group_of(&pod));
        let group_before = left.and_then(|left| left.group.clone());
        if let Some(before) = group_before.filter(|before| Some(before) != group.as_ref()) {
            self.touch(&before);
        }
        let known = Known { pod, on, assumed, steps, reserved, is_leaving, group };
        self.enter_node(id, &known);
        if let Some(group) = known.group.clone() {
            self.join(&group, id, &known);
            self.pods[id.index()] = Some(known);
            if !self.changes.is_trial() {
                self.touch(&group);
            }
        } else {
            self.pods[id.index()] = Some(known);
        }
    }

    /// What the watch told of a pod may free something, or change what is around.
    pub(super) fn notice(&mut self, left: Option<&Known>, id: PodId) {
        let Some(known) = self.known(id) else { return };
        let (was_on, on) = (left.and_then(|left| left.on), known.on);
        let is_there_now = known.pod.node.is_some() && left.is_some_and(|left| left.pod.node.is_none());
        if is_there_now && was_on.is_some() {
            self.changes.prey(Some(known.pod.priority));
        }
        let Some(known) = self.known(id) else { return };
        let is_elsewhere = was_on != on;
        if is_elsewhere || left.is_some_and(|left| on.is_some() && !left.counts_as(known)) {
            let by = left.filter(|_| is_elsewhere).and_then(|left| self.evictable_as(left));
            let kind = known.pod.kind.clone();
            // Whom it shunned before may have hope, too.
            left.filter(|_| was_on.is_some())
                .into_iter()
                .for_each(|left| self.changes.around_pod(&left.pod.kind));
            self.moved(&kind, (was_on, on), by);
        }
    }

    /// The priority of a pod that any group of a higher one could have evicted, and nobody with it.
    fn evictable_as(&self, known: &Known) -> Option<i32> {
        let is_alone = known.pod.pod_group.is_none()
            && known
                .group
                .as_ref()
                .is_none_or(|key| is_single(key) && self.find_group(key).is_none_or(|group| !group.is_busy));
        let is_known = known.pod.node.is_some() && known.pod.holds.is_some();
        // Nobody could count on it to go who ends in his own time.
        let goes = !known.pod.stage.is_finished && (!known.is_ending() || self.is_soon_gone(known));
        (is_alone && is_known && goes).then_some(known.pod.priority)
    }
}

/// What of a pod makes no sense, beside what its own group is told.
fn fault_of(pod: &Pod) -> Option<Fault> {
    let why = match (&pod.node, &pod.problem, &pod.notice) {
        (Some(node), Some(problem), _) if pod.holds.is_none() && !pod.stage.is_over => {
            format!(
                "{problem}; what it holds isn't known, so nothing more is placed beside it on node {node}"
            )
        }
        (None, _, Some(notice)) => {
            let class = notice.class.as_ref().filter(|class| !class.is_empty())?;
            format!("spec.priorityClassName: {class} was never made a priority, so that counts as 0")
        }
        _ => return None,
    };
    Some(Fault { object: format!("pod {}/{}", pod.namespace(), pod.name), why })
}
