//! Pods whose places depend on one another: that want company, shun it, are to be spread, take a port of the node, or
//! have volumes. What is around them, and what of it keeps them from a node.

mod attempt;
mod topology;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

pub(crate) use attempt::place;

use crate::{
    cluster::{Cluster, Concerns, Whose},
    filter::{Company, Refusal, Spreading},
    labels::{Labels, Selector, Text},
    node::{Node, NodeId, PodId},
    plan::Alike,
    pod::{Kind, Pod},
};

/// Whether the pods can't be placed by counting alone.
pub(crate) fn matters(cluster: &Cluster, alike: &[Alike]) -> bool {
    alike.iter().any(|alike| !alike.kind.ports.is_empty()) || looks(cluster, alike)
}

/// Whether what is around decides, beside what is free.
pub(crate) fn looks(cluster: &Cluster, alike: &[Alike]) -> bool {
    concerns(cluster, alike).any()
}

/// What of what is around decides, beside what is free.
pub(crate) fn concerns(cluster: &Cluster, alike: &[Alike]) -> Concerns {
    let kinds = || alike.iter().map(|alike| &alike.kind);
    let has_around = kinds().any(|kind| kind.looks_around()) || is_shunned(cluster, alike);
    Concerns {
        pods: kinds().next().filter(|_| has_around).map(|kind| {
            match kinds().any(|kind| kind.looks_abroad()) {
                true => Whose::Anybodys,
                false => Whose::Of(kind.namespace.clone()),
            }
        }),
        storage: kinds().any(|kind| kind.volumes.is_some()),
    }
}

/// Whether a pod on some node wants one of these not to be near it.
fn is_shunned(cluster: &Cluster, alike: &[Alike]) -> bool {
    let mut pods = alike.iter().flat_map(|alike| &alike.pods).filter_map(|id| Some(&cluster.known(*id)?.pod));
    cluster.shunning_terms().next().is_some()
        && pods.any(|pod| cluster.shunning(&pod.labels, pod.namespace()).next().is_some())
}

/// What is around for some pods, and comes to be as they are placed.
#[derive(Clone)]
pub(crate) struct Around {
    /// The labels that matter.
    keys: Arc<BTreeSet<Text>>,
    /// For pods of a kind with the same labels, as far as labels matter.
    surroundings: HashMap<(*const Kind, Labels), Surroundings>,
}

/// What is around for pods alike.
#[derive(Clone)]
pub(crate) struct Surroundings {
    kind: Arc<Kind>,
    company: Company,
    spreading: Spreading,
}

impl Around {
    /// What is around for each of the pods, before one of them is placed.
    pub(crate) fn new(cluster: &Cluster, alike: &[Alike]) -> Self {
        let keys = Arc::new(label_keys(cluster, alike));
        let mut surroundings = HashMap::new();
        let pods = alike.iter().flat_map(|alike| &alike.pods).filter_map(|id| Some(&cluster.known(*id)?.pod));
        for pod in pods {
            let key = (Arc::as_ptr(&pod.kind), pod.labels.only(&keys));
            surroundings.entry(key).or_insert_with(|| Surroundings::of(cluster, pod));
        }
        Self { keys, surroundings }
    }

    /// How many counts there are of those around.
    fn counted(&self) -> usize {
        self.surroundings.values().map(|around| around.company.counted()).sum()
    }

    /// What of a pod's labels somebody looks at.
    fn labels_of(&self, pod: &Pod) -> Labels {
        pod.labels.only(&self.keys)
    }

    /// What is around for one of them.
    pub(crate) fn of(&self, pod: &Pod) -> Option<&Surroundings> {
        self.surroundings.get(&(Arc::as_ptr(&pod.kind), self.labels_of(pod)))
    }

    /// A pod was placed: whoever comes after it has it around.
    pub(crate) fn notice(&mut self, cluster: &Cluster, pod: PodId, node: NodeId) {
        let (Some(known), node) = (cluster.known(pod), &cluster.nodes[node.index()]) else { return };
        let pod = &known.pod;
        let namespace_labels = cluster.namespace_labels(pod.namespace());
        for around in self.surroundings.values_mut() {
            around.company.count(&around.kind, (&pod.kind, &pod.labels, namespace_labels), node, 1);
            around.spreading.count(&around.kind, (&pod.kind, &pod.labels), node, 1);
            around.spreading.sum_up();
        }
    }
}

impl Surroundings {
    /// What is around for a pod now.
    pub(crate) fn of(cluster: &Cluster, pod: &Pod) -> Self {
        if pod.kind.looks_around() {
            cluster.looked(cluster.pods());
        }
        let (company, spreading) = (cluster.company(pod), cluster.spreading(pod));
        Self { kind: pod.kind.clone(), company, spreading }
    }

    /// What of it keeps a pod from a node.
    pub(crate) fn refusal(&self, node: &Node) -> Option<Refusal> {
        self.company.refusal(&self.kind, node).or_else(|| self.spreading.refusal(&self.kind, node))
    }
}

/// The labels that somebody looks at. Pods that only differ in others have the same surroundings.
fn label_keys(cluster: &Cluster, alike: &[Alike]) -> BTreeSet<Text> {
    let kinds = || alike.iter().map(|alike| &*alike.kind);
    let terms = kinds().flat_map(|kind| kind.company.iter().chain(&kind.shuns));
    let terms = terms.chain(cluster.shunning_terms()).filter_map(|term| term.selector.as_ref());
    let spread = kinds().flat_map(|kind| &kind.spread).filter_map(|constraint| constraint.selector.as_ref());
    terms.chain(spread).flat_map(Selector::keys).cloned().collect()
}

#[cfg(test)]
mod tests;
