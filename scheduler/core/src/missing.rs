//! What keeps a gang from being placed, in words and numbers.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    filter::{self, Refusal},
    node::Node,
    plan::{Blocker, Decision, Gang},
    quantity::Quantity,
    question::{Kind, Question},
};

/// A resource of which there is too little in sum.
const INSUFFICIENT: &str = "InsufficientResource";
/// A resource of which there is enough in sum, but on no single node enough for one of the pods.
const TOO_SMALL: &str = "NodeTooSmall";

/// Says what is missing: why each node is ruled out, and what the gang needs of what is short.
pub(crate) fn hold(gang: &Gang, question: &Question<'_>, nodes: &[Node]) -> Decision {
    let mut by_refusal: BTreeMap<Refusal, BTreeSet<usize>> = BTreeMap::new();
    for kind in &question.kinds {
        for (index, node) in nodes.iter().enumerate() {
            if let Some(refusal) = filter::eligibility(kind.pod(), node) {
                by_refusal.entry(refusal).or_default().insert(index);
            }
        }
    }
    let mut blockers: Vec<Blocker> =
        (0..question.resources.len()).filter_map(|resource| shortage(question, resource)).collect();
    blockers.extend(by_refusal.iter().map(|(refusal, nodes)| Blocker {
        reason: refusal.reason(),
        subject: refusal.subject().to_owned(),
        nodes: nodes.len(),
        needed: None,
        free: None,
    }));
    let message = message(gang, question, &blockers);
    Decision::Hold { gang: gang.key.clone(), message, blockers }
}

/// A resource of which there is too little for the gang, or too little in one piece for some pod.
fn shortage(question: &Question<'_>, resource: usize) -> Option<Blocker> {
    let (needed, usable) = (question.needed(resource), question.usable(resource));
    let asking = || question.kinds.iter().enumerate().filter(|(_, kind)| kind.asks[resource] > 0);
    let may = |kind: usize| (0..question.free.len()).filter(move |node| question.may[*node][kind]);
    let has_enough = |node: usize, kind: &Kind<'_>| question.free[node][resource] >= kind.asks[resource];
    let blocker = |reason, nodes, needed, free| Blocker {
        reason,
        subject: question.resources[resource].to_owned(),
        nodes,
        needed: Some(Quantity(needed)),
        free: Some(Quantity(free)),
    };
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

fn message(gang: &Gang, question: &Question<'_>, blockers: &[Blocker]) -> String {
    let (pods, nodes) = (gang.pods.len(), question.free.len());
    if nodes == 0 {
        return format!("no room for {pods} pods: the cluster has no nodes");
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
    if !blockers.iter().any(|blocker| blocker.needed.is_some()) && eligible > 0 {
        parts.push("what is free is enough in sum, but not where the pods could use it together".to_owned());
        parts.extend((0..question.kinds.len()).filter_map(|kind| places(question, kind)));
    }
    format!("no room for {pods} pods at once: {}", parts.join("; "))
}

/// How many of a kind would find a place, where not all of them would.
fn places(question: &Question<'_>, kind: usize) -> Option<String> {
    let (places, Kind { count, .. }) = (question.places(kind, &question.free), &question.kinds[kind]);
    let name = &question.kinds[kind].pod().name;
    (places < *count).then(|| format!("{places} of {count} pods like {name} would find a place"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan, plan::Snapshot, pod::Pod, quantity::Resources};

    type Amounts = &'static [(&'static str, i128)];

    fn amounts(amounts: Amounts) -> Resources {
        let amounts = amounts.iter().map(|(name, amount)| ((*name).to_owned(), Quantity::whole(*amount)));
        Resources(amounts.collect())
    }

    /// What is said about pods that ask for these amounts each, on nodes that have those amounts free.
    fn said(pods: &[Amounts], nodes: &[Amounts]) -> (String, Vec<Blocker>) {
        let pod = |(at, asked): (usize, &Amounts)| Pod {
            name: format!("p{at}"),
            requests: amounts(asked),
            ..Pod::default()
        };
        let node = |(at, free): (usize, &Amounts)| Node {
            name: format!("n{at}"),
            free: amounts(free),
            ..Node::default()
        };
        let gang = Gang { pods: pods.iter().enumerate().map(pod).collect(), ..Gang::default() };
        let snapshot = Snapshot { nodes: nodes.iter().enumerate().map(node).collect(), waiting: vec![gang] };
        match plan(&snapshot).decisions.remove(0) {
            Decision::Hold { message, blockers, .. } => (message, blockers),
            Decision::Place { placements, .. } => panic!("{placements:?}"),
        }
    }

    #[test]
    fn a_small_node_does_not_make_an_ample_resource_short() {
        let pod: Amounts = &[("x/gpu", 1), ("cpu", 2)];
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
                        2 of 3 pods like p0 would find a place";
        assert!(message.ends_with(expected), "{message}");
    }
}
