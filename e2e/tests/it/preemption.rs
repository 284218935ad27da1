//! Preemption on a real cluster: a job of a higher priority gets the place of one whole gang, which is told so, waits, and
//! starts again; whoever never preempts waits.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget, scheduling::v1::PriorityClass};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, PostParams},
};
use plasma_api::{
    ComputeJob,
    compute_job::Phase,
    names::{ATTEMPT_LABEL, JOB_NAME_LABEL},
};
use plasma_e2e::{NAMESPACE, World, job, phase, until};
use serde_json::{Value, json};

use crate::{device_plugin::every_gpu, volumes::make};

const LOW: &str = "e2e-low";
const HIGH: &str = "e2e-high";
/// Higher still, and it never evicts.
const NEVER: &str = "e2e-never";
const BUDGET: &str = "e2e-protects";
/// Whoever were to evict would have by then.
const LATER: Duration = Duration::from_secs(3);
/// How long something may take that takes a few moments.
const PATIENCE: u64 = 60;

#[tokio::test]
async fn a_higher_priority_takes_the_place_of_one_whole_gang_which_starts_again() {
    let world = World::connect().await;
    classes(&world).await;
    let (gpus, ..) = every_gpu(&world).await;
    assert_eq!(gpus, 4, "GPUs, which two gangs of two fill");

    // Of the two, the one that has run the least would go, if nothing protected it.
    let longest = runs(&world, ends_at_the_second_attempt("longest")).await;
    let youngest = runs(&world, of_class(job("youngest", (2, 1), "sleep 110"), LOW)).await;
    protect(&world, &youngest).await;
    let others = uids(&world, &youngest).await;

    let never = world.create(NAMESPACE, of_class(job("never", (1, 1), "true"), NEVER)).await.expect("a job");
    let waits = |job: &ComputeJob| says(job).contains("needs 1 nvidia.com/gpu, 0 free");
    world.wait(&never, "waiting for room", PATIENCE, waits).await;
    tokio::time::sleep(LATER).await;
    assert!(!is_any_ending(&world.pods(&longest).await) && !is_any_ending(&world.pods(&youngest).await));
    gone(&world, &never).await;

    let high =
        world.create(NAMESPACE, of_class(job("high", (1, 1), "sleep 110"), HIGH)).await.expect("a job");
    let node = nominated_while_all_are_ending(&world, &high, &longest).await;
    world.wait(&high, "running", PATIENCE, |job| phase(job) == Some(Phase::Running)).await;
    assert!(world.pods(&high).await.iter().all(|pod| node_of(pod).as_ref() == Some(&node)), "not on {node}");

    // One GPU is free, and the whole gang needs two.
    let waits = |job: &ComputeJob| says(job).contains("needs 2 nvidia.com/gpu, ");
    world.wait(&longest, "waiting again", PATIENCE, waits).await;
    let pods = world.pods(&longest).await;
    let again: Vec<&Pod> = pods.iter().filter(|pod| !is_of_attempt(pod, "0")).collect();
    assert!(again.len() == 2 && again.iter().all(|pod| node_of(pod).is_none()), "{again:?}");
    assert_eq!(uids(&world, &youngest).await, others, "the pods that a budget protects");
    world.delete(&high).await;
    let over = |job: &ComputeJob| matches!(phase(job), Some(Phase::Succeeded | Phase::Failed));
    let over = world.wait(&longest, "over", PATIENCE, over).await;
    let attempts = over.status.as_ref().and_then(|status| status.attempts).expect("attempts");
    assert_eq!((phase(&over), attempts.failed), (Some(Phase::Succeeded), 0), "{attempts:?}");
    assert_eq!(uids(&world, &youngest).await, others, "the pods that a budget protects");
    for job in [&high, &longest, &youngest] {
        world.delete(job).await;
    }
    leave_nothing(&world).await;
}

fn of_class(mut job: Value, class: &str) -> Value {
    job["spec"]["roles"][0]["template"]["spec"]["priorityClassName"] = json!(class);
    job
}

