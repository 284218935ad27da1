//! Every program is killed, in turn and all at once, while a job runs and while it is being settled: the job ends, each
//! pod is paid exactly once, and the sums agree to the wei.

use std::time::{Duration, Instant};

use plasma_api::{ComputeJob, compute_job::Phase};
use plasma_e2e::{NAMESPACE, Victim, World, job, kill, phase, runs, settled};
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

/// A killed container starts again only after the kubelet's back-off, which grows with each kill.
const PATIENCE: u64 = 240;

async fn survives(world: &World, name: &str, victims: &[Victim], moment: Moment) {
    all_run(victims).await;
    let made = world.create(NAMESPACE, job(name, (2, 1), "sleep 6")).await.expect("a job");
    match moment {
        Moment::WhileItRuns => {
            drop(world.wait(&made, "running", PATIENCE, |job| phase(job) == Some(Phase::Running)).await)
        }
        Moment::BeforeTheReceipt => {
            drop(world.wait(&made, "over", PATIENCE, |job| phase(job) == Some(Phase::Succeeded)).await)
        }
        Moment::WhileItIsSettled => {
            let at_it = |job: &ComputeJob| {
                let cost = job.status.as_ref().and_then(|status| status.cost.as_ref());
                let unpaid = cost.is_some_and(|cost| cost.recorded > 0 && cost.settled < 2);
                unpaid && phase(job) == Some(Phase::Succeeded)
            };
            world.wait(&made, "being settled", PATIENCE, at_it).await;
        }
    }
    for victim in victims {
        assert!(kill(*victim), "{victim:?} doesn't run");
    }
    let paid = |job: &ComputeJob| phase(job) == Some(Phase::Succeeded) && settled(job) == 2;
    let done = world.wait(&made, "done and paid", PATIENCE, paid).await;
    each_pod_is_paid_once(world, &done).await;
    world.delete(&done).await;
}

/// Whoever was killed before may still wait for the kubelet: nobody can be killed who doesn't run.
async fn all_run(victims: &[Victim]) {
    let begun = Instant::now();
    while !victims.iter().all(|victim| runs(*victim)) {
        assert!(begun.elapsed() < Duration::from_secs(PATIENCE), "{victims:?}: not all of them run");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
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
}

#[tokio::test]
async fn a_job_survives_the_death_of_every_program_while_it_is_settled() {
    let world = World::connect().await;
    for (at, victim) in Victim::PLASMA.into_iter().enumerate() {
        survives(&world, &format!("settle-{at}"), &[victim], Moment::WhileItIsSettled).await;
    }
    survives(&world, "settle-early", &[Victim::Settlement], Moment::BeforeTheReceipt).await;
    survives(&world, "settle-all", &Victim::PLASMA, Moment::WhileItIsSettled).await;
}
