//! Everybody else in the cluster: who makes pods and Gangs, the kubelets, another scheduler, and fate.

use plasma_api::names;
use serde_json::{Value, json};

use super::{
    closed::{self, ZONE},
    rules::{free, gang_of, gpus, has_ended, holds, is_ours, uid},
    world::World,
};
use crate::tests::{api_server::Objects, cluster::in_seconds};

/// GPUs of each node.
const NODES: [(&str, usize); 3] = [("n0", 3), ("n1", 2), ("n2", 4)];
/// The least and the most pods of each gang.
pub(super) const GANGS: [(&str, usize, usize); 3] = [("g0", 3, 3), ("g1", 2, 2), ("g2", 2, 4)];
/// The gang whose pods that have failed stay, where any do: others take their places.
const REPLACING: &str = "g2";
/// Pods of no gang.
const LONERS: [&str; 2] = ["s-0", "s-1"];

/// What makes and unmakes objects.
pub(super) struct Controllers {
    world: World,
    made: usize,
    /// How many pods each gang is to have now.
    wanted: [usize; 3],
}

impl Controllers {
    pub(super) fn new(world: World) -> Self {
        let mut objects = world.objects();
        for (name, gpus) in NODES {
            objects.nodes.insert(name.to_owned(), node(name, gpus));
        }
        drop(objects);
        let mut controllers = Self { world, made: 0, wanted: GANGS.map(|(_, least, _)| least) };
        controllers.go_on();
        controllers
    }

    /// What is always done, after so short a time that nobody minds.
    pub(super) fn go_on(&mut self) {
        let world = self.world.clone();
        let mut objects = world.objects();
        collect(&world, &mut objects);
        run(&world, &mut objects);
        self.restart_what_is_broken(&mut objects);
        self.make(&mut objects);
        drop(objects);
        world.has_changed();
    }

    /// What happens now and then.
    pub(super) fn happen(&mut self) {
        let (world, weather) = (self.world.clone(), self.world.weather());
        let what = world.throw(|dice| dice.below(12));
        let at = world.throw(|dice| dice.below(12));
        let mut objects = world.objects();
        match what {
            0 if weather.nodes_go => {
                let (name, gpus) = NODES[at % 3];
                if objects.nodes.remove(name).is_none() {
                    objects.nodes.insert(name.to_owned(), node(name, gpus));
                }
            }
            1 | 2 if weather.foreigners => self.come(&mut objects),
            3 if weather.foreigners => {
                let foreign =
                    objects.pods.iter().find(|(_, pod)| !is_ours(pod)).map(|(name, _)| name.clone());
                foreign.and_then(|name| objects.pods.remove(&name));
            }
            4 if weather.gangs_go => {
                objects.gangs.remove(GANGS[at % 3].0);
            }
            5 | 6 => {
                let (gang, least, most) = GANGS[at % 3];
                self.wanted[at % 3] = least + at % (most - least + 1);
                let wanted = self.wanted[at % 3];
                objects.pods.retain(|name, pod| gang_of(pod) != gang || number(name) < wanted);
            }
            7 if weather.loners_go => delete(&mut objects, |name, _| name == LONERS[at % 2]),
            8 => self.end(&mut objects, GANGS[at % 3].0),
            9 | 10 if weather.nodes_change => {
                let (name, gpus) = NODES[at % 3];
                if let Some(node) = objects.nodes.get_mut(name) {
                    closed::change(node, at / 3, gpus);
                    world.note(&format!("{name} changes: {node}"));
                }
            }
            _ => {}
        }
        drop(objects);
        world.has_changed();
    }

    /// Nodes that are there are as they were made, and nothing keeps pods from ending.
    pub(super) fn mend(&self) {
        for pod in self.world.objects().pods.values_mut() {
            pod["metadata"]["finalizers"] = Value::Null;
        }
        for (name, gpus) in NODES {
            self.world.objects().nodes.entry(name.to_owned()).and_modify(|mended| *mended = node(name, gpus));
        }
        self.world.has_changed();
    }

