//! The cluster as the watches tell of it, kept up event by event: nodes, pods, gangs, and what is assumed of them.
//!
//! One owner changes it; nothing in it waits, locks or reads a clock.

mod budgets;
mod changes;
mod devices;
mod ending;
mod groups;
mod nodes;
mod pod_groups;
mod pods;
mod promises;
mod queue;
mod room;
mod shunning;
mod storage;
mod strays;
mod verdicts;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    document::NamespaceDocument,
    elastic,
    gang::GangFacts,
    labels::{Labels, Text},
    missing::Explanations,
    node::{Node, NodeId, PodId},
    outlook::Outlooks,
    pod::Pod,
    preempt::Prey,
    read::Shared,
    storage::Storage,
};

pub(crate) use budgets::Budget;
pub(crate) use changes::{Changes, Concerns, Moment, Whose};
pub(crate) use groups::is_gang;
pub(crate) use groups::{Group, Turn};
pub use groups::{is_single, namespace_of};
use pod_groups::PodGroups;
pub use pod_groups::{Served, upstream_key, upstream_names};
pub(crate) use promises::Step;
pub use promises::{ClaimName, VolumeStep, VolumesState};
pub(crate) use queue::{Hope, Look};
pub(crate) use room::Lifted;
pub use room::Nomination;
use shunning::Shunning;
pub use storage::StorageKind;
pub use verdicts::Verdict;

/// What things are called where this scheduler works.
#[derive(Clone, Debug)]
pub struct Names {
    /// Pods with this `spec.schedulerName` are ours.
    pub scheduler: String,
    /// The label that names a pod's gang.
    pub gang_label: String,
    /// The label that says of which job a pod or a gang is: by its UID.
    pub job_label: String,
}

/// What the cluster is known to be.
#[derive(Debug)]
pub struct Cluster {
    names: Names,
    scheduler: Text,
    pub(crate) shared: Shared,
    pub(crate) nodes: Vec<Node>,
    node_ids: HashMap<Text, NodeId>,
    /// Places in the list of nodes that are free.
    vacant_nodes: Vec<NodeId>,
    pods: Vec<Option<Known>>,
    /// Places in the list of pods that are free.
    vacant: Vec<PodId>,
    pod_ids: HashMap<Text, PodId>,
    /// The labels of namespaces.
    namespaces: HashMap<Text, Labels>,
    /// Pods on nodes that want certain pods not to be near them.
    shunning: Shunning,
    /// Pods on nodes that are ending, or are to.
    ending: BTreeSet<PodId>,
    /// The time, in seconds, as far as it was told.
    now: Option<i64>,
    /// Pods that hold a part of a node on which they aren't and to which they aren't sent: it is kept for them.
    promised: BTreeSet<PodId>,
    /// How many pods hold something on nodes, by priority.
    priorities: BTreeMap<i32, usize>,
    /// The groups for which nodes are kept, and until when, in seconds; nothing where that wasn't decided yet.
    reservations: BTreeMap<Text, Option<i64>>,
    /// Pods for which nodes were kept and aren't any more, by UID.
    given_up: Vec<Text>,
    pub(crate) budgets: BTreeMap<Text, Budget>,
    groups: HashMap<Text, Group>,
    pod_groups: PodGroups,
    /// The groups that wait, in the order in which they are looked at.
    queue: BTreeMap<Turn, Hope>,
    pub(crate) storage: Storage,
    pub(crate) changes: Changes,
    pub(crate) outlooks: Outlooks,
    pub(crate) explanations: Explanations,
    pub(crate) prey: Prey,
    /// Namespaces of whose groups none is looked at for now.
    pub(super) crowded: BTreeSet<String>,
    /// What had happened before the last plan.
    pub(crate) swept: Option<u64>,
    /// Where it was left to the next one to go on.
    pub(crate) swept_to: Option<Turn>,
    pub(crate) has_more: bool,
    /// How many looks at nodes one part of a search for some of a group's pods may take.
    pub(crate) looks_at_once: u64,
    /// The group that was explained last.
    pub(crate) explained: Option<Turn>,
}

/// A pod, and where it counts.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) pod: Pod,
    /// The node on which it holds something: where it is, or where it is assumed to go.
    pub(crate) on: Option<NodeId>,
    /// The node to which we send it, until the watch shows it there.
    pub(crate) assumed: Option<NodeId>,
    /// What must be done for its volumes before it can run there.
    pub(crate) steps: Vec<Step>,
    /// The node that is kept for it: room is being made for it there.
    pub(crate) reserved: Option<NodeId>,
    /// It is to be evicted, and may not look like that yet.
    pub(crate) is_leaving: bool,
    /// Of which group it is; none where another scheduler places it.
    pub(crate) group: Option<Text>,
}

impl Known {
    /// Whether it has no node, isn't on its way to one, and hasn't ended.
    pub(crate) fn waits(&self) -> bool {
        self.pod.node.is_none() && self.assumed.is_none() && !self.pod.stage.is_finished
    }

    /// Whether what it holds on a node is only kept for it.
    fn is_promised(&self) -> bool {
        self.pod.node.is_none() && self.assumed.is_none()
    }

