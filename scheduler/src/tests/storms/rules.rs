//! What must hold: no node gets more than it has by what we bind, and no gang is left in halves.

use std::collections::{BTreeMap, BTreeSet};

use plasma_api::names;
use serde_json::Value;
use tokio::time::Instant;

use crate::{cycle::Scheduler, tests::api_server::Objects};

/// What was planned with which knowledge.
#[derive(Default)]
pub(super) struct Plans {
    /// The pods, by UID, that a journal has named.
    journalled: BTreeSet<String>,
    /// By a pod's UID.
    of: BTreeMap<String, Planned>,
    /// Other schedulers' pods on nodes, by UID, and since which event.
    foreign: BTreeMap<String, usize>,
}

/// A pod's node, and what was known when it was chosen.
struct Planned {
    node: String,
    known: Known,
    at: Instant,
}

/// Up to which event something is known.
#[derive(Clone, Copy, Default)]
pub(super) struct Known {
    pub(super) pods: usize,
    pub(super) nodes: usize,
}

impl Plans {
    /// When this node was chosen for a pod, if it was.
    pub(super) fn chosen(&self, uid: &str, node: &str) -> Option<Instant> {
        self.of.get(uid).filter(|planned| planned.node == node).map(|planned| planned.at)
    }

    /// Pods have changed; so many events have happened.
    pub(super) fn pods_change(&mut self, pods: &BTreeMap<String, Value>, events: usize) {
        for pod in pods.values().filter(|pod| !is_ours(pod) && pod["spec"]["nodeName"].is_string()) {
            self.foreign.entry(uid(pod)).or_insert(events);
        }
    }

    /// Takes in what a scheduler has decided. Answers what of it is news.
    pub(super) fn remember(&mut self, objects: &Objects, scheduler: &Scheduler, known: Known) -> Vec<String> {
        let mut news = Vec::new();
        for pod in objects.pods.values().filter(|pod| is_ours(pod)) {
            let (uid, name) = (uid(pod), &pod["metadata"]["name"]);
            match scheduler.state.cluster.node_of(&uid) {
                Some(node) if self.of.get(&uid).is_none_or(|before| before.node != node) => {
                    news.push(format!("{name} is to go to {node}"));
                    self.of.insert(uid, Planned { node: node.to_owned(), known, at: Instant::now() });
                }
                Some(_) => {}
                // Where a plan stands in the gang's journal, it is the same plan when somebody reads it there.
                None if is_journalled(objects, pod, &uid) => {}
                None => {
                    if self.of.remove(&uid).is_some() {
                        news.push(format!("{name} is to go nowhere"));
                    }
                }
            }
        }
        news
    }

    /// A gang's status is written, with its journal.
    pub(super) fn is_journalled(&mut self, gang: &Value) {
        let placements = gang["status"]["journal"]["placements"].as_array().into_iter().flatten();
        self.journalled.extend(placements.filter_map(|place| place["podUid"].as_str()).map(str::to_owned));
    }

    /// Whether a pod is sent off for its gang before a journal says so.
    pub(super) fn is_unannounced(&self, pod: &Value) -> bool {
        !gang_of(pod).is_empty() && !self.journalled.contains(&uid(pod))
    }

    /// What is wrong with a plan for too few pods, by the history of all pods: when, how, and whether then it was gone.
    pub(super) fn falls_short<'a>(
        &self,
        gang: &Value,
        pods: impl Iterator<Item = (usize, &'a Value, bool)>,
    ) -> Option<String> {
        let name = gang["metadata"]["name"].as_str()?;
        let placements = gang["status"]["journal"]["placements"].as_array()?;
        let planned: BTreeSet<&str> =
            placements.iter().filter_map(|place| place["podUid"].as_str()).collect();
        let known =
            planned.iter().map(|uid| self.of.get(*uid).map_or(0, |planned| planned.known.pods)).min()?;
        let mut held: BTreeSet<String> = BTreeSet::new();
        for (at, pod, is_gone) in pods.filter(|(_, pod, _)| gang_of(pod) == name) {
            if !is_gone && pod["spec"]["nodeName"].is_string() && !has_ended(pod) {
                held.insert(uid(pod));
            } else if at < known {
                held.remove(&uid(pod));
            }
        }
        let beside = held.iter().filter(|uid| !planned.contains(&***uid)).count();
        let least = usize::try_from(gang["spec"]["minMember"].as_u64()?).ok()?;
        let message = || format!("{} pods of {name} are sent off beside {beside}, of {least}", planned.len());
        (planned.len() + beside < least).then(message)
    }

