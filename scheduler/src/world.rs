//! From watched objects to the core's values: nodes with what is free, gangs with their waiting pods.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use k8s_openapi::api::core::v1::Node as KubeNode;
use kube::{ResourceExt as _, api::DynamicObject};
use plasma_api::{Gang as GangObject, gang::GangPhase, names};
use plasma_scheduler_core::{
    Bound, Gang, Node, Pod, Quantity, Resources, Snapshot, Taint, Unsupported, requests, shared_resource,
    understand,
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
    /// Gangs, and pods of no gang, that are not planned over, by key: why.
    pub(crate) aside: Vec<(String, Aside)>,
    /// How many pods of a gang, or of no gang, are bound, by key.
    bound: HashMap<String, usize>,
}

/// Why pods are not planned over.
pub(crate) enum Aside {
    /// Fewer pods exist than must start together.
    Gathering { there: usize, needed: usize },
    /// Somebody wants them to wait: some pods, of so many, have a scheduling gate.
    Gated { gate: String, pods: usize, of: usize },
    /// They can't be scheduled here.
    Refused(Unsupported),
}

impl World {
    /// How many pods of a gang are bound.
    pub(crate) fn bound_of(&self, key: &str) -> usize {
        self.bound.get(key).copied().unwrap_or(0)
    }

    /// How many gangs, and pods of no gang, can't be scheduled here.
    pub(crate) fn refused(&self) -> usize {
        self.aside.iter().filter(|(_, why)| matches!(why, Aside::Refused(_))).count()
    }
}

/// Pods bound by us that the watch doesn't show as bound yet: UID → node.
pub(crate) type Assumed = HashMap<String, String>;

/// Reads the watches. Our own bindings that the watch hasn't shown yet count as done; gangs with an open plan are left
/// to it.
pub(crate) fn read(
    watched: &Watched,
    scheduler: &str,
    assumed: &mut Assumed,
    open: &HashSet<String>,
) -> World {
    let pods = watched.pods.state();
    forget_confirmed(assumed, &pods);
    let mut nodes: BTreeMap<String, Node> =
        watched.nodes.state().iter().map(|node| (node.name_any(), read_node(node))).collect();
    let gangs = watched.gangs.state();
    let gangs = gangs.iter().filter_map(|gang| gang.0.as_ref().ok());
    let gangs: BTreeMap<String, &GangObject> = gangs.map(|gang| (key(gang), gang)).collect();
    let mut ours: BTreeMap<String, Vec<&DynamicObject>> = BTreeMap::new();
    // A gang without any pod has something to say, too.
    ours.extend(gangs.iter().filter(|(_, gang)| is_awaited(gang)).map(|(key, _)| (key.clone(), Vec::new())));
    for pod in &pods {
        occupy(&mut nodes, pod, assumed);
        if text(pod, "/spec/schedulerName") == Some(scheduler) && pod.metadata.deletion_timestamp.is_none() {
            let group = group_of(pod);
            if gangs.get(&group).is_none_or(|gang| is_of_same_job(pod, gang)) {
                ours.entry(group).or_default().push(pod);
            }
        }
    }
    let mut world = World::default();
    world.snapshot.nodes = nodes.into_values().collect();
    for (key, members) in ours {
        let bound = members.iter().filter(|pod| node_of(pod, assumed).is_some()).count();
        world.bound.insert(key.clone(), bound);
        if !open.contains(&key) {
            let gang = gangs.get(&key).copied();
            add_gang(&mut world, key, gang, &members, assumed);
        }
    }
    world
}

/// The key of what the pod is placed with: its gang, or itself with a mark that no gang's name can have.
fn group_of(pod: &DynamicObject) -> String {
    let namespace = pod.namespace().unwrap_or_default();
    match pod.labels().get(names::GANG_LABEL) {
        Some(gang) => format!("{namespace}/{gang}"),
        None => format!("{namespace}/pod:{}", pod.name_any()),
    }
}

/// Namespace and name in one.
pub(crate) fn key(object: &impl kube::ResourceExt) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// Whether the gang still waits for its pods. One that was scheduled may lose them all: its work is done.
fn is_awaited(gang: &GangObject) -> bool {
    let status = gang.status.as_ref();
    let is_scheduled = status.is_some_and(|status| status.phase == Some(GangPhase::Scheduled));
    let is_planned = status.is_some_and(|status| status.journal.is_some());
    !is_scheduled && !is_planned && gang.metadata.deletion_timestamp.is_none()
}

/// Whether the pod was made for the same job as the gang: pods of an earlier job of the same name have the same gang
/// label until they are collected.
fn is_of_same_job(pod: &DynamicObject, gang: &GangObject) -> bool {
    let job = gang.labels().get(names::JOB_UID_LABEL);
    job.is_none_or(|job| pod.labels().get(names::JOB_UID_LABEL) == Some(job))
}

/// The gang's pods that the watch shows as bound and not ending: UID → node, and whether they have started.
pub(crate) fn bound_members(watched: &Watched, gang: &GangObject) -> HashMap<String, (String, Bound)> {
    let key = key(gang);
    let member = |pod: &DynamicObject| {
        let is_member =
            pod.metadata.deletion_timestamp.is_none() && group_of(pod) == key && is_of_same_job(pod, gang);
        let node = text(pod, "/spec/nodeName").filter(|node| is_member && !node.is_empty())?;
        let bound = if has_started(text(pod, "/status/phase")) { Bound::Started } else { Bound::Yes };
        Some((pod.metadata.uid.clone()?, (node.to_owned(), bound)))
    };
    watched.pods.state().iter().filter_map(|pod| member(pod)).collect()
}