    /// Another scheduler finds a place for a pod of its own.
    fn come(&mut self, objects: &mut Objects) {
        let free = free(objects);
        let Some((node, _)) = free.iter().find(|(_, free)| **free > 0) else { return };
        self.made += 1;
        let mut pod = pod(&format!("f{}", self.made), "", (self.made, 1_000_000));
        pod["spec"]["schedulerName"] = json!("another");
        pod["spec"]["nodeName"] = json!(node);
        objects.pods.insert(format!("f{}", self.made), pod);
    }

    /// A gang has done its work: the next one has its name.
    fn end(&mut self, objects: &mut Objects, gang: &str) {
        delete(objects, |_, pod| gang_of(pod) == gang);
        objects.gangs.remove(gang);
    }

    /// A gang that lost a pod begins anew, whole. So does one whose Gang is gone.
    fn restart_what_is_broken(&mut self, objects: &mut Objects) {
        let weather = self.world.weather();
        for (gang, ..) in GANGS {
            let is_lost = |pod: &Value| {
                let is_evicted = || {
                    pod["status"]["conditions"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .any(|condition| condition["reason"] == "PreemptionByScheduler")
                };
                let has_failed = has_ended(pod) && !(weather.failed_stay && gang == REPLACING);
                gang_of(pod) == gang
                    && (has_failed || is_evicted() && !never_ends(pod) || pod["status"]["lost"] == true)
            };
            if !objects.gangs.contains_key(gang) || objects.pods.values().any(is_lost) {
                delete(objects, |_, pod| gang_of(pod) == gang);
            }
        }
        delete(objects, |_, pod| {
            gang_of(pod).is_empty() && (has_ended(pod) || pod["status"]["lost"] == true)
        });
    }

    fn make(&mut self, objects: &mut Objects) {
        for (at, (gang, least, _)) in GANGS.into_iter().enumerate() {
            let priority = self.priority(at);
            if !objects.gangs.contains_key(gang) {
                if objects.pods.values().any(|pod| gang_of(pod) == gang)
                    || self.world.throw(|dice| !dice.one_in(3))
                {
                    continue;
                }
                self.made += 1;
                let made = self.made;
                let metadata = json!({
                    "name": gang, "namespace": "ns", "uid": format!("{gang}-{made}"), "resourceVersion": format!("{}", 1 + made),
                });
                let gang_object = json!({
                    "apiVersion": "compute.plasma.dev/v1alpha1", "kind": "Gang", "metadata": metadata,
                    "spec": { "minMember": least, "priority": priority },
                });
                objects.gangs.insert(gang.to_owned(), gang_object);
            }
            for number in 0..self.wanted[at] {
                let mut name = format!("{gang}-{number}");
                while objects.pods.get(&name).is_some_and(has_ended) {
                    name.push('x');
                }
                self.make_pod(objects, &name, gang, priority);
            }
        }
        for (at, name) in LONERS.into_iter().enumerate() {
            self.make_pod(objects, name, "", self.priority(at + 1));
        }
    }

    fn make_pod(&mut self, objects: &mut Objects, name: &str, gang: &str, priority: i32) {
        // One after the other, not all at once.
        if objects.pods.contains_key(name) || !self.world.throw(|dice| dice.one_in(2)) {
            return;
        }
        self.made += 1;
        let mut pod = pod(name, gang, (self.made, priority));
        // Once it is calm, nothing keeps pods from ending.
        let never_end = self.world.weather().never_end && !self.world.state().is_calm;
        if never_end && self.world.throw(|dice| dice.one_in(5)) {
            pod["metadata"]["finalizers"] = json!(["example.com/keep"]);
        }
        objects.pods.insert(name.to_owned(), pod);
    }

    fn priority(&self, at: usize) -> i32 {
        if self.world.weather().priorities { [0, 10, 20][at % 3] } else { 0 }
    }
}

/// Pods on nodes that are gone are collected; pods that are being deleted end in time.
fn collect(world: &World, objects: &mut Objects) {
    let nodes = &objects.nodes;
    for pod in objects.pods.values_mut() {
        if pod["spec"]["nodeName"].as_str().is_some_and(|node| !nodes.contains_key(node)) {
            pod["status"]["lost"] = json!(true);
        }
    }
    objects.pods.retain(|_, pod| {
        pod["metadata"]["deletionTimestamp"].is_null()
            || never_ends(pod)
            || !world.throw(|dice| dice.one_in(4))
    });
}

/// Kubelets start what is bound, and refuse what came too much.
fn run(world: &World, objects: &mut Objects) {
    let fails = world.weather().failed_stay && !world.state().is_calm;
    let nodes: Vec<(String, usize)> =
        objects.nodes.iter().map(|(name, node)| (name.clone(), gpus(node))).collect();
    for (node, gpus) in nodes {
        let mut free = gpus;
        let mut on: Vec<&mut Value> = objects.pods.values_mut().filter(|pod| holds(pod, &node)).collect();
        // Who runs already stays.
        on.sort_by_key(|pod| pod["status"]["phase"] != "Running");
        for pod in on {
            let is_pending = pod["status"]["phase"] == "Pending";
            if free == 0 && is_pending {
                world.note(&format!("{node} refuses {}", pod["metadata"]["name"]));
                pod["status"]["phase"] = json!("Failed");
                pod["status"]["reason"] = json!("OutOfnvidia.com/gpu");
                continue;
            }
            free = free.saturating_sub(1);
            if is_pending && world.throw(|dice| dice.one_in(3)) {
                pod["status"]["phase"] = json!("Running");
            } else if fails && gang_of(pod) == REPLACING && world.throw(|dice| dice.one_in(100)) {
                world.note(&format!("{} fails", pod["metadata"]["name"]));
                pod["status"]["phase"] = json!("Failed");
            }
        }
    }
}

/// Whether a pod goes on ending once it is deleted.
fn never_ends(pod: &Value) -> bool {
    pod["metadata"]["finalizers"].is_array()
}

/// Pods are deleted, as the API server does it: those on nodes end in time.
fn delete(objects: &mut Objects, whom: impl Fn(&str, &Value) -> bool) {
    objects.pods.retain(|name, pod| {
        if !whom(name, pod) {
            return true;
        }
        pod["metadata"]["deletionTimestamp"] = json!(in_seconds(30));
        never_ends(pod) || pod["spec"]["nodeName"].is_string() && !has_ended(pod)
    });
}

fn number(name: &str) -> usize {
    name.rsplit_once('-').and_then(|(_, number)| number.trim_end_matches('x').parse().ok()).unwrap_or(0)
}

fn node(name: &str, gpus: usize) -> Value {
    let free = json!({ "nvidia.com/gpu": gpus.to_string(), "pods": "20" });
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": { "zone": ZONE } },
        "spec": {}, "status": { "allocatable": free },
    })
}

