//! Where it is tried whether a group fits without certain pods: they are taken off their nodes, and put back in the end.

use std::collections::{BTreeSet, HashMap};

use super::choice::Choice;
use crate::{
    around,
    cluster::{Cluster, Lifted},
    node::{NodeId, PodId},
    order::Ground,
    places::{Places, fill},
    plan::Alike,
    question::Question,
    search::search_counting,
};

/// How often it is tried for one group.
const TRIES: usize = 10_000;
/// How many looks at nodes all of that may take. It blocks the only loop there is: this is about half a second.
const LOOKS: u64 = 10_000_000;

/// The cluster without some of its pods.
pub(crate) struct Stage<'a> {
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) alike: &'a [Alike],
    /// For each kind, where its pods could go.
    choices: Vec<Choice>,
    is_around: bool,
    lifted: HashMap<PodId, Lifted>,
    tries: usize,
    /// When so many looks were spent, ever, no more is tried.
    until: u64,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(cluster: &'a mut Cluster, alike: &'a [Alike]) -> Self {
        cluster.changes.begin_trial();
        let choice = |alike: &Alike| Choice::new(alike.kind.clone(), &cluster.shared.resources);
        Self {
            choices: alike.iter().map(choice).collect(),
            is_around: around::matters(cluster, alike),
            lifted: HashMap::new(),
            tries: TRIES,
            until: cluster.looks() + LOOKS,
            cluster,
            alike,
        }
    }

    /// Takes pods off their nodes.
    pub(crate) fn lift(&mut self, pods: impl IntoIterator<Item = PodId>) {
        for pod in pods {
            self.cluster.looked(1);
            if let Some(lifted) = self.cluster.lift(pod) {
                self.lifted.insert(pod, lifted);
            }
        }
    }

    /// Puts them back.
    pub(crate) fn lay_back(&mut self, pods: impl IntoIterator<Item = PodId>) {
        for pod in pods {
            self.cluster.looked(1);
            if let Some(lifted) = self.lifted.remove(&pod) {
                self.cluster.lay_back(lifted);
            }
        }
    }

    /// Whether nobody is taken off.
    pub(crate) fn is_empty(&self) -> bool {
        self.lifted.is_empty()
    }

    /// A node for each pod of the group. Nothing where it doesn't fit, or was tried too often.
    pub(crate) fn find(&mut self) -> Option<Places> {
        if !self.has_tries() {
            return None;
        }
        self.tries -= 1;
        let Cluster { nodes, shared, changes, .. } = &*self.cluster;
        self.choices.iter_mut().for_each(|choice| choice.refresh(Ground { nodes, shared, changes }));
        // What isn't there for each kind alone needn't be looked for together.
        let mut kinds = self.choices.iter().zip(self.alike);
        if kinds.any(|(choice, alike)| choice.places() < alike.count()) {
            return None;
        }
        if self.is_around {
            return around::place(self.cluster, self.alike);
        }
        if let ([choice], [alike]) = (&self.choices[..], self.alike) {
            return Some(fill(choice.nodes(), alike));
        }
        let open: BTreeSet<NodeId> =
            self.choices.iter().flat_map(Choice::nodes).map(|(node, _)| node).collect();
        let question = Question::among(self.cluster, self.alike, open);
        let (found, looks) = search_counting(&question);
        self.cluster.looked(looks);
        found.map(|found| question.places_of(&found, self.alike))
    }

    /// Whether it may be tried on.
    pub(crate) fn has_tries(&self) -> bool {
        self.tries > 0 && self.cluster.looks() < self.until
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        for (_, lifted) in self.lifted.drain() {
            self.cluster.lay_back(lifted);
        }
        self.cluster.changes.end_trial();
    }
}
