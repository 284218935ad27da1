//! The device plugin on a real kubelet: found by it, and believed when a GPU falls ill and when it is well again.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{ConfigMap, Node, Pod},
        events::v1::Event,
    },
    apimachinery::pkg::api::resource::Quantity,
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, LogParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use plasma_api::{
    GpuNode,
    gpu_node::Health,
    names::{GPU_RESOURCE, SYSTEM_NAMESPACE},
};
use plasma_e2e::{World, kill_kubelet};
use serde_json::{Value, json};

pub(super) const PROGRAM: &str = "plasma-device-plugin";
/// What the simulated NVML says.
const STATE: (&str, &str) = ("plasma-simulated-gpus", "gpus.json");

#[tokio::test]
async fn a_sick_gpu_is_taken_out_and_comes_back_with_no_restart() {
    let world = World::connect().await;
    let found = r#"plasma_device_plugin_registrations_total{way="watched"}"#;
    assert!(world.metric(PROGRAM, found).await >= Some(1.0), "the kubelet found the plugin by itself");
    let plugin = plugin(&world).await;
    let all = every_gpu(&world).await;

    let before = state(&world).await;
    let mut sick = before.clone();
    sick["gpus"][0]["xids"] = json!([79]);
    sick["gpus"][0]["recoveryAction"] = json!(1);
    say(&world, &sick).await;
    becomes(&world, (all.0, all.0 - 1, all.2 - 1)).await;
    assert!(why(&world).await.contains("XID 79 (the GPU has fallen off the bus)"));
    says(&world, "True", "GPUUnhealthy").await;

    sick["gpus"][0]["recoveryAction"] = json!(0);
    say(&world, &sick).await;
    becomes(&world, all).await;
    says(&world, "False", "GPUHealthy").await;
    assert_eq!(self::plugin(&world).await.uid(), plugin.uid(), "nobody was restarted");
    say(&world, &before).await;
}

#[tokio::test]
async fn a_pod_gets_its_gpu_through_the_container_runtime_by_its_name_in_cdi() {
    let world = World::connect().await;
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), "default");
    let pod = pod("ls /dev/plasma-simulated; echo simulated=$PLASMA_SIMULATED");
    let name = pods.create(&PostParams::default(), &pod).await.expect("it is made").name_any();
    let (begun, is_over) = (Instant::now(), |phase: &str| phase == "Succeeded" || phase == "Failed");
    loop {
        let status = pods.get(&name).await.expect("the pod").status.unwrap_or_default();
        if status.phase.as_deref().is_some_and(is_over) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it doesn't end: {status:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let said = pods.logs(&name, &LogParams::default()).await.expect("its log");
    let lines: Vec<&str> = said.lines().collect();
    let [device, "simulated=true"] = lines[..] else { panic!("not what only our spec gives: {said:?}") };
    let known = state(&world).await["gpus"].clone();
    let mut known = known.as_array().expect("GPUs").iter();
    assert!(known.any(|gpu| gpu["uuid"] == device), "{device} is none of the node's");
    pods.delete(&name, &DeleteParams::default()).await.expect("it goes");
}

/// A pod that asks for one GPU and runs this command.
pub(super) fn pod(command: &str) -> Pod {
    let pod = json!({
        "metadata": { "generateName": "has-a-gpu-" },
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "main", "image": "plasma.dev/busybox:2", "imagePullPolicy": "Never",
                "command": ["/bin/sh", "-c", command],
                "resources": { "limits": { GPU_RESOURCE: "1" } },
            }],
        },
    });
    serde_json::from_value(pod).expect("a pod")
}

