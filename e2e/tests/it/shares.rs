//! Shared GPUs on a real kubelet: one namespace has them at a time, and nobody goes around that.

use std::{
    panic::resume_unwind,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, LogParams, PostParams},
};
use plasma_api::{
    Gang,
    names::{GANG_LABEL, GPU_RESOURCE, SCHEDULER_NAME},
};
use plasma_e2e::{NAMESPACE, World, helm};
use serde_json::{Value, json};

use super::device_plugin::{becomes, every_gpu, held, node, offered, pod};

const SHARE: &str = "nvidia.com/gpu.shared";
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/plasma");
/// Who comes second.
const OTHERS: &str = "e2e-others";

#[tokio::test]
async fn shares_of_a_gpu_go_to_one_namespace_at_a_time_and_nobody_goes_around_that() {
    let world = World::connect().await;
    let all = every_gpu(&world).await;
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), "default");
    let holder =
        pods.create(&PostParams::default(), &pod("exec sleep 600")).await.expect("it is made").name_any();
    held(&pods, &holder).await;
    share(2, "packed");
    let outcome = tokio::spawn(while_shared(all.0, holder)).await;
    share(0, "distributed");
    outcome.unwrap_or_else(|fault| resume_unwind(fault.into_panic()));
    becomes(&world, all).await;
    gives_away(&world, SHARE, 0).await;
}

/// An upgrade with other values, as an administrator makes it.
fn share(replicas: u32, placement: &str) {
    let replicas = format!("devicePlugin.sharing.replicas={replicas}");
    let placement = format!("devicePlugin.sharing.placement={placement}");
    let upgrade = ["upgrade", "plasma", CHART, "--reuse-values", "--set", &replicas, "--set", &placement];
    let said = helm(&[&upgrade[..], &["--wait", "--timeout", "4m"]].concat());
    assert!(said.succeeded, "{said:?}");
}

/// Each of so many GPUs is two shares, once the pod is over that has one as a whole.
async fn while_shared(gpus: i64, holder: String) {
    let world = World::connect().await;
    gives_away(&world, SHARE, 2 * (gpus - 1)).await;
    gives_away(&world, GPU_RESOURCE, 0).await;
    let holders: Api<Pod> = Api::namespaced(world.client.clone(), "default");
    holders.delete(&holder, &DeleteParams::default().grace_period(1)).await.expect("it goes");
    gives_away(&world, SHARE, 2 * gpus).await;
    go_around(&world).await;

    let pods: Api<Pod> = Api::namespaced(world.client.clone(), NAMESPACE);
    let (one, two) = (make(&pods, asks()).await, make(&pods, asks()).await);
    let (ours, its) = (says(&pods, &one).await, says(&pods, &two).await);
    assert!(ours.starts_with("GPU-") && ours.lines().count() == 1, "{ours:?}");
    assert_eq!(ours, its, "the second sits beside the first");
    says_that_nothing_limits_memory(&world).await;

    world.namespace(OTHERS).await;
    let gangs: Api<Gang> = Api::namespaced(world.client.clone(), OTHERS);
    let gang = json!({ "metadata": { "generateName": "others-" }, "spec": { "minMember": 1 } });
    let gang = serde_json::from_value(gang).expect("a gang");
    let gang = gangs.create(&PostParams::default(), &gang).await.expect("it is made").name_any();
    let others: Api<Pod> = Api::namespaced(world.client.clone(), OTHERS);
    let mut theirs = asks();
    theirs["metadata"]["labels"] = json!({ GANG_LABEL: gang });
    let waits = make(&others, theirs).await;
    is_blocked(&gangs, &gang).await;
    let spec = others.get(&waits).await.expect("the pod").spec.expect("a spec");
    assert_eq!(spec.node_name, None, "{:?}", gangs.get(&gang).await);

    for name in [&one, &two] {
        pods.delete(name, &DeleteParams::default().grace_period(1)).await.expect("it goes");
    }
    says(&others, &waits).await;
    others.delete(&waits, &DeleteParams::default().grace_period(1)).await.expect("it goes");
    gangs.delete(&gang, &DeleteParams::default()).await.expect("it goes");
    are_gone(&others, &waits).await;
}

