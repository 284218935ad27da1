//! Pods are billed from what their node's meter says, once, and for no longer than they ran, whatever is cut or killed
//! meanwhile.

use std::{
    collections::BTreeMap,
    panic::resume_unwind,
    time::{Duration, Instant},
};

use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::Deployment,
        core::v1::{ContainerStateTerminated, Pod, Secret},
    },
};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use plasma_api::{
    ComputeJob, GpuNode, compute_job::Phase, names::SYSTEM_NAMESPACE, settlement_batch::Receipt,
};
use plasma_e2e::{
    NAMESPACE, Victim, World, all_run, helm, job, kill, kubectl_plasma, phase, recorded_on_the_node, resume,
    settled, stop,
};
use plasma_types::{PodUid, Xpl, flag};
use serde_json::json;

use super::device_plugin::{say, state};

const PROGRAM: &str = "plasma-settlement";
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/plasma");
/// A pod's containers tell their times in whole seconds; the meter tells when its devices were given and taken back.
const AROUND: i64 = 5_000;

#[tokio::test]
async fn a_pod_is_billed_for_the_time_that_it_held_its_gpus() {
    let world = World::connect().await;
    has_a_meter(&world).await;
    let made = world.create(NAMESPACE, job("metered", (2, 1), "sleep 6")).await.expect("a job");
    let ran = times(&world, &made, 2).await;
    let over = Instant::now();
    world.wait(&made, "recorded", 60, |job| plasma_e2e::recorded(job) == 2).await;
    // The meter is five seconds behind, and three of settlement's wait for others.
    assert!(over.elapsed() < Duration::from_secs(20), "recorded {:?} after its end", over.elapsed());
    let paid = world.wait(&made, "paid", 120, |job| settled(job) == 2).await;
    let receipts = receipts(&world, &paid).await;
    are_what_was_held(&receipts, &ran);
    are_what_was_recorded(&world, &receipts, &ran).await;
    let masks: Vec<_> = receipts.values().map(|receipt| receipt.device_mask).collect();
    assert!(masks.iter().all(|mask| mask.count_ones() == 1) && masks[0] != masks[1], "{masks:?}");
    are_paid_once(&world, &paid, &receipts).await;
    let said = kubectl_plasma(&["receipts", "metered"]);
    assert!(said.output.matches(" meter ").count() == 2, "{said:?}");
    world.delete(&paid).await;
}

#[tokio::test]
async fn time_on_a_sick_gpu_is_not_billed() {
    let world = World::connect().await;
    has_a_meter(&world).await;
    let made = world.create(NAMESPACE, job("sick", (1, 1), "sleep 20")).await.expect("a job");
    world.wait(&made, "running", 60, |job| phase(job) == Some(Phase::Running)).await;
    let before = state(&world).await;
    let mut sick = before.clone();
    for gpu in sick["gpus"].as_array_mut().expect("GPUs") {
        gpu["recoveryAction"] = json!(1);
    }
    say(&world, &sick).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    say(&world, &before).await;
    let ran = times(&world, &made, 1).await;
    let paid = world.wait(&made, "paid", 120, |job| settled(job) == 1).await;
    let receipts = receipts(&world, &paid).await;
    are_what_was_recorded(&world, &receipts, &ran).await;
    let receipt = receipts.into_values().next().expect("a receipt");
    let unhealthy = receipt.duration.0.saturating_sub(receipt.device_ms);
    assert!((2_000..16_000).contains(&unhealthy), "{unhealthy} ms of {receipt:?}");
    world.delete(&paid).await;
}

#[tokio::test]
async fn what_is_told_while_settlement_is_away_is_neither_lost_nor_doubled() {
    let world = World::connect().await;
    has_a_meter(&world).await;
    let made = world.create(NAMESPACE, job("away", (2, 1), "sleep 8")).await.expect("a job");
    world.wait(&made, "running", 60, |job| phase(job) == Some(Phase::Running)).await;
    scale(&world, 0).await;
    let outcome = tokio::spawn(without_settlement(made.clone())).await;
    scale(&world, 1).await;
    let ran = outcome.unwrap_or_else(|fault| resume_unwind(fault.into_panic()));
    all_run(&[Victim::Settlement]).await;
    let paid = world.wait(&made, "paid", 180, |job| settled(job) == 2).await;
    let receipts = receipts(&world, &paid).await;
    are_what_was_held(&receipts, &ran);
    are_what_was_recorded(&world, &receipts, &ran).await;
    are_paid_once(&world, &paid, &receipts).await;
    world.delete(&paid).await;
}

