//! Pods are placed one by one, each where it may be beside those placed before it. Where that leads nowhere, the first one begins
//! in another topology; then they are tried in other orders. For few pods all ways are tried, as far as that doesn't take long.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{
    Around,
    topology::{NoRoom, Topology, begins_best},
};
use crate::{
    cluster::Cluster,
    filter::VolumeNeeds,
    labels::{Labels, Text},
    node::{NodeId, PodId},
    places::Places,
    plan::Alike,
};

/// In how many topologies is begun.
const BEGINNINGS: usize = 64;

/// In how many orders is begun.
const ORDERS: usize = 16;

/// After so many looks at nodes it isn't begun anew. The first way is always gone to its end.
const LOOKS: u64 = 2_000_000;

/// Of how many pods all ways are tried, on how many nodes, and how many looks at nodes that may take.
const FEW: usize = 8;
const FEW_NODES: usize = 64;
const LOOKS_AT_FEW: u64 = 10_000;
/// To place a pod in one of all ways takes as long as so many looks, and as to count those around.
const PLACING: usize = 20;

/// A node for each pod, or nothing where no way was found. Nothing is changed.
pub(crate) fn place(cluster: &mut Cluster, alike: &[Alike]) -> Option<Places> {
    cluster.changes.begin_trial();
    let (around, begun) = (Around::new(cluster, alike), cluster.looks());
    let parts: Vec<Alike> = alike.iter().flat_map(|alike| split(cluster, alike, &around)).collect();
    let places = match Topology::of(cluster, &parts, &around) {
        Err(NoRoom) => None,
        Ok(topology) => {
            let mut ways = Ways { cluster, around, topology, begun };
            ways.try_orders(parts.clone()).or_else(|| ways.try_all(&parts))
        }
    };
    cluster.changes.end_trial();
    places
}

/// Pods of a kind, by what else decides where they may go: labels that somebody looks at, and their claims.
fn split(cluster: &Cluster, alike: &Alike, around: &Around) -> Vec<Alike> {
    let mut parts: Vec<Alike> = Vec::new();
    let mut part_of: HashMap<(Labels, Vec<&Text>), usize> = HashMap::new();
    for id in &alike.pods {
        let Some(known) = cluster.known(*id) else { continue };
        let claims = known.pod.claims.iter().map(|claim| &claim.key).collect();
        let part = *part_of.entry((around.labels_of(&known.pod), claims)).or_insert_with(|| {
            parts.push(Alike { kind: alike.kind.clone(), pods: Vec::new() });
            parts.len() - 1
        });
        parts[part].pods.push(*id);
    }
    parts
}

/// The ways in which it is tried.
struct Ways<'a> {
    cluster: &'a mut Cluster,
    around: Around,
    topology: Option<Topology>,
    /// How many nodes were looked at before.
    begun: u64,
}

impl Ways<'_> {
    /// Those for whom the others left no place are tried before them; those that find none before them may want them near, and
    /// are tried after them.
    fn try_orders(&mut self, mut order: Vec<Alike>) -> Option<Places> {
        let (first, last) = (true, false);
        let mut tried = HashSet::from([(*order.first()?.pods.first()?, first)]);
        loop {
            let at = match self.try_beginnings(&order) {
                Ok(places) => return Some(places),
                Err(at) => at,
            };
            if tried.len() > ORDERS || self.are_enough() {
                return None;
            }
            let pod = *order.get(at)?.pods.first()?;
            if at > 0 && tried.insert((pod, first)) {
                order[..=at].rotate_right(1);
            } else if at + 1 < order.len() && tried.insert((pod, last)) {
                order[at..].rotate_left(1);
            } else {
                return None;
            }
        }
    }

    fn are_enough(&self) -> bool {
        self.cluster.looks() - self.begun > LOOKS
    }

    /// The first pod begins in one topology after the other. `Err` says for whom there was no place at first.
    fn try_beginnings(&mut self, order: &[Alike]) -> Result<Places, usize> {
        let mut begins = Begins { topology: self.topology.clone(), tried: BTreeSet::new() };
        let mut left_over = None;
        for _ in 0..BEGINNINGS {
            let mut attempt = Attempt { around: self.around.clone(), placed: Vec::new() };
            let found = attempt.run(self.cluster, order, &begins);
            let first = attempt.placed.first().copied();
            attempt.placed.iter().for_each(|(pod, _)| self.cluster.put_back(*pod));
            match found {
                Ok(()) => return Ok(attempt.placed),
                Err(at) => left_over = left_over.or(Some(at)),
            }
            if !begins.elsewhere(self.cluster, first.map(|(_, node)| node)) || self.are_enough() {
                break;
            }
        }
        Err(left_over.unwrap_or_default())
    }

    /// Every pod may come next, wherever it may be.
    fn try_all(&mut self, parts: &[Alike]) -> Option<Places> {
        let mut left: Vec<&[PodId]> = parts.iter().map(|part| &part.pods[..]).collect();
        let pods: usize = left.iter().map(|pods| pods.len()).sum();
        if pods > FEW || self.cluster.existing().count() > FEW_NODES {
            return None;
        }
        let mut attempt = Attempt { around: self.around.clone(), placed: Vec::new() };
        let until = self.cluster.looks() + LOOKS_AT_FEW;
        let is_found = attempt.go_on(self.cluster, &mut left, until);
        attempt.placed.iter().for_each(|(pod, _)| self.cluster.put_back(*pod));
        is_found.then_some(attempt.placed)
    }
}