    /// What is wrong with the binding of this pod, which was just carried out.
    /// A node has had so much room at most since so many events were known.
    pub(super) fn judge(
        &self,
        objects: &Objects,
        bound: &str,
        most_room: impl Fn(&str, usize) -> usize,
    ) -> Option<String> {
        let pod = objects.pods.values().find(|pod| uid(pod) == bound)?;
        let node = pod["spec"]["nodeName"].as_str()?;
        objects.nodes.get(node)?;
        let known = self.of.get(bound).map_or(Known::default(), |planned| planned.known);
        let gpus = most_room(node, known.nodes);
        let counts = |pod: &&Value| {
            let is_foreign_and_new = || self.foreign.get(&uid(pod)).is_some_and(|since| *since > known.pods);
            holds(pod, node) && (is_ours(pod) || !is_foreign_and_new())
        };
        let on: Vec<&Value> = objects.pods.values().filter(counts).collect();
        let names: Vec<&str> = on.iter().filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
        (on.len() > gpus).then(|| format!("{names:?} are on {node}, which has {gpus} GPUs"))
    }
}

fn is_journalled(objects: &Objects, pod: &Value, uid: &str) -> bool {
    let journal = objects.gangs.get(&gang_of(pod)).map(|gang| &gang["status"]["journal"]["placements"]);
    let placements = journal.and_then(Value::as_array);
    placements.is_some_and(|placements| placements.iter().any(|place| place["podUid"] == uid))
}

pub(super) fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

pub(super) fn gang_of(pod: &Value) -> String {
    pod["metadata"]["labels"][names::GANG_LABEL].as_str().unwrap_or_default().to_owned()
}

pub(super) fn is_ours(pod: &Value) -> bool {
    pod["spec"]["schedulerName"] == names::SCHEDULER_NAME
}

/// Whether a pod holds a GPU of the node.
pub(super) fn holds(pod: &Value, node: &str) -> bool {
    pod["spec"]["nodeName"] == node && !has_ended(pod)
}

pub(super) fn has_ended(pod: &Value) -> bool {
    pod["status"]["phase"] == "Failed" || pod["status"]["phase"] == "Succeeded"
}

pub(super) fn gpus(node: &Value) -> usize {
    node["status"]["allocatable"]["nvidia.com/gpu"].as_str().unwrap().parse().unwrap()
}

/// How many GPUs are free, on each node.
pub(super) fn free(objects: &Objects) -> BTreeMap<String, usize> {
    let free = |(name, node): (&String, &Value)| {
        let held = objects.pods.values().filter(|pod| holds(pod, name)).count();
        (name.clone(), gpus(node).saturating_sub(held))
    };
    objects.nodes.iter().map(free).collect()
}

/// The pods of a gang that stay, those on nodes and those that wait.
pub(super) fn members(objects: &Objects, gang: &str) -> (usize, usize) {
    let stays = |pod: &&Value| {
        gang_of(pod) == gang && pod["metadata"]["deletionTimestamp"].is_null() && !has_ended(pod)
    };
    let bound = objects.pods.values().filter(stays).filter(|pod| pod["spec"]["nodeName"].is_string()).count();
    (bound, objects.pods.values().filter(stays).count() - bound)
}

pub(super) fn half_gangs(objects: &Objects) -> BTreeSet<String> {
    let is_half = |(name, gang): (&String, &Value)| {
        let needed = usize::try_from(gang["spec"]["minMember"].as_u64().unwrap()).unwrap();
        let (bound, _) = members(objects, name);
        // It was whole once where one of its pods has failed: whether there is room for another is looked at elsewhere.
        let has_lost = objects.pods.values().any(|pod| gang_of(pod) == *name && has_ended(pod));
        (bound > 0 && bound < needed && !has_lost).then(|| format!("{name} ({})", uid(gang)))
    };
    objects.gangs.iter().filter_map(is_half).collect()
}
