//! Telling each job what it has cost, under settlement's own field manager.

use std::collections::{BTreeMap, HashMap, HashSet};

use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
    core::PartialObjectMeta,
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
    told: HashMap<JobKey, Cost>,
}

/// So many receipts are listed in a job's status, the newest: an object holds only so much. The counts and the sum are of
/// all, and the SettlementBatches have the others.
const MOST_RECEIPTS: usize = 2000;

/// A job's namespace and name.
type JobName = (String, String);

/// A job for certain. The UID is a label's word: it names the job only together with the place where its pods were.
pub(crate) type JobKey = (JobUid, JobName);

impl Costs {
    /// Tells every job whose cost changed, those among them whose pods wait for their receipts; the jobs that could not be
    /// told. One that can't be told keeps none of the others from it.
    pub(crate) async fn tell(
        &mut self,
        around: &Surroundings,
        (batches, waiting): (&Batches, &[JobKey]),
        reachable: bool,
    ) -> HashSet<JobUid> {
        let mut untold = HashSet::new();
        for ((uid, name), cost) in costs(batches, waiting, reachable) {
            if self.told.get(&(uid, name.clone())) == Some(&cost) {
                continue;
            }
            match tell_one(around, uid, &name, &cost).await {
                Ok(()) => drop(self.told.insert((uid, name), cost)),
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
    let failure = |fault| Failure::kube(format!("telling ComputeJob {namespace}/{name} its cost"))(fault);
    let found = jobs.get_metadata_opt(name).await.map_err(failure)?;
    // Deleted, or another job of that name, which isn't told of this one's pods: nobody is left to be told.
    let is_it = |found: &PartialObjectMeta<_>| found.uid().is_some_and(|found| found.parse() == Ok(uid));
    let Some(found) = found.filter(is_it) else { return Ok(()) };
    let object = json!({
        "apiVersion": ComputeJob::api_version(&()), "kind": ComputeJob::kind(&()),
        // The version is the precondition: the API server takes a status whatever UID stands beside it.
        "metadata": { "name": name, "resourceVersion": found.resource_version() }, "status": { "cost": cost },
    });
    let written =
        jobs.patch_status(name, &PatchParams::apply(SETTLEMENT).force(), &Patch::Apply(&object)).await;
    written.map(drop).map_err(failure)
}

fn costs(batches: &Batches, waiting: &[JobKey], reachable: bool) -> BTreeMap<JobKey, Cost> {
    let mut costs: BTreeMap<JobKey, Cost> = BTreeMap::new();
    for batch in batches.all() {
        let state = phase(batch);
        // A pod of no job has nobody to be told.
        for receipt in batch.spec.receipts.iter().filter(|receipt| !receipt.job.is_empty()) {
            let name = (receipt.namespace.clone(), receipt.job.clone());
            let cost = costs.entry((receipt.job_uid, name)).or_default();
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
        for job in waiting {
            costs.entry(job.clone()).or_default();
        }
    }
    for (job, cost) in &mut costs {
        // Once everything is final, whether the chain answers is no longer the job's concern.
        let waits = cost.settled < cost.recorded || waiting.contains(job);
        cost.chain_reachable = waits.then_some(reachable);
        let too_many = cost.receipts.len().saturating_sub(MOST_RECEIPTS);
        cost.receipts.drain(..too_many);
    }
    costs
}
