//! Pods whose places depend on one another: that want company, shun it, are to be spread, take a port of the node, or
//! have volumes. They are placed one by one, each where it may be beside those placed before it. Where that leads nowhere, the
//! first one begins in another topology; then the kinds are tried in other orders.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use crate::{
    cluster::{Cluster, Concerns, Whose},
    filter::{Company, Refusal, Spreading, VolumeNeeds},
    labels::{Labels, Selector, Text},
    node::{Node, NodeId, PodId},
    places::Places,
    plan::Alike,
    pod::{Kind, Pod},
};

/// In how many topologies is begun.
const BEGINNINGS: usize = 64;

/// In how many orders of the kinds is begun.
const ORDERS: usize = 16;

/// After so many looks at nodes it isn't begun anew. The first way is always gone to its end.
const LOOKS: u64 = 2_000_000;

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

/// A node for each pod, or nothing where no way was found. Nothing is changed.
pub(crate) fn place(cluster: &mut Cluster, alike: &[Alike]) -> Option<Places> {
    cluster.changes.begin_trial();
    let places = try_orders(cluster, alike);
    cluster.changes.end_trial();
    places
}

/// A kind for which the others left no place is tried before them; one that finds none before them may want them near it, and
/// is tried after them.
fn try_orders(cluster: &mut Cluster, alike: &[Alike]) -> Option<Places> {
    let (around, begun) = (Around::new(cluster, alike), cluster.looks());
    let mut order = alike.to_vec();
    let (first, last) = (true, false);
    let mut tried: HashSet<(*const Kind, bool)> =
        alike.first().map(|alike| (Arc::as_ptr(&alike.kind), first)).into_iter().collect();
    loop {
        let at = match try_beginnings(cluster, &order, (&around, begun)) {
            Ok(places) => return Some(places),
            Err(at) => at,
        };
        if tried.len() > ORDERS || cluster.looks() - begun > LOOKS {
            return None;
        }
        let kind = Arc::as_ptr(&order.get(at)?.kind);
        if at > 0 && tried.insert((kind, first)) {
            order[..=at].rotate_right(1);
        } else if at + 1 < order.len() && tried.insert((kind, last)) {
            order[at..].rotate_left(1);
        } else {
            return None;
        }
    }
}

/// The first of them begins in one topology after the other. `Err` says for which kind there was no place at first.
fn try_beginnings(
    cluster: &mut Cluster,
    order: &[Alike],
    (around, begun): (&Around, u64),
) -> Result<Places, usize> {
    // Where the first pod is makes a difference to whoever wants it near, too.
    let terms = || order.iter().flat_map(|alike| alike.kind.company.iter());
    let topology = terms().next().map(|term| term.topology_key.clone());
    let (mut tried, mut left_over) = (BTreeSet::<Text>::new(), None);
    for _ in 0..BEGINNINGS {
        let mut attempt = Attempt { around: around.clone(), topology: topology.as_ref(), placed: Vec::new() };
        let found = attempt.run(cluster, order, &tried);
        let first = attempt.placed.first().copied();
        attempt.placed.iter().for_each(|(pod, _)| cluster.put_back(*pod));
        match found {
            Ok(()) => return Ok(attempt.placed),
            Err(kind) => left_over = left_over.or(Some(kind)),
        }
        let topology = topology.as_ref();
        let label =
            first.zip(topology).and_then(|((_, node), key)| cluster.nodes[node.index()].labels.get(key));
        if !label.is_some_and(|label| tried.insert(label.clone())) || cluster.looks() - begun > LOOKS {
            break;
        }
    }
    Err(left_over.unwrap_or_default())
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

    /// What is around for one of them.
    pub(crate) fn of(&self, pod: &Pod) -> Option<&Surroundings> {
        self.surroundings.get(&(Arc::as_ptr(&pod.kind), pod.labels.only(&self.keys)))
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

/// One way of placing them.
struct Attempt<'a> {
    around: Around,
    /// The label by which the first one's beginnings differ.
    topology: Option<&'a Text>,
    placed: Places,
}

impl Attempt<'_> {
    /// Finds a place for every pod, for the first one outside of the topologies that were tried. `Err` says for which kind
    /// there was none.
    fn run(&mut self, cluster: &mut Cluster, order: &[Alike], tried: &BTreeSet<Text>) -> Result<(), usize> {
        let kinds = order.iter().enumerate();
        let pods = kinds.flat_map(|(at, alike)| alike.pods.iter().map(move |pod| (at, &alike.kind, *pod)));
        for (at, kind, pod) in pods {
            cluster.refresh(kind);
            let beginning = self.placed.is_empty().then_some(tried);
            let node = self.find(cluster, pod, beginning).ok_or(at)?;
            cluster.assume_at(pod, node);
            self.around.notice(cluster, pod, node);
            self.placed.push((pod, node));
        }
        Ok(())
    }

    /// The first node where the pod may be.
    fn find(&self, cluster: &Cluster, pod: PodId, tried: Option<&BTreeSet<Text>>) -> Option<NodeId> {
        let pod = &cluster.known(pod)?.pod;
        let kind = &pod.kind;
        let around = self.around.of(pod)?;
        let was_tried = |node: NodeId| {
            let label = self.topology.and_then(|key| cluster.nodes[node.index()].labels.get(key));
            tried.zip(label).is_some_and(|(tried, label)| tried.contains(label))
        };
        let volumes = kind.volumes.as_ref().map(|_| VolumeNeeds::new(cluster, pod));
        if volumes.as_ref().is_some_and(|volumes| volumes.hopeless().is_some()) {
            return None;
        }
        cluster.walk(kind).find(|id| {
            let node = &cluster.nodes[id.index()];
            !was_tried(*id)
                && around.refusal(node).is_none()
                && volumes.as_ref().is_none_or(|volumes| volumes.refusal(node).is_none())
        })
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
