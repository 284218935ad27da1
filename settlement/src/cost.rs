//! Telling each job what it has cost, under settlement's own field manager.

use std::collections::{BTreeMap, HashMap};

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

/// A job's namespace and name.
type JobName = (String, String);

impl Costs {
    /// Tells every job whose cost changed.
    pub(crate) async fn tell(
        &mut self,
        around: &Surroundings,
        batches: &Batches,
        reachable: bool,
    ) -> Result<(), Failure> {
        for (uid, ((namespace, name), cost)) in costs(batches, reachable) {
            if self.told.get(&uid) == Some(&cost) {
                continue;
            }
            let jobs: Api<ComputeJob> = Api::namespaced(around.client.clone(), &namespace);
            let object = json!({
                "apiVersion": ComputeJob::api_version(&()), "kind": ComputeJob::kind(&()),
                // The UID is the precondition: a job of the same name that came later isn't told of this one's pods.
                "metadata": { "name": name, "uid": uid }, "status": { "cost": cost },
            });
            let written = jobs
                .patch_status(&name, &PatchParams::apply(SETTLEMENT).force(), &Patch::Apply(&object))
                .await;
            match written {
                Ok(_) => drop(self.told.insert(uid, cost)),
                // Deleted, or another job of that name: nobody is left to be told.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                    drop(self.told.insert(uid, cost))
                }
                Err(fault) => {
                    return Err(Failure::kube(format!("telling ComputeJob {namespace}/{name} its cost"))(
                        fault,
                    ));
                }
            }
        }
        Ok(())
    }
}

fn costs(batches: &Batches, reachable: bool) -> BTreeMap<JobUid, (JobName, Cost)> {
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
    for (_, cost) in costs.values_mut() {
        // Once everything is final, whether the chain answers is no longer the job's concern.
        cost.chain_reachable = (cost.settled < cost.recorded).then_some(reachable);
    }
    costs
}
