//! An upstream PodGroup on a real API server: its pods get their places all or nothing, and it says so itself. One that was made
//! by hand, and those of the operator.

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, PostParams},
};
use plasma_api::{
    ComputeJob, Gang,
    compute_job::Phase,
    gang::GangPhase,
    names::{ATTEMPT_LABEL, JOB_UID_LABEL, SCHEDULER_NAME},
};
use plasma_e2e::{NAMESPACE as TEAM, World, job, phase, until};
use serde_json::{Value, json};

use crate::device_plugin::every_gpu;

/// No namespace of a queue: nobody pays for pods that only ask for CPU.
const NAMESPACE: &str = "default";
const NAME: &str = "e2e-group";
const PODS: usize = 3;
/// How long something may take that takes a moment.
const PATIENCE: u64 = 60;

fn pod_groups(world: &World, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("scheduling.k8s.io", "v1beta1", "PodGroup");
    Api::namespaced_with(world.client.clone(), namespace, &ApiResource::from_gvk(&kind))
}

fn pods(world: &World) -> Api<Pod> {
    Api::namespaced(world.client.clone(), NAMESPACE)
}

/// Deletes what an earlier run left, or this one; and waits until it is gone.
async fn clean(world: &World) {
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    let _ = pod_groups(world, NAMESPACE).delete(NAME, &DeleteParams::default()).await;
    for pod in 0..PODS {
        let _ = pods(world).delete(&format!("{NAME}-{pod}"), &now).await;
    }
    let gangs: Api<Gang> = Api::namespaced(world.client.clone(), NAMESPACE);
    until("what was made is gone", PATIENCE, || async {
        let group = pod_groups(world, NAMESPACE).get_opt(NAME).await.expect("PodGroups are served");
        group.is_none() && gangs.get_opt(NAME).await.expect("gangs").is_none()
    })
    .await;
}

/// The PodGroup's condition: its status and its reason.
async fn condition(world: &World) -> Option<(String, String)> {
    condition_of(&pod_groups(world, NAMESPACE).get(NAME).await.expect("the PodGroup"))
}

fn condition_of(group: &DynamicObject) -> Option<(String, String)> {
    let conditions = group.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.into_iter().find(|one| one["type"] == "PodGroupInitiallyScheduled")?;
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason")))
}

fn says(status: &str, reason: &str) -> Option<(String, String)> {
    Some((status.to_owned(), reason.to_owned()))
}

/// Whole CPUs of the one node.
async fn cpus(world: &World) -> u64 {
    let nodes: Api<Node> = Api::all(world.client.clone());
    let node = nodes.list(&ListParams::default()).await.expect("nodes").items.remove(0);
    let allocatable = node.status.and_then(|status| status.allocatable).expect("what it offers");
    allocatable["cpu"].0.parse().expect("whole CPUs")
}

fn pod(index: usize, milli_cpus: u64) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": format!("{NAME}-{index}") },
        "spec": {
            "schedulerName": SCHEDULER_NAME, "schedulingGroup": { "podGroupName": NAME },
            "tolerations": [{ "operator": "Exists" }], "automountServiceAccountToken": false,
            // Where a pod is, is all that matters here: its image need not be there.
            "containers": [{ "name": "c", "image": "plasma.dev/none:none", "imagePullPolicy": "Never",
                "resources": { "requests": { "cpu": format!("{milli_cpus}m") } } }],
        },
    })
}

/// Makes the pods, of which each asks for that much.
async fn make_pods(world: &World, milli_cpus: u64) {
    for index in 0..PODS {
        let pod: Pod = serde_json::from_value(pod(index, milli_cpus)).expect("a pod");
        let made = pods(world).create(&PostParams::default(), &pod).await.expect("a pod");
        let group = made.spec.and_then(|spec| spec.scheduling_group);
        assert!(group.is_some(), "the API server dropped schedulingGroup: its gate GenericWorkload is off");
    }
}

async fn bound(world: &World) -> usize {
    let all = pods(world).list(&ListParams::default()).await.expect("pods");
    let own = all.items.into_iter().filter(|pod| pod.name_any().starts_with(NAME));
    own.filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())).count()
}

