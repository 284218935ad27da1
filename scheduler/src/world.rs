//! From watched objects to the core's values: nodes with what is free, gangs with their waiting pods.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::Node as KubeNode;
use kube::{ResourceExt as _, api::DynamicObject};
use plasma_api::{Gang as GangObject, names};
use plasma_scheduler_core::{
    Gang, Node, Pod, Quantity, Resources, Snapshot, Taint, Unsupported, requests, understand,
};
use serde_json::Value;

use crate::observe::Watched;

/// How many pods a node takes where it doesn't say.
const DEFAULT_PODS: i128 = 110;

/// The cluster as this cycle sees it.
#[derive(Default)]
pub(crate) struct World {
    /// What is planned over.
    pub(crate) snapshot: Snapshot,
    /// Gangs that don't have all their pods yet: how many there are of how many.
    pub(crate) gathering: Vec<(String, usize, usize)>,
    /// Gangs, and pods of no gang, that can't be scheduled here: why.
    pub(crate) refused: Vec<(String, Unsupported)>,
}

/// Pods bound by us that the watch doesn't show as bound yet: UID → node.
pub(crate) type Assumed = HashMap<String, String>;

/// Reads the watches. Our own bindings that the watch hasn't shown yet count as done.
pub(crate) fn read(watched: &Watched, scheduler: &str, assumed: &mut Assumed) -> World {
    let pods = watched.pods.state();
    forget_confirmed(assumed, &pods);
    let mut nodes: BTreeMap<String, Node> =
        watched.nodes.state().iter().map(|node| (node.name_any(), read_node(node))).collect();
    let mut ours: BTreeMap<String, Vec<&DynamicObject>> = BTreeMap::new();
    for pod in &pods {
        occupy(&mut nodes, pod, assumed);
        if text(pod, "/spec/schedulerName") == Some(scheduler) && pod.metadata.deletion_timestamp.is_none() {
            ours.entry(group_of(pod)).or_default().push(pod);
        }
    }
    let gangs: BTreeMap<String, std::sync::Arc<GangObject>> =
        watched.gangs.state().into_iter().map(|gang| (key(&*gang), gang)).collect();
    let mut world = World::default();
    world.snapshot.nodes = nodes.into_values().collect();
    for (key, members) in ours {
        add_gang(&mut world, key.clone(), gangs.get(&key).map(|gang| &**gang), &members, assumed);
    }
    world
}

/// The key of what the pod is placed with: its gang, or itself with a mark that no gang's name can have.
pub(crate) fn group_of(pod: &DynamicObject) -> String {
    let namespace = pod.namespace().unwrap_or_default();
    match pod.labels().get(names::GANG_LABEL) {
        Some(gang) => format!("{namespace}/{gang}"),
        None => format!("{namespace}/pod:{}", pod.name_any()),
    }
}

fn key(object: &impl kube::ResourceExt) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

fn add_gang(
    world: &mut World,
    key: String,
    gang: Option<&GangObject>,
    members: &[&DynamicObject],
    assumed: &Assumed,
) {
    let is_gang = !key.contains("/pod:");
    if is_gang && gang.is_none_or(|gang| gang.metadata.deletion_timestamp.is_some()) {
        // The label names a gang that doesn't exist (yet): how many must start together is unknown.
        return;
    }
    let needed = gang.map_or(1, |gang| usize::try_from(gang.spec.min_member).unwrap_or(usize::MAX));
    let waiting: Vec<_> = members.iter().filter(|pod| waits(pod, assumed)).collect();
    if members.len() < needed {
        return world.gathering.push((key, members.len(), needed));
    }
    if waiting.is_empty() {
        return;
    }
    if waiting.iter().any(|pod| !gates(pod).is_empty()) {
        return;
    }
    let understood: Result<Vec<Pod>, Unsupported> = waiting.iter().map(|pod| read_pod(pod)).collect();
    match understood {
        Err(why) => world.refused.push((key, why)),
        Ok(pods) => {
            let created = gang.and_then(|gang| gang.metadata.creation_timestamp.as_ref());
            let created = created.or(members[0].metadata.creation_timestamp.as_ref());
            world.snapshot.waiting.push(Gang {
                key,
                priority: gang.map_or(0, |gang| gang.spec.priority),
                created: created.map_or(0, |time| time.0.as_second()),
                pods,
            });
        }
    }
}

