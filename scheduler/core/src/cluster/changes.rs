//! What has changed, for those who remember an answer and want to know whether it still holds.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::{labels::Text, node::NodeId, pod::Kind};

/// How many changes of nodes are remembered. Who is further behind begins anew.
const REMEMBERED: usize = 20_000;

/// A moment in a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

/// Nodes, in the order in which something happened to them.
#[derive(Debug, Default)]
pub(crate) struct History {
    nodes: VecDeque<NodeId>,
    /// How many entries are not remembered any more.
    before: u64,
}

impl History {
    fn push(&mut self, node: NodeId) {
        self.nodes.push_back(node);
        if self.nodes.len() > REMEMBERED {
            self.nodes.pop_front();
            self.before += 1;
        }
    }

    /// Now.
    pub(crate) fn now(&self) -> Moment {
        Moment(self.before + self.nodes.len() as u64)
    }

    /// The nodes to which it has happened since, some more than once; nothing where that isn't known any more.
    pub(crate) fn since(&self, moment: Moment) -> Option<impl Iterator<Item = NodeId>> {
        let skip = usize::try_from(moment.0.checked_sub(self.before)?).ok()?;
        Some(self.nodes.range(skip.min(self.nodes.len())..).copied())
    }
}

/// What beside room decides where pods may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Concerns {
    /// Where other pods are.
    pub(crate) pods: Option<Whose>,
    /// Volumes, and who uses them.
    pub(crate) storage: bool,
}

/// Which other pods decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Those of this namespace, and those that don't want certain pods of it near them.
    Of(Text),
    /// Any.
    Anybodys,
}

impl Concerns {
    /// Whether anything does.
    pub(crate) fn any(&self) -> bool {
        self.pods.is_some() || self.storage
    }
}

/// The histories of changes.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Nodes about which something has changed.
    pub(crate) nodes: History,
    /// Nodes that may have more room than before. What is only tried, and taken back, isn't among it.
    pub(crate) grown: History,
    /// How many trials are under way, one within the other.
    trials: u32,
    /// How much has happened to nodes that wasn't a trial.
    lasting: u64,
    /// How much has happened around pods, anywhere.
    around: u64,
    /// How much of that had when something last did that is about every namespace, or about this one.
    around_all: u64,
    around_namespace: HashMap<Text, u64>,
    storage: u64,
    prey: u64,
    /// How often room was made for whoever looks for somebody to evict; and by the going of pods that those of a higher
    /// priority could have evicted, by the priority of these.
    chances: u64,
    evictable_gone: BTreeMap<i32, u64>,
    /// How often somebody came to be evictable for those of a higher priority than that.
    evictable_come: BTreeMap<i32, u64>,
    /// How much has happened that was no trial.
    version: u64,
}

impl Changes {
    /// Something about this node has changed; it may have more room, or it has no more than before.
    pub(crate) fn node(&mut self, node: NodeId, may_have_grown: bool) {
        self.nodes.push(node);
        if self.trials == 0 {
            self.lasting += 1;
            self.version += 1;
            if may_have_grown {
                self.grown.push(node);
            }
        }
    }

    /// Pods that look around may have hope.
    pub(crate) fn around(&mut self) {
        if self.trials == 0 {
            self.around += 1;
            self.around_all = self.around;
            self.version += 1;
        }
    }

    /// A pod of this kind is elsewhere, or isn't what it was: those of its namespace that look around may have hope, and those
    /// that it doesn't want near it.
    pub(crate) fn around_pod(&mut self, kind: &Kind) {
        if kind.shuns.iter().any(|term| term.namespace_selector.is_some()) {
            return self.around();
        }
        if self.trials == 0 {
            self.around += 1;
            self.version += 1;
            let shunned = kind.shuns.iter().flat_map(|term| &term.namespaces);
            for namespace in std::iter::once(&kind.namespace).chain(shunned) {
                self.around_namespace.insert(namespace.clone(), self.around);
            }
        }
    }

    /// Forgets which namespaces there were: whoever looks around may have hope.
    pub(crate) fn forget_namespaces(&mut self) {
        self.around_namespace.clear();
        self.around();
    }

    /// Pods with volumes may have hope.
    pub(crate) fn storage(&mut self) {
        if self.trials == 0 {
            self.storage += 1;
            self.version += 1;
        }
    }

    /// Who could be evicted is to be found anew. By those of a higher priority than that, where one is named, somebody may be
    /// who couldn't be before.
    pub(crate) fn prey(&mut self, more_above: Option<i32>) {
        self.prey += 1;
        self.version += 1;
        if let Some(priority) = more_above {
            *self.evictable_come.entry(priority).or_default() += 1;
        }
    }

    /// Something about a group that may wait.
    pub(crate) fn group(&mut self) {
        self.version += 1;
    }

    /// Grows with whatever happens.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// What follows is taken back before the trial ends.
    pub(crate) fn begin_trial(&mut self) {
        self.trials += 1;
    }

    /// All of it was taken back.
    pub(crate) fn end_trial(&mut self) {
        self.trials = self.trials.saturating_sub(1);
    }

    /// Whether what happens now will be taken back.
    pub(crate) fn is_trial(&self) -> bool {
        self.trials > 0
    }

    /// How much has happened to nodes that wasn't a trial.
    pub(crate) fn lasting(&self) -> u64 {
        self.lasting
    }

    /// Grows with whatever pods for which these matter may wait for, but for more room.
    pub(crate) fn surroundings(&self, which: &Concerns) -> u64 {
        let around = match &which.pods {
            None => 0,
            Some(Whose::Anybodys) => self.around,
            Some(Whose::Of(namespace)) => {
                self.around_namespace.get(namespace).copied().unwrap_or_default().max(self.around_all)
            }
        };
        around + if which.storage { self.storage } else { 0 }
    }

    /// There may be more room than before, were all gone who could be evicted: where it was made by the going of a pod that
    /// could have been, only for groups whose priority is no higher.
    pub(crate) fn chance(&mut self, evictable: Option<i32>) {
        if self.trials == 0 {
            match evictable {
                Some(priority) => *self.evictable_gone.entry(priority).or_default() += 1,
                None => self.chances += 1,
            }
        }
    }

    /// Grows with whatever makes it worth another search whom to evict for a group of this priority.
    pub(crate) fn chances(&self, priority: i32, which: &Concerns) -> u64 {
        let gone: u64 = self.evictable_gone.range(priority..).map(|(_, gone)| gone).sum();
        let come: u64 = self.evictable_come.range(..priority).map(|(_, come)| come).sum();
        self.chances + gone + come + self.surroundings(which)
    }

    /// Grows with whatever changes who could be evicted.
    pub(crate) fn evictable(&self) -> u64 {
        self.lasting + self.prey
    }
}