#[tokio::test]
async fn an_upstream_podgroup_gets_its_places_all_or_nothing_and_says_so() {
    let world = World::connect().await;
    clean(&world).await;
    let group = json!({
        "apiVersion": "scheduling.k8s.io/v1beta1", "kind": "PodGroup", "metadata": { "name": NAME },
        "spec": { "schedulingPolicy": { "gang": { "minCount": PODS } } },
    });
    let group: DynamicObject = serde_json::from_value(group).expect("a PodGroup");
    pod_groups(&world, NAMESPACE).create(&PostParams::default(), &group).await.expect("a PodGroup");

    // One of them would fit, all of them don't.
    make_pods(&world, cpus(&world).await * 1000 / 2).await;
    until("it says that there is no room", PATIENCE, || async {
        condition(&world).await == says("False", "Unschedulable")
    })
    .await;
    assert_eq!(bound(&world).await, 0, "pods of a group that doesn't fit as a whole");

    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    for index in 0..PODS {
        pods(&world).delete(&format!("{NAME}-{index}"), &now).await.expect("a pod that waits");
    }
    make_pods(&world, 1).await;
    until("it says that it has its places", PATIENCE, || async {
        condition(&world).await == says("True", "Scheduled")
    })
    .await;
    assert_eq!(bound(&world).await, PODS);
    let gangs: Api<Gang> = Api::namespaced(world.client.clone(), NAMESPACE);
    let gang = gangs.get(NAME).await.expect("the gang that was made for it");
    assert_eq!(gang.status.and_then(|status| status.phase), Some(GangPhase::Scheduled));
    // With the PodGroup goes what was made for it.
    clean(&world).await;
}

/// The PodGroup of a job's first attempt.
async fn group_of(world: &World, job: &ComputeJob) -> DynamicObject {
    let uid = job.uid().unwrap_or_default();
    let of_job = ListParams::default().labels(&format!("{JOB_UID_LABEL}={uid},{ATTEMPT_LABEL}=0"));
    let mut groups = pod_groups(world, TEAM).list(&of_job).await.expect("PodGroups").items;
    assert_eq!(groups.len(), 1, "PodGroups of {}: {groups:?}", job.name_any());
    groups.remove(0)
}

fn message(job: &ComputeJob) -> &str {
    job.status.as_ref().and_then(|status| status.message.as_deref()).unwrap_or_default()
}

fn is_placed(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
}

#[tokio::test]
async fn the_operators_podgroup_says_when_its_whole_gang_has_its_places() {
    let world = World::connect().await;
    let (gpus, ..) = every_gpu(&world).await;
    let holder = job("holds-room", (1, i32::try_from(gpus).expect("a few") - 1), "sleep 110");
    let holder = world.create(TEAM, holder).await.expect("a job");
    world.wait(&holder, "running", PATIENCE, |job| phase(job) == Some(Phase::Running)).await;

    // One of its pods would fit, both don't.
    let grouped = world.create(TEAM, job("grouped", (2, 1), "sleep 2")).await.expect("a job");
    world
        .wait(&grouped, "waiting in numbers", PATIENCE, |job| message(job).contains("needs 2 nvidia.com/gpu"))
        .await;
    until("its PodGroup says that there is no room", PATIENCE, || async {
        condition_of(&group_of(&world, &grouped).await) == says("False", "Unschedulable")
    })
    .await;
    let group = group_of(&world, &grouped).await;
    let pods = world.pods(&grouped).await;
    let of_group = |pod: &Pod| {
        let group = pod.spec.as_ref().and_then(|spec| spec.scheduling_group.as_ref());
        group.and_then(|group| group.pod_group_name.clone())
    };
    assert_eq!(pods.iter().filter_map(of_group).collect::<Vec<_>>(), [group.name_any(), group.name_any()]);
    assert!(!pods.iter().any(is_placed), "pods of a gang that doesn't fit as a whole: {pods:?}");

    world.delete(&holder).await;
    let done = world.wait(&grouped, "done", PATIENCE, |job| phase(job) == Some(Phase::Succeeded)).await;
    let attempts = done.status.and_then(|status| status.attempts).expect("attempts");
    assert_eq!(attempts.started, 1, "it was sent to GPUs that still rested after their last pod");
    let placed = group_of(&world, &grouped).await;
    assert_eq!((condition_of(&placed), placed.uid()), (says("True", "Scheduled"), group.uid()));
    world.delete(&grouped).await;
}
