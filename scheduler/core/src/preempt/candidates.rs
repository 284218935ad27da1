//! Who could be evicted for a group: whole groups of lower priority that are on nodes where that would help.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    amounts::Tally,
    around,
    cluster::{Cluster, Group, Known, is_gang, is_single},
    filter,
    labels::Text,
    node::{Node, NodeId, PodId},
    plan::Alike,
    pod::Kind,
};

/// How many more places than twice the pods are looked at first.
const SPARE_PLACES: i64 = 8;

/// Pods that are evicted together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// `namespace/name` of a gang, `namespace/pod:name` of a pod of none, `namespace/podgroup:name` of an upstream PodGroup.
    pub(crate) key: Text,
    pub(crate) pods: Vec<PodId>,
    /// The highest of its pods'.
    pub(crate) priority: i32,
    /// When the first of them was started, in seconds.
    pub(crate) started: i64,
    /// Whether its eviction breaks a budget that those before it, who are cheaper, leave whole.
    pub(crate) breaks_budget: bool,
}

/// All of them, the cheapest first.
pub(crate) struct Candidates {
    pub(crate) groups: Vec<Arc<Candidate>>,
    /// Pods that are ending anyhow.
    pub(crate) ending: Vec<PodId>,
    /// Pods of lower priority for which nodes are kept on which they aren't.
    pub(crate) promised: Vec<PodId>,
    /// Whether the group isn't ruled out by counting, were all of these gone.
    pub(crate) add_up: bool,
}

impl Candidates {
    pub(crate) fn new(
        cluster: &mut Cluster,
        (key, priority): (&Text, i32),
        (ending, promised): (Vec<PodId>, Vec<PodId>),
        alike: &[Alike],
    ) -> Self {
        let herd = cluster.herd(key, priority);
        let useful = Useful::new(cluster, alike, &herd.gains);
        if !useful.add_up {
            return Self { groups: Vec::new(), ending, promised, add_up: false };
        }
        cluster.looked(herd.groups.len());
        let mut groups = herd.groups.clone();
        if !around::matters(cluster, alike) {
            groups.retain(|group| useful.any_of(cluster, &group.pods));
        }
        sort_by_budgets(cluster, &mut groups);
        Self { groups, ending, promised, add_up: true }
    }

    /// Those of them on nodes that get room first when one group after the other goes, the cheapest first: on about twice as
    /// many as are needed. Every group that has to go before there is room enough in sum is among them.
    pub(crate) fn nearest(&self, cluster: &Cluster, alike: &[Alike]) -> Vec<Arc<Candidate>> {
        let gone = gains(cluster, self.ending.iter().chain(&self.promised));
        let mut ranked: HashMap<NodeId, Vec<(usize, PodId)>> = HashMap::new();
        for (rank, group) in self.groups.iter().enumerate() {
            for pod in &group.pods {
                if let Some(on) = cluster.known(*pod).and_then(|known| known.on) {
                    ranked.entry(on).or_default().push((rank, *pod));
                }
            }
        }
        let mut nodes = HashSet::new();
        // What is too small for one more pod of a kind may be enough beside a pod of another.
        let is_mixed = alike.len() > 1;
        for alike in alike {
            let mut places = Vec::new();
            for (id, pods) in &ranked {
                let node = &cluster.nodes[id.index()];
                let mut gain = gone.get(id).cloned().unwrap_or_default();
                let mut before = room(&alike.kind, (node, Some(&gain)));
                for (rank, pod) in pods {
                    if let Some(holds) = cluster.known(*pod).and_then(|known| known.pod.holds.as_ref()) {
                        gain.add(holds);
                    }
                    let after = room(&alike.kind, (node, Some(&gain)));
                    if after > before || is_mixed {
                        places.push((*rank, *id, after - before));
                        before = after;
                    }
                }
            }
            places.sort_unstable();
            let (wanted, mut found) = (i64::try_from(alike.pods.len()).unwrap_or(i64::MAX), 0_i64);
            let enough = wanted.saturating_mul(2).saturating_add(SPARE_PLACES);
            for (_, node, more) in places {
                if found >= enough {
                    break;
                }
                found = found.saturating_add(more);
                nodes.insert(node);
            }
        }
        let is_near =
            |id: &PodId| cluster.known(*id).and_then(|known| known.on).is_some_and(|on| nodes.contains(&on));
        self.groups.iter().filter(|group| group.pods.iter().any(is_near)).cloned().collect()
    }
}

