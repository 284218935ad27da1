//! `kubectl plasma verify JOB`: leaves, batch hash and head anew, against the chain's own events.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;
use plasma_api::SettlementBatch;
use plasma_chain::{Chain, Endpoint, SettledBatch, SettledPod};
use plasma_settlement_core::{ChainBatch, ChainPod, Recorded, each_is_recorded, verify};
use plasma_types::{Address, JobUid, RentalId, Xpl};

use crate::{
    args::ChainArgs,
    cluster::{Cluster, recorded},
    failure::Failure,
    output,
};

pub(crate) async fn run(cluster: &Cluster, name: &str, args: &ChainArgs) -> Result<(), Failure> {
    let (job, _) = cluster.job(name).await?;
    let batches = cluster.batches().await?;
    let place = place(&batches, job, args.contract)?.ok_or_else(|| cluster.no_receipts(name))?;
    let rentals = by_rental(&batches, place);
    let on_chain = OnChain::ask(place, &rentals, args).await?;
    let (mut pods, mut total) = (0, Xpl::ZERO);
    for (rental, batches) in &rentals {
        let (of_job, sum) = verify_rental(*rental, batches, &on_chain, job)?;
        pods += of_job;
        total = [total, sum].into_iter().sum();
    }
    if pods == 0 {
        return Err(cluster.no_receipts(name));
    }
    output::print(&format!("verified: {pods} pods of {name}, {total} XPL, by {place}"))
}

/// A contract on a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    chain_id: u64,
    contract: Address,
}

impl Place {
    fn of(batch: &SettlementBatch) -> Self {
        Self { chain_id: batch.spec.chain_id, contract: batch.spec.contract }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "contract {} on chain {}", self.contract, self.chain_id)
    }
}

/// Where the job is paid: the one contract of all its batches, or the one that was asked for. Where no batch holds a
/// receipt of the job, any contract of the others may have paid for it; `None` is where there is none.
fn place(batches: &[SettlementBatch], job: JobUid, asked: Option<Address>) -> Result<Option<Place>, Failure> {
    let holds = |batch: &&SettlementBatch| batch.spec.receipts.iter().any(|receipt| receipt.job_uid == job);
    let of_job: Vec<_> = batches.iter().filter(holds).collect();
    let other = |batch: &&&SettlementBatch| asked.is_some_and(|asked| batch.spec.contract != asked);
    if let (Some(batch), Some(asked)) = (of_job.iter().find(other), asked) {
        let (batch, recorded) = (batch.name_any(), batch.spec.contract);
        return Err(Failure::OtherContract { batch, recorded, asked });
    }
    let candidates = if of_job.is_empty() { batches.iter().collect() } else { of_job };
    let places: BTreeSet<Place> =
        candidates.iter().filter(|batch| !other(batch)).map(|batch| Place::of(batch)).collect();
    match places.len() {
        0 | 1 => Ok(places.first().copied()),
        _ => {
            let places: Vec<String> = places.iter().map(Place::to_string).collect();
            Err(Failure::SeveralContracts(format!("there are batches of {}", places.join(", of "))))
        }
    }
}

/// The batches of each rental at that place: any of these rentals may have paid for the job.
fn by_rental(batches: &[SettlementBatch], place: Place) -> BTreeMap<RentalId, Vec<&SettlementBatch>> {
    let mut rentals: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for batch in batches.iter().filter(|batch| Place::of(batch) == place) {
        rentals.entry(batch.spec.rental).or_default().push(batch);
    }
    rentals
}

/// Every batch of these rentals, and every pod, as the contract's events have them.
struct OnChain {
    batches: Vec<SettledBatch>,
    pods: Vec<SettledPod>,
}

impl OnChain {
    async fn ask(
        place: Place,
        rentals: &BTreeMap<RentalId, Vec<&SettlementBatch>>,
        args: &ChainArgs,
    ) -> Result<Self, Failure> {
        let Place { chain_id, contract } = place;
        let chain = Chain::new(Endpoint { url: args.rpc.clone(), chain_id, contract })?;
        let chain = chain.since_block(args.from_block);
        chain.check_chain_id().await?;
        let whose = if args.contract.is_some() { "" } else { ", which the records name (--contract)" };
        output::note(&format!("asking for the events of {place}{whose}, from block {}", args.from_block));
        let rentals: Vec<RentalId> = rentals.keys().copied().collect();
        let (batches, pods) = chain.settled(&rentals).await?;
        Ok(Self { batches, pods })
    }
}

