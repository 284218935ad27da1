//! What keeps a gang from being placed, in words and numbers.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    amounts::{ResourceId, as_quantity},
    around,
    cluster::Cluster,
    filter::{self, Refusal, VolumeNeeds},
    node::{Node, PodId},
    outlook::{KindId, id_of},
    plan::{Alike, Blocker, Decision},
    pod::Kind as PodKind,
    question::{Kind, Question},
};

/// A resource of which there is too little in sum.
const INSUFFICIENT: &str = "InsufficientResource";
/// A resource of which there is enough in sum, but on no single node enough for one of the pods.
const TOO_SMALL: &str = "NodeTooSmall";

/// For how many pods that only differ in their claims it is said why nodes are ruled out.
const TOLD: usize = 16;

/// Says what is missing: why each node is ruled out, and what the gang needs of what is short. The answer is the same for
/// all groups of as many pods of the same kinds, unless they look around.
pub(crate) fn hold(cluster: &mut Cluster, group: &str, alike: &[Alike]) -> Decision {
    if around::looks(cluster, alike) {
        return Missing::find(cluster, alike).of(cluster, group, alike);
    }
    let key: Key = alike.iter().map(|alike| (id_of(&alike.kind), alike.pods.len())).collect();
    let known = cluster.explanations.by_kinds.get(&key).map(|(missing, _)| missing.clone());
    let missing = known.unwrap_or_else(|| {
        let missing = Arc::new(Missing::find(cluster, alike));
        let kinds = alike.iter().map(|alike| alike.kind.clone()).collect();
        cluster.explanations.by_kinds.insert(key, (missing.clone(), kinds));
        missing
    });
    missing.of(cluster, group, alike)
}

/// Which kinds, and how many pods of each.
type Key = Box<[(KindId, usize)]>;

/// What is missing for groups alike, as it was at the beginning of a plan or since. Within one, there comes to be less room; only
/// what was kept for others and isn't any more makes some, and the next plan's answers count that. With each answer the kinds
/// that it is about, which keeps them where they are in memory.
#[derive(Debug, Default)]
pub(crate) struct Explanations {
    by_kinds: HashMap<Key, (Arc<Missing>, Vec<Arc<PodKind>>)>,
    at: u64,
}

impl Explanations {
    /// A plan begins, and so much has happened to nodes.
    pub(crate) fn begin(&mut self, now: u64) {
        if self.at != now {
            self.at = now;
            self.by_kinds.clear();
        }
    }
}

/// What is missing, but for the names of pods.
#[derive(Debug)]
struct Missing {
    blockers: Vec<Blocker>,
    message: String,
    /// Of which kinds not every pod would find a place, and how many would.
    few: Vec<(usize, i128)>,
}

impl Missing {
    fn find(cluster: &Cluster, alike: &[Alike]) -> Self {
        let question = Question::new(cluster, alike);
        cluster.looked(2 * question.nodes.len() * question.kinds.len());
        let mut blockers: Vec<Blocker> = (0..question.resources.len())
            .filter_map(|resource| shortage(cluster, &question, resource))
            .collect();
        let is_short = !blockers.is_empty();
        blockers.extend(ruled_out(cluster, alike, is_short).into_iter().map(|(refusal, nodes)| Blocker {
            reason: refusal.reason(),
            subject: refusal.subject().to_owned(),
            nodes: nodes.len(),
            needed: None,
            free: None,
        }));
        let pods = alike.iter().map(|alike| alike.pods.len()).sum();
        let (message, few) = message(pods, &question, &blockers);
        Self { blockers, message, few }
    }

    fn of(&self, cluster: &Cluster, group: &str, alike: &[Alike]) -> Decision {
        let mut message = self.message.clone();
        for (kind, places) in &self.few {
            let pods = &alike[*kind].pods;
            let (count, name) = (pods.len(), cluster.name_of(pods.first()));
            message.push_str(&format!("; {places} of {count} pods like {name} would find a place"));
        }
        Decision::Hold { group: group.to_owned(), message, blockers: self.blockers.clone() }
    }
}

