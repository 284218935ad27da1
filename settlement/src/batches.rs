//! SettlementBatch objects: read, and translated to and from the core's values.

use std::collections::{BTreeMap, HashMap};

use kube::{Api, ResourceExt as _, api::ListParams};
use plasma_api::{
    SettlementBatch, SettlementBatchSpec,
    settlement_batch::{BatchPhase, Receipt},
};
use plasma_settlement_core::{Attempt, Batch, MinedAt, Payment, Position, Span, Stage, Terms};
use plasma_types::{Duration, PodUid, RentalId, UnixSeconds, WeiPerGpuSecond, Xpl};

use crate::{failure::Failure, record::Pods, settle::Surroundings};

/// Every batch of this chain and contract, by rental and sequence.
pub(crate) struct Batches {
    by_rental: BTreeMap<RentalId, BTreeMap<u64, SettlementBatch>>,
}

impl Batches {
    /// Reads them all, from the API server itself.
    pub(crate) async fn read(around: &Surroundings) -> Result<Self, Failure> {
        let api: Api<SettlementBatch> = Api::namespaced(around.client.clone(), &around.settings.namespace);
        let listed =
            api.list(&ListParams::default()).await.map_err(Failure::kube("listing SettlementBatches"))?;
        let mut batches = Self { by_rental: BTreeMap::new() };
        let endpoint = around.chain.endpoint();
        let ours = |batch: &SettlementBatch| {
            batch.spec.chain_id == endpoint.chain_id && batch.spec.contract == endpoint.contract
        };
        listed.into_iter().filter(ours).for_each(|batch| batches.put(batch));
        Ok(batches)
    }

    /// Adds one, or replaces it.
    pub(crate) fn put(&mut self, batch: SettlementBatch) {
        let of_rental = self.by_rental.entry(batch.spec.rental).or_default();
        of_rental.insert(batch.spec.first_sequence, batch);
    }

    /// Every pod that has a durable receipt.
    pub(crate) fn recorded_pods(&self) -> HashMap<PodUid, String> {
        let receipts = self
            .all()
            .flat_map(|batch| batch.spec.receipts.iter().map(move |receipt| (receipt.pod_uid, batch)));
        receipts.map(|(uid, batch)| (uid, batch.name_any())).collect()
    }

    /// How many batches' payment isn't final.
    pub(crate) fn open(&self) -> usize {
        self.all().filter(|batch| phase(batch) != BatchPhase::Final).count()
    }

    /// Every rental that has a batch.
    pub(crate) fn rentals(&self) -> impl Iterator<Item = RentalId> {
        self.by_rental.keys().copied()
    }

    /// Whether a nonce is taken for a batch whose transaction isn't final.
    pub(crate) fn is_any_under_way(&self) -> bool {
        self.all().any(is_under_way)
    }

    /// Each rental's oldest batch whose payment isn't final; those with a nonce come first.
    pub(crate) fn turns(&self) -> Vec<SettlementBatch> {
        let oldest = |of_rental: &BTreeMap<u64, SettlementBatch>| {
            of_rental.values().find(|batch| phase(batch) != BatchPhase::Final).cloned()
        };
        let mut turns: Vec<_> = self.by_rental.values().filter_map(oldest).collect();
        turns.sort_by_key(|batch| batch.status.as_ref().and_then(|status| status.nonce).unwrap_or(u64::MAX));
        turns
    }

    /// The rental's recorded batches, in order.
    pub(crate) fn spans(&self, rental: RentalId) -> Vec<Span> {
        let recorded = self.by_rental.get(&rental);
        recorded.iter().flat_map(|of_rental| of_rental.values()).map(|batch| span(&batch.spec)).collect()
    }

    /// The longest time that one receipt of the rental bills, as its last batch has it: no rental ever changes it.
    pub(crate) fn period(&self, rental: RentalId) -> Option<Duration> {
        self.by_rental.get(&rental)?.values().next_back()?.spec.period
    }

    /// Every batch.
    pub(crate) fn all(&self) -> impl Iterator<Item = &SettlementBatch> {
        self.by_rental.values().flat_map(BTreeMap::values)
    }
}

/// Where the rental stands before and after a batch.
fn span(batch: &SettlementBatchSpec) -> Span {
    let next_sequence = batch.first_sequence.saturating_add(u64::from(batch.count));
    Span {
        from: Position { head: batch.prev_head, next_sequence: batch.first_sequence, through: batch.through },
        to: Position { head: batch.head, next_sequence, through: batch.to },
    }
}

/// How far a batch's payment is.
pub(crate) fn phase(batch: &SettlementBatch) -> BatchPhase {
    batch.status.as_ref().and_then(|status| status.phase).unwrap_or(BatchPhase::Recorded)
}

