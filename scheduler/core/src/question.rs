//! A gang as a question in numbers: its kinds of pods, where each kind may go, and what is free there.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use crate::{filter, node::Node, plan::Gang, pod::Pod};

/// Pods of a gang that ask for the same: whatever takes one of them takes any other.
pub(crate) struct Kind<'a> {
    /// Every pod of the kind, by name.
    pub(crate) pods: Vec<&'a Pod>,
    /// How many there are, in the type of amounts.
    pub(crate) count: i128,
    /// What one of them asks for, in the order of [`Question::resources`].
    pub(crate) asks: Vec<i128>,
}

impl Kind<'_> {
    /// One of the pods, standing for all of them.
    pub(crate) fn pod(&self) -> &Pod {
        self.pods[0]
    }
}

/// What the search is about.
pub(crate) struct Question<'a> {
    /// What the gang asks for at all: extended resources first, for of those there is least.
    pub(crate) resources: Vec<&'a str>,
    /// The kinds, the largest first: they have the fewest places.
    pub(crate) kinds: Vec<Kind<'a>>,
    /// By node, then by kind: whether the node may take it, whatever is free there.
    pub(crate) may: Vec<Vec<bool>>,
    /// By node: nodes of one group may take the same kinds. Labels that make no difference to the gang make none here.
    pub(crate) group: Vec<usize>,
    /// By node, then by resource: how much is free. Below zero on a node that has more pods than it can hold.
    pub(crate) free: Vec<Vec<i128>>,
}

impl<'a> Question<'a> {
    pub(crate) fn new(gang: &'a Gang, nodes: &[Node]) -> Self {
        let resources = resources(gang);
        let kinds = kinds(gang, &resources);
        let may = |node: &Node| {
            kinds.iter().map(|kind| filter::eligibility(kind.pod(), node).is_none()).collect::<Vec<_>>()
        };
        let free = |node: &Node| resources.iter().map(|name| node.free.get(name).0).collect();
        let (may, free): (Vec<Vec<bool>>, _) =
            (nodes.iter().map(may).collect(), nodes.iter().map(free).collect());
        let group = groups(&may);
        Self { resources, kinds, may, group, free }
    }

    /// Whether the gang isn't ruled out by counting: enough of everything in sum, and enough places for each kind,
    /// were it alone. For a gang of one kind that is the whole answer.
    pub(crate) fn adds_up(&self) -> bool {
        let enough = |resource: usize| self.needed(resource) <= self.usable(resource);
        (0..self.resources.len()).all(enough)
            && (0..self.kinds.len()).all(|kind| self.places(kind, &self.free) == self.kinds[kind].count)
    }

    /// How much of a resource the whole gang needs.
    pub(crate) fn needed(&self, resource: usize) -> i128 {
        let of = |kind: &Kind<'_>| kind.asks[resource].saturating_mul(kind.count);
        self.kinds.iter().map(of).fold(0, i128::saturating_add)
    }

    /// How much of a resource is free on nodes that may take some pod that asks for it.
    pub(crate) fn usable(&self, resource: usize) -> i128 {
        let asks = |node: usize| {
            let mut kinds = self.kinds.iter().zip(&self.may[node]);
            kinds.any(|(kind, may)| *may && kind.asks[resource] > 0)
        };
        let nodes = (0..self.free.len()).filter(|node| asks(*node));
        nodes.map(|node| self.free[node][resource].max(0)).fold(0, i128::saturating_add)
    }

    /// How many pods of a kind, of all that there are, would find a place if they were alone.
    pub(crate) fn places(&self, kind: usize, free: &[Vec<i128>]) -> i128 {
        let count = self.kinds[kind].count;
        let mut places = 0;
        for node in 0..free.len() {
            if places == count {
                break;
            }
            places += self.room(kind, node, free).min(count - places);
        }
        places
    }

    /// How many pods of a kind, of all that there are, fit on one node.
    pub(crate) fn room(&self, kind: usize, node: usize, free: &[Vec<i128>]) -> i128 {
        if !self.may[node][kind] {
            return 0;
        }
        let Kind { asks, count, .. } = &self.kinds[kind];
        let asked = asks.iter().zip(&free[node]).filter(|(asked, _)| **asked > 0);
        asked.map(|(asked, free)| free / asked).fold(*count, i128::min).max(0)
    }
}

