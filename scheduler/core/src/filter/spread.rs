//! Topology spread: how many pods alike are in each topology, and where one more would be too many.

use std::collections::HashMap;

use super::{Refusal, affinity, taints};
use crate::{
    labels::{Labels, Text},
    node::Node,
    pod::{Kind, SpreadConstraint},
};

/// How a pod's constraints stand, each in its place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spreading {
    labels: Labels,
    counts: Vec<Counts>,
}

/// How many pods count in each topology of one constraint.
#[derive(Clone, Debug, Default)]
struct Counts {
    by_value: HashMap<Text, i64>,
    /// The least of them, where it is known.
    least: Option<i64>,
}

impl Spreading {
    /// A pod with these labels: the topologies are those of the nodes that count, all empty.
    pub(crate) fn new<'a>(me: &Kind, labels: Labels, nodes: impl Iterator<Item = &'a Node>) -> Self {
        let mut spreading = Self { labels, counts: vec![Counts::default(); me.spread.len()] };
        if me.spread.is_empty() {
            return spreading;
        }
        for node in nodes.filter(|node| has_every_topology(me, node)) {
            for (constraint, counts) in me.spread.iter().zip(&mut spreading.counts) {
                if let Some(value) = node.labels.get(&constraint.topology_key)
                    && node_counts(constraint, me, node)
                {
                    counts.by_value.entry(value.clone()).or_default();
                }
            }
        }
        spreading
    }

    /// Takes another pod into account, or out of it again (`count` is 1 or -1), that is on this node and stays.
    pub(crate) fn count(&mut self, me: &Kind, other: (&Kind, &Labels), node: &Node, count: i64) {
        let (kind, labels) = other;
        if me.spread.is_empty() || kind.namespace != me.namespace || !has_every_topology(me, node) {
            return;
        }
        for (constraint, counts) in me.spread.iter().zip(&mut self.counts) {
            let Some(selector) = &constraint.selector else { continue };
            if !selector.is_empty()
                && selector.matches(labels)
                && node_counts(constraint, me, node)
                && let Some(value) = node.labels.get(&constraint.topology_key)
            {
                *counts.by_value.entry(value.clone()).or_default() += count;
                counts.least = None;
            }
        }
    }

    /// Brings what is derived up to date, after counting.
    pub(crate) fn sum_up(&mut self) {
        for counts in &mut self.counts {
            counts.least = Some(counts.by_value.values().copied().min().unwrap_or(i64::from(i32::MAX)));
        }
    }

    /// Why one more pod would be too many on this node.
    pub(crate) fn refusal(&self, me: &Kind, node: &Node) -> Option<Refusal> {
        me.spread.iter().zip(&self.counts).find_map(|(constraint, counts)| {
            let key = &constraint.topology_key;
            let Some(value) = node.labels.get(key) else { return Some(Refusal::NoTopology(key.to_string())) };
            let domains = i64::try_from(counts.by_value.len()).unwrap_or(i64::MAX);
            let least = if domains < constraint.min_domains { 0 } else { counts.least.unwrap_or(0) };
            let here = counts.by_value.get(value).copied().unwrap_or(0);
            let is_one_of_them =
                constraint.selector.as_ref().is_some_and(|selector| selector.matches(&self.labels));
            let skew = here + i64::from(is_one_of_them) - least;
            (skew > constraint.max_skew).then(|| Refusal::TopologySpread(key.to_string()))
        })
    }
}

fn has_every_topology(me: &Kind, node: &Node) -> bool {
    me.spread.iter().all(|constraint| node.labels.get(&constraint.topology_key).is_some())
}

/// Whether a node's topology is one among which pods are to be spread.
fn node_counts(constraint: &SpreadConstraint, me: &Kind, node: &Node) -> bool {
    (!constraint.honours_affinity || affinity::matches(me, node))
        && (!constraint.honours_taints || taints::are_tolerated(me, node))
}