fn pod(name: &str, gang: &str, (number, priority): (usize, i32)) -> Value {
    let is_choosy = gang == "g1" || name == LONERS[1];
    let selector = if is_choosy { json!({ "zone": ZONE }) } else { json!({}) };
    let labels = if gang.is_empty() { json!({}) } else { json!({ names::GANG_LABEL: gang }) };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "ns", "uid": format!("00000000-0000-4000-8000-{number:012}"), "labels": labels,
            "resourceVersion": "1",
        },
        "spec": {
            "schedulerName": names::SCHEDULER_NAME, "priority": priority, "nodeSelector": selector,
            "containers": [{ "name": "c", "resources": { "requests": { "nvidia.com/gpu": "1" } } }],
        },
        "status": { "phase": "Pending" },
    })
}

/// Each pod that waits, with its group and its priority, and who of lower priority is on nodes: what is to be looked at
/// when all is calm.
pub(super) fn standing(objects: &Objects) -> Vec<(String, i32, usize, usize)> {
    let mut groups: std::collections::BTreeMap<String, (i32, usize, usize)> =
        std::collections::BTreeMap::new();
    for pod in objects.pods.values().filter(|pod| is_ours(pod) && !has_ended(pod)) {
        let gang = gang_of(pod);
        let group = if gang.is_empty() { uid(pod) } else { gang };
        let priority = i32::try_from(pod["spec"]["priority"].as_i64().unwrap()).unwrap();
        let (_, bound, waits) = groups.entry(group).or_insert((priority, 0, 0));
        if pod["spec"]["nodeName"].is_string() {
            *bound += 1;
        } else if pod["metadata"]["deletionTimestamp"].is_null() {
            *waits += 1;
        }
    }
    groups.into_iter().map(|(group, (priority, bound, waits))| (group, priority, bound, waits)).collect()
}