#[tokio::test]
async fn a_stream_that_is_cut_and_a_settlement_that_dies_change_no_bill() {
    let world = World::connect().await;
    has_a_meter(&world).await;
    let made = world.create(NAMESPACE, job("cut", (2, 1), "sleep 12")).await.expect("a job");
    world.wait(&made, "running", 60, |job| phase(job) == Some(Phase::Running)).await;
    assert!(kill(Victim::Settlement), "settlement doesn't run");
    // What was killed may be seen for a moment longer, and can't be stopped any more.
    tokio::time::sleep(Duration::from_secs(1)).await;
    all_run(&[Victim::Settlement]).await;
    // It is connected, and answers nobody: while the pods end, nothing that they are told goes through.
    assert!(stop(Victim::Settlement), "settlement doesn't run");
    let outcome = tokio::spawn(without_settlement(made.clone())).await;
    resume(Victim::Settlement);
    let ran = outcome.unwrap_or_else(|fault| resume_unwind(fault.into_panic()));
    all_run(&[Victim::Settlement]).await;
    let paid = world.wait(&made, "paid", 240, |job| settled(job) == 2).await;
    let receipts = receipts(&world, &paid).await;
    are_what_was_held(&receipts, &ran);
    are_what_was_recorded(&world, &receipts, &ran).await;
    are_paid_once(&world, &paid, &receipts).await;
    world.delete(&paid).await;
}

#[tokio::test]
async fn an_upgrade_keeps_the_certificates() {
    let world = World::connect().await;
    let before = certificates(&world).await;
    let said = helm(&["upgrade", "plasma", CHART, "--reuse-values", "--wait", "--timeout", "4m"]);
    assert!(said.succeeded, "{said:?}");
    assert_eq!(certificates(&world).await, before);
    has_a_meter(&world).await;
}

/// What both sides of the meter's connection have.
async fn certificates(world: &World) -> Vec<BTreeMap<String, ByteString>> {
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let mut found = Vec::new();
    for name in ["plasma-meter-server-tls", "plasma-meter-client-tls"] {
        found.push(secrets.get(name).await.expect("a Secret").data.expect("its files"));
    }
    found
}

