//! An attempt that fails is followed by another, as often as the job allows; one that lost pods through no fault of the
//! job's doesn't count. Whatever ran is paid for, in every attempt, once.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, EvictParams},
};
use plasma_api::{
    ComputeJob,
    compute_job::{Attempts, Phase},
    names::ATTEMPT_LABEL,
};
use plasma_e2e::{NAMESPACE, World, job, phase, settled};
use plasma_types::Xpl;
use serde_json::{Value, json};

/// Two attempts with a pause, and their payments.
const PATIENCE: u64 = 240;

/// A job of two pods that does `first` in its first attempt, and ends well in any further one: rank 0's address tells which
/// it is.
fn job_that(name: &str, first: &str, backoff_limit: i32) -> Value {
    let command = format!(r#"case "$MASTER_ADDR" in *-0) {first};; *) sleep 2;; esac"#);
    let mut job = job(name, (2, 1), &command);
    job["spec"]["backoffLimit"] = json!(backoff_limit);
    job
}

/// The job succeeds in its second attempt, of which `failed` failed before, and all four pods are paid once.
async fn succeeds_the_second_time(world: &World, made: &ComputeJob, failed: i32) {
    let is_over = |job: &ComputeJob| matches!(phase(job), Some(Phase::Succeeded | Phase::Failed));
    let over = world.wait(made, "over", PATIENCE, is_over).await;
    let status = over.status.clone().expect("a status");
    assert_eq!(status.phase, Some(Phase::Succeeded), "{status:#?}");
    let Attempts { started, failed: counted, .. } = status.attempts.expect("attempts");
    assert_eq!((started, counted), (2, failed), "attempts started, and failed: {status:#?}");

    let paid = world.wait(made, "paid for four pods", PATIENCE, |job| settled(job) == 4).await;
    let of_attempt = |attempt: &str, pods: &[Pod]| {
        pods.iter()
            .filter(|pod| pod.labels().get(ATTEMPT_LABEL).is_some_and(|label| label == attempt))
            .count()
    };
    // Of the first attempt, those that were deleted are gone; the second is whole.
    assert_eq!(of_attempt("1", &world.pods(made).await), 2, "pods of the second attempt");
    let payments = world.paid(made).await;
    assert_eq!(payments.len(), 4, "pods on chain: {payments:?}");
    assert!(payments.values().all(|of_pod| of_pod.len() == 1), "a pod is on chain twice: {payments:?}");
    let total: Xpl = payments.into_values().flatten().sum();
    let cost = paid.status.and_then(|status| status.cost).expect("a cost");
    assert!(cost.total == total && total > Xpl::ZERO, "told {} XPL, paid {total} XPL", cost.total);
}

/// The pod of rank 1, once both run.
async fn running_pod(world: &World, made: &ComputeJob) -> String {
    world.wait(made, "running", PATIENCE, |job| phase(job) == Some(Phase::Running)).await;
    let pods = world.pods(made).await;
    let second = pods.iter().find(|pod| pod.name_any().contains("-worker-0-1-"));
    second.unwrap_or_else(|| panic!("no pod of rank 1 among {pods:?}")).name_any()
}

#[tokio::test]
async fn a_pod_that_fails_makes_the_whole_gang_start_again() {
    let world = World::connect().await;
    // Both run by then: a pod that never began isn't paid for.
    let fails = r#"sleep 5; [ "$RANK" = 0 ] || exit 3; sleep 60"#;
    let made = world.create(NAMESPACE, job_that("again", fails, 1)).await.expect("a job");
    succeeds_the_second_time(&world, &made, 1).await;
    world.delete(&made).await;
}

#[tokio::test]
async fn a_pod_that_fails_once_more_than_the_job_allows_fails_the_job() {
    let world = World::connect().await;
    let mut object = job("no-more", (2, 1), "sleep 5; exit 3");
    object["spec"]["backoffLimit"] = json!(0);
    let made = world.create(NAMESPACE, object).await.expect("a job");
    let over = world.wait(&made, "failed", PATIENCE, |job| phase(job) == Some(Phase::Failed)).await;
    let status = over.status.expect("a status");
    assert!(
        status.message.as_deref().is_some_and(|message| message.contains("pod no-more-worker-0-")),
        "{status:#?}"
    );
    world.wait(&made, "paid for two pods", PATIENCE, |job| settled(job) == 2).await;
    assert_eq!(world.pods(&made).await.len(), 2, "pods, of one attempt");
    world.delete(&made).await;
}

#[tokio::test]
async fn a_pod_that_is_deleted_by_hand_does_not_count_against_the_job() {
    let world = World::connect().await;
    let made = world.create(NAMESPACE, job_that("deleted", "sleep 90", 0)).await.expect("a job");
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), NAMESPACE);
    let pod = running_pod(&world, &made).await;
    pods.delete(&pod, &DeleteParams::default()).await.expect("it is deleted");
    succeeds_the_second_time(&world, &made, 0).await;
    world.delete(&made).await;
}

#[tokio::test]
async fn a_pod_that_is_evicted_does_not_count_against_the_job() {
    let world = World::connect().await;
    let made = world.create(NAMESPACE, job_that("evicted", "sleep 90", 0)).await.expect("a job");
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), NAMESPACE);
    let pod = running_pod(&world, &made).await;
    pods.evict(&pod, &EvictParams::default()).await.expect("it is evicted");
    succeeds_the_second_time(&world, &made, 0).await;
    world.delete(&made).await;
}