/// The nodes that each rule rules out for some pod, by their numbers. Where something is short, not those where only company
/// is missing that the pods bring along.
fn ruled_out(cluster: &Cluster, alike: &[Alike], is_short: bool) -> BTreeMap<Refusal, BTreeSet<u32>> {
    let mut by_refusal: BTreeMap<Refusal, BTreeSet<u32>> = BTreeMap::new();
    // Pods alike can have different claims.
    let of_one = |Alike { kind, pods }: &Alike| {
        let asked = if kind.volumes.is_some() { TOLD } else { 1 };
        pods.iter().take(asked).copied().collect::<Vec<PodId>>()
    };
    for pod in alike.iter().flat_map(of_one).filter_map(|id| Some(&cluster.known(id)?.pod)) {
        let kind = &pod.kind;
        let looks = kind.looks_around() || cluster.shunning(&pod.labels, pod.namespace()).next().is_some();
        let around = looks.then(|| around::Surroundings::of(cluster, pod));
        cluster.looked(cluster.nodes.len());
        let volumes = kind.volumes.as_ref().map(|_| VolumeNeeds::new(cluster, pod));
        let comes_along = is_short && brings_company(cluster, alike, kind);
        for (id, node) in cluster.existing() {
            let refusal = filter::refusal(kind, node, &cluster.shared)
                .or_else(|| around.as_ref()?.refusal(node))
                .filter(|refusal| !(comes_along && is_lonely(refusal, node)))
                .or_else(|| volumes.as_ref()?.refusal(node));
            if let Some(refusal) = refusal {
                by_refusal.entry(refusal).or_default().insert(id.0);
            }
        }
    }
    by_refusal
}

/// Whether one of the pods is whom a pod of this kind wants near.
fn brings_company(cluster: &Cluster, alike: &[Alike], kind: &PodKind) -> bool {
    let mut pods = alike.iter().flat_map(|alike| &alike.pods).filter_map(|id| Some(&cluster.known(*id)?.pod));
    pods.any(|pod| kind.wants(&pod.labels, pod.namespace(), cluster.namespace_labels(pod.namespace())))
}

/// Whether all that is wrong with the node is that nobody is there (yet).
fn is_lonely(refusal: &Refusal, node: &Node) -> bool {
    matches!(refusal, Refusal::PodAffinity(key) if node.labels.get(key).is_some())
}

/// A resource of which there is too little for the gang, or too little in one piece for some pod.
fn shortage(cluster: &Cluster, question: &Question, resource: usize) -> Option<Blocker> {
    let (needed, usable) = (question.needed(resource), question.usable(resource));
    let asking = || question.kinds.iter().enumerate().filter(|(_, kind)| kind.asks[resource] > 0);
    let may = |kind: usize| (0..question.free.len()).filter(move |node| question.may[*node][kind]);
    let has_enough = |node: usize, kind: &Kind| question.free[node][resource] >= kind.asks[resource];
    let id: ResourceId = question.resources[resource];
    let blocker = |reason, nodes, needed, free| Blocker {
        reason,
        subject: cluster.shared.resources.name(id).to_owned(),
        nodes,
        needed: Some(as_quantity(id, needed)),
        free: Some(as_quantity(id, free)),
    };
    if id == ResourceId::PODS && asking().all(|(kind, _)| may(kind).next().is_none()) {
        // Where no node may be used at all, that there is no room for one more pod either says nothing.
        return None;
    }
    if needed > usable {
        let usable = |node: &usize| asking().any(|(kind, _)| question.may[*node][kind]);
        let is_too_small =
            |node: &usize| asking().all(|(at, kind)| !question.may[*node][at] || !has_enough(*node, kind));
        let nodes = (0..question.free.len()).filter(usable).filter(is_too_small).count();
        return Some(blocker(INSUFFICIENT, nodes, needed, question.usable(resource)));
    }
    // A small node beside large ones keeps nobody waiting: only a pod that fits on none of its nodes counts.
    let (at, kind) = asking()
        .find(|(at, kind)| may(*at).next().is_some() && !may(*at).any(|node| has_enough(node, kind)))?;
    let largest = may(at).map(|node| question.free[node][resource].max(0)).max().unwrap_or(0);
    Some(blocker(TOO_SMALL, may(at).count(), kind.asks[resource], largest))
}

