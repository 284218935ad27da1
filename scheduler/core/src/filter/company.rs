//! Pod affinity and anti-affinity: which topologies hold pods that a pod must be near, must not be near, or that want no
//! such pod near them. Counted once for a pod and kept up as others of its gang are placed.

use std::collections::HashMap;

use super::Refusal;
use crate::{
    labels::{Labels, Text},
    node::Node,
    pod::{Kind, PodTerm},
};

/// How many pods matter in each topology: by label and its value.
type Counts = HashMap<(Text, Text), i64>;

/// What a pod's surroundings say to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Company {
    labels: Labels,
    /// None while its namespace isn't known.
    namespace_labels: Option<Labels>,
    /// Pods that match all that the pod wants near.
    wanted: Counts,
    /// Pods that it shuns.
    shunned: Counts,
    /// Pods that shun it.
    shunning: Counts,
}

impl Company {
    /// A pod with these labels in a namespace with those, and nobody around.
    pub(crate) fn new(labels: Labels, namespace_labels: Option<Labels>) -> Self {
        Self { labels, namespace_labels, ..Self::default() }
    }

    /// Takes another pod into account, or out of it again (`count` is 1 or -1), that is on this node.
    pub(crate) fn count(
        &mut self,
        me: &Kind,
        other: (&Kind, &Labels, Option<&Labels>),
        node: &Node,
        count: i64,
    ) {
        let (kind, labels, namespace_labels) = other;
        let is_meant = |term: &PodTerm| term.matches(labels, &kind.namespace, namespace_labels);
        if me.wants(labels, &kind.namespace, namespace_labels) {
            me.company.iter().for_each(|term| add(&mut self.wanted, node, &term.topology_key, count));
        }
        for term in me.shuns.iter().filter(|term| is_meant(term)) {
            add(&mut self.shunned, node, &term.topology_key, count);
        }
        // To the terms of others, an unknown namespace is one without labels.
        let none = Labels::default();
        let mine = self.namespace_labels.as_ref().unwrap_or(&none);
        for term in &kind.shuns {
            if term.matches(&self.labels, &me.namespace, Some(mine)) {
                add(&mut self.shunning, node, &term.topology_key, count);
            }
        }
    }

    /// Takes a term of a pod on this node into account that is about the pod.
    pub(crate) fn is_shunned_by(&mut self, term: &PodTerm, node: &Node) {
        add(&mut self.shunning, node, &term.topology_key, 1);
    }

    /// In how many topologies somebody matters.
    pub(crate) fn counted(&self) -> usize {
        self.wanted.len() + self.shunned.len() + self.shunning.len()
    }

    /// Whether nobody is around whom the pod wants near.
    pub(crate) fn is_alone(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Why the pod can't be in this company.
    pub(crate) fn refusal(&self, me: &Kind, node: &Node) -> Option<Refusal> {
        let missing = me.company.iter().find(|term| node.labels.get(&term.topology_key).is_none());
        if let Some(term) = missing {
            return Some(Refusal::PodAffinity(term.topology_key.to_string()));
        }
        let is_lonely = |term: &&PodTerm| at(&self.wanted, node, &term.topology_key) <= 0;
        if let Some(term) = me.company.iter().find(is_lonely)
            && !(self.wanted.is_empty() && self.is_its_own_company(me))
        {
            return Some(Refusal::PodAffinity(term.topology_key.to_string()));
        }
        let is_near = |term: &&PodTerm| at(&self.shunned, node, &term.topology_key) > 0;
        if let Some(term) = me.shuns.iter().find(is_near) {
            return Some(Refusal::PodAntiAffinity(term.topology_key.to_string()));
        }
        let is_here = |((key, value), count): &(&(Text, Text), &i64)| {
            **count > 0 && node.labels.get(key) == Some(value)
        };
        let ((key, _), _) = self.shunning.iter().filter(is_here).min()?;
        Some(Refusal::OthersAntiAffinity(key.to_string()))
    }

    /// The first pod of a series that wants its own kind near has nobody to be near to, and is let go anywhere.
    fn is_its_own_company(&self, me: &Kind) -> bool {
        me.wants(&self.labels, &me.namespace, self.namespace_labels.as_ref())
    }
}

fn add(counts: &mut Counts, node: &Node, key: &Text, count: i64) {
    let Some(value) = node.labels.get(key) else { return };
    let place = (key.clone(), value.clone());
    let entry = counts.entry(place.clone()).or_default();
    *entry += count;
    if *entry == 0 {
        counts.remove(&place);
    }
}

fn at(counts: &Counts, node: &Node, key: &Text) -> i64 {
    let count = node.labels.get(key).and_then(|value| counts.get(&(key.clone(), value.clone())));
    count.copied().unwrap_or(0)
}