/// Two pods that take a while to go; not one failure is allowed.
fn ends_at_the_second_attempt(name: &str) -> Value {
    let command = r#"case "$MASTER_ADDR" in *-0) sleep 110;; *) sleep 1;; esac"#;
    let mut job = of_class(job(name, (2, 1), command), LOW);
    job["spec"]["backoffLimit"] = json!(0);
    job["spec"]["roles"][0]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(4);
    job
}

async fn classes(world: &World) {
    for (name, value, policy) in
        [(LOW, -10, "PreemptLowerPriority"), (HIGH, 10, "PreemptLowerPriority"), (NEVER, 20, "Never")]
    {
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": { "name": name },
            "value": value, "preemptionPolicy": policy,
        });
        make(world, class).await;
    }
}

async fn runs(world: &World, job: Value) -> ComputeJob {
    let made = world.create(NAMESPACE, job).await.expect("a job");
    world.wait(&made, "running", PATIENCE, |job| phase(job) == Some(Phase::Running)).await
}

fn budgets(world: &World) -> Api<PodDisruptionBudget> {
    Api::namespaced(world.client.clone(), NAMESPACE)
}

/// None of the job's pods may go, and the disruption controller knows.
async fn protect(world: &World, job: &ComputeJob) {
    let _ = budgets(world).delete(BUDGET, &DeleteParams::default()).await;
    let budget = json!({
        "metadata": { "name": BUDGET },
        "spec": { "minAvailable": 2, "selector": { "matchLabels": { JOB_NAME_LABEL: job.name_any() } } },
    });
    let budget = serde_json::from_value(budget).expect("a budget");
    budgets(world).create(&PostParams::default(), &budget).await.expect("a budget");
    until("the budget counts its pods", PATIENCE, || async {
        let status = budgets(world).get(BUDGET).await.expect("the budget").status.unwrap_or_default();
        (status.current_healthy, status.disruptions_allowed) == (Some(2), Some(0))
    })
    .await;
}

fn says(job: &ComputeJob) -> String {
    job.status.as_ref().and_then(|status| status.message.clone()).unwrap_or_default()
}

async fn uids(world: &World, job: &ComputeJob) -> BTreeSet<String> {
    world.pods(job).await.iter().filter_map(Pod::uid).collect()
}

fn is_of_attempt(pod: &Pod, attempt: &str) -> bool {
    pod.labels().get(ATTEMPT_LABEL).is_some_and(|label| label == attempt)
}

fn is_ending(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

fn is_any_ending(pods: &[Pod]) -> bool {
    pods.iter().any(is_ending)
}

/// Whether it says that it goes for another's sake.
fn is_preempted(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|told| {
        told.type_ == "DisruptionTarget" && told.reason.as_deref() == Some("PreemptionByScheduler")
    })
}

fn node_of(pod: &Pod) -> Option<String> {
    pod.spec.as_ref().and_then(|spec| spec.node_name.clone())
}

/// Waits until every pod of the victim is ending; the node that meanwhile is kept for the other's one pod.
async fn nominated_while_all_are_ending(world: &World, job: &ComputeJob, victim: &ComputeJob) -> String {
    until("every pod of the victim is evicted", PATIENCE, || async {
        let pods = world.pods(victim).await;
        let first: Vec<&Pod> = pods.iter().filter(|pod| is_of_attempt(pod, "0")).collect();
        first.len() == 2 && first.iter().all(|pod| is_ending(pod) && is_preempted(pod))
    })
    .await;
    let pods = world.pods(job).await;
    let [pod] = &pods[..] else { panic!("not the one pod: {pods:?}") };
    assert_eq!(node_of(pod), None, "it has its place before the victims are gone");
    let nominated = pod.status.as_ref().and_then(|status| status.nominated_node_name.clone());
    nominated.expect("a nominated node")
}

async fn gone(world: &World, job: &ComputeJob) {
    world.delete(job).await;
    until("its pods are gone", PATIENCE, || async { world.pods(job).await.is_empty() }).await;
}

async fn leave_nothing(world: &World) {
    let classes: Api<PriorityClass> = Api::all(world.client.clone());
    for class in [LOW, HIGH, NEVER] {
        classes.delete(class, &DeleteParams::default()).await.expect("it goes");
    }
    budgets(world).delete(BUDGET, &DeleteParams::default()).await.expect("it goes");
}