/// What is missing in words; and of which kinds not every pod would find a place, where that is to be added.
fn message(pods: usize, question: &Question, blockers: &[Blocker]) -> (String, Vec<(usize, i128)>) {
    let nodes = question.free.len();
    if nodes == 0 {
        return (format!("no room for {pods} pods: the cluster has no nodes"), Vec::new());
    }
    let eligible = question.may.iter().filter(|may| may.contains(&true)).count();
    let mut parts = vec![format!("{eligible} of {nodes} nodes may be used")];
    for Blocker { reason, subject, nodes, needed, free } in blockers {
        parts.push(match (needed, free) {
            (Some(needed), Some(free)) if *reason == TOO_SMALL => {
                format!("one pod needs {needed} {subject}, at most {free} are free on one node")
            }
            (Some(needed), Some(free)) => format!("needs {needed} {subject}, {free} free"),
            _ => format!("{nodes} ruled out by {reason} {subject}"),
        });
    }
    let mut few = Vec::new();
    if !blockers.iter().any(|blocker| blocker.needed.is_some()) && eligible > 0 {
        parts.push("what is free is enough in sum, but not where the pods could use it together".to_owned());
        let places = (0..question.kinds.len()).map(|kind| (kind, question.places(kind, &question.free)));
        few.extend(places.filter(|(kind, places)| *places < question.kinds[*kind].count));
    }
    (format!("no room for {pods} pods at once: {}", parts.join("; ")), few)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        quantity::Quantity,
        testing::{Amounts, World},
    };

    /// What is said about pods that ask for these amounts each, on nodes that have those amounts free.
    fn said(pods: &[Amounts<'_>], nodes: &[Amounts<'_>]) -> (String, Vec<Blocker>) {
        let mut world = World::default();
        for (at, free) in nodes.iter().enumerate() {
            world.node(&format!("n{at}"), free);
        }
        world.gang("p", pods);
        match world.cluster.plan(100).remove(0) {
            Decision::Hold { message, blockers, .. } => (message, blockers),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_small_node_does_not_make_an_ample_resource_short() {
        let pod: Amounts<'_> = &[("x/gpu", 1), ("cpu", 2)];
        let (message, blockers) =
            said(&[pod, pod], &[&[("x/gpu", 1), ("cpu", 50)], &[("x/gpu", 0), ("cpu", 1)]]);
        assert_eq!(message, "no room for 2 pods at once: 2 of 2 nodes may be used; needs 2 x/gpu, 1 free");
        assert_eq!(blockers.len(), 1, "{blockers:?}");
        assert_eq!((blockers[0].reason, blockers[0].nodes), (INSUFFICIENT, 1));
    }

    #[test]
    fn a_pod_that_is_too_large_for_every_node_is_told_in_its_own_numbers() {
        let (message, blockers) = said(&[&[("x/gpu", 4)]], &[&[("x/gpu", 3)], &[("x/gpu", 2)]]);
        assert_eq!(
            message,
            "no room for 1 pods at once: 2 of 2 nodes may be used; one pod needs 4 x/gpu, at most 3 are free on one node"
        );
        let blocker = &blockers[0];
        assert_eq!((blocker.reason, blocker.nodes), (TOO_SMALL, 2));
        assert_eq!((blocker.needed, blocker.free), (Some(Quantity::whole(4)), Some(Quantity::whole(3))));
    }

    #[test]
    fn pieces_that_are_left_over_are_told_as_places() {
        let (message, _) =
            said(&[&[("x/gpu", 5)], &[("x/gpu", 5)], &[("x/gpu", 5)]], &[&[("x/gpu", 8)], &[("x/gpu", 8)]]);
        let expected = "what is free is enough in sum, but not where the pods could use it together; \
                        2 of 3 pods like p-0 would find a place";
        assert!(message.ends_with(expected), "{message}");
    }
}
