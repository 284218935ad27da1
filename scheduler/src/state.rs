//! What the watches told so far: the core's cluster, and the gangs' objects as they were seen last.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use kube::{Resource as _, ResourceExt as _, core::DeserializeGuard};
use plasma_api::{
    Gang,
    gang::{GangPhase, Journal},
    names,
};
use plasma_scheduler_core::{BudgetDocument, Cluster, GangFacts, Meta, Names, StorageKind};

use crate::{
    event::reference,
    faults::Faults,
    object::Object,
    observe::{Change, Observed},
    pod_groups::{self, PodGroups, group_of},
    storage::{self, Seen, StorageDocument, Stored},
};

/// The cluster as this process knows it.
pub(crate) struct State {
    pub(crate) cluster: Cluster,
    gangs: HashMap<String, Gang>,
    /// The gangs that are shown with a plan that isn't over.
    journalled: BTreeSet<String>,
    pub(crate) faults: Faults,
    pub(crate) pod_groups: PodGroups,
    lists: Lists,
}

/// What a list that is being read has named so far, by kind; and whether one was ever complete.
#[derive(Default)]
struct Lists {
    pods: List,
    nodes: List,
    namespaces: List,
    gangs: List,
    budgets: List,
    storage: BTreeMap<StorageKind, List>,
}

#[derive(Default)]
struct List {
    named: Option<HashSet<String>>,
    was_complete: bool,
}

impl List {
    fn begin(&mut self) {
        self.named = Some(HashSet::new());
    }

    fn names(&mut self, name: &str) {
        if let Some(named) = &mut self.named {
            named.insert(name.to_owned());
        }
    }

    fn end(&mut self) -> HashSet<String> {
        self.was_complete = true;
        self.named.take().unwrap_or_default()
    }
}

impl State {
    pub(crate) fn new(scheduler: &str) -> Self {
        let names = Names {
            scheduler: scheduler.to_owned(),
            gang_label: names::GANG_LABEL.to_owned(),
            job_label: names::JOB_UID_LABEL.to_owned(),
        };
        Self {
            cluster: Cluster::new(names),
            gangs: HashMap::new(),
            journalled: BTreeSet::new(),
            faults: Faults::default(),
            pod_groups: PodGroups::default(),
            lists: Lists::default(),
        }
    }

    /// Whether every watch has listed its objects once: before that, what looks free may not be.
    pub(crate) fn is_complete(&self) -> bool {
        let Lists { pods, nodes, namespaces, gangs, budgets, storage } = &self.lists;
        [pods, nodes, namespaces, gangs, budgets].iter().all(|list| list.was_complete)
            && storage::KINDS.iter().all(|kind| storage.get(kind).is_some_and(|list| list.was_complete))
    }

    /// Takes in what a watch tells.
    pub(crate) fn observe(&mut self, observed: Observed) {
        match observed {
            Observed::Pod(change) => self.pod(change),
            Observed::Node(change) => self.node(change),
            Observed::Namespace(change) => self.namespace(change),
            Observed::Gang(change) => self.gang(change),
            Observed::Budget(change) => self.budget(change),
            Observed::PodGroupsFound(resource) => self.pod_groups.found(resource, &mut self.cluster),
            Observed::PodGroup(change) => self.pod_groups.observe(change, &mut self.cluster),
            Observed::Storage(Stored::Claim(change)) => self.storage(*change),
            Observed::Storage(Stored::Volume(change)) => self.storage(*change),
            Observed::Storage(Stored::Class(change)) => self.storage(*change),
            Observed::Storage(Stored::CsiNode(change)) => self.storage(*change),
            Observed::Storage(Stored::CsiDriver(change)) => self.storage(*change),
            Observed::Storage(Stored::Capacity(change)) => self.storage(*change),
            Observed::Storage(Stored::Attachment(change)) => self.storage(*change),
        }
    }

    fn pod(&mut self, change: Change<crate::object::Object<plasma_scheduler_core::PodDocument>>) {
        match change {
            Change::ListBegins => self.lists.pods.begin(),
            Change::Is(pod) => {
                self.lists.pods.names(&pod.document.metadata.uid);
                self.cluster.set_pod(&pod.document);
            }
            Change::Gone(pod) => self.cluster.remove_pod(&pod.document.metadata.uid),
            Change::ListEnds => {
                let named = self.lists.pods.end();
                self.cluster.retain_pods(|uid| named.contains(uid));
            }
        }
    }

