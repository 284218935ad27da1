//! A pod that is resized while it runs: whoever would fit beside its old size alone waits, and gets the place when it shrinks.

use std::time::Duration;

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::api::resource::Quantity};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use plasma_api::names::SCHEDULER_NAME;
use plasma_e2e::{World, until};
use serde_json::json;

use crate::device_plugin::node;

/// No namespace of a queue: nobody pays for pods that only ask for CPU.
const NAMESPACE: &str = "default";
const RESIZED: &str = "e2e-resized";
const BESIDE: &str = "e2e-beside";
/// What the other pod asks for, in thousandths of a CPU.
const ROOM: u64 = 200;
const SMALL: u64 = 50;
/// Whoever were to be placed would be by then.
const LATER: Duration = Duration::from_secs(3);
const PATIENCE: u64 = 60;

#[tokio::test]
async fn a_pod_that_is_resized_holds_what_it_has_now() {
    let world = World::connect().await;
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), NAMESPACE);
    clean(&pods).await;
    let large = free(&world).await - ROOM / 2;
    make(&pods, RESIZED, SMALL).await;
    until("it runs", PATIENCE, || async { has(&pods, SMALL).await }).await;
    resize(&pods, large).await;

    // What it asks for counts at once, whatever its kubelet has done so far.
    make(&pods, BESIDE, ROOM).await;
    until("the other is told that there is no room", PATIENCE, || async { is_told(&pods).await }).await;
    until("it has grown", PATIENCE, || async { has(&pods, large).await }).await;
    tokio::time::sleep(LATER).await;
    assert!(!is_placed(&pods).await, "beside a pod that has grown");

    resize(&pods, SMALL).await;
    until("the other is placed", PATIENCE, || async { is_placed(&pods).await }).await;
    assert!(has(&pods, SMALL).await, "it was placed before its neighbour had shrunk");
    clean(&pods).await;
}

async fn make(pods: &Api<Pod>, name: &str, milli_cpus: u64) {
    let pod = json!({
        "metadata": { "name": name },
        "spec": {
            "schedulerName": SCHEDULER_NAME, "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "c", "image": "plasma.dev/busybox:2", "imagePullPolicy": "Never", "command": ["sleep", "600"],
                "resources": { "requests": { "cpu": format!("{milli_cpus}m") } },
            }],
        },
    });
    let pod = serde_json::from_value(pod).expect("a pod");
    pods.create(&PostParams::default(), &pod).await.expect("a pod");
}

/// As `kubectl patch --subresource=resize` does.
async fn resize(pods: &Api<Pod>, milli_cpus: u64) {
    let requests = json!({ "cpu": format!("{milli_cpus}m") });
    let containers = json!([{ "name": "c", "resources": { "requests": requests } }]);
    let patch = Patch::Strategic(json!({ "spec": { "containers": containers } }));
    pods.patch_subresource("resize", RESIZED, &PatchParams::default(), &patch).await.expect("it is resized");
}

/// Whether the pod runs, and its kubelet says that its container has this much now.
async fn has(pods: &Api<Pod>, milli_cpus: u64) -> bool {
    let status = pods.get(RESIZED).await.expect("the pod").status.unwrap_or_default();
    let container = status.container_statuses.iter().flatten().find(|container| container.ready);
    let requests = container.and_then(|container| container.resources.as_ref()?.requests.as_ref());
    requests.and_then(|requests| requests.get("cpu")).map(milli) == Some(milli_cpus)
}

async fn is_placed(pods: &Api<Pod>) -> bool {
    pods.get(BESIDE).await.expect("the pod").spec.is_some_and(|spec| spec.node_name.is_some())
}

async fn is_told(pods: &Api<Pod>) -> bool {
    let status = pods.get(BESIDE).await.expect("the pod").status.unwrap_or_default();
    let mut told = status.conditions.iter().flatten();
    told.any(|told| told.type_ == "PodScheduled" && told.reason.as_deref() == Some("Unschedulable"))
}

/// What nobody has asked for of the one node's CPUs, in thousandths.
async fn free(world: &World) -> u64 {
    let node = node(world).await.status.and_then(|status| status.allocatable).expect("what it offers");
    let pods: Api<Pod> = Api::all(world.client.clone());
    let pods = pods.list(&ListParams::default()).await.expect("pods").items;
    let running = pods.iter().filter(|pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        !matches!(phase, Some("Succeeded" | "Failed"))
    });
    let containers = running.flat_map(|pod| pod.spec.iter().flat_map(|spec| &spec.containers));
    let asked =
        containers.filter_map(|container| container.resources.as_ref()?.requests.as_ref()?.get("cpu"));
    milli(&node["cpu"]) - asked.map(milli).sum::<u64>()
}

/// An amount of CPU in thousandths.
fn milli(amount: &Quantity) -> u64 {
    let text = &amount.0;
    match text.strip_suffix('m') {
        Some(thousandths) => thousandths.parse().expect("a number"),
        None => text.parse::<u64>().expect("whole CPUs") * 1000,
    }
}

/// Deletes what an earlier run left, or this one; and waits until it is gone.
async fn clean(pods: &Api<Pod>) {
    for name in [RESIZED, BESIDE] {
        let _ = pods.delete(name, &DeleteParams::default().grace_period(0)).await;
        until("the pod is gone", PATIENCE, || async { pods.get_opt(name).await.expect("pods").is_none() })
            .await;
    }
}
