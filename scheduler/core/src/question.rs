//! A gang as a question in numbers: its kinds of pods, where each kind may go, and what is free there.

use std::collections::BTreeMap;

use crate::{
    amounts::ResourceId,
    cluster::Cluster,
    filter,
    node::{Node, NodeId},
    order::scarcest_first,
    outlook::room,
    places::Places,
    plan::Alike,
};

/// Pods of a gang that ask for the same: whatever takes one of them takes any other.
pub(crate) struct Kind {
    /// How many there are, in the type of amounts.
    pub(crate) count: i128,
    /// What one of them asks for, in the order of [`Question::resources`].
    pub(crate) asks: Vec<i128>,
}

/// What the search is about.
pub(crate) struct Question {
    /// What the gang asks for at all: extended resources first, for of those there is least.
    pub(crate) resources: Vec<ResourceId>,
    /// The kinds, the largest first: they have the fewest places.
    pub(crate) kinds: Vec<Kind>,
    /// The nodes.
    pub(crate) nodes: Vec<NodeId>,
    /// By node, then by kind: whether the node may take it, whatever is free there.
    pub(crate) may: Vec<Vec<bool>>,
    /// By node: nodes of one group may take the same kinds. Labels that make no difference to the gang make none here.
    pub(crate) group: Vec<usize>,
    /// By node, then by resource: how much is free. Below zero on a node that has more pods than it can hold.
    pub(crate) free: Vec<Vec<i128>>,
}

impl Question {
    /// About every node.
    pub(crate) fn new(cluster: &Cluster, alike: &[Alike]) -> Self {
        Self::among(cluster, alike, cluster.existing().map(|(id, _)| id))
    }

    /// About those nodes alone that can take a pod of the gang. The others make no difference to where its pods can go.
    pub(crate) fn open(cluster: &Cluster, alike: &[Alike]) -> Self {
        let is_open = |node: &Node| alike.iter().any(|alike| room(&alike.kind, node) > 0);
        let open = cluster.existing().filter(|(_, node)| is_open(node));
        Self::among(cluster, alike, open.map(|(id, _)| id))
    }

    /// About these nodes.
    pub(crate) fn among(cluster: &Cluster, alike: &[Alike], nodes: impl IntoIterator<Item = NodeId>) -> Self {
        let resources = scarcest_first(alike.iter().map(|alike| &*alike.kind), &cluster.shared.resources);
        let kind = |alike: &Alike| Kind {
            count: alike.count(),
            asks: resources.iter().map(|id| i128::from(alike.kind.requests.get(*id).max(0))).collect(),
        };
        let nodes: Vec<NodeId> = nodes.into_iter().collect();
        let of = |id: &NodeId| &cluster.nodes[id.index()];
        let may = |node: &Node| alike.iter().map(|alike| filter::allows(&alike.kind, node)).collect();
        let free = |node: &Node| resources.iter().map(|id| i128::from(node.free(*id))).collect();
        let may: Vec<Vec<bool>> = nodes.iter().map(of).map(may).collect();
        Self {
            kinds: alike.iter().map(kind).collect(),
            group: groups(&may),
            may,
            free: nodes.iter().map(of).map(free).collect(),
            nodes,
            resources,
        }
    }

    /// The nodes of an answer: for each pod, kind by kind.
    pub(crate) fn places_of(&self, found: &[Vec<usize>], alike: &[Alike]) -> Places {
        let pods = alike.iter().flat_map(|alike| &alike.pods).copied();
        pods.zip(found.iter().flatten().map(|node| self.nodes[*node])).collect()
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
        let of = |kind: &Kind| kind.asks[resource].saturating_mul(kind.count);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[test]
    fn alike_pods_are_one_kind_and_the_largest_in_extended_resources_is_first() {
        let mut world = World::default();
        let gpu = |count| [("x/gpu", count), ("cpu", 1)];
        world.gang("g", &[&[("cpu", 9)], &gpu(1), &gpu(1), &gpu(2)]);
        let alike = world.alike("g");
        let question = Question::new(&world.cluster, &alike);
        let names: Vec<&str> =
            question.resources.iter().map(|id| world.cluster.shared.resources.name(*id)).collect();
        assert_eq!(names, ["x/gpu", "cpu", "pods"]);
        let name = |alike: &Alike| world.cluster.name_of(alike.pods.first());
        let names: Vec<String> = alike.iter().map(name).collect();
        let counts: Vec<i128> = question.kinds.iter().map(|kind| kind.count).collect();
        assert_eq!((names, counts), (["g-3", "g-1", "g-0"].map(str::to_owned).to_vec(), vec![1, 2, 1]));
    }

    #[test]
    fn room_is_what_the_scarcest_resource_leaves() {
        let mut world = World::default();
        world.node("a", &[("cpu", 7), ("x/gpu", 8)]);
        world.node("b", &[("cpu", -5), ("x/gpu", 8)]);
        world.node("c", &[("cpu", 9), ("x/gpu", 9)]);
        world.cordon("c");
        let pod = [("cpu", 2), ("x/gpu", 1)];
        world.gang("g", &[&pod[..]; 9]);
        let question = Question::new(&world.cluster, &world.alike("g"));
        let room = |node| question.room(0, node, &question.free);
        assert_eq!([room(0), room(1), room(2)], [3, 0, 0]);
        assert_eq!(question.places(0, &question.free), 3);
        assert_eq!((question.needed(0), question.usable(0)), (9, 16));
        assert!(!question.adds_up());
        world.gang("one", &[&[("x/gpu", 1)]]);
        assert!(Question::new(&world.cluster, &world.alike("one")).adds_up());
    }
}
