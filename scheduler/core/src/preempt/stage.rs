//! Where it is tried whether a group fits without certain pods: they are taken off their nodes, and put back in the end.

use std::collections::HashMap;

use crate::{
    around,
    cluster::{Cluster, Lifted},
    node::{NodeId, PodId},
    plan::Alike,
};

/// How often it is tried for one group: pods of one kind are only counted, which is cheap; else nodes are searched.
const TRIES_BY_COUNTING: usize = 10_000;
const TRIES_BY_SEARCHING: usize = 256;

/// The cluster without some of its pods.
pub(crate) struct Stage<'a> {
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) alike: &'a [Alike],
    lifted: HashMap<PodId, Lifted>,
    tries: usize,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(cluster: &'a mut Cluster, alike: &'a [Alike]) -> Self {
        let is_counted = alike.len() == 1 && !around::matters(cluster, alike);
        let tries = if is_counted { TRIES_BY_COUNTING } else { TRIES_BY_SEARCHING };
        Self { cluster, alike, lifted: HashMap::new(), tries }
    }

    /// Takes pods off their nodes.
    pub(crate) fn lift(&mut self, pods: impl IntoIterator<Item = PodId>) {
        for pod in pods {
            if let Some(lifted) = self.cluster.lift(pod) {
                self.lifted.insert(pod, lifted);
            }
        }
    }

    /// Puts them back.
    pub(crate) fn lay_back(&mut self, pods: impl IntoIterator<Item = PodId>) {
        for pod in pods {
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
    pub(crate) fn find(&mut self) -> Option<Vec<NodeId>> {
        self.tries = self.tries.checked_sub(1)?;
        self.cluster.find_places(self.alike)
    }

    /// Whether it may be tried on.
    pub(crate) fn has_tries(&self) -> bool {
        self.tries > 0
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        for (_, lifted) in self.lifted.drain() {
            self.cluster.lay_back(lifted);
        }
    }
}