/// Whether a nonce is taken for it and its transaction isn't final.
pub(crate) fn is_under_way(batch: &SettlementBatch) -> bool {
    !matches!(phase(batch), BatchPhase::Recorded | BatchPhase::Reverted | BatchPhase::Final)
}

/// A batch's name: made of its place, so that two writers can't both take it.
pub(crate) fn name_of(rental: RentalId, first_sequence: u64) -> String {
    let digits = rental.to_string();
    format!("{}-{first_sequence:010}", &digits[2..14])
}

/// The object's spec for a planned batch.
pub(crate) fn spec_of(
    around: &Surroundings,
    queue: &str,
    rental: RentalId,
    terms: Terms<'_>,
    (batch, pods): (&Batch, &Pods<'_>),
) -> SettlementBatchSpec {
    let endpoint = around.chain.endpoint();
    let receipt = |(leaf, amount): &(plasma_settlement_core::Leaf, Xpl)| {
        let (finished, job) =
            pods.get(&leaf.pod_uid).map_or((None, ""), |(finished, job)| (Some(*finished), *job));
        let pod = finished.map(|finished| &finished.pod);
        Receipt {
            namespace: pod.and_then(kube::ResourceExt::namespace).unwrap_or_default(),
            pod: pod.map(kube::ResourceExt::name_any).unwrap_or_default(),
            job: job.to_owned(),
            node: pod.and_then(crate::pods::node).unwrap_or_default().to_owned(),
            pod_uid: leaf.pod_uid,
            job_uid: leaf.job_uid,
            end: leaf.end,
            duration: leaf.duration,
            device_ms: leaf.device_ms,
            price_class: leaf.price_class,
            node_index: leaf.node_index,
            device_mask: leaf.device_mask,
            flags: leaf.flags,
            amount: *amount,
        }
    };
    SettlementBatchSpec {
        queue: queue.to_owned(),
        rental,
        chain_id: endpoint.chain_id,
        contract: endpoint.contract,
        first_sequence: batch.from.next_sequence,
        count: u32::try_from(batch.leaves.len()).unwrap_or(u32::MAX),
        prev_head: batch.from.head,
        head: batch.head,
        through: batch.from.through,
        to: batch.to,
        prices: terms.prices.iter().map(|price| price.0.to_string()).collect(),
        period: Some(terms.period),
        total: batch.total,
        receipts: batch.leaves.iter().map(receipt).collect(),
    }
}

/// The packed leaves of a stored batch.
pub(crate) fn packed(batch: &SettlementBatch) -> Result<Vec<u8>, Failure> {
    let pack = |receipt: &Receipt| receipt.leaf().pack();
    let leaves: Result<Vec<_>, _> = batch.spec.receipts.iter().map(pack).collect();
    Ok(leaves.map_err(|fault| Failure::Leaf(batch.name_any(), fault))?.concat())
}

/// The prices of a stored batch.
pub(crate) fn prices(batch: &SettlementBatch) -> Result<Vec<WeiPerGpuSecond>, Failure> {
    let parse = |text: &String| text.parse().map(WeiPerGpuSecond);
    let prices: Result<Vec<_>, _> = batch.spec.prices.iter().map(parse).collect();
    prices.map_err(|fault| Failure::Batch(batch.name_any(), format!("spec.prices: {fault}")))
}

/// What is durable of a batch's payment, as the core follows it.
pub(crate) fn payment(batch: &SettlementBatch) -> Result<Payment, Failure> {
    let status = batch.status.clone().unwrap_or_default();
    let mined = || {
        let at = status.transaction.zip(status.block_number).zip(status.block_hash);
        let at = at.map(|((transaction, number), block)| MinedAt { transaction, number, block });
        at.ok_or_else(|| {
            Failure::Batch(batch.name_any(), "it is mined, but its status doesn't say where".to_owned())
        })
    };
    let stage = match phase(batch) {
        BatchPhase::Recorded | BatchPhase::Reverted => Stage::Recorded,
        BatchPhase::Reserved => Stage::Reserved,
        BatchPhase::Signed => Stage::Signed,
        BatchPhase::Broadcast => Stage::Broadcast,
        BatchPhase::Mined => Stage::Mined(mined()?),
        BatchPhase::Final => Stage::Final(mined()?),
    };
    let signed = |attempt: &plasma_api::settlement_batch::Attempt| Attempt {
        hash: attempt.hash,
        signed: UnixSeconds(u64::try_from(attempt.signed_at.0.as_second()).unwrap_or(0)),
    };
    Ok(Payment {
        prev_head: batch.spec.prev_head,
        head: batch.spec.head,
        stage,
        nonce: status.nonce,
        attempts: status.attempts.iter().map(signed).collect(),
    })
}