fn read_pod(pod: &DynamicObject) -> Result<Pod, Unsupported> {
    let uid = pod.uid().unwrap_or_default();
    let mut understood = understand(&pod.name_any(), &uid, &pod.data["spec"])?;
    understood.requests.0.insert("pods".to_owned(), Quantity::whole(1));
    Ok(understood)
}

fn gates(pod: &DynamicObject) -> &[Value] {
    pod.data.pointer("/spec/schedulingGates").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn waits(pod: &DynamicObject, assumed: &Assumed) -> bool {
    node_of(pod, assumed).is_none() && !is_finished(pod)
}

fn is_finished(pod: &DynamicObject) -> bool {
    matches!(text(pod, "/status/phase"), Some("Succeeded" | "Failed"))
}

/// The node of a pod, by the watch or by our own binding.
pub(crate) fn node_of<'a>(pod: &'a DynamicObject, assumed: &'a Assumed) -> Option<&'a str> {
    let bound = text(pod, "/spec/nodeName").filter(|node| !node.is_empty());
    bound.or_else(|| pod.metadata.uid.as_ref().and_then(|uid| assumed.get(uid)).map(String::as_str))
}

/// Text at a JSON pointer of the object, where there is some.
pub(crate) fn text<'a>(object: &'a DynamicObject, pointer: &str) -> Option<&'a str> {
    object.data.pointer(pointer).and_then(Value::as_str)
}

fn forget_confirmed(assumed: &mut Assumed, pods: &[std::sync::Arc<DynamicObject>]) {
    let pending: HashMap<&str, bool> = pods
        .iter()
        .filter_map(|pod| {
            Some((pod.metadata.uid.as_deref()?, text(pod, "/spec/nodeName").is_none_or(str::is_empty)))
        })
        .collect();
    // Neither bound nor listed: the pod is gone, and so is what it held.
    assumed.retain(|uid, _| pending.get(uid.as_str()).copied().unwrap_or(false));
}

/// Takes what the pod uses from its node.
fn occupy(nodes: &mut BTreeMap<String, Node>, pod: &DynamicObject, assumed: &Assumed) {
    let Some(node) = node_of(pod, assumed).and_then(|node| nodes.get_mut(node)) else { return };
    if is_finished(pod) {
        return;
    }
    match requests(&pod.data["spec"]) {
        Ok(mut used) => {
            used.0.insert("pods".to_owned(), Quantity::whole(1));
            node.free.subtract(&used);
        }
        Err(fault) => {
            // Somebody's pod asks for something unreadable: what it holds is unknown, so the node takes no more.
            tracing::warn!("pod {} on {}: {fault}; nothing more is placed there", key(pod), node.name);
            node.unschedulable = true;
        }
    }
}

fn read_node(node: &KubeNode) -> Node {
    let spec = node.spec.clone().unwrap_or_default();
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.clone()).unwrap_or_default();
    let mut free = Resources::default();
    for (name, quantity) in allocatable {
        match quantity.0.parse() {
            Ok(amount) => drop(free.0.insert(name, amount)),
            // What can't be read is not there to be given away.
            Err(fault) => tracing::warn!("node {}: allocatable {name}: {fault}", node.name_any()),
        }
    }
    free.0.entry("pods".to_owned()).or_insert(Quantity::whole(DEFAULT_PODS));
    let taints = spec.taints.unwrap_or_default().into_iter();
    let taints = taints.map(|taint| Taint {
        key: taint.key,
        value: taint.value.unwrap_or_default(),
        effect: taint.effect,
    });
    Node {
        name: node.name_any(),
        labels: node.labels().clone(),
        taints: taints.collect(),
        unschedulable: spec.unschedulable.unwrap_or(false) || node.metadata.deletion_timestamp.is_some(),
        free,
    }
}