/// Waits until the kubelet can give so many of a resource away. What another plugin offered before is counted among its
/// capacity for five minutes more, and given to nobody.
async fn gives_away(world: &World, resource: &str, count: i64) {
    let begun = Instant::now();
    while offered(world, resource).await.1 != count {
        let told = offered(world, resource).await;
        assert!(begun.elapsed() < Duration::from_secs(60), "{told:?} of {resource}, not {count}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The stand-in's limits can't be written down in the pod, and cgroups of version 1 have none: the node's labels say so.
async fn says_that_nothing_limits_memory(world: &World) {
    let expected = [
        ("compute.plasma.dev/memory-limit", "none"),
        ("nvidia.com/gpu.sharing-strategy", "time-slicing"),
        ("nvidia.com/gpu.replicas", "2"),
    ];
    let begun = Instant::now();
    loop {
        let node = node(world).await;
        let labels = expected.map(|(label, _)| (label, node.labels().get(label).map_or("", String::as_str)));
        if labels == expected {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{labels:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Another scheduler, or a node that is named, would seat a pod beside anybody.
async fn go_around(world: &World) {
    let node = node(world).await.name_any();
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), NAMESPACE);
    for (field, value) in [("schedulerName", "default-scheduler"), ("nodeName", node.as_str())] {
        let mut around = asks();
        around["spec"][field] = json!(value);
        let pod = serde_json::from_value(around).expect("a pod");
        let Err(kube::Error::Api(status)) = pods.create(&PostParams::default(), &pod).await else {
            panic!("a pod with {field} {value} goes around the scheduler");
        };
        assert!(status.code == 403 && status.message.contains("plasma-shared-gpus"), "{status:?}");
        assert!(
            status.message.contains("must name schedulerName: plasma-scheduler and no node"),
            "{status:?}"
        );
    }
}

/// A pod that asks for one share, and says which devices it sees.
fn asks() -> Value {
    json!({
        "metadata": { "generateName": "shares-" },
        "spec": {
            "schedulerName": SCHEDULER_NAME, "restartPolicy": "Never",
            "containers": [{
                "name": "main", "image": "plasma.dev/busybox:2", "imagePullPolicy": "Never",
                "command": ["/bin/sh", "-c", "ls /dev/plasma-simulated; exec sleep 600"],
                "resources": { "limits": { SHARE: "1" } },
            }],
        },
    })
}

async fn make(pods: &Api<Pod>, pod: Value) -> String {
    let pod = serde_json::from_value(pod).expect("a pod");
    pods.create(&PostParams::default(), &pod).await.expect("it is made").name_any()
}

/// What the pod printed, once it has.
async fn says(pods: &Api<Pod>, name: &str) -> String {
    let begun = Instant::now();
    loop {
        let said = pods.logs(name, &LogParams::default()).await.unwrap_or_default();
        if !said.is_empty() {
            return said;
        }
        let status = pods.get(name).await.expect("the pod").status;
        assert!(begun.elapsed() < Duration::from_secs(60), "it doesn't run: {status:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The scheduler says that the others have the node's shares.
async fn is_blocked(gangs: &Api<Gang>, name: &str) {
    let begun = Instant::now();
    loop {
        let status = gangs.get(name).await.expect("the gang").status.unwrap_or_default();
        if status.blockers.iter().any(|blocker| blocker.reason == "SharedByAnotherNamespace") {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it isn't held up: {status:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn are_gone(pods: &Api<Pod>, name: &str) {
    let begun = Instant::now();
    while pods.get_opt(name).await.expect("an answer").is_some() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{name} doesn't go");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
