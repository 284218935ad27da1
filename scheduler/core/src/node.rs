//! A node as planning sees it: what it offers, what its pods hold of that.

use crate::{
    amounts::{Amounts, ResourceId, Tally},
    document::{NodeDocument, Taint},
    labels::{Labels, Text},
    pod::{HostPort, Pod},
    read::Shared,
    requests,
};

/// A node, by its place in the cluster's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(crate) u32);

impl NodeId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A pod, by its place in the cluster's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PodId(pub(crate) u32);

impl PodId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A node, and what is on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    pub(crate) name: Text,
    /// Whether there is one. Pods may be on a node that isn't known yet, or is gone.
    pub(crate) exists: bool,
    pub(crate) labels: Labels,
    pub(crate) taints: Vec<Taint>,
    /// Whether it is cordoned.
    pub(crate) unschedulable: bool,
    /// What its kubelet says that it can do.
    pub(crate) features: Vec<Text>,
    allocatable: Tally,
    used: Tally,
    /// What of it is kept for pods that aren't here, and for how many.
    kept: Tally,
    keeps: usize,
    /// The pods that hold something here.
    pub(crate) pods: Vec<PodId>,
    /// The ports that they take, and the namespaces of those that have a share of a GPU: one entry a pod.
    pub(crate) ports: Vec<HostPort>,
    pub(crate) sharing: Vec<Text>,
    /// Those of the pods that hold something unknown, by `namespace/name`: beside them nothing more is placed.
    pub(crate) unreadable: Vec<String>,
}

impl Node {
    pub(crate) fn named(name: Text) -> Self {
        Self { name, ..Self::default() }
    }

    /// Takes over what a document says; answers what of it can't be read, and whether anything has changed. What isn't
    /// readable isn't there.
    pub(crate) fn update(&mut self, document: &NodeDocument, shared: &mut Shared) -> (Vec<String>, bool) {
        // One that can't be read takes nobody: what it wants to keep away isn't known.
        let mut faults: Vec<String> =
            document.faults.iter().map(|fault| format!("{fault}; it gets no pods")).collect();
        let is_readable = faults.is_empty();
        let mut offers = crate::quantity::Resources::default();
        for (name, text) in document.status.allocatable.iter().filter(|_| is_readable) {
            match requests::read(&[(name.clone(), text.clone())].into()) {
                Ok(amount) => offers.0.extend(amount.0),
                Err(fault) => {
                    faults.push(format!("status.allocatable[{name}]: {fault}; none of it is given away"))
                }
            }
        }
        let mut allocatable = Tally::default();
        allocatable.add(&shared.resources.amounts(&offers));
        let declared = &document.status.declared_features;
        let features: Vec<Text> = declared.iter().map(|name| shared.texts.share(name)).collect();
        let labels = shared.texts.labels(&document.metadata.labels);
        // One that is being deleted takes nobody any more.
        let unschedulable = document.spec.unschedulable || document.metadata.is_terminating() || !is_readable;
        let is_as_before = self.exists
            && self.allocatable == allocatable
            && self.features == features
            && self.labels == labels
            && self.unschedulable == unschedulable
            && self.taints == document.spec.taints;
        self.exists = true;
        self.taints.clone_from(&document.spec.taints);
        (self.allocatable, self.features, self.labels) = (allocatable, features, labels);
        self.unschedulable = unschedulable;
        (faults, !is_as_before)
    }

    /// What is free of a resource; below zero where pods hold more than there is.
    pub(crate) fn free(&self, resource: ResourceId) -> i64 {
        self.allocatable.get(resource).saturating_sub(self.used.get(resource))
    }

    /// The resources of which something is offered, held or kept here.
    pub(crate) fn resources(&self) -> impl Iterator<Item = ResourceId> {
        [&self.allocatable, &self.used, &self.kept].into_iter().flat_map(Tally::named)
    }

    /// How many pods that ask for this fit, whatever else they want.
    pub(crate) fn room(&self, asked: &Amounts) -> i64 {
        let asked = asked.iter().filter(|(_, amount)| *amount > 0);
        asked.map(|(id, amount)| self.free(id) / amount).min().unwrap_or(i64::MAX).max(0)
    }

    /// How many would fit beside those that are here.
    pub(crate) fn room_with_kept(&self, asked: &Amounts) -> i64 {
        let asked = asked.iter().filter(|(_, amount)| *amount > 0);
        let free = |id| self.free(id).saturating_add(self.kept.get(id));
        asked.map(|(id, amount)| free(id) / amount).min().unwrap_or(i64::MAX).max(0)
    }

    /// Whether something is kept here for pods that aren't.
    pub(crate) fn keeps(&self) -> bool {
        self.keeps > 0
    }

    /// What a pod holds here is kept for it.
    pub(crate) fn keep(&mut self, pod: &Pod) {
        self.keeps += 1;
        pod.holds.iter().for_each(|holds| self.kept.add(holds));
    }

    /// It isn't any more.
    pub(crate) fn keep_no_more(&mut self, pod: &Pod) {
        self.keeps -= 1;
        pod.holds.iter().for_each(|holds| self.kept.subtract(holds));
    }

    /// A pod holds something here from now on.
    pub(crate) fn add(&mut self, id: PodId, pod: &Pod) {
        self.pods.push(id);
        match &pod.holds {
            Some(holds) => self.used.add(holds),
            None => self.unreadable.push(full_name(pod)),
        }
        self.ports.extend(pod.kind.ports.iter().cloned());
        if pod.kind.shared.is_some() {
            self.sharing.push(pod.namespace().clone());
        }
    }

    /// It holds nothing any more.
    pub(crate) fn remove(&mut self, id: PodId, pod: &Pod) {
        let Some(at) = self.pods.iter().position(|held| *held == id) else { return };
        self.pods.swap_remove(at);
        match &pod.holds {
            Some(holds) => self.used.subtract(holds),
            None => remove_one(&mut self.unreadable, &full_name(pod)),
        }
        for port in &pod.kind.ports {
            remove_one(&mut self.ports, port);
        }
        if pod.kind.shared.is_some() {
            remove_one(&mut self.sharing, pod.namespace());
        }
    }
}

/// `namespace/name`.
fn full_name(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace(), pod.name)
}

fn remove_one<T: PartialEq>(all: &mut Vec<T>, one: &T) {
    if let Some(at) = all.iter().position(|other| other == one) {
        all.swap_remove(at);
    }
}