fn groups(may: &[Vec<bool>]) -> Vec<usize> {
    let mut numbers: BTreeMap<&[bool], usize> = BTreeMap::new();
    let mut groups = Vec::with_capacity(may.len());
    for kinds in may {
        let next = numbers.len();
        groups.push(*numbers.entry(kinds).or_insert(next));
    }
    groups
}

/// The resources of which some pod asks for more than nothing.
fn resources(gang: &Gang) -> Vec<&str> {
    let asked = gang.pods.iter().flat_map(|pod| &pod.requests.0);
    let names: BTreeSet<&str> =
        asked.filter(|(_, amount)| amount.0 > 0).map(|(name, _)| name.as_str()).collect();
    let (extended, others): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| name.contains('/'));
    [extended, others].concat()
}

fn kinds<'a>(gang: &'a Gang, resources: &[&str]) -> Vec<Kind<'a>> {
    let mut alike: BTreeMap<_, Vec<&Pod>> = BTreeMap::new();
    for pod in &gang.pods {
        let Pod { requests, node_selector, affinity, tolerations, .. } = pod;
        alike.entry((requests, node_selector, affinity, tolerations)).or_default().push(pod);
    }
    let kind = |mut pods: Vec<&'a Pod>| {
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        let asks = resources.iter().map(|name| pods[0].requests.get(name).0.max(0)).collect();
        Kind { count: i128::try_from(pods.len()).unwrap_or(i128::MAX), asks, pods }
    };
    let mut kinds: Vec<Kind<'_>> = alike.into_values().map(kind).collect();
    kinds.sort_by(|a, b| Reverse(&a.asks).cmp(&Reverse(&b.asks)));
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::{Quantity, Resources};

    fn asks(name: &str, amounts: &[(&str, i128)]) -> Pod {
        let amounts = amounts.iter().map(|(name, amount)| ((*name).to_owned(), Quantity(*amount)));
        Pod { name: name.to_owned(), requests: Resources(amounts.collect()), ..Pod::default() }
    }

    fn node(amounts: &[(&str, i128)]) -> Node {
        Node { free: asks("", amounts).requests, ..Node::default() }
    }

    #[test]
    fn alike_pods_are_one_kind_and_the_largest_in_extended_resources_is_first() {
        let pods = vec![
            asks("c", &[("cpu", 9)]),
            asks("b", &[("x/gpu", 1), ("cpu", 1)]),
            asks("a", &[("x/gpu", 1), ("cpu", 1)]),
            asks("d", &[("x/gpu", 1), ("cpu", 1), ("memory", 0)]),
        ];
        let gang = Gang { pods, ..Gang::default() };
        let question = Question::new(&gang, &[]);
        assert_eq!(question.resources, ["x/gpu", "cpu"]);
        let names = |kind: &Kind<'_>| kind.pods.iter().map(|pod| pod.name.clone()).collect::<Vec<_>>();
        let kinds: Vec<_> = question.kinds.iter().map(names).collect();
        assert_eq!(kinds.len(), 3);
        assert!(kinds.contains(&vec!["a".to_owned(), "b".to_owned()]), "{kinds:?}");
        assert_eq!(kinds[2], ["c"]);
    }

    #[test]
    fn room_is_what_the_scarcest_resource_leaves() {
        let gang = Gang { pods: vec![asks("a", &[("cpu", 2), ("x/gpu", 1)]); 9], ..Gang::default() };
        let nodes = [
            node(&[("cpu", 7), ("x/gpu", 8)]),
            node(&[("cpu", -5), ("x/gpu", 8)]),
            Node { unschedulable: true, ..node(&[("cpu", 9), ("x/gpu", 9)]) },
        ];
        let question = Question::new(&gang, &nodes);
        let room = |node| question.room(0, node, &question.free);
        assert_eq!([room(0), room(1), room(2)], [3, 0, 0]);
        assert_eq!(question.places(0, &question.free), 3);
        assert_eq!((question.needed(1), question.usable(1)), (18, 7));
        assert!(!question.adds_up());
    }
}