/// Where the first pod may begin.
struct Begins {
    /// Where it has room, if it is a matter of topology at all.
    topology: Option<Topology>,
    /// Not in these.
    tried: BTreeSet<Text>,
}

impl Begins {
    fn may_be(&self, cluster: &Cluster, node: NodeId) -> bool {
        let Some(topology) = &self.topology else { return true };
        let was_tried = topology.value(cluster, node).is_some_and(|value| self.tried.contains(value));
        !was_tried && topology.is_roomy(cluster, node)
    }

    /// It was begun on this node, or nowhere. Whether there is another way to begin: elsewhere, and in the end where counting
    /// says that there is no room.
    fn elsewhere(&mut self, cluster: &Cluster, node: Option<NodeId>) -> bool {
        let Some(topology) = &mut self.topology else { return false };
        let value = node.and_then(|node| topology.value(cluster, node)).cloned();
        value.is_some_and(|value| self.tried.insert(value)) || topology.roomy.take().is_some()
    }
}

/// One way of placing them.
struct Attempt {
    around: Around,
    placed: Places,
}

impl Attempt {
    /// Finds a place for every pod. `Err` says for whom there was none.
    fn run(&mut self, cluster: &mut Cluster, order: &[Alike], begins: &Begins) -> Result<(), usize> {
        for (at, part) in order.iter().enumerate() {
            let best = if at > 0 { begins_best(cluster, order, at, &self.around) } else { None };
            for (nth, pod) in part.pods.iter().enumerate() {
                cluster.refresh(&part.kind);
                let may_be = |node: &NodeId| match (nth, &best) {
                    (0, Some(best)) => best.is_roomy(cluster, *node),
                    (0, None) => at > 0 || begins.may_be(cluster, *node),
                    _ => true,
                };
                let node = self.nodes(cluster, *pod).find(may_be);
                self.put(cluster, *pod, node.ok_or(at)?);
            }
        }
        Ok(())
    }

    /// Whether those that are left, alike ones together, find places in some order; these are placed then.
    fn go_on(&mut self, cluster: &mut Cluster, left: &mut Vec<&[PodId]>, until: u64) -> bool {
        if left.iter().all(|pods| pods.is_empty()) {
            return true;
        }
        for part in 0..left.len() {
            let Some((pod, others)) = left[part].split_first() else { continue };
            if let Some(known) = cluster.known(*pod) {
                cluster.refresh(&known.pod.kind.clone());
            }
            let nodes: Vec<NodeId> = self.nodes(cluster, *pod).collect();
            let (all, around) = (std::mem::replace(&mut left[part], others), self.around.clone());
            for node in nodes {
                cluster.looked(PLACING + self.around.counted());
                self.put(cluster, *pod, node);
                if self.go_on(cluster, left, until) {
                    return true;
                }
                self.placed.pop();
                cluster.put_back(*pod);
                self.around = around.clone();
                if cluster.looks() > until {
                    return false;
                }
            }
            left[part] = all;
        }
        false
    }

    fn put(&mut self, cluster: &mut Cluster, pod: PodId, node: NodeId) {
        cluster.assume_at(pod, node);
        self.around.notice(cluster, pod, node);
        self.placed.push((pod, node));
    }

    /// The nodes where the pod may be.
    fn nodes<'a>(&'a self, cluster: &'a Cluster, pod: PodId) -> impl Iterator<Item = NodeId> + 'a {
        let pod = cluster.known(pod).map(|known| &known.pod);
        let asked = pod.and_then(|pod| Some((pod, self.around.of(pod)?)));
        asked.into_iter().flat_map(move |(pod, around)| {
            let volumes = pod.kind.volumes.as_ref().map(|_| VolumeNeeds::new(cluster, pod));
            let is_hopeless = volumes.as_ref().is_some_and(|volumes| volumes.hopeless().is_some());
            let nodes = (!is_hopeless).then(|| cluster.walk(&pod.kind)).into_iter().flatten();
            nodes.filter(move |id| {
                let node = &cluster.nodes[id.index()];
                around.refusal(node).is_none()
                    && volumes.as_ref().is_none_or(|volumes| volumes.refusal(node).is_none())
            })
        })
    }
}
