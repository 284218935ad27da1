//! A GPU that is divided while everything runs, on a real kubelet: its parts are offered, given to a job, and paid for by
//! their size.

use std::{
    panic::resume_unwind,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::LogParams};
use plasma_api::{ComputeJob, compute_job::Phase, condition, names::GPU_RESOURCE, settlement_batch::Receipt};
use plasma_e2e::{NAMESPACE, World, is_paid, job, phase};
use plasma_types::Xpl;
use serde_json::{Value, json};

use super::device_plugin::{becomes, every_gpu, offered, plugin, say, state};

const PART: &str = "nvidia.com/mig-1g.10gb";
/// A seventh of a GPU, in thousandths, as the meter counts it.
const SEVENTH: u128 = 142;
const PARTS: [&str; 2] =
    ["MIG-e2e00000-0000-0000-0000-000000000007", "MIG-e2e00000-0000-0000-0000-000000000008"];

#[tokio::test]
async fn a_gpu_that_is_divided_is_offered_given_and_paid_for_in_parts_with_no_restart() {
    let world = World::connect().await;
    let (before, all, uid) = (state(&world).await, every_gpu(&world).await, plugin(&world).await.uid());
    let mut divided = before.clone();
    let part = |(number, uuid)| json!({ "uuid": uuid, "profile": "1g.10gb", "gpuInstance": number, "memoryMib": 9984, "slices": [1, 1] });
    divided["gpus"][0]["mig"] = json!(true);
    divided["gpus"][0]["instances"] = (7..).zip(PARTS).map(part).collect();
    say(&world, &divided).await;
    let outcome = tokio::spawn(in_parts(all.0 - 1)).await;
    say(&world, &before).await;
    outcome.unwrap_or_else(|fault| resume_unwind(fault.into_panic()));
    becomes(&world, all).await;
    offers(&world, PART, 0).await;
    assert_eq!(plugin(&world).await.uid(), uid, "nobody was restarted");
}

/// One GPU is two parts, and so many are whole.
async fn in_parts(whole: i64) {
    let world = World::connect().await;
    offers(&world, GPU_RESOURCE, whole).await;
    offers(&world, PART, 2).await;

    // Two minutes and a second of a seventh at 3.6 XPL an hour: 0.0172 XPL.
    let poor = world.create(NAMESPACE, asks("parts-poor", "0.017")).await.expect("a job");
    let poor = world.wait(&poor, "refused", 60, |job| phase(job) == Some(Phase::Refused)).await;
    let status = poor.status.as_ref().expect("a status");
    let why = condition::find(&status.conditions, "Admitted").expect("a condition").clone();
    assert_eq!(why.reason, "BudgetTooSmall", "{}", why.message);
    world.delete(&poor).await;

    let made = world.create(NAMESPACE, asks("parts", "0.018")).await.expect("a job");
    let over = world.wait(&made, "over", 60, |job| phase(job) == Some(Phase::Succeeded)).await;
    let seen = devices(&world, &over).await;
    assert!(seen.lines().count() == 1 && PARTS.contains(&seen.trim()), "one part, and no more: {seen:?}");
    let paid = world.wait(&over, "paid", 120, is_paid).await;
    let receipt = receipt(&world, &paid).await;
    let told = u128::from(receipt.duration.0) * SEVENTH / 1000;
    assert!(told > 0 && u128::from(receipt.device_ms).abs_diff(told) <= 1, "{receipt:?}");
    let amounts: Vec<Vec<Xpl>> = world.paid(&paid).await.into_values().collect();
    assert_eq!(amounts, [[receipt.amount]], "the chain and the receipt");
    world.delete(&paid).await;
}

/// A job of one pod that asks for one part, and says which devices it sees.
fn asks(name: &str, budget: &str) -> Value {
    let mut job = job(name, (1, 0), "ls /dev/plasma-simulated; sleep 5");
    job["spec"]["budget"] = json!(budget);
    job["spec"]["roles"][0]["template"]["spec"]["containers"][0]["resources"]["limits"] = json!({ PART: 1 });
    job
}

/// What the job's one pod printed; the pod is there until it is paid for.
async fn devices(world: &World, job: &ComputeJob) -> String {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), NAMESPACE);
    let name = world.pods(job).await.first().expect("its pod").name_any();
    pods.logs(&name, &LogParams::default()).await.expect("its log")
}

async fn receipt(world: &World, job: &ComputeJob) -> Receipt {
    let uid = job.job_uid();
    let batches = world.batches().await.into_iter();
    let mut receipts = batches.flat_map(|batch| batch.spec.receipts);
    receipts.find(|receipt| Some(receipt.job_uid) == uid).expect("its receipt")
}

/// Waits until the kubelet has so many of a resource, and can give all of them away.
async fn offers(world: &World, resource: &str, count: i64) {
    let begun = Instant::now();
    while offered(world, resource).await != (count, count) {
        let told = offered(world, resource).await;
        assert!(begun.elapsed() < Duration::from_secs(60), "{told:?} of {resource}, not {count}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