    fn node(&mut self, change: Change<crate::object::Object<plasma_scheduler_core::NodeDocument>>) {
        match change {
            Change::ListBegins => self.lists.nodes.begin(),
            Change::Is(node) => {
                self.lists.nodes.names(&node.document.metadata.name);
                let Meta { name, uid, .. } = &node.document.metadata;
                let faults = self.cluster.set_node(&node.document).into_iter().map(|fault| fault.why);
                self.faults.set(reference(("v1", "Node"), "", name, uid), &faults.collect::<Vec<_>>());
            }
            Change::Gone(node) => self.cluster.remove_node(&node.document.metadata.name),
            Change::ListEnds => {
                let named = self.lists.nodes.end();
                self.cluster.retain_nodes(|name| named.contains(name));
            }
        }
    }

    fn namespace(&mut self, change: Change<crate::object::Object<plasma_scheduler_core::NamespaceDocument>>) {
        match change {
            Change::ListBegins => self.lists.namespaces.begin(),
            Change::Is(namespace) => {
                self.lists.namespaces.names(&namespace.document.metadata.name);
                self.cluster.set_namespace(&namespace.document);
            }
            Change::Gone(namespace) => {
                let gone = namespace.document.metadata.name;
                self.cluster.retain_namespaces(|name| name != gone);
            }
            Change::ListEnds => {
                let named = self.lists.namespaces.end();
                self.cluster.retain_namespaces(|name| named.contains(name));
            }
        }
    }

    fn budget(&mut self, change: Change<SeenBudget>) {
        match change {
            Change::ListBegins => self.lists.budgets.begin(),
            Change::Is(budget) => {
                let key = budget_key(&budget);
                self.lists.budgets.names(&key);
                match budget.0 {
                    Ok(budget) => {
                        for fault in self.cluster.set_budget(&budget.document) {
                            tracing::warn!("{}: {}", fault.object, fault.why);
                        }
                    }
                    Err(fault) => {
                        tracing::warn!(
                            "poddisruptionbudget {key} can't be read, and protects nobody: {fault}"
                        );
                        self.cluster.remove_budget(&key);
                    }
                }
            }
            Change::Gone(budget) => self.cluster.remove_budget(&budget_key(&budget)),
            Change::ListEnds => {
                let named = self.lists.budgets.end();
                self.cluster.retain_budgets(|key| named.contains(key));
            }
        }
    }

    fn storage<D: StorageDocument>(&mut self, change: Seen<D>) {
        let list = self.lists.storage.entry(D::KIND).or_default();
        match change {
            Change::ListBegins => list.begin(),
            Change::Is(object) => {
                let key = storage::key(&object);
                list.names(&key);
                match object.0 {
                    Ok(object) => {
                        for fault in object.document.put(&mut self.cluster) {
                            tracing::warn!("{}: {}", fault.object, fault.why);
                        }
                    }
                    Err(fault) => {
                        tracing::warn!(
                            "{:?} {key} can't be read, and is taken for missing: {fault}",
                            D::KIND
                        );
                        self.cluster.remove_storage(D::KIND, &key);
                    }
                }
            }
            Change::Gone(object) => self.cluster.remove_storage(D::KIND, &storage::key(&object)),
            Change::ListEnds => {
                let named = list.end();
                self.cluster.retain_storage(D::KIND, |key| named.contains(key));
            }
        }
    }

    fn gang(&mut self, change: Change<DeserializeGuard<Gang>>) {
        match change {
            Change::ListBegins => self.lists.gangs.begin(),
            Change::Is(gang) => {
                let key = group_of(&gang);
                self.lists.gangs.names(&key);
                let (namespace, name) = (gang.namespace().unwrap_or_default(), gang.name_any());
                let uid = gang.uid().unwrap_or_default();
                let about = reference((&Gang::api_version(&()), &Gang::kind(&())), &namespace, &name, &uid);
                match gang.0 {
                    Ok(gang) => {
                        self.faults.set(about, &[]);
                        self.set_gang(key, gang);
                    }
                    Err(fault) => {
                        let why = format!("it can't be read, and its pods are not placed: {fault}");
                        self.faults.set(about, &[why]);
                        self.remove_gang(&key);
                    }
                }
            }
            Change::Gone(gang) => self.remove_gang(&group_of(&gang)),
            Change::ListEnds => {
                let named = self.lists.gangs.end();
                let gone: Vec<String> =
                    self.gangs.keys().filter(|key| !named.contains(*key)).cloned().collect();
                gone.iter().for_each(|key| self.remove_gang(key));
            }
        }
    }

