//! Preemption: a group that fits nowhere gets the nodes of groups of lower priority, after it was shown that all of it fits
//! there once they are gone.

mod candidates;
mod choice;
mod prey;
mod search;
mod stage;

use candidates::Candidates;
pub(crate) use prey::Prey;
use search::Found;
use stage::Stage;

use crate::{
    around,
    cluster::{Changes, Cluster, Concerns},
    labels::Text,
    node::{NodeId, PodId},
    plan::{Alike, Decision, Placement, Victim},
};

/// How many of the groups that are evicted a message names.
const NAMED: usize = 5;

/// What comes of a group that fits nowhere.
pub(crate) enum Room {
    /// It is being made: the decision says how.
    Made(Decision),
    /// It isn't.
    Not(Fate),
}

/// Why no room is made for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nodes are kept for it, and it fits there once so many pods have ended that are ending.
    Ending(usize),
    /// Evicting whom it may evict wouldn't help, or that can't be shown.
    InVain,
    /// It was tried too often to find whom to evict.
    GivenUp,
    /// It may evict nobody: there is no pod below its priority, or it never may.
    NotTried,
}

/// What a group that found nobody to evict waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sought {
    /// What came of it.
    pub(crate) fate: Fate,
    /// By which priority it evicts; nothing where it never does.
    priority: Option<i32>,
    concerns: Concerns,
    /// What chances there had been.
    chances: u64,
}

impl Sought {
    pub(crate) fn new(cluster: &Cluster, alike: &[Alike], fate: Fate) -> Self {
        let may = standing(cluster, alike).filter(|(_, may)| *may);
        let (priority, concerns) = (may.map(|(priority, _)| priority), around::concerns(cluster, alike));
        let chances = cluster.changes.chances(priority.unwrap_or(i32::MAX), &concerns);
        Self { fate, priority, concerns, chances }
    }

    /// Whether it is worth another search, where so low a priority is on nodes.
    pub(crate) fn has_chance(&self, changes: &Changes, lowest: Option<i32>) -> bool {
        let Some(priority) = self.priority else { return false };
        let has_below = lowest.is_some_and(|lowest| lowest < priority);
        let has_moved = || self.chances != changes.chances(priority, &self.concerns);
        match self.fate {
            // Whoever takes its nodes, or changes them, rouses it; but what is around it changes elsewhere, too.
            Fate::Ending(_) => self.concerns.any() && has_moved(),
            Fate::NotTried => has_below,
            Fate::InVain | Fate::GivenUp => has_below && has_moved(),
        }
    }
}

/// The priority by which a group takes nodes from others: that of the least of its pods, and whether it may at all.
pub(crate) fn standing(cluster: &Cluster, alike: &[Alike]) -> Option<(i32, bool)> {
    let pods = alike.iter().flat_map(|alike| &alike.pods).filter_map(|id| Some(&cluster.known(*id)?.pod));
    let of_each = pods.map(|pod| (pod.priority, pod.may_preempt));
    of_each.reduce(|(least, all), (priority, may)| (least.min(priority), all && may))
}

/// Takes the nodes that are kept for the group off it. They must be given back, or others be kept.
pub(crate) fn take_reserved(cluster: &mut Cluster, alike: &[Alike]) -> Vec<(PodId, NodeId)> {
    let pods = alike.iter().flat_map(|alike| &alike.pods);
    pods.filter_map(|pod| Some((*pod, cluster.unreserve(*pod)?))).collect()
}

/// Makes room for a group that fits nowhere, where that can be shown to help.
pub(crate) fn make_room(cluster: &mut Cluster, key: &Text, alike: &[Alike]) -> Room {
    let Some((priority, may)) = standing(cluster, alike) else { return Room::Not(Fate::NotTried) };
    if !may || !cluster.has_below(priority) {
        return Room::Not(Fate::NotTried);
    }
    if let Some(fate) = cluster.known_fate(alike, priority) {
        return Room::Not(fate);
    }
    cluster.changes.begin_trial();
    let reserved = take_reserved(cluster, alike);
    let awaited = cluster.awaited(&reserved);
    let (found, fate) = look(cluster, key, (priority, alike), awaited);
    reserved.iter().for_each(|(pod, node)| cluster.reserve(*pod, *node));
    cluster.changes.end_trial();
    match found {
        // What was decided before still holds.
        Some(found) if found.victims.is_empty() && !reserved.is_empty() => {
            Room::Not(Fate::Ending(found.ending))
        }
        Some(found) => {
            cluster.cancel_reservation(key);
            Room::Made(decide(cluster, key, alike, found))
        }
        None => {
            cluster.cancel_reservation(key);
            cluster.remember_fate(alike, priority, fate);
            Room::Not(fate)
        }
    }
}

/// Whom to evict, and where the group fits then, without those who end without that; else why not. Changes nothing.
fn look(
    cluster: &mut Cluster,
    key: &Text,
    (priority, alike): (i32, &[Alike]),
    ending: Vec<PodId>,
) -> (Option<Found>, Fate) {
    let promised = cluster.promised_below(priority);
    let mut stage = Stage::new(cluster, alike);
    stage.lift(ending.iter().chain(&promised).copied());
    if !stage.is_empty()
        && let Some(places) = stage.find()
    {
        return (Some(Found { victims: Vec::new(), places, ending: ending.len() }), Fate::InVain);
    }
    let candidates = Candidates::new(stage.cluster, (key, priority), (ending, promised), alike);
    if !candidates.add_up {
        return (None, Fate::InVain);
    }
    let ending = candidates.ending.len();
    let found = search::cheapest(&mut stage, &candidates).map(|found| Found { ending, ..found });
    (found, if stage.has_tries() { Fate::InVain } else { Fate::GivenUp })
}

/// Keeps the nodes, and says who must go.
fn decide(cluster: &mut Cluster, key: &Text, alike: &[Alike], found: Found) -> Decision {
    let priority = standing(cluster, alike).map_or(0, |(priority, _)| priority);
    let message = message(&found);
    let mut victims = Vec::new();
    for group in &found.victims {
        for id in &group.pods {
            cluster.sends_away(*id);
            let Some(known) = cluster.known(*id) else { continue };
            victims.push(Victim {
                namespace: known.pod.namespace().to_string(),
                pod: known.pod.name.to_string(),
                uid: known.pod.uid.to_string(),
                group: group.key.to_string(),
            });
        }
    }
    let mut nominations = Vec::new();
    for (pod, node) in found.places {
        cluster.reserve(pod, node);
        let Some(known) = cluster.known(pod) else { continue };
        nominations.push(Placement {
            pod: known.pod.name.to_string(),
            uid: known.pod.uid.to_string(),
            node: cluster.nodes[node.index()].name.to_string(),
            volumes: Vec::new(),
        });
    }
    cluster.begin_reservation(key);
    cluster.rouse_reserved();
    cluster.set_busy(key, true);
    Decision::Preempt { group: key.to_string(), priority, victims, nominations, message }
}

fn message(found: &Found) -> String {
    let groups = found.victims.len();
    if groups == 0 {
        return format!("waits for {} pods to end that are ending; nodes are kept for it", found.ending);
    }
    let pods: usize = found.victims.iter().map(|group| group.pods.len()).sum();
    let mut named: Vec<&str> = found.victims.iter().take(NAMED).map(|group| &*group.key).collect();
    if groups > NAMED {
        named.push("…");
    }
    format!("evicts {groups} groups of lower priority ({pods} pods) to make room: {}", named.join(", "))
}

#[cfg(test)]
mod tests;
