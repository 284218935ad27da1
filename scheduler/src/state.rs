//! What the watches told so far: the core's cluster, and the gangs' objects as they were seen last.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use kube::ResourceExt as _;
use plasma_api::{
    Gang,
    gang::{GangPhase, Journal},
    names,
};
use plasma_scheduler_core::{Cluster, GangFacts, Names, PodDocument};

use crate::{
    faults::Faults,
    kept::{Kept, Kind},
    observe::{Change, Observed},
    pod_groups::{self, PodGroups, group_of},
    rests::{Rests, Told},
    storage::Stored,
};

/// The cluster as this process knows it.
pub(crate) struct State {
    pub(crate) cluster: Cluster,
    gangs: HashMap<String, Gang>,
    /// The gangs that are shown with a plan that isn't over.
    journalled: BTreeSet<String>,
    pub(crate) faults: Faults,
    pub(crate) pod_groups: PodGroups,
    pub(crate) rests: Rests,
    lists: BTreeMap<Kind, List>,
}

/// What a list that is being read has named so far; whether anything was ever told of the kind, and whether a list was ever
/// complete. Before anything was told nothing is there that could be gone: what the first list names needn't be kept.
#[derive(Default)]
struct List {
    named: Option<HashSet<String>>,
    was_told: bool,
    was_complete: bool,
}

impl List {
    fn begin(&mut self) {
        self.named = self.was_told.then(HashSet::new);
        self.was_told = true;
    }

    fn names(&mut self, name: &str) {
        self.was_told = true;
        if let Some(named) = &mut self.named {
            named.insert(name.to_owned());
        }
    }

    /// What it named; nothing where none can be missing.
    fn end(&mut self) -> Option<HashSet<String>> {
        self.was_complete = true;
        self.named.take()
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
            rests: Rests::default(),
            lists: BTreeMap::new(),
        }
    }

    /// Whether every watch has listed its objects once: before that, what looks free may not be.
    pub(crate) fn is_complete(&self) -> bool {
        let is_complete = |kind| self.lists.get(&kind).is_some_and(|list| list.was_complete);
        Kind::all().all(is_complete)
    }

    /// Takes in what a watch tells.
    pub(crate) fn observe(&mut self, observed: Observed) {
        match observed {
            Observed::Pod(change) => self.take_in(change),
            Observed::Node(change) => self.take_in(change),
            Observed::Namespace(change) => self.take_in(change),
            Observed::Gang(change) => self.take_in(change),
            Observed::Budget(change) => self.take_in(change),
            Observed::PodGroupsFound(resource) => self.pod_groups.found(resource, &mut self.cluster),
            Observed::PodGroup(change) => self.pod_groups.observe(change, &mut self.cluster),
            Observed::Storage(Stored::Claim(change)) => self.take_in(*change),
            Observed::Storage(Stored::Volume(change)) => self.take_in(*change),
            Observed::Storage(Stored::Class(change)) => self.take_in(*change),
            Observed::Storage(Stored::CsiNode(change)) => self.take_in(*change),
            Observed::Storage(Stored::CsiDriver(change)) => self.take_in(*change),
            Observed::Storage(Stored::Capacity(change)) => self.take_in(*change),
            Observed::Storage(Stored::Attachment(change)) => self.take_in(*change),
        }
    }

    /// Whether what is told of a pod is taken in later: its devices rest.
    pub(crate) fn rests_after(&self, uid: &str, document: Option<&PodDocument>) -> bool {
        self.rests.are_taken() && (self.rests.has(uid) || self.cluster.gives_devices_back(uid, document))
    }

    /// What was told of a pod is taken in when its devices have rested; that it is deleted, at once.
    pub(crate) fn rest(&mut self, uid: &str, told: Told) {
        self.cluster.is_at_rest(uid);
        self.rests.hold(uid, told);
    }

    /// Takes in the ends of pods whose devices have rested.
    pub(crate) fn end_rests(&mut self) {
        for (uid, told) in self.rests.over() {
            match told {
                Some(pod) => {
                    self.cluster.set_pod(&pod.document);
                }
                None => self.cluster.remove_pod(&uid),
            }
        }
    }

    /// An object of a kind is listed, has changed, or is gone.
    fn take_in<T: Kept>(&mut self, change: Change<T>) {
        match change {
            Change::ListBegins => self.list::<T>().begin(),
            Change::Is(object) => {
                let key = object.key();
                self.list::<T>().names(&key);
                let wrong = object.put(&key, self);
                self.faults.set(T::KIND, &key, wrong);
            }
            Change::Gone(object) => {
                let key = object.key();
                T::remove(&key, self);
                self.faults.set(T::KIND, &key, None);
            }
            Change::ListEnds => {
                let Some(named) = self.list::<T>().end() else { return };
                T::retain(self, |key| named.contains(key));
                self.faults.retain(T::KIND, |key| named.contains(key));
            }
        }
    }

    fn list<T: Kept>(&mut self) -> &mut List {
        self.lists.entry(T::KIND).or_default()
    }

    pub(crate) fn set_gang(&mut self, key: String, mut gang: Gang) {
        let is_old = |known: &Gang| known.uid() == gang.uid() && is_older(&gang, known);
        if self.gangs.get(&key).is_some_and(is_old) {
            return;
        }
        // The API server keeps them without our help, and reads them again in each status that is written.
        gang.metadata.managed_fields = None;
        let facts = facts(&key, &gang);
        if facts.journal.is_empty() {
            self.journalled.remove(&key);
        } else {
            self.journalled.insert(key.clone());
        }
        self.cluster.set_gang(facts);
        self.gangs.insert(key, gang);
    }

    pub(crate) fn remove_gang(&mut self, key: &str) {
        self.gangs.remove(key);
        self.journalled.remove(key);
        self.cluster.remove_gang(key);
    }

    /// The gangs for which this holds are there, and no others.
    pub(crate) fn retain_gangs(&mut self, is_listed: impl Fn(&str) -> bool) {
        let gone: Vec<String> = self.gangs.keys().filter(|key| !is_listed(key)).cloned().collect();
        gone.iter().for_each(|key| self.remove_gang(key));
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