/// The node has a meter, and settlement hears it.
async fn has_a_meter(world: &World) {
    let nodes: Api<GpuNode> = Api::all(world.client.clone());
    let begun = Instant::now();
    loop {
        let nodes = nodes.list(&ListParams::default()).await.expect("GpuNodes").items;
        let since = nodes.iter().filter_map(|node| node.spec.meter.as_ref()?.since.as_ref()).count();
        let heard = world.metric(PROGRAM, "plasma_settlement_meter_nodes").await;
        if since == nodes.len() && heard == Some(1.0) {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(90),
            "{since} of {} meter, {heard:?} heard",
            nodes.len()
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Until the job's pods are over, and then for a while.
async fn without_settlement(job: ComputeJob) -> BTreeMap<PodUid, (i64, i64)> {
    let world = World::connect().await;
    let ran = times(&world, &job, 2).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    ran
}

/// When each of the job's pods ran, in milliseconds, by the kubelet's word; once all are over. Until their receipts are
/// durable, they are there.
async fn times(world: &World, job: &ComputeJob, pods: usize) -> BTreeMap<PodUid, (i64, i64)> {
    let begun = Instant::now();
    loop {
        let ran: BTreeMap<_, _> = world.pods(job).await.iter().filter_map(time).collect();
        if ran.len() == pods {
            return ran;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{} of {pods} pods are over", ran.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn time(pod: &Pod) -> Option<(PodUid, (i64, i64))> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let ContainerStateTerminated { started_at, finished_at, .. } =
        status.state.as_ref()?.terminated.clone()?;
    let millis = (started_at?.0.as_millisecond(), finished_at?.0.as_millisecond());
    Some((pod.uid()?.parse().ok()?, millis))
}

async fn receipts(world: &World, job: &ComputeJob) -> BTreeMap<PodUid, Receipt> {
    let uid = job.job_uid();
    let batches = world.batches().await.into_iter();
    let receipts = batches.flat_map(|batch| batch.spec.receipts);
    let ours = receipts.filter(|receipt| Some(receipt.job_uid) == uid);
    ours.map(|receipt| (receipt.pod_uid, receipt)).collect()
}

/// Each pod that ran has a receipt of the meter's, for the time that it held its one GPU: about that of its container.
fn are_what_was_held(receipts: &BTreeMap<PodUid, Receipt>, ran: &BTreeMap<PodUid, (i64, i64)>) {
    assert!(receipts.keys().eq(ran.keys()), "{receipts:?} {ran:?}");
    for (uid, receipt) in receipts {
        assert_eq!(receipt.flags & !flag::LATE, flag::METERED | flag::SIMULATED, "{receipt:?}");
        assert_eq!(receipt.device_ms, receipt.duration.0, "one GPU, healthy all the while");
        let (began, ended) = ran[uid];
        let (held, ran) = (i64::try_from(receipt.duration.0).expect("a span"), ended - began);
        // The status tells whole seconds: its end is within that second, and no receipt ends after it.
        assert!(
            receipt.flags & flag::LATE != 0 || receipt.end.0.cast_signed() <= ended + 1000,
            "{receipt:?} {ended}"
        );
        assert!((held - ran).abs() <= AROUND, "{uid} held its GPU for {held} ms and ran for {ran} ms");
        if receipt.flags & flag::LATE == 0 {
            let end = i64::try_from(receipt.end.0).expect("a time");
            assert!((end - ended).abs() <= AROUND, "{uid} gave its GPU back at {end}, and ended at {ended}");
        }
    }
}

/// Each receipt is what the plugin's records of its pod say: the same devices, and to the millisecond the same time, which
/// ends at the latest in the second that the pod's status tells.
async fn are_what_was_recorded(
    world: &World,
    receipts: &BTreeMap<PodUid, Receipt>,
    ran: &BTreeMap<PodUid, (i64, i64)>,
) {
    let nodes: Api<GpuNode> = Api::all(world.client.clone());
    let gpus = nodes.list(&ListParams::default()).await.expect("GpuNodes").items.into_iter();
    let bits: BTreeMap<_, _> = gpus
        .flat_map(|node| node.spec.gpus)
        .map(|gpu| (gpu.uuid, 1_u64 << u32::try_from(gpu.index).expect("an index")))
        .collect();
    let all = recorded_on_the_node();
    for (uid, receipt) in receipts {
        let recorded = all.get(uid).unwrap_or_else(|| panic!("the plugin has no record of {uid}"));
        assert!(recorded.is_over, "{recorded:?}");
        let end = recorded.end.min(ran[uid].1.cast_unsigned() + 1000);
        let healthy: u64 = recorded.healthy.values().sum();
        assert_eq!(receipt.device_ms, healthy - (recorded.end - end), "{receipt:?} {recorded:?}");
        assert_eq!(receipt.duration.0, end - recorded.start, "{receipt:?} {recorded:?}");
        // What came late was moved to where others may have the device.
        if receipt.flags & flag::LATE == 0 {
            let mask = recorded.healthy.keys().fold(0, |mask, device| mask | bits[device]);
            assert_eq!((receipt.device_mask, receipt.end.0), (mask, end), "{receipt:?} {recorded:?}");
        }
    }
}

async fn are_paid_once(world: &World, job: &ComputeJob, receipts: &BTreeMap<PodUid, Receipt>) {
    let paid = world.paid(job).await;
    let recorded: BTreeMap<PodUid, Vec<Xpl>> =
        receipts.iter().map(|(uid, receipt)| (*uid, vec![receipt.amount])).collect();
    assert_eq!(paid, recorded, "the chain and the receipts");
    assert!(paid.values().flatten().all(|amount| *amount > Xpl::ZERO), "{paid:?}");
}

/// So many settlements run; none, once it is over.
async fn scale(world: &World, replicas: u32) {
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    deployments.patch_scale(PROGRAM, &PatchParams::default(), &patch).await.expect("it is scaled");
    let begun = Instant::now();
    while replicas == 0 && plasma_e2e::runs(Victim::Settlement) {
        assert!(begun.elapsed() < Duration::from_secs(60), "settlement still runs");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
