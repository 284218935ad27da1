//! Every program is killed, in turn and all at once, while a job runs and while it is being settled: the job ends, each
//! pod is paid exactly once, and the sums agree to the wei.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use plasma_api::{ComputeJob, compute_job::Phase};
use plasma_e2e::{
    NAMESPACE, QUEUE, Victim, World, all_run, containers_started, job, kill, phase, recorded, settled,
};
use plasma_types::Xpl;

/// When the programs die.
#[derive(Clone, Copy, Debug)]
enum Moment {
    WhileItRuns,
    /// The pods are over, and nothing says yet what they cost.
    BeforeTheReceipt,
    /// Between the receipt and the final block.
    WhileItIsSettled,
}

/// A killed container starts again only after the kubelet's back-off.
const PATIENCE: u64 = 240;

async fn survives(world: &World, name: &str, victims: &[Victim], moment: Moment) {
    all_run(victims).await;
    let made = world.create(NAMESPACE, job(name, (2, 1), "sleep 6")).await.expect("a job");
    match moment {
        Moment::WhileItRuns => {
            drop(world.wait(&made, "running", PATIENCE, |job| phase(job) == Some(Phase::Running)).await)
        }
        Moment::BeforeTheReceipt => over_and_without_a_receipt(world, &made).await,
        Moment::WhileItIsSettled => {
            let at_it = |job: &ComputeJob| {
                let cost = job.status.as_ref().and_then(|status| status.cost.as_ref());
                let unpaid = cost.is_some_and(|cost| cost.recorded > 0 && cost.settled < 2);
                unpaid && phase(job) == Some(Phase::Succeeded)
            };
            world.wait(&made, "being settled", PATIENCE, at_it).await;
        }
    }
    let before = starts(world, victims).await;
    for victim in victims {
        assert!(kill(*victim), "{victim:?} doesn't run");
    }
    let paid = |job: &ComputeJob| phase(job) == Some(Phase::Succeeded) && settled(job) == 2;
    let done = world.wait(&made, "done and paid", PATIENCE, paid).await;
    each_pod_is_paid_once(world, &done).await;
    all_run(victims).await;
    each_was_started_again(world, victims, &before).await;
    world.delete(&done).await;
}

/// As soon as both pods have ended: the batch that waits for others is written three seconds later.
async fn over_and_without_a_receipt(world: &World, job: &ComputeJob) {
    let begun = Instant::now();
    let is_over =
        |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded");
    while world.pods(job).await.iter().filter(|pod| is_over(pod)).count() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(PATIENCE), "the pods don't end");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let now = world.jobs(NAMESPACE).get(&job.name_any()).await.expect("the job");
    assert_eq!(recorded(&now), 0, "there is a receipt already: the kill would come too late");
}

async fn starts(world: &World, victims: &[Victim]) -> Vec<i32> {
    let mut starts = Vec::new();
    for victim in victims {
        starts.push(containers_started(world, *victim).await);
    }
    starts
}

/// The kill hit: whoever runs now isn't who ran before. The kubelet says so a moment later.
async fn each_was_started_again(world: &World, victims: &[Victim], before: &[i32]) {
    let begun = Instant::now();
    while starts(world, victims).await.iter().zip(before).any(|(now, before)| now <= before) {
        assert!(begun.elapsed() < Duration::from_secs(PATIENCE), "{victims:?}: not all were started again");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Also what was paid after its test had looked: whoever was started again might have paid once more.
async fn nobody_was_paid_twice(world: &World) {
    let twice = world.paid_by(QUEUE).await.into_iter().filter(|(_, payments)| payments.len() > 1);
    let twice: Vec<_> = twice.collect();
    assert!(twice.is_empty(), "on chain twice: {twice:?}");
}

async fn each_pod_is_paid_once(world: &World, job: &ComputeJob) {
    let paid = world.paid(job).await;
    assert_eq!(paid.len(), 2, "pods on chain");
    assert!(paid.values().all(|payments| payments.len() == 1), "a pod is on chain twice: {paid:?}");
    let on_chain: Xpl = paid.values().flatten().copied().sum();
    let cost = job.status.clone().and_then(|status| status.cost).expect("a cost");
    assert_eq!(cost.total, on_chain, "the job's cost and the chain");
    let uid = job.job_uid();
    let batches = world.batches().await;
    let receipts =
        batches.iter().flat_map(|batch| &batch.spec.receipts).filter(|receipt| Some(receipt.job_uid) == uid);
    let recorded: Xpl = receipts.map(|receipt| receipt.amount).sum();
    assert_eq!(recorded, on_chain, "the receipts and the chain");
    assert!(on_chain > Xpl::ZERO, "six seconds of two GPUs cost something");
}

#[tokio::test]
async fn a_job_survives_the_death_of_every_program_while_it_runs() {
    let world = World::connect().await;
    for (at, victim) in Victim::PLASMA.into_iter().enumerate() {
        survives(&world, &format!("run-{at}"), &[victim], Moment::WhileItRuns).await;
    }
    survives(&world, "run-all", &Victim::PLASMA, Moment::WhileItRuns).await;
    nobody_was_paid_twice(&world).await;
}

#[tokio::test]
async fn a_job_survives_the_death_of_every_program_while_it_is_settled() {
    let world = World::connect().await;
    for (at, victim) in Victim::PLASMA.into_iter().enumerate() {
        survives(&world, &format!("settle-{at}"), &[victim], Moment::WhileItIsSettled).await;
    }
    survives(&world, "settle-early", &[Victim::Settlement], Moment::BeforeTheReceipt).await;
    survives(&world, "settle-all", &Victim::PLASMA, Moment::WhileItIsSettled).await;
    nobody_was_paid_twice(&world).await;
}
