//! Who could be evicted at the moment, by the priority of those who look: found once, for all who ask before anything changes.

use std::{collections::HashMap, sync::Arc};

use super::{
    Fate, Sought,
    candidates::{Candidate, gains, gathered},
};
use crate::{
    amounts::Tally,
    around,
    cluster::{Changes, Cluster, Concerns},
    labels::Text,
    node::{NodeId, PodId},
    outlook::{KindId, Vain, id_of},
    plan::Alike,
    pod::Kind,
};

/// For those whose fate is remembered nothing around matters.
const ALONE: Concerns = Concerns { pods: None, storage: false };

/// Groups of lower priority, the cheapest first, and what nodes gain by their going.
#[derive(Debug)]
pub(super) struct Herd {
    pub(super) groups: Vec<Arc<Candidate>>,
    pub(super) gains: HashMap<NodeId, Tally>,
}

/// So many pods of each of these kinds.
type Key = Box<[(KindId, i128)]>;

/// What came of searches for groups of one priority, while their chances were the same. With each the kinds that it is about,
/// which keeps them where they are in memory.
#[derive(Debug, Default)]
struct Fates {
    by_kinds: HashMap<Key, (Fate, Vec<Arc<Kind>>)>,
    chances: u64,
}

/// What was found out, as long as it holds.
#[derive(Debug, Default)]
pub(crate) struct Prey {
    herds: HashMap<i32, Arc<Herd>>,
    /// The last one that was found for a group with pods on nodes, and for whom.
    own: Option<(Text, i32, Arc<Herd>)>,
    /// What of who could be evicted had changed by then.
    at: u64,
    fates: HashMap<i32, Fates>,
}

impl Prey {
    /// Whether a search for such a group is known to be in vain, as things are.
    pub(crate) fn knows(&self, vain: &Vain, sought: &Sought, changes: &Changes) -> bool {
        let counted = sought.priority.filter(|_| vain.is_alone).and_then(|priority| {
            let fates = self.fates.get(&priority)?;
            Some(
                fates.chances == changes.chances(priority, &ALONE)
                    && fates.by_kinds.contains_key(&vain.kinds),
            )
        });
        counted.unwrap_or(false)
    }

    /// Forgets what doesn't hold any more.
    pub(crate) fn begin(&mut self, changes: &Changes) {
        if self.at != changes.evictable() {
            (self.herds, self.own, self.at) = (HashMap::new(), None, changes.evictable());
        }
        self.fates.retain(|priority, fates| fates.chances == changes.chances(*priority, &ALONE));
    }
}

impl Cluster {
    /// The groups that could be evicted for a group.
    pub(super) fn herd(&mut self, key: &Text, priority: i32) -> Arc<Herd> {
        self.prey.begin(&self.changes);
        if self.has_pods_on_nodes(key) {
            let known = self.prey.own.take().filter(|(of, at, _)| of == key && *at == priority);
            let herd =
                known.map_or_else(|| Herd::find(self, Some(key), priority).into(), |(_, _, herd)| herd);
            self.prey.own = Some((key.clone(), priority, Arc::clone(&herd)));
            return herd;
        }
        if let Some(herd) = self.prey.herds.get(&priority) {
            return herd.clone();
        }
        let herd = Arc::new(Herd::find(self, None, priority));
        self.prey.herds.insert(priority, herd.clone());
        herd
    }

    /// Whether a group was looked at in vain already that is the same in all that matters.
    pub(super) fn known_fate(&mut self, alike: &[Alike], priority: i32) -> Option<Fate> {
        self.prey.begin(&self.changes);
        let key = self.fate_key(alike)?;
        self.prey.fates.get(&priority)?.by_kinds.get(&key).map(|(fate, _)| *fate)
    }

    /// No room is made for a group, nor for any like it.
    pub(super) fn remember_fate(&mut self, alike: &[Alike], priority: i32, fate: Fate) {
        self.prey.begin(&self.changes);
        if let Some(key) = self.fate_key(alike) {
            let kinds = alike.iter().map(|alike| alike.kind.clone()).collect();
            let fates = self.prey.fates.entry(priority).or_default();
            fates.chances = self.changes.chances(priority, &ALONE);
            fates.by_kinds.insert(key, (fate, kinds));
        }
    }

    /// What decides the fate of a group; nothing where more does than its kinds, how many it is, and its priority.
    fn fate_key(&self, alike: &[Alike]) -> Option<Key> {
        let is_alone = self.is_alone(alike) && !around::looks(self, alike);
        is_alone.then(|| alike.iter().map(|alike| (id_of(&alike.kind), alike.count())).collect())
    }

    /// Whether no pod of the group holds anything yet.
    pub(crate) fn is_alone(&self, alike: &[Alike]) -> bool {
        let first = alike.first().and_then(|alike| self.known(*alike.pods.first()?));
        let group = first.and_then(|known| known.group.as_ref());
        group.is_some_and(|group| !self.has_pods_on_nodes(group))
    }

    fn has_pods_on_nodes(&self, key: &str) -> bool {
        let Some(group) = self.find_group(key) else { return false };
        group.members.iter().any(|id| self.known(*id).is_some_and(|known| known.on.is_some()))
    }
}

impl Herd {
    fn find(cluster: &Cluster, own: Option<&Text>, priority: i32) -> Self {
        cluster.looked(cluster.pods());
        let groups = gathered(cluster, own, priority);
        let pods: Vec<PodId> = groups.iter().flat_map(|group| group.pods.iter().copied()).collect();
        Self { gains: gains(cluster, pods.iter()), groups: groups.into_iter().map(Arc::new).collect() }
    }
}
