//! Preemption: a group that fits nowhere gets the nodes of groups of lower priority, after it was shown that all of it fits
//! there once they are gone.

mod candidates;
mod search;
mod stage;

use candidates::Candidates;
use search::Found;
use stage::Stage;

use crate::{
    cluster::Cluster,
    labels::Text,
    node::{NodeId, PodId},
    plan::{Alike, Decision, Placement, Victim},
};

/// How often one plan looks for somebody to evict. Each time all pods on nodes are looked at once or more.
pub(crate) const ATTEMPTS: usize = 2;
/// How many of the groups that are evicted a message names.
const NAMED: usize = 5;

/// What comes of a group that fits nowhere.
pub(crate) enum Room {
    /// It is being made: the decision says how.
    Made(Decision),
    /// Nodes are kept for it, and it fits there once so many pods have ended that are ending.
    Ending(usize),
    /// Evicting whom it may evict wouldn't help, or that can't be shown.
    InVain,
    /// It was tried too often to find whom to evict.
    GivenUp,
    /// It may evict nobody.
    NotTried,
    /// Others have looked so often that it must wait for its turn.
    Later,
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
    let Some((priority, may)) = standing(cluster, alike) else { return Room::NotTried };
    if !may || !cluster.has_below(priority) {
        return Room::NotTried;
    }
    if cluster.attempts == 0 {
        return Room::Later;
    }
    cluster.attempts -= 1;
    let reserved = take_reserved(cluster, alike);
    let (found, has_tries) = look(cluster, priority, alike);
    if let Some(Found { victims, ending, .. }) = &found
        && victims.is_empty()
        && !reserved.is_empty()
    {
        // What was decided before still holds.
        reserved.into_iter().for_each(|(pod, node)| cluster.reserve(pod, node));
        return Room::Ending(*ending);
    }
    reserved.iter().for_each(|(pod, node)| cluster.reserve(*pod, *node));
    cluster.cancel_reservation(key);
    match found {
        Some(found) => Room::Made(decide(cluster, key, alike, found)),
        None if has_tries => Room::InVain,
        None => Room::GivenUp,
    }
}

/// Whom to evict, and where the group fits then; and whether more could have been tried. Changes nothing.
fn look(cluster: &mut Cluster, priority: i32, alike: &[Alike]) -> (Option<Found>, bool) {
    let candidates = Candidates::new(cluster, priority, alike);
    if !candidates.add_up {
        return (None, true);
    }
    let mut stage = Stage::new(cluster, alike);
    let ending = candidates.ending.len();
    let others = candidates.ending.iter().chain(&candidates.promised);
    stage.lift(others.copied());
    let fits_soon = if stage.is_empty() { None } else { stage.find() };
    if let Some(places) = fits_soon {
        return (Some(Found { victims: Vec::new(), places, ending }), true);
    }
    let found = search::cheapest(&mut stage, &candidates).map(|found| Found { ending, ..found });
    (found, stage.has_tries())
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
    let pods = alike.iter().flat_map(|alike| &alike.pods);
    for (pod, node) in pods.zip(found.places) {
        cluster.reserve(*pod, node);
        let Some(known) = cluster.known(*pod) else { continue };
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
