//! Uninstalling, with jobs that run and jobs that wait: nothing is left that holds a pod, and nobody's work is ended.
//! In a file of its own, since nothing can be tested after it.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::ListParams};
use plasma_api::{
    ComputeJob,
    compute_job::Phase,
    names::{JOB_UID_LABEL, SETTLEMENT_FINALIZER},
};
use plasma_e2e::{NAMESPACE, World, helm, job, kubectl, phase};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/plasma");
/// How long pods may take to come, or to go.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a release consists of.
const KINDS: &str = "pods,deployments,daemonsets,jobs,services,secrets,serviceaccounts,clusterroles,clusterrolebindings,\
                     roles,rolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings";

#[tokio::test]
async fn uninstalling_leaves_no_finalizer_and_ends_no_work() {
    let world = World::connect().await;
    switching_settlement_off_leaves_no_finalizer(&world).await;

    let works = world.create(NAMESPACE, job("works", (2, 1), "sleep 600")).await.expect("a job");
    world.wait(&works, "running", 60, |job| phase(job) == Some(Phase::Running)).await;
    let waits = world.create(NAMESPACE, job("waits", (4, 1), "sleep 600")).await.expect("a job");
    world.wait(&waits, "waiting", 60, |job| phase(job) == Some(Phase::Waiting)).await;
    are_held(&world, &works, 2).await;
    are_held(&world, &waits, 4).await;

    let said = helm(&["uninstall", "plasma", "--wait", "--timeout", "4m"]);
    assert!(said.succeeded, "{said:?}");
    assert_eq!(held(&world).await, Vec::<String>::new(), "held by a program that is gone");
    assert_eq!(running(&world, &works).await, 2, "their work goes on");
    nothing_of_ours_is_left().await;

    // Nobody of ours is needed to let them go.
    world.delete(&works).await;
    world.delete(&waits).await;
    are_gone(&world).await;
    let kept = kubectl(&["get", "computejobs,gangs,settlementbatches", "--all-namespaces", "--output=json"]);
    assert!(
        kept.succeeded && !kept.output.contains("\"finalizers\""),
        "records that nobody can delete: {kept:?}"
    );
}

/// A cluster that is a good scheduler without settlement has no pod that waits for it.
async fn switching_settlement_off_leaves_no_finalizer(world: &World) {
    let works = world.create(NAMESPACE, job("unpaid", (1, 1), "sleep 600")).await.expect("a job");
    world.wait(&works, "running", 60, |job| phase(job) == Some(Phase::Running)).await;
    are_held(world, &works, 1).await;
    switch_settlement(false);
    assert_eq!(held(world).await, Vec::<String>::new(), "held by a program that is gone");
    assert_eq!(running(world, &works).await, 1, "their work goes on");
    world.delete(&works).await;
    are_gone(world).await;
    switch_settlement(true);
}

fn switch_settlement(on: bool) {
    let setting = format!("settlement.enabled={on}");
    let upgrade =
        ["upgrade", "plasma", CHART, "--reuse-values", "--set", &setting, "--wait", "--timeout", "4m"];
    let said = helm(&upgrade);
    assert!(said.succeeded, "{setting}: {said:?}");
}

/// The Job controller makes the pods after the job says that it waits.
async fn are_held(world: &World, job: &ComputeJob, pods: usize) {
    let begun = Instant::now();
    loop {
        let found = world.pods(job).await.iter().filter(|pod| is_held(pod)).count();
        if found == pods {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{}: {found} of {pods} pods are held", job.name_any());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

fn is_held(pod: &Pod) -> bool {
    pod.finalizers().iter().any(|finalizer| finalizer == SETTLEMENT_FINALIZER)
}

async fn held(world: &World) -> Vec<String> {
    let pods: Api<Pod> = Api::all(world.client.clone());
    let listed = pods.list(&ListParams::default()).await.expect("pods");
    listed.iter().filter(|pod| is_held(pod)).map(|pod| pod.name_any()).collect()
}

async fn running(world: &World, job: &ComputeJob) -> usize {
    let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
    world.pods(job).await.iter().filter(|pod| phase(pod) == "Running").count()
}

async fn are_gone(world: &World) {
    let pods: Api<Pod> = Api::all(world.client.clone());
    let begun = Instant::now();
    loop {
        let left = pods.list(&ListParams::default().labels(JOB_UID_LABEL)).await.expect("pods");
        if left.items.is_empty() {
            return;
        }
        let left: Vec<_> = left.iter().map(|pod| pod.name_any()).collect();
        assert!(begun.elapsed() < PATIENCE, "{left:?} hang");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn nothing_of_ours_is_left() {
    let ours = "--selector=app.kubernetes.io/part-of=plasma";
    let begun = Instant::now();
    loop {
        let said = kubectl(&["get", KINDS, "--all-namespaces", ours, "--output=name"]);
        assert!(said.succeeded, "{said:?}");
        if said.output.trim().is_empty() {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "left: {}", said.output);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
