//! Uninstalling, with jobs that run and jobs that wait: nothing is left that holds a pod, and nobody's work is ended.
//! In a file of its own, since nothing can be tested after it.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use k8s_openapi::api::{core::v1::Pod, rbac::v1::ClusterRole};
use kube::{Api, ResourceExt as _, api::ListParams};
use plasma_api::{
    compute_job::Phase,
    names::{JOB_UID_LABEL, SETTLEMENT_FINALIZER, SYSTEM_NAMESPACE},
};
use plasma_e2e::{NAMESPACE, World, helm, job, phase};

#[tokio::test]
async fn uninstalling_leaves_no_finalizer_and_ends_no_work() {
    let world = World::connect().await;
    let works = world.create(NAMESPACE, job("works", (2, 1), "sleep 600")).await.expect("a job");
    world.wait(&works, "running", 60, |job| phase(job) == Some(Phase::Running)).await;
    let waits = world.create(NAMESPACE, job("waits", (4, 1), "sleep 600")).await.expect("a job");
    world.wait(&waits, "waiting", 60, |job| phase(job) == Some(Phase::Waiting)).await;
    assert_eq!(held(&world).await.len(), 6, "each pod of a billed job is held");

    let said = helm(&["uninstall", "plasma", "--wait", "--timeout", "4m"]);
    assert!(said.succeeded, "{said:?}");
    assert_eq!(held(&world).await, Vec::<String>::new(), "held by a program that is gone");
    let goes_on =
        |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    assert_eq!(world.pods(&works).await.iter().filter(|pod| goes_on(pod)).count(), 2, "their work goes on");
    nothing_of_ours_is_left(&world).await;

    // Nobody of ours is needed to let them go.
    world.delete(&works).await;
    world.delete(&waits).await;
    let begun = Instant::now();
    while !of_jobs(&world).await.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?} hang", of_jobs(&world).await);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn held(world: &World) -> Vec<String> {
    let pods: Api<Pod> = Api::all(world.client.clone());
    let listed = pods.list(&ListParams::default()).await.expect("pods");
    let holds = |pod: &&Pod| pod.finalizers().iter().any(|finalizer| finalizer == SETTLEMENT_FINALIZER);
    listed.iter().filter(holds).map(|pod| pod.name_any()).collect()
}

async fn of_jobs(world: &World) -> Vec<String> {
    let pods: Api<Pod> = Api::all(world.client.clone());
    let listed = pods.list(&ListParams::default().labels(JOB_UID_LABEL)).await.expect("pods");
    listed.iter().map(|pod| pod.name_any()).collect()
}

async fn nothing_of_ours_is_left(world: &World) {
    let ours = ListParams::default().labels("app.kubernetes.io/part-of=plasma");
    let roles: Api<ClusterRole> = Api::all(world.client.clone());
    let roles = roles.list(&ours).await.expect("cluster roles");
    assert!(roles.items.is_empty(), "{:?}", roles.iter().map(|role| role.name_any()).collect::<Vec<_>>());
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let begun = Instant::now();
    loop {
        let left = pods.list(&ours).await.expect("pods").items;
        if left.is_empty() {
            return;
        }
        let left: Vec<_> = left.iter().map(|pod| pod.name_any()).collect();
        assert!(begun.elapsed() < Duration::from_secs(60), "{left:?} are left");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
