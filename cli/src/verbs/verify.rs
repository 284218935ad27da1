//! `kubectl plasma verify JOB`: leaves, batch hash and head anew, against the chain's own events.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use plasma_api::SettlementBatch;
use plasma_chain::{Chain, Endpoint, SettledPod};
use plasma_settlement_core::{ChainBatch, ChainPod, verify};
use plasma_types::{Hash, RentalId, Xpl};

use crate::{
    cluster::{Cluster, recorded},
    failure::Failure,
};

pub(crate) async fn run(cluster: &Cluster, job: &str, rpc: &str) -> Result<(), Failure> {
    let uid = cluster.job_uid(job).await?;
    let batches = cluster.batches_of(uid).await?;
    if batches.is_empty() {
        return Err(Failure::NoReceipts(format!("{}/{job}", cluster.namespace)));
    }
    let mut seen: BTreeMap<RentalId, Vec<ChainBatch>> = BTreeMap::new();
    let mut total = Xpl::ZERO;
    let mut pods = 0;
    for batch in &batches {
        let rental = batch.spec.rental;
        if let std::collections::btree_map::Entry::Vacant(entry) = seen.entry(rental) {
            entry.insert(on_chain(batch, rpc).await?);
        }
        verify(&recorded(batch)?, &seen[&rental])?;
        let of_job = batch.spec.receipts.iter().filter(|receipt| receipt.job_uid == uid);
        for receipt in of_job {
            pods += 1;
            total = [total, receipt.amount].into_iter().sum();
        }
        println!("{}: leaves, amounts and head {} are the chain's", batch.name_any(), batch.spec.head);
    }
    println!("verified: {pods} pods of {job}, {total} XPL");
    Ok(())
}

/// Every batch of the rental, as the contract's events have it.
async fn on_chain(batch: &SettlementBatch, rpc: &str) -> Result<Vec<ChainBatch>, Failure> {
    let spec = &batch.spec;
    let endpoint = Endpoint { url: rpc.to_owned(), chain_id: spec.chain_id, contract: spec.contract };
    let chain = Chain::new(endpoint)?;
    chain.check_chain_id().await?;
    let settled = chain.settled_batches(spec.rental).await?;
    let pods = chain.settled_pods(spec.rental).await?;
    let heads =
        settled.iter().map(|at| (at.batch.head, at.batch.prev_head, at.batch.first_sequence, at.batch.count));
    Ok(heads.map(|head| of_batch(head, &pods)).collect())
}

/// A batch's pods are those whose sequences are in its range.
fn of_batch((head, prev_head, first, count): (Hash, Hash, u64, u32), pods: &[SettledPod]) -> ChainBatch {
    let range = first..first + u64::from(count);
    let chosen = pods.iter().filter(|pod| range.contains(&pod.sequence));
    let pods =
        chosen.map(|pod| ChainPod { pod_uid: pod.pod_uid, sequence: pod.sequence, amount: pod.amount });
    ChainBatch { head, prev_head, pods: pods.collect() }
}

#[cfg(test)]
mod tests {
    use plasma_types::{JobUid, PodUid};

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
        let batch = of_batch((Hash([4; 32]), Hash([5; 32]), 2, 2), &[pod(1), pod(2), pod(3), pod(4)]);
        assert_eq!(batch.pods.iter().map(|pod| pod.sequence).collect::<Vec<_>>(), [2, 3]);
    }
}