/// The groups of lower priority than that which may be evicted, the cheapest first; but for one's own, whose pods may be of
/// several priorities.
pub(super) fn gathered(cluster: &Cluster, own: Option<&Text>, priority: i32) -> Vec<Candidate> {
    let mut gathered = Gathered::new(cluster, priority, own);
    for (_, node) in cluster.existing() {
        for id in &node.pods {
            if let Some(known) = cluster.known(*id).filter(|known| !known.is_ending()) {
                gathered.consider(*id, known);
            }
        }
    }
    let mut groups = gathered.groups();
    groups.sort_by(by_rank);
    groups
}

/// The groups of lower priority that may be evicted, as they are come across.
struct Gathered<'a> {
    cluster: &'a Cluster,
    priority: i32,
    /// Nothing for a group that must not be evicted.
    groups: HashMap<Text, Option<Candidate>>,
    singles: Vec<Candidate>,
}

impl<'a> Gathered<'a> {
    fn new(cluster: &'a Cluster, priority: i32, own: Option<&Text>) -> Self {
        let own = own.map(|key| (key.clone(), None));
        Self { cluster, priority, groups: own.into_iter().collect(), singles: Vec::new() }
    }

    fn consider(&mut self, id: PodId, known: &Known) {
        if known.group.is_some() && known.pod.node.is_none() && known.assumed.is_none() {
            // It only has a node kept for it.
            return;
        }
        let gang = known.group.as_ref().filter(|key| is_gang(key));
        if let Some(key) = gang {
            if !self.groups.contains_key(key) {
                let found = self.cluster.find_group(key).and_then(|group| self.gang(key, group));
                self.groups.insert(key.clone(), found);
            }
            return;
        }
        if known.pod.priority >= self.priority && known.pod.pod_group.is_none() {
            return;
        }
        let may_go = self.may_go(known) && known.group.as_ref().is_none_or(|key| self.is_idle(key));
        let priority = self.cluster.guarded_priority(&known.pod);
        let Some(key) = self.cluster.evicted_with(&known.pod) else {
            if may_go {
                let own = known.group.clone().filter(|key| is_single(key));
                let key = || format!("{}/pod:{}", known.pod.namespace(), known.pod.name).into();
                let mut single = candidate(own.unwrap_or_else(key));
                join(&mut single, id, (known, priority));
                self.singles.push(single);
            }
            return;
        };
        // One pod that must stay keeps all of them.
        let group = self.groups.entry(key.clone()).or_insert_with(|| Some(candidate(key)));
        if may_go {
            group.iter_mut().for_each(|group| join(group, id, (known, priority)));
        } else {
            *group = None;
        }
    }

    fn gang(&self, key: &Text, group: &Group) -> Option<Candidate> {
        if !self.is_idle(key) {
            return None;
        }
        let mut found = candidate(key.clone());
        for id in &group.members {
            let Some(known) = self.cluster.known(*id).filter(|known| known.on.is_some()) else { continue };
            if known.pod.node.is_none() && known.assumed.is_none() {
                // It only has a node kept for it.
                continue;
            }
            if known.is_ending() {
                continue;
            }
            if !self.may_go(known) {
                return None;
            }
            join(&mut found, *id, (known, self.cluster.guarded_priority(&known.pod)));
        }
        Some(found)
    }

    /// Whether no plan of ours is being carried out for the group.
    fn is_idle(&self, key: &str) -> bool {
        self.cluster.find_group(key).is_none_or(|group| !group.is_busy && !group.has_journal())
    }

    /// Whether the pod is of lower priority, bound, and known well enough for that to be said; and its node is freer when it
    /// is deleted.
    fn may_go(&self, known: &Known) -> bool {
        let pod = &known.pod;
        self.cluster.guarded_priority(pod) < self.priority
            && pod.node.is_some()
            && pod.holds.is_some()
            && !pod.stage.is_finished
            && !pod.is_mirror
    }

    fn groups(self) -> Vec<Candidate> {
        let groups = self.groups.into_values().flatten().filter(|group| !group.pods.is_empty());
        groups.chain(self.singles).collect()
    }
}

