//! Pods whose places depend on one another: that want company, shun it, are to be spread, take a port of the node, or
//! have volumes. They are placed one by one, each where it may be beside those placed before it; where that leads nowhere, the first one
//! begins in another topology.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    cluster::Cluster,
    filter::{Company, Spreading, VolumeNeeds},
    labels::{Labels, Text},
    node::{NodeId, PodId},
    plan::Alike,
    pod::{Kind, PodTerm},
};

/// In how many topologies is begun.
const BEGINNINGS: usize = 64;

/// Whether the pods can't be placed by counting alone.
pub(crate) fn matters(cluster: &Cluster, alike: &[Alike]) -> bool {
    let depends =
        |Alike { kind, .. }: &Alike| kind.looks_around() || !kind.ports.is_empty() || kind.volumes.is_some();
    alike.iter().any(depends) || is_shunned(cluster, alike)
}

/// Whether a pod on some node wants one of these not to be near it.
fn is_shunned(cluster: &Cluster, alike: &[Alike]) -> bool {
    let mut terms: Vec<&PodTerm> = Vec::new();
    for (pod, _) in cluster.shunning() {
        for term in &pod.kind.shuns {
            if !terms.contains(&term) {
                terms.push(term);
            }
        }
    }
    let pods = alike.iter().flat_map(|alike| &alike.pods).filter_map(|id| Some(&cluster.known(*id)?.pod));
    !terms.is_empty()
        && pods.into_iter().any(|pod| {
            let namespace = cluster.namespace_labels(pod.namespace()).cloned().unwrap_or_default();
            terms.iter().any(|term| term.matches(&pod.labels, pod.namespace(), Some(&namespace)))
        })
}

/// A node for each pod, in their order, or nothing where no way was found. Nothing is changed.
pub(crate) fn place(cluster: &mut Cluster, alike: &[Alike]) -> Option<Vec<NodeId>> {
    let mut tried: BTreeSet<Text> = BTreeSet::new();
    for _ in 0..BEGINNINGS {
        let mut attempt = Attempt { surroundings: HashMap::new(), placed: Vec::new() };
        let found = attempt.run(cluster, alike, &tried);
        let begun = attempt.placed.first().copied();
        attempt.placed.iter().for_each(|(pod, _)| cluster.put_back(*pod));
        if found {
            return Some(attempt.placed.into_iter().map(|(_, node)| node).collect());
        }
        // Begun elsewhere, it may end better; unless the first pod's place makes no difference to the others.
        let term = alike.first()?.kind.company.first()?;
        let label = cluster.nodes[begun?.1.index()].labels.get(&term.topology_key)?.clone();
        if !tried.insert(label) {
            return None;
        }
    }
    None
}

/// One way of placing them.
struct Attempt {
    /// What is around for pods of a kind with the same labels, as far as labels matter.
    surroundings: HashMap<(*const Kind, Labels), Surroundings>,
    placed: Vec<(PodId, NodeId)>,
}

struct Surroundings {
    kind: Arc<Kind>,
    company: Company,
    spreading: Spreading,
}

impl Attempt {
    /// Whether every pod found a place; the first one outside of the topologies that were tried.
    fn run(&mut self, cluster: &mut Cluster, alike: &[Alike], tried: &BTreeSet<Text>) -> bool {
        let keys = label_keys(cluster, alike);
        let pods = alike.iter().flat_map(|alike| alike.pods.iter().map(|pod| (&alike.kind, *pod)));
        for (kind, pod) in pods {
            let nodes: Vec<NodeId> = cluster.choice(kind).nodes().map(|(node, _)| node).collect();
            let beginning = self.placed.is_empty().then_some(tried);
            let Some(node) = self.find(cluster, pod, &nodes, (&keys, beginning)) else { return false };
            cluster.assume_at(pod, node);
            self.notice(cluster, pod, node);
            self.placed.push((pod, node));
        }
        true
    }

    /// The first node where the pod may be.
    fn find(
        &mut self,
        cluster: &Cluster,
        pod: PodId,
        nodes: &[NodeId],
        (keys, tried): (&BTreeSet<Text>, Option<&BTreeSet<Text>>),
    ) -> Option<NodeId> {
        let pod = &cluster.known(pod)?.pod;
        let kind = &pod.kind;
        let around =
            self.surroundings.entry((Arc::as_ptr(kind), pod.labels.only(keys))).or_insert_with(|| {
                let (company, spreading) = (cluster.company(pod), cluster.spreading(pod));
                Surroundings { kind: kind.clone(), company, spreading }
            });
        let was_tried = |node: NodeId| {
            let label = kind
                .company
                .first()
                .and_then(|term| cluster.nodes[node.index()].labels.get(&term.topology_key));
            tried.zip(label).is_some_and(|(tried, label)| tried.contains(label))
        };
        let volumes = kind.volumes.as_ref().map(|_| VolumeNeeds::new(cluster, pod));
        if volumes.as_ref().is_some_and(|volumes| volumes.hopeless().is_some()) {
            return None;
        }
        nodes.iter().copied().find(|id| {
            let node = &cluster.nodes[id.index()];
            !was_tried(*id)
                && around.company.refusal(kind, node).is_none()
                && around.spreading.refusal(kind, node).is_none()
                && volumes.as_ref().is_none_or(|volumes| volumes.refusal(node).is_none())
        })
    }

    /// A pod was placed: whoever comes after it has it around.
    fn notice(&mut self, cluster: &Cluster, pod: PodId, node: NodeId) {
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

/// The labels that somebody looks at. Pods that only differ in others have the same surroundings.
fn label_keys(cluster: &Cluster, alike: &[Alike]) -> BTreeSet<Text> {
    let mut keys = BTreeSet::new();
    let kinds = alike.iter().map(|alike| &*alike.kind);
    for kind in kinds.chain(cluster.shunning().map(|(pod, _)| &*pod.kind)) {
        let terms = kind.company.iter().chain(&kind.shuns).filter_map(|term| term.selector.as_ref());
        let spread = kind.spread.iter().filter_map(|constraint| constraint.selector.as_ref());
        terms.chain(spread).for_each(|selector| keys.extend(selector.keys().cloned()));
    }
    keys
}