    fn set_gang(&mut self, key: String, gang: Gang) {
        let is_old = |known: &Gang| known.uid() == gang.uid() && is_older(&gang, known);
        if self.gangs.get(&key).is_some_and(is_old) {
            return;
        }
        let facts = facts(&key, &gang);
        if facts.journal.is_empty() {
            self.journalled.remove(&key);
        } else {
            self.journalled.insert(key.clone());
        }
        self.cluster.set_gang(facts);
        self.gangs.insert(key, gang);
    }

    fn remove_gang(&mut self, key: &str) {
        self.gangs.remove(key);
        self.journalled.remove(key);
        self.cluster.remove_gang(key);
    }

    /// We wrote a gang: what the watch shows of it before that is old.
    pub(crate) fn wrote(&mut self, key: &str, gang: Gang) {
        let Some(known) = self.gangs.get(key).filter(|known| known.uid() == gang.uid()) else { return };
        if is_older(known, &gang) {
            self.set_gang(key.to_owned(), gang);
        }
    }

    /// We made a gang, or found it made: the watch will show it.
    pub(crate) fn made(&mut self, gang: Gang) {
        let key = group_of(&gang);
        if !self.gangs.contains_key(&key) {
            self.set_gang(key, gang);
        }
    }

    /// A gang as it was seen last.
    pub(crate) fn find_gang(&self, key: &str) -> Option<&Gang> {
        self.gangs.get(key)
    }

    /// The gangs whose plan is still to be carried out, as far as is known.
    pub(crate) fn journalled(&self) -> impl Iterator<Item = (&String, &Gang, &Journal)> {
        self.journalled.iter().filter_map(|key| {
            let gang = self.gangs.get(key)?;
            Some((key, gang, journal_of(gang)?))
        })
    }

    /// Whether the gang is shown with a plan that isn't over.
    pub(crate) fn is_journalled(&self, key: &str) -> bool {
        self.journalled.contains(key)
    }
}

/// Whether a gang was seen in an older version than the other: versions are numbers that grow (KEP-5504). Where an API
/// server counts otherwise, nothing is older.
fn is_older(gang: &Gang, other: &Gang) -> bool {
    let version = |gang: &Gang| gang.metadata.resource_version.as_ref()?.parse::<u64>().ok();
    version(gang).zip(version(other)).is_some_and(|(gang, other)| gang < other)
}

pub(crate) fn journal_of(gang: &Gang) -> Option<&Journal> {
    gang.status.as_ref()?.journal.as_ref()
}

/// A budget, or that it can't be read.
type SeenBudget = DeserializeGuard<Object<BudgetDocument>>;

fn budget_key(budget: &SeenBudget) -> String {
    match &budget.0 {
        Ok(budget) => budget.document.key(),
        Err(_) => key(budget),
    }
}

/// Namespace and name in one.
pub(crate) fn key(object: &impl kube::ResourceExt) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

fn facts(key: &str, gang: &Gang) -> GangFacts {
    let placements = journal_of(gang).into_iter().flat_map(|journal| &journal.placements);
    let created = gang.metadata.creation_timestamp.as_ref();
    GangFacts {
        key: key.to_owned(),
        pod_group: pod_groups::uid_of(gang),
        job: gang.labels().get(names::JOB_UID_LABEL).cloned(),
        min_member: usize::try_from(gang.spec.min_member).unwrap_or(usize::MAX),
        priority: gang.spec.priority,
        created: created.map_or(0, |created| created.0.as_second()),
        is_terminating: gang.metadata.deletion_timestamp.is_some(),
        is_scheduled: gang.status.as_ref().is_some_and(|status| status.phase == Some(GangPhase::Scheduled)),
        journal: placements.map(|place| (place.pod_uid.to_string(), place.node.clone())).collect(),
    }
}
