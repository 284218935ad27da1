//! `kubectl plasma verify JOB`: leaves, batch hash and head anew, against the chain's own events.

use std::collections::BTreeSet;

use kube::ResourceExt as _;
use plasma_api::SettlementBatch;
use plasma_chain::{Chain, Endpoint, SettledBatch, SettledPod};
use plasma_settlement_core::{ChainBatch, ChainPod, Recorded, each_is_recorded, verify};
use plasma_types::{JobUid, RentalId, Xpl};

use crate::{
    cluster::{Cluster, recorded},
    failure::Failure,
};

pub(crate) async fn run(cluster: &Cluster, job: &str, rpc: &str) -> Result<(), Failure> {
    let uid = cluster.job_uid(job).await?;
    let batches = cluster.batches().await?;
    let rentals = rentals(&batches, uid);
    let (mut pods, mut total) = (0, Xpl::ZERO);
    for rental in rentals {
        let of_rental: Vec<_> = batches.iter().filter(|batch| batch.spec.rental == rental).collect();
        let (of_job, sum) = verify_rental(&of_rental, uid, rpc).await?;
        pods += of_job;
        total = [total, sum].into_iter().sum();
    }
    if pods == 0 {
        return Err(Failure::NoReceipts(format!("{}/{job}", cluster.namespace)));
    }
    println!("verified: {pods} pods of {job}, {total} XPL");
    Ok(())
}

/// The rentals that may have paid for the job: any on its chain. Without receipts its chain isn't known: any at all.
fn rentals(batches: &[SettlementBatch], job: JobUid) -> BTreeSet<RentalId> {
    let holds = |batch: &&SettlementBatch| batch.spec.receipts.iter().any(|receipt| receipt.job_uid == job);
    let chains: BTreeSet<u64> = batches.iter().filter(holds).map(|batch| batch.spec.chain_id).collect();
    let may_pay = |batch: &&SettlementBatch| chains.is_empty() || chains.contains(&batch.spec.chain_id);
    batches.iter().filter(may_pay).map(|batch| batch.spec.rental).collect()
}

/// How many of the job's pods this rental paid for, and their sum; its other jobs' batches are not looked at.
async fn verify_rental(
    batches: &[&SettlementBatch],
    job: JobUid,
    rpc: &str,
) -> Result<(usize, Xpl), Failure> {
    let Some(first) = batches.first() else { return Ok((0, Xpl::ZERO)) };
    let (settled, paid) = on_chain(first, rpc).await?;
    let recorded = batches.iter().map(|batch| recorded(batch)).collect::<Result<Vec<Recorded>, _>>()?;
    let there: Vec<ChainBatch> = settled.iter().map(|at| of_batch(at, &paid)).collect();
    let mut amounts = Vec::new();
    for (batch, recorded) in batches.iter().zip(&recorded) {
        let receipts = batch.spec.receipts.iter().filter(|receipt| receipt.job_uid == job);
        let of_job: Vec<Xpl> = receipts.map(|receipt| receipt.amount).collect();
        if !of_job.is_empty() {
            verify(recorded, &there)?;
            println!("{}: leaves, amounts and head {} are the chain's", batch.name_any(), batch.spec.head);
            amounts.extend(of_job);
        }
    }
    let of_job: Vec<ChainPod> = paid.iter().filter(|pod| pod.job_uid == job).map(chain_pod).collect();
    each_is_recorded(first.spec.rental, &recorded, &of_job)?;
    Ok((amounts.len(), amounts.into_iter().sum()))
}

/// Every batch of the rental, and every pod, as the contract's events have them.
async fn on_chain(
    batch: &SettlementBatch,
    rpc: &str,
) -> Result<(Vec<SettledBatch>, Vec<SettledPod>), Failure> {
    let spec = &batch.spec;
    let endpoint = Endpoint { url: rpc.to_owned(), chain_id: spec.chain_id, contract: spec.contract };
    let chain = Chain::new(endpoint)?;
    chain.check_chain_id().await?;
    let settled = chain.settled_batches(spec.rental).await?;
    let settled = settled.into_iter().map(|at| at.batch).collect();
    Ok((settled, chain.settled_pods(spec.rental).await?))
}

/// A batch's pods are those whose sequences are in its range.
fn of_batch(batch: &SettledBatch, pods: &[SettledPod]) -> ChainBatch {
    let range = batch.first_sequence..batch.first_sequence.saturating_add(u64::from(batch.count));
    let chosen = pods.iter().filter(|pod| range.contains(&pod.sequence));
    ChainBatch { head: batch.head, prev_head: batch.prev_head, pods: chosen.map(chain_pod).collect() }
}

fn chain_pod(pod: &SettledPod) -> ChainPod {
    ChainPod { pod_uid: pod.pod_uid, sequence: pod.sequence, amount: pod.amount }
}

#[cfg(test)]
mod tests {
    use plasma_types::{Hash, PodUid, UnixSeconds};

    use super::*;

    #[test]
    fn a_batch_has_the_pods_of_its_sequences_and_no_others() {
        let pod = |sequence| SettledPod {
            rental: RentalId([1; 32]),
            pod_uid: PodUid([2; 16]),
            job_uid: JobUid([3; 16]),
            sequence,
            amount: Xpl::from_wei(1),
        };
        let batch = SettledBatch {
            rental: RentalId([1; 32]),
            head: Hash([4; 32]),
            prev_head: Hash([5; 32]),
            first_sequence: 2,
            count: 2,
            total: Xpl::from_wei(2),
            to: UnixSeconds(9),
        };
        let batch = of_batch(&batch, &[pod(1), pod(2), pod(3), pod(4)]);
        assert_eq!(batch.pods.iter().map(|pod| pod.sequence).collect::<Vec<_>>(), [2, 3]);
    }
}