    /// Whether beside it, on the same node, there is the same room and the same company as beside the other.
    fn counts_as(&self, other: &Self) -> bool {
        let (pod, kind) = (&other.pod, &other.pod.kind);
        let weighs = self.pod.holds == pod.holds
            && self.pod.kind.ports == kind.ports
            && self.pod.kind.shared == kind.shared
            && self.pod.priority == pod.priority
            && self.is_promised() == other.is_promised();
        weighs
            && self.pod.labels == pod.labels
            && self.pod.kind.shuns == kind.shuns
            && self.pod.kind.volumes == kind.volumes
            && self.pod.claims == pod.claims
            && self.pod.stage.is_terminating == pod.stage.is_terminating
            && self.pod.stage.ends == pod.stage.ends
    }

    /// Whether it frees its node without our doing.
    pub(crate) fn is_ending(&self) -> bool {
        self.pod.node.is_some() && (self.pod.stage.is_terminating || self.is_leaving)
    }
}

/// What a document says that makes no sense: the object and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `node x` or `pod namespace/x`.
    pub object: String,
    /// What is wrong, and what is done about it.
    pub why: String,
}

impl Cluster {
    /// A cluster of which nothing is known.
    pub fn new(names: Names) -> Self {
        let mut shared = Shared::default();
        Self {
            scheduler: shared.texts.share(&names.scheduler),
            names,
            shared,
            nodes: Vec::new(),
            node_ids: HashMap::new(),
            vacant_nodes: Vec::new(),
            pods: Vec::new(),
            vacant: Vec::new(),
            pod_ids: HashMap::new(),
            namespaces: HashMap::new(),
            shunning: Shunning::default(),
            ending: BTreeSet::new(),
            now: None,
            promised: BTreeSet::new(),
            priorities: BTreeMap::new(),
            reservations: BTreeMap::new(),
            given_up: Vec::new(),
            budgets: BTreeMap::new(),
            groups: HashMap::new(),
            pod_groups: PodGroups::default(),
            queue: BTreeMap::new(),
            storage: Storage::default(),
            changes: Changes::default(),
            outlooks: Outlooks::default(),
            explanations: Explanations::default(),
            prey: Prey::default(),
            crowded: BTreeSet::new(),
            swept: None,
            swept_to: None,
            has_more: false,
            looks_at_once: elastic::LOOKS,
            explained: None,
        }
    }

    /// A namespace is there, or has changed. Answers what of it makes no sense; then its labels aren't known.
    pub fn set_namespace(&mut self, document: &NamespaceDocument) -> Option<Fault> {
        let name = self.shared.texts.share(&document.metadata.name);
        if let Some(fault) = &document.fault {
            self.namespaces.remove(&name);
            self.changes.around();
            let why = format!("{fault}; to pods that look for labels of namespaces it has none");
            return Some(Fault { object: format!("namespace {name}"), why });
        }
        let labels = self.shared.texts.labels(&document.metadata.labels);
        if self.namespaces.get(&name) != Some(&labels) {
            self.namespaces.insert(name, labels);
            self.changes.around();
        }
        None
    }

    /// Keeps the namespaces for which this holds, and takes the others for gone.
    pub fn retain_namespaces(&mut self, is_there: impl Fn(&str) -> bool) {
        self.namespaces.retain(|name, _| is_there(name));
    }

    /// A gang, as its object says.
    pub fn set_gang(&mut self, facts: GangFacts) {
        let key = self.shared.texts.share(&facts.key);
        let journal = facts.journal.clone();
        if journal.is_empty()
            && self.find_group(&key).is_some_and(|group| group.gang.as_ref() == Some(&facts))
        {
            // Its status says something else to people: no news.
            return;
        }
        self.group(&key).gang = Some(facts);
        for (uid, node) in &journal {
            if self.belongs(&key, uid) == Some(true) {
                self.assume(uid, node);
            }
        }
        self.evictable_anew(&key);
        self.touch(&key);
    }

    /// A gang's object is gone, or can't be read.
    pub fn remove_gang(&mut self, key: &str) {
        if let Some(group) = self.groups.get_mut(key) {
            group.gang = None;
            let key = self.shared.texts.share(key);
            self.evictable_anew(&key);
            self.touch(&key);
        }
    }

    /// Keeps the gangs for which this holds, and takes the others for gone.
    pub fn retain_gangs(&mut self, is_there: impl Fn(&str) -> bool) {
        let gone = self.groups.iter().filter(|(key, group)| group.gang.is_some() && !is_there(key));
        let gone: Vec<Text> = gone.map(|(key, _)| key.clone()).collect();
        gone.iter().for_each(|key| self.remove_gang(key));
    }

    /// The labels of a namespace; none where it isn't known yet.
    pub(crate) fn namespace_labels(&self, name: &Text) -> Option<&Labels> {
        self.namespaces.get(name)
    }

    /// Drops what nobody mentions any more, where that may be much: texts of whatever came, changed and went.
    pub fn tidy(&mut self) {
        if self.shared.is_overgrown() {
            self.forget_unused();
        }
    }

    /// Drops what nobody mentions any more.
    pub(crate) fn forget_unused(&mut self) {
        self.forget_nodes();
        self.changes.forget_namespaces();
        let of_pods = self.pods.iter().flatten().filter_map(|known| known.pod.holds.as_ref());
        let of_pods = of_pods.flat_map(|holds| holds.iter().map(|(id, _)| id));
        let resources = of_pods.chain(self.nodes.iter().flat_map(Node::resources)).collect();
        self.shared.forget_unused(resources);
    }
}

#[cfg(test)]
mod pod_group_tests;
#[cfg(test)]
mod storage_tests;
#[cfg(test)]
mod tests;
