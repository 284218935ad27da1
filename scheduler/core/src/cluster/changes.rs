//! What has changed, for those who remember an answer and want to know whether it still holds.

use std::collections::VecDeque;

use crate::node::NodeId;

/// How many changes of nodes are remembered. Who is further behind begins anew.
const REMEMBERED: usize = 20_000;

/// A moment in the history of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

/// The history of changes.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    nodes: VecDeque<NodeId>,
    /// How many changes of nodes are not remembered any more.
    before: u64,
    freed: u64,
    around: u64,
}

impl Changes {
    /// Something about this node has changed.
    pub(crate) fn node(&mut self, node: NodeId) {
        self.nodes.push_back(node);
        if self.nodes.len() > REMEMBERED {
            self.nodes.pop_front();
            self.before += 1;
        }
    }

    /// There may be more room than before.
    pub(crate) fn freed(&mut self) {
        self.freed += 1;
    }

    /// Pods may have other surroundings than before.
    pub(crate) fn around(&mut self) {
        self.around += 1;
    }

    /// Now.
    pub(crate) fn now(&self) -> Moment {
        Moment(self.before + self.nodes.len() as u64)
    }

    /// The nodes that have changed since, some more than once; nothing where that isn't known any more.
    pub(crate) fn since(&self, moment: Moment) -> Option<impl Iterator<Item = NodeId>> {
        let skip = usize::try_from(moment.0.checked_sub(self.before)?).ok()?;
        Some(self.nodes.iter().skip(skip).copied())
    }

    /// What a pod that waits for room waits for, and one that looks around: both grow with each such change.
    pub(crate) fn hopes(&self) -> (u64, u64) {
        (self.freed, self.freed + self.around)
    }
}
