//! A chain that can't be reached stops nothing that runs, delays payment, and shows.

use std::{
    panic::resume_unwind,
    time::{Duration, Instant},
};

use plasma_api::{ComputeJob, SettlementBatch, compute_job::Phase, condition};
use plasma_e2e::{NAMESPACE, Victim, World, fresh_queue, job, phase, recorded, resume, settled, stop};
use serde_json::json;

/// What an alert on the chain looks at.
const REACHABLE: &str = "plasma_settlement_chain_reachable";

#[tokio::test]
async fn an_unreachable_chain_delays_payment_and_nothing_else() {
    let world = World::connect().await;
    // The rental's first batch needs the chain to know where to begin; one payment before makes this one a later one.
    let first = world.create(NAMESPACE, job("before", (1, 1), "sleep 1")).await.expect("a job");
    world.wait(&first, "paid", 120, |job| settled(job) == 1).await;
    // The first batch of a rental of its own has to wait for the chain instead, and its job must say so.
    let queue = fresh_queue(&world).await;
    let across = world.create(NAMESPACE, job("across", (1, 1), "sleep 8")).await.expect("a job");
    world.wait(&across, "running", 60, |job| phase(job) == Some(Phase::Running)).await;

    assert!(stop(Victim::Chain), "the chain doesn't run");
    let outcome = tokio::spawn(without_the_chain(across, queue)).await;
    assert!(resume(Victim::Chain), "the chain doesn't run");

    let jobs = outcome.unwrap_or_else(|fault| resume_unwind(fault.into_panic()));
    for made in &jobs {
        let pods = made.spec.roles[0].replicas;
        world.wait(made, "paid after all", 180, |job| settled(job) == pods && recorded(job) == pods).await;
        let paid = world.paid(made).await;
        let is_once = paid.values().all(|payments| payments.len() == 1);
        assert!(i32::try_from(paid.len()) == Ok(pods) && is_once, "{:?}: {paid:?}", made.metadata.name);
        world.delete(made).await;
    }
    assert_eq!(world.metric("plasma-settlement", REACHABLE).await, Some(1.0), "{REACHABLE}");
    world.delete(&first).await;
}

/// What happens while the chain answers nobody, to a job that runs already, one that starts, and one of a new queue.
async fn without_the_chain(across: ComputeJob, queue: String) -> [ComputeJob; 3] {
    let world = World::connect().await;
    let made = world.create(NAMESPACE, job("offline", (2, 1), "sleep 2")).await.expect("a job");
    let mut of_the_new_queue = job("offline-fresh", (1, 1), "sleep 1");
    of_the_new_queue["spec"]["queue"] = json!(queue);
    let fresh = world.create(NAMESPACE, of_the_new_queue).await.expect("a job");
    for job in [&across, &made, &fresh] {
        world.wait(job, "over", 120, |job| phase(job) == Some(Phase::Succeeded)).await;
    }
    for (job, pods) in [(&across, 1), (&made, 2)] {
        let shows = |job: &ComputeJob| is_unreachable(job) && recorded(job) == pods && settled(job) == 0;
        world.wait(job, "recorded, unpaid, and saying why", 120, shows).await;
    }
    a_batch_says_so(&world, [&across, &made]).await;
    let shows = |job: &ComputeJob| is_unreachable(job) && recorded(job) == 0;
    world.wait(&fresh, "without a receipt, and saying why", 60, shows).await;
    assert_eq!(world.metric("plasma-settlement", REACHABLE).await, Some(0.0), "{REACHABLE}");
    [across, made, fresh]
}

/// Batches are paid one after the other: the first of those that hold the jobs' receipts is being tried.
async fn a_batch_says_so(world: &World, jobs: [&ComputeJob; 2]) {
    let says = |batch: &SettlementBatch| {
        let conditions = batch.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        condition::find(conditions, "ChainReachable").is_some_and(|condition| condition.status == "False")
    };
    let begun = Instant::now();
    loop {
        let batches = world.batches().await;
        let ours: Vec<_> = batches.iter().filter(|batch| jobs.iter().any(|job| holds(batch, job))).collect();
        if ours.iter().any(|batch| says(batch)) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "none says that the chain is silent: {ours:#?}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

fn is_unreachable(job: &ComputeJob) -> bool {
    let cost = job.status.as_ref().and_then(|status| status.cost.as_ref());
    cost.is_some_and(|cost| cost.chain_reachable == Some(false))
}

fn holds(batch: &SettlementBatch, job: &ComputeJob) -> bool {
    batch.spec.receipts.iter().any(|receipt| Some(receipt.job_uid) == job.job_uid())
}