#[tokio::test]
async fn while_the_plugin_is_upgraded_every_gpu_stays() {
    let world = World::connect().await;
    let (old, all) = (plugin(&world).await, every_gpu(&world).await);
    let sets: Api<DaemonSet> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let again = json!({ "spec": { "template": { "metadata": { "annotations": {
        "e2e/upgraded": Timestamp::now().to_string() } } } } });
    let name = old.owner_references().first().expect("its DaemonSet").name.clone();
    sets.patch(&name, &PatchParams::default(), &Patch::Merge(again)).await.expect("another template");
    let (begun, mut looks) = (Instant::now(), 0);
    while !is_the_only_one(&world, &old).await {
        let (capacity, allocatable, _) = counts(&world).await;
        assert_eq!((capacity, allocatable), (all.0, all.1), "look {looks}, after {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(120), "the plugin isn't upgraded");
        looks += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    becomes(&world, all).await;
}

/// Whether another plugin runs, and that one has gone.
async fn is_the_only_one(world: &World, old: &Pod) -> bool {
    let pods = plugins(world).await;
    let is_ready = |pod: &Pod| {
        let status = pod.status.clone().unwrap_or_default();
        status.container_statuses.unwrap_or_default().iter().any(|container| container.ready)
    };
    pods.iter().all(|pod| pod.uid() != old.uid()) && pods.iter().any(is_ready)
}

#[tokio::test]
async fn a_restarted_kubelet_has_every_gpu_again_and_pods_keep_theirs() {
    let world = World::connect().await;
    let (before, all) = (plugin(&world).await, every_gpu(&world).await);
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), "default");
    let holder = pods.create(&PostParams::default(), &pod("exec sleep 600")).await.expect("it is made");
    let held = held(&pods, &holder.name_any()).await;
    let found = r#"plasma_device_plugin_registrations_total{way="watched"}"#;
    let registrations = world.metric(PROGRAM, found).await;
    assert!(kill_kubelet(), "the cluster has a kubelet");
    let begun = Instant::now();
    while world.metric(PROGRAM, found).await <= registrations {
        assert!(begun.elapsed() < Duration::from_secs(60), "the kubelet never finds the plugin again");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    becomes(&world, all).await;
    assert_eq!(plugin(&world).await.uid(), before.uid(), "nobody was restarted but the kubelet");
    assert_eq!(self::held(&pods, &holder.name_any()).await, held, "its container and its GPU");
    pods.delete(&holder.name_any(), &DeleteParams::default().grace_period(1)).await.expect("it goes");
}

/// The pod's container, once it runs, and its GPUs, by the kubelet's word.
pub(super) async fn held(pods: &Api<Pod>, name: &str) -> (String, Vec<String>) {
    let begun = Instant::now();
    loop {
        let status = pods.get(name).await.expect("the pod").status.unwrap_or_default();
        let container = status.container_statuses.iter().flatten().find(|container| container.ready).cloned();
        if let Some(container) = container {
            let told = container.allocated_resources_status.into_iter().flatten();
            let gpus = told.flat_map(|of| of.resources.unwrap_or_default()).map(|gpu| gpu.resource_id);
            let gpus: Vec<String> = gpus.collect();
            if !gpus.is_empty() {
                return (container.container_id.unwrap_or_default(), gpus);
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it has no GPU: {status:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub(super) async fn plugin(world: &World) -> Pod {
    plugins(world).await.into_iter().next().expect("a device plugin")
}

async fn plugins(world: &World) -> Vec<Pod> {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let selector = ListParams::default().labels(&format!("app.kubernetes.io/name={PROGRAM}"));
    pods.list(&selector).await.expect("pods").items
}

pub(super) async fn state(world: &World) -> Value {
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let text = maps.get(STATE.0).await.expect("the state").data.expect("data")[STATE.1].clone();
    serde_json::from_str(&text).expect("JSON")
}

/// Changes what NVML says, and has the kubelet bring it into the pod now: it does so when a pod changes.
pub(super) async fn say(world: &World, state: &Value) {
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let mut map = maps.get(STATE.0).await.expect("the state");
    // As helm wrote it, and by helm's name: an upgrade refuses what somebody else wrote over.
    let theirs = map.managed_fields().iter().find(|fields| fields.operation.as_deref() == Some("Apply"));
    let helm = theirs.and_then(|fields| fields.manager.clone()).expect("helm applied it");
    let kept = (map.metadata.labels.take(), map.metadata.annotations.take());
    let (name, (labels, annotations)) = (map.metadata.name.take(), kept);
    map.metadata = ObjectMeta { name, labels, annotations, ..ObjectMeta::default() };
    map.data.get_or_insert_default().insert(STATE.1.to_owned(), state.to_string());
    maps.patch(STATE.0, &PatchParams::apply(&helm).force(), &Patch::Apply(&map)).await.expect("it is said");
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let said =
        Patch::Merge(json!({ "metadata": { "annotations": { "e2e/said": Timestamp::now().to_string() } } }));
    pods.patch(&plugin(world).await.name_any(), &PatchParams::default(), &said).await.expect("a note");
}

/// The node's GPUs: capacity, allocatable, and those that its GpuNode calls healthy.
async fn counts(world: &World) -> (i64, i64, usize) {
    let (capacity, allocatable) = offered(world, GPU_RESOURCE).await;
    let gpu_nodes: Api<GpuNode> = Api::all(world.client.clone());
    let gpu_node = gpu_nodes.get(&node(world).await.name_any()).await.expect("its GpuNode");
    let healthy = gpu_node.status.iter().flat_map(|status| &status.gpus);
    let healthy = healthy.filter(|gpu| gpu.health == Health::Healthy).count();
    (capacity, allocatable, healthy)
}

/// How many of a resource the kubelet has: capacity and allocatable; none where it never heard of it.
pub(super) async fn offered(world: &World, resource: &str) -> (i64, i64) {
    let status = node(world).await.status.expect("a status");
    let count = |of: Option<BTreeMap<String, Quantity>>| -> i64 {
        let count = of.and_then(|mut of| of.remove(resource));
        count.map_or(0, |count| count.0.parse().expect("a number"))
    };
    (count(status.capacity), count(status.allocatable))
}

pub(super) async fn node(world: &World) -> Node {
    let nodes: Api<Node> = Api::all(world.client.clone());
    nodes.list(&ListParams::default()).await.expect("nodes").items.into_iter().next().expect("a node")
}

/// What `counts` says with every GPU on offer: one that a pod just gave back rests until it was seen clean.
pub(super) async fn every_gpu(world: &World) -> (i64, i64, usize) {
    let begun = Instant::now();
    loop {
        let all @ (capacity, allocatable, healthy) = counts(world).await;
        if capacity > 1 && allocatable == capacity && i64::try_from(healthy) == Ok(capacity) {
            return all;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "not every GPU is offered: {all:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn why(world: &World) -> String {
    let gpu_nodes: Api<GpuNode> = Api::all(world.client.clone());
    let listed = gpu_nodes.list(&ListParams::default()).await.expect("GpuNodes");
    let reasons = listed.items.into_iter().flat_map(|node| node.status.unwrap_or_default().gpus);
    reasons.filter_map(|gpu| gpu.reason).collect::<Vec<_>>().join("; ")
}

/// The node's condition answers so, and there is an event for that reason: both are written after the GpuNode.
async fn says(world: &World, answer: &str, event: &str) {
    let begun = Instant::now();
    while condition(world).await != answer || !events(world).await.iter().any(|reason| reason == event) {
        let told = (condition(world).await, events(world).await);
        assert!(begun.elapsed() < Duration::from_secs(20), "not {answer} and {event}: {told:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn condition(world: &World) -> String {
    let conditions = node(world).await.status.and_then(|status| status.conditions).unwrap_or_default();
    let ours = conditions.into_iter().find(|condition| condition.type_ == "GPUUnhealthy");
    ours.expect("the node's condition").status
}

/// The reasons of the plugin's events.
async fn events(world: &World) -> Vec<String> {
    let events: Api<Event> = Api::namespaced(world.client.clone(), "default");
    let listed = events.list(&ListParams::default()).await.expect("events").items;
    let ours = listed.into_iter().filter(|event| event.reporting_controller.as_deref() == Some(PROGRAM));
    ours.filter_map(|event| event.reason).collect()
}

pub(super) async fn becomes(world: &World, expected: (i64, i64, usize)) {
    let begun = Instant::now();
    while counts(world).await != expected {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}, not {expected:?}", counts(world).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