fn candidate(key: Text) -> Candidate {
    Candidate { key, pods: Vec::new(), priority: i32::MIN, started: i64::MAX, breaks_budget: false }
}

fn join(group: &mut Candidate, id: PodId, (known, priority): (&Known, i32)) {
    group.pods.push(id);
    group.priority = group.priority.max(priority);
    group.started = group.started.min(known.pod.started);
}

/// What each node gains when these pods are gone.
pub(super) fn gains<'a>(cluster: &Cluster, pods: impl Iterator<Item = &'a PodId>) -> HashMap<NodeId, Tally> {
    let mut gains: HashMap<NodeId, Tally> = HashMap::new();
    for known in pods.filter_map(|id| cluster.known(*id)) {
        if let (Some(on), Some(holds)) = (known.on, &known.pod.holds) {
            gains.entry(on).or_default().add(holds);
        }
    }
    gains
}

/// The nodes that can take a pod of the group when all are gone who may have to.
struct Useful {
    nodes: HashSet<NodeId>,
    add_up: bool,
}

impl Useful {
    fn new(cluster: &Cluster, alike: &[Alike], gains: &HashMap<NodeId, Tally>) -> Self {
        cluster.looked(cluster.nodes.len() * alike.len());
        let (mut nodes, mut places) = (HashSet::new(), vec![0_i128; alike.len()]);
        for (id, node) in cluster.existing() {
            let gain = gains.get(&id);
            for (places, alike) in places.iter_mut().zip(alike) {
                let room = room(&alike.kind, (node, gain));
                *places += i128::from(room);
                if room > 0 && gain.is_some() {
                    nodes.insert(id);
                }
            }
        }
        let is_enough = |(places, alike): (&i128, &Alike)| {
            *places >= i128::try_from(alike.pods.len()).unwrap_or(i128::MAX)
        };
        Self { nodes, add_up: places.iter().zip(alike).all(is_enough) }
    }

    fn any_of(&self, cluster: &Cluster, pods: &[PodId]) -> bool {
        let is_useful = |id: &PodId| {
            cluster.known(*id).and_then(|known| known.on).is_some_and(|on| self.nodes.contains(&on))
        };
        pods.iter().any(is_useful)
    }
}

/// How many pods of a kind would fit on a node with so much more.
fn room(kind: &Kind, (node, gain): (&Node, Option<&Tally>)) -> i64 {
    let free = |id| node.free(id).saturating_add(gain.map_or(0, |gain| gain.get(id)));
    let asked = kind.requests.iter().filter(|(_, amount)| *amount > 0);
    let room = asked.map(|(id, amount)| free(id) / amount).min().unwrap_or(i64::MAX).max(0);
    if room == 0 || filter::is_lasting_refusal(kind, node) { 0 } else { room }
}

/// The cheapest first: those that break no budget, then by priority, then those that have run the least.
fn by_rank(a: &Candidate, b: &Candidate) -> Ordering {
    let (mine, other) = ((a.breaks_budget, a.priority), (b.breaks_budget, b.priority));
    mine.cmp(&other).then_with(|| b.started.cmp(&a.started)).then_with(|| a.key.cmp(&b.key))
}

/// Puts those behind that break a budget which those before them leave whole.
fn sort_by_budgets(cluster: &Cluster, groups: &mut [Arc<Candidate>]) {
    if cluster.budgets.is_empty() {
        return;
    }
    let mut left: Vec<i64> = cluster.budgets.values().map(|budget| budget.allowed).collect();
    for group in &mut *groups {
        if breaks(cluster, &mut left, &group.pods) > 0 {
            *group = Arc::new(Candidate { breaks_budget: true, ..(**group).clone() });
        }
    }
    groups.sort_by(|a, b| by_rank(a, b));
}

/// How many of these pods go beyond what is left of a budget.
pub(crate) fn breaks(cluster: &Cluster, left: &mut [i64], pods: &[PodId]) -> usize {
    let mut broken = 0;
    for pod in pods.iter().filter_map(|id| Some(&cluster.known(*id)?.pod)) {
        let mut is_broken = false;
        for (budget, left) in cluster.budgets.values().zip(left.iter_mut()) {
            if budget.is_about(pod) {
                *left -= 1;
                is_broken |= *left < 0;
            }
        }
        broken += usize::from(is_broken);
    }
    broken
}