/// Whether a pod in this phase has containers that were started.
pub(crate) fn has_started(phase: Option<&str>) -> bool {
    phase.is_some_and(|phase| phase != "Pending")
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
    if members.len() < needed {
        return world.aside.push((key, Aside::Gathering { there: members.len(), needed }));
    }
    let waiting: Vec<_> = members.iter().filter(|pod| waits(pod, assumed)).collect();
    let Some(first) = waiting.first() else { return };
    let gated = waiting.iter().filter_map(|pod| gate(pod));
    if let Some(gate) = gated.clone().min() {
        // What a gate means for a pod of no gang the API server has said on the pod itself.
        if is_gang {
            let (gate, pods, of) = (gate.to_owned(), gated.count(), members.len());
            world.aside.push((key, Aside::Gated { gate, pods, of }));
        }
        return;
    }
    let understood: Result<Vec<Pod>, Unsupported> = waiting.iter().map(|pod| read_pod(pod)).collect();
    match understood {
        Err(why) => world.aside.push((key, Aside::Refused(why))),
        Ok(pods) => {
            let created = gang.and_then(|gang| gang.metadata.creation_timestamp.as_ref());
            let created = created.or(first.metadata.creation_timestamp.as_ref());
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
    understood.namespace = pod.namespace().unwrap_or_default();
    understood.requests.0.insert("pods".to_owned(), Quantity::whole(1));
    Ok(understood)
}

/// The first of the pod's scheduling gates.
fn gate(pod: &DynamicObject) -> Option<&str> {
    let gates = pod.data.pointer("/spec/schedulingGates").and_then(Value::as_array)?;
    gates.first().map(|gate| gate["name"].as_str().unwrap_or_default())
}

fn waits(pod: &DynamicObject, assumed: &Assumed) -> bool {
    node_of(pod, assumed).is_none() && !is_finished(pod)
}

fn is_finished(pod: &DynamicObject) -> bool {
    matches!(text(pod, "/status/phase"), Some("Succeeded" | "Failed"))
}

/// Whether nothing of the pod runs any more. A phase alone doesn't say: the kubelet sets an evicted pod to Failed before its
/// containers have ended.
fn is_over(pod: &DynamicObject) -> bool {
    let containers = ["/status/containerStatuses", "/status/initContainerStatuses"]
        .iter()
        .filter_map(|list| pod.data.pointer(list).and_then(Value::as_array));
    is_finished(pod) && !containers.flatten().any(|container| container["state"]["running"].is_object())
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
    let is_pending = |pod: &&std::sync::Arc<DynamicObject>| {
        text(pod, "/spec/nodeName").is_none_or(str::is_empty) && pod.metadata.deletion_timestamp.is_none()
    };
    let pending: HashSet<&str> =
        pods.iter().filter(is_pending).filter_map(|pod| pod.metadata.uid.as_deref()).collect();
    // Neither bound nor listed: the pod is gone, or about to, and so is what it held.
    assumed.retain(|uid, _| pending.contains(uid.as_str()));
}

/// Takes what the pod uses from its node.
fn occupy(nodes: &mut BTreeMap<String, Node>, pod: &DynamicObject, assumed: &Assumed) {
    let Some(node) = node_of(pod, assumed).and_then(|node| nodes.get_mut(node)) else { return };
    if is_over(pod) {
        return;
    }
    match requests(&pod.data["spec"]) {
        Ok(mut used) => {
            if shared_resource(&used).is_some() {
                node.sharing.insert(pod.namespace().unwrap_or_default());
            }
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
        sharing: BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::observe::pod_resource;

    /// What a node has left, and who shares its GPUs, with a pod of this status on it.
    fn with(status: &Value) -> (Option<Quantity>, BTreeSet<String>) {
        let mut pod = DynamicObject::new("p", &pod_resource()).within("tenant");
        let shares = json!({ "requests": { "nvidia.com/gpu.shared": "1" }, "limits": { "nvidia.com/gpu.shared": "1" } });
        pod.data = json!({
            "spec": { "nodeName": "n", "containers": [{ "name": "c", "resources": shares }] }, "status": status,
        });
        let mut node = read_node(&KubeNode::default());
        node.free.0.insert("nvidia.com/gpu.shared".to_owned(), Quantity::whole(4));
        let mut nodes = BTreeMap::from([("n".to_owned(), node)]);
        occupy(&mut nodes, &pod, &Assumed::new());
        let node = nodes.remove("n").unwrap();
        (node.free.0.get("nvidia.com/gpu.shared").copied(), node.sharing)
    }

    #[test]
    fn a_pod_has_its_share_until_its_containers_have_ended() {
        let running = json!([{ "state": { "running": {} } }]);
        let ended = json!([{ "state": { "terminated": {} } }]);
        let (held, free) = (Some(Quantity::whole(3)), Some(Quantity::whole(4)));
        let tenant = BTreeSet::from(["tenant".to_owned()]);
        for (status, still) in [
            (json!({ "phase": "Running", "containerStatuses": running }), true),
            (json!({ "phase": "Failed", "containerStatuses": running }), true),
            (
                json!({ "phase": "Failed", "containerStatuses": ended, "initContainerStatuses": running }),
                true,
            ),
            (json!({ "phase": "Failed", "containerStatuses": ended }), false),
            (json!({ "phase": "Succeeded" }), false),
        ] {
            let expected = if still { (held, tenant.clone()) } else { (free, BTreeSet::new()) };
            assert_eq!(with(&status), expected, "{status}");
        }
    }
}
