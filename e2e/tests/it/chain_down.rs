//! A chain that can't be reached stops nothing that runs, delays payment, and shows.

use plasma_api::{ComputeJob, compute_job::Phase, condition, settlement_batch::BatchPhase};
use plasma_e2e::{NAMESPACE, Victim, World, job, phase, resume, settled, stop};

/// What an alert on the chain looks at.
const REACHABLE: &str = "plasma_settlement_chain_reachable";

#[tokio::test]
async fn an_unreachable_chain_delays_payment_and_nothing_else() {
    let world = World::connect().await;
    // The rental's first batch needs the chain to know where to begin; one payment before makes this one a later one.
    let first = world.create(NAMESPACE, job("before", (1, 1), "sleep 1")).await.expect("a job");
    world.wait(&first, "paid", 120, |job| settled(job) == 1).await;

    assert!(stop(Victim::Chain), "the chain doesn't run");
    let outcome = tokio::spawn(async {
        let world = World::connect().await;
        let made = world.create(NAMESPACE, job("offline", (2, 1), "sleep 2")).await.expect("a job");
        world.wait(&made, "over", 120, |job| phase(job) == Some(Phase::Succeeded)).await;
        let shows = |job: &ComputeJob| {
            let cost = job.status.as_ref().and_then(|status| status.cost.clone());
            cost.is_some_and(|cost| {
                cost.recorded == 2 && cost.settled == 0 && cost.chain_reachable == Some(false)
            })
        };
        let waiting = world.wait(&made, "recorded, unpaid, and saying why", 120, shows).await;
        let open =
            world.batches().await.into_iter().filter(|batch| {
                batch.status.as_ref().and_then(|status| status.phase) != Some(BatchPhase::Final)
            });
        let conditions =
            open.filter_map(|batch| batch.status).flat_map(|status| status.conditions).collect::<Vec<_>>();
        assert_eq!(condition::find(&conditions, "ChainReachable").expect("a condition").status, "False");
        assert_eq!(world.settlement_metric(REACHABLE).await, Some(0.0), "{REACHABLE}");
        waiting
    })
    .await;
    assert!(resume(Victim::Chain), "the chain doesn't run");

    let made = outcome.expect("the job ran without the chain");
    world.wait(&made, "paid after all", 180, |job| settled(job) == 2).await;
    assert_eq!(world.settlement_metric(REACHABLE).await, Some(1.0), "{REACHABLE}");
    let paid = world.paid(&made).await;
    assert!(paid.len() == 2 && paid.values().all(|payments| payments.len() == 1), "{paid:?}");
    world.delete(&first).await;
    world.delete(&made).await;
}
