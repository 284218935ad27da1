//! What a job cost, as its owner asks for it; and that a record that was tampered with is named.

use std::{panic::resume_unwind, time::Duration};

use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use plasma_api::{ComputeJob, SettlementBatch, compute_job::Phase, names::SYSTEM_NAMESPACE};
use plasma_e2e::{
    NAMESPACE, Victim, World, all_run, job, kill, kubectl_plasma, phase, resume, runs, settled, stop,
};
use plasma_types::Xpl;
use serde_json::Value;

#[tokio::test]
async fn receipts_are_listed_and_verified_and_tampering_is_named() {
    let world = World::connect().await;
    let made = world.create(NAMESPACE, job("receipts", (2, 1), "sleep 2")).await.expect("a job");
    let paid = world.wait(&made, "paid", 120, |job| settled(job) == 2).await;
    lists_what_the_chain_paid(&world, &paid).await;

    let rpc = std::env::var("PLASMA_RPC").expect("PLASMA_RPC");
    let verify = || kubectl_plasma(&["verify", "receipts", "--rpc", &rpc]);
    let said = verify();
    assert!(said.succeeded && said.output.contains("verified: 2 pods of receipts"), "{said:?}");

    // Nobody may notice before we have asked: settlement doesn't run meanwhile.
    assert!(stop(Victim::Settlement), "settlement doesn't run");
    let outcome = tokio::spawn(tampering_is_named(paid.clone(), rpc.clone())).await;
    // It may have been stopped for so long that the kubelet ended it: then it comes back by itself.
    resume(Victim::Settlement);
    outcome.unwrap_or_else(|fault| resume_unwind(fault.into_panic()));
    all_run(&[Victim::Settlement]).await;
    let said = verify();
    assert!(said.succeeded, "as it was: {said:?}");
    world.delete(&made).await;
}

#[tokio::test]
async fn a_job_is_not_told_what_an_earlier_one_of_its_name_cost() {
    let world = World::connect().await;
    let first = world.create(NAMESPACE, job("again", (1, 1), "sleep 1")).await.expect("a job");
    world.wait(&first, "paid", 120, |job| settled(job) == 1).await;
    world.delete(&first).await;
    let second = world.create(NAMESPACE, job("again", (1, 1), "sleep 12")).await.expect("a job");
    world.wait(&second, "running", 120, |job| phase(job) == Some(Phase::Running)).await;
    // What it remembers of whom it told goes with it.
    assert!(kill(Victim::Settlement), "settlement doesn't run");
    while !runs(Victim::Settlement) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    let status = world.jobs(NAMESPACE).get("again").await.expect("the job").status.expect("a status");
    assert_eq!((status.phase, status.cost), (Some(Phase::Running), None), "nothing of it is over");
    let paid = world.wait(&second, "paid", 120, |job| settled(job) == 1).await;
    let cost = paid.status.clone().and_then(|status| status.cost).expect("a cost");
    let told: Vec<_> = cost.receipts.iter().map(|receipt| receipt.pod_uid).collect();
    let on_chain = world.paid(&paid).await;
    assert_eq!(told, on_chain.keys().copied().collect::<Vec<_>>(), "its own pod, and no other's");
    assert_eq!(cost.total, on_chain.into_values().flatten().sum());
    assert!(cost.receipts[0].transaction.is_some(), "and where the chain says so");
    world.delete(&paid).await;
}

async fn lists_what_the_chain_paid(world: &World, job: &ComputeJob) {
    let said = kubectl_plasma(&["receipts", "receipts", "--output", "json"]);
    assert!(said.succeeded, "{said:?}");
    let listed: Vec<Value> = serde_json::from_str(&said.output).expect("JSON");
    let amount = |receipt: &Value| receipt["amount"].as_str().expect("an amount").parse().expect("XPL");
    let listed: Xpl = listed.iter().map(amount).sum();
    let paid: Xpl = world.paid(job).await.into_values().flatten().sum();
    assert!(listed == paid && paid > Xpl::ZERO, "listed {listed} XPL, paid {paid} XPL");
    let table = kubectl_plasma(&["receipts", "receipts"]);
    assert!(table.output.contains(&format!("total {paid} XPL")), "{table:?}");
}

async fn tampering_is_named(job: ComputeJob, rpc: String) {
    let world = World::connect().await;
    let uid = job.job_uid().expect("a UID");
    let holds = |batch: &SettlementBatch| batch.spec.receipts.iter().any(|receipt| receipt.job_uid == uid);
    let good = world.batches().await.into_iter().find(holds).expect("a batch");
    let pod = good.spec.receipts.iter().find(|receipt| receipt.job_uid == uid).expect("a receipt").pod_uid;
    let verify = || kubectl_plasma(&["verify", "receipts", "--rpc", &rpc]);
    let batches: Api<SettlementBatch> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    cannot_be_changed(&good, &batches).await;

    let mut dearer = good.clone();
    let receipt = dearer.spec.receipts.iter_mut().find(|receipt| receipt.pod_uid == pod).expect("a receipt");
    receipt.amount = [receipt.amount, Xpl::from_wei(1)].into_iter().sum();
    replace(&batches, &good, Some(&dearer)).await;
    let said = verify();
    assert!(!said.succeeded && said.errors.contains(&pod.to_string()), "an amount: {said:?}");

    let mut longer = good.clone();
    longer.spec.receipts[0].end.0 += 1;
    replace(&batches, &good, Some(&longer)).await;
    let said = verify();
    let names_it = said.errors.contains(&good.name_any()) && said.errors.contains("recorded head");
    assert!(!said.succeeded && names_it, "a time: {said:?}");

    replace(&batches, &good, None).await;
    let said = verify();
    let names_it = said.errors.contains("no SettlementBatch records");
    assert!(!said.succeeded && names_it, "a batch that is gone: {said:?}");

    replace(&batches, &good, Some(&good)).await;
}

async fn cannot_be_changed(good: &SettlementBatch, batches: &Api<SettlementBatch>) {
    let mut changed = good.clone();
    changed.spec.queue = "other".to_owned();
    let refused = batches.replace(&good.name_any(), &PostParams::default(), &changed).await;
    let refused = refused.expect_err("a recorded batch was changed").to_string();
    assert!(refused.contains("cannot be changed"), "{refused}");
}

/// Whoever tampers with a recorded batch must make it anew.
async fn replace(batches: &Api<SettlementBatch>, good: &SettlementBatch, by: Option<&SettlementBatch>) {
    let name = good.name_any();
    match batches.delete(&name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        outcome => drop(outcome.expect("it is deleted")),
    }
    let Some(by) = by else { return };
    let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
    let made = SettlementBatch { metadata, ..by.clone() };
    let mut made = batches.create(&PostParams::default(), &made).await.expect("it is made anew");
    made.status = good.status.clone();
    batches.replace_status(&name, &PostParams::default(), &made).await.expect("its status");
}