/// How many of the job's pods this rental paid for, and their sum; its other jobs' batches are not looked at.
fn verify_rental(
    rental: RentalId,
    batches: &[&SettlementBatch],
    on_chain: &OnChain,
    job: JobUid,
) -> Result<(usize, Xpl), Failure> {
    let recorded = batches.iter().map(|batch| recorded(batch)).collect::<Result<Vec<Recorded>, _>>()?;
    let paid: Vec<SettledPod> = on_chain.pods.iter().filter(|pod| pod.rental == rental).copied().collect();
    let settled = on_chain.batches.iter().filter(|batch| batch.rental == rental);
    let there: Vec<ChainBatch> = settled.map(|at| of_batch(at, &paid)).collect();
    let mut amounts = Vec::new();
    for (batch, recorded) in batches.iter().zip(&recorded) {
        let receipts = batch.spec.receipts.iter().filter(|receipt| receipt.job_uid == job);
        let of_job: Vec<Xpl> = receipts.map(|receipt| receipt.amount).collect();
        if !of_job.is_empty() {
            verify(recorded, &there)?;
            let (name, head) = (batch.name_any(), batch.spec.head);
            output::print(&format!("{name}: leaves, amounts and head {head} are the chain's"))?;
            amounts.extend(of_job);
        }
    }
    let of_job: Vec<ChainPod> = paid.iter().filter(|pod| pod.job_uid == job).map(chain_pod).collect();
    each_is_recorded(rental, &recorded, &of_job)?;
    Ok((amounts.len(), amounts.into_iter().sum()))
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
    use plasma_api::{SettlementBatchSpec, settlement_batch::Receipt};
    use plasma_types::{Duration, Hash, PodUid, UnixMillis, UnixSeconds};

    use super::*;

    const JOB: JobUid = JobUid([3; 16]);
    const OTHER_JOB: JobUid = JobUid([4; 16]);
    const ONE: Address = Address([1; 20]);
    const TWO: Address = Address([2; 20]);

    fn batch(chain_id: u64, contract: Address, job_uid: JobUid) -> SettlementBatch {
        let receipt = Receipt {
            namespace: "team".to_owned(),
            pod: "pod".to_owned(),
            job: "job".to_owned(),
            node: "node".to_owned(),
            pod_uid: PodUid([2; 16]),
            job_uid,
            end: UnixMillis(5000),
            duration: Duration(2000),
            device_ms: 2000,
            price_class: 0,
            node_index: 0,
            device_mask: 0,
            flags: 2,
            amount: Xpl::from_wei(1),
        };
        let spec = SettlementBatchSpec {
            queue: "queue".to_owned(),
            rental: RentalId([1; 32]),
            chain_id,
            contract,
            first_sequence: 0,
            count: 1,
            prev_head: Hash([4; 32]),
            head: Hash([5; 32]),
            through: UnixSeconds(4),
            to: UnixSeconds(5),
            prices: vec!["1".to_owned()],
            period: None,
            total: Xpl::from_wei(1),
            receipts: vec![receipt],
        };
        SettlementBatch::new("batch", spec)
    }

    #[test]
    fn one_contract_on_one_chain_pays_a_job_and_the_asked_one_wins() {
        let at = |chain_id, contract| Some(Place { chain_id, contract });
        let of = |batches: &[_], asked| place(batches, JOB, asked).map_err(|fault| fault.to_string());
        let mixed = [batch(1, ONE, JOB), batch(1, TWO, OTHER_JOB)];
        assert_eq!(of(&mixed, None), Ok(at(1, ONE)), "others' batches may be anywhere");
        assert_eq!(of(&mixed, Some(ONE)), Ok(at(1, ONE)));
        let fault = of(&mixed, Some(TWO)).expect_err("another contract than the one rented by");
        assert!(fault.contains(&ONE.to_string()) && fault.contains(&TWO.to_string()), "{fault}");
        for second in [batch(1, TWO, JOB), batch(2, ONE, JOB)] {
            let fault = of(&[batch(1, ONE, JOB), second], None).expect_err("two places");
            assert!(fault.contains("on chain 1, of contract"), "{fault}");
        }
    }

    #[test]
    fn without_receipts_any_recorded_contract_may_have_paid() {
        let of = |batches: &[_], asked| place(batches, JOB, asked);
        let others = [batch(1, ONE, OTHER_JOB), batch(1, TWO, OTHER_JOB)];
        assert!(matches!(of(&others, None), Err(Failure::SeveralContracts(_))));
        assert!(matches!(of(&others, Some(TWO)), Ok(Some(Place { chain_id: 1, contract: TWO }))));
        assert!(matches!(of(&others[..1], None), Ok(Some(Place { chain_id: 1, contract: ONE }))));
        assert!(matches!(of(&[], None), Ok(None)));
    }

    #[test]
    fn a_batch_has_the_pods_of_its_sequences_and_no_others() {
        let pod = |sequence| SettledPod {
            rental: RentalId([1; 32]),
            pod_uid: PodUid([2; 16]),
            job_uid: JOB,
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
