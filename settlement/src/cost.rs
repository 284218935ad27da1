//! Telling each job what it has cost, under settlement's own field manager.

use std::collections::{BTreeMap, HashMap, HashSet};

use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
};
use plasma_api::{
    ComputeJob,
    compute_job::{Cost, PodCost},
    names::field_manager::SETTLEMENT,
    settlement_batch::BatchPhase,
};
use plasma_types::JobUid;
use serde_json::json;

use crate::{
    batches::{Batches, phase},
    failure::Failure,
    settle::Surroundings,
};

/// What was told last, so that only changes are written.
#[derive(Default)]
pub(crate) struct Costs {
    told: HashMap<JobUid, Cost>,
}

/// So many receipts are listed in a job's status, the newest: an object holds only so much. The counts and the sum are of
/// all, and the SettlementBatches have the others.
const MOST_RECEIPTS: usize = 2000;

/// A job's namespace and name.
type JobName = (String, String);

impl Costs {
    /// Tells every job whose cost changed, those among them whose pods wait for their receipts; the jobs that could not be
    /// told. One that can't be told keeps none of the others from it.
    pub(crate) async fn tell(
        &mut self,
        around: &Surroundings,
        (batches, waiting): (&Batches, &[(JobUid, JobName)]),
        reachable: bool,
    ) -> HashSet<JobUid> {
        let mut untold = HashSet::new();
        for (uid, (name, cost)) in costs(batches, waiting, reachable) {
            if self.told.get(&uid) == Some(&cost) {
                continue;
            }
            match tell_one(around, uid, &name, &cost).await {
                Ok(()) => drop(self.told.insert(uid, cost)),
                Err(failure) => {
                    around.try_again(&format!("ComputeJob {}/{}", name.0, name.1), &failure);
                    untold.insert(uid);
                }
            }
        }
        untold
    }
}

async fn tell_one(
    around: &Surroundings,
    uid: JobUid,
    (namespace, name): &JobName,
    cost: &Cost,
) -> Result<(), Failure> {
    let jobs: Api<ComputeJob> = Api::namespaced(around.client.clone(), namespace);
    let object = json!({
        "apiVersion": ComputeJob::api_version(&()), "kind": ComputeJob::kind(&()),
        // The UID is the precondition: a job of the same name that came later isn't told of this one's pods.
        "metadata": { "name": name, "uid": uid }, "status": { "cost": cost },
    });
    let written =
        jobs.patch_status(name, &PatchParams::apply(SETTLEMENT).force(), &Patch::Apply(&object)).await;
    let Err(fault) = written else { return Ok(()) };
    let failure = |fault| Failure::kube(format!("telling ComputeJob {namespace}/{name} its cost"))(fault);
    if !matches!(&fault, kube::Error::Api(status) if matches!(status.code, 404 | 409)) {
        return Err(failure(fault));
    }
    // Deleted, or another job of that name: nobody is left to be told. Anything else is told again.
    let found = jobs.get_metadata_opt(name).await.map_err(failure)?;
    let is_there = found.and_then(|found| found.uid()).is_some_and(|found| found.parse() == Ok(uid));
    if is_there { Err(failure(fault)) } else { Ok(()) }
}

fn costs(
    batches: &Batches,
    waiting: &[(JobUid, JobName)],
    reachable: bool,
) -> BTreeMap<JobUid, (JobName, Cost)> {
    let mut costs: BTreeMap<JobUid, (JobName, Cost)> = BTreeMap::new();
    for batch in batches.all() {
        let state = phase(batch);
        // A pod of no job has nobody to be told.
        for receipt in batch.spec.receipts.iter().filter(|receipt| !receipt.job.is_empty()) {
            let name = (receipt.namespace.clone(), receipt.job.clone());
            let (_, cost) = costs.entry(receipt.job_uid).or_insert_with(|| (name, Cost::default()));
            cost.total = [cost.total, receipt.amount].into_iter().sum();
            cost.recorded += 1;
            cost.settled += i32::from(state == BatchPhase::Final);
            cost.receipts.push(PodCost {
                pod: receipt.pod.clone(),
                pod_uid: receipt.pod_uid,
                amount: receipt.amount,
                batch: batch.name_any(),
                transaction: batch.status.as_ref().and_then(|status| status.transaction),
                state,
            });
        }
    }
    // Their first batch can't be recorded before the chain was asked: the job says that it waits for that.
    if !reachable {
        for (uid, name) in waiting {
            costs.entry(*uid).or_insert_with(|| (name.clone(), Cost::default()));
        }
    }
    for (uid, (_, cost)) in &mut costs {
        // Once everything is final, whether the chain answers is no longer the job's concern.
        let waits = cost.settled < cost.recorded || waiting.iter().any(|(waiting, _)| waiting == uid);
        cost.chain_reachable = waits.then_some(reachable);
        let too_many = cost.receipts.len().saturating_sub(MOST_RECEIPTS);
        cost.receipts.drain(..too_many);
    }
    costs
}
