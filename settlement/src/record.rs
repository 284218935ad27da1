//! Making receipts durable, and only then letting the pods go.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, ResourceExt as _, api::PostParams};
use plasma_api::{SettlementBatch, compute_queue::Billing};
use plasma_settlement_core::{Leaf, Position, plan_batch, price_hash};
use plasma_types::{PodUid, RentalId, WeiPerGpuSecond};

use crate::{
    batches::{Batches, name_of, spec_of},
    collect::{Bill, Finished},
    failure::Failure,
    pods,
    settle::Surroundings,
};

/// Since when receipts of a rental wait to be settled together.
#[derive(Default)]
pub(crate) struct Recorder {
    waiting_since: HashMap<RentalId, Instant>,
    /// What was last said of a pod that waits.
    said: HashMap<PodUid, String>,
}

/// Receipts of one rental that aren't durable.
struct Waiting<'a> {
    queue: &'a str,
    billing: &'a Billing,
    pods: HashMap<PodUid, (&'a Finished, &'a str)>,
    leaves: Vec<Leaf>,
}

impl Recorder {
    /// Records what can be recorded, and lets go whatever pod is recorded or has nothing to be paid.
    pub(crate) async fn record(
        &mut self,
        around: &Surroundings,
        finished: Vec<Finished>,
        batches: &mut Batches,
    ) -> Result<(), Failure> {
        let recorded = batches.recorded_pods();
        let mut waiting: BTreeMap<RentalId, Waiting<'_>> = BTreeMap::new();
        let mut without_receipt = 0;
        for pod in &finished {
            match &pod.bill {
                _ if recorded.contains_key(&pod.pod_uid) => pods::release(&around.client, &pod.pod).await?,
                Bill::Nothing => pods::release(&around.client, &pod.pod).await?,
                Bill::Wait(why) => {
                    without_receipt += 1;
                    self.say(pod, why);
                }
                Bill::Receipt { queue, billing, leaf, job } => {
                    without_receipt += 1;
                    let empty = || Waiting { queue, billing, pods: HashMap::new(), leaves: Vec::new() };
                    let of_rental = waiting.entry(billing.rental).or_insert_with(empty);
                    of_rental.pods.insert(pod.pod_uid, (pod, job));
                    of_rental.leaves.push(**leaf);
                }
            }
        }
        around.metrics.waiting_pods.set(without_receipt);
        self.waiting_since.retain(|rental, _| waiting.contains_key(rental));
        for (rental, of_rental) in waiting {
            if self.is_due(around, rental, of_rental.leaves.len()) {
                match self.record_batch(around, rental, &of_rental, batches).await {
                    Err(Failure::Chain(fault)) => {
                        tracing::warn!("rental {rental}: its first batch needs the chain: {fault}")
                    }
                    other => other?,
                }
            }
        }
        Ok(())
    }

    /// Pods that finish together are settled together: the first one waits a little for the others.
    fn is_due(&mut self, around: &Surroundings, rental: RentalId, count: usize) -> bool {
        let since = self.waiting_since.entry(rental).or_insert_with(Instant::now);
        let waited = since.elapsed() >= Duration::from_secs(around.settings.batch_seconds);
        waited || count >= usize::from(around.settings.batch_limit)
    }

    async fn record_batch(
        &mut self,
        around: &Surroundings,
        rental: RentalId,
        waiting: &Waiting<'_>,
        batches: &mut Batches,
    ) -> Result<(), Failure> {
        let prices: Vec<WeiPerGpuSecond> =
            waiting.billing.prices.iter().map(|price| price.price_per_gpu_hour.per_second()).collect();
        let from = match batches.position(rental) {
            Some(position) => position,
            None => first_position(around, rental, &prices).await?,
        };
        let limit = usize::from(around.settings.batch_limit);
        let name = name_of(rental, from.next_sequence);
        let planned = plan_batch(from, &waiting.leaves, &prices, limit);
        let Some(batch) = planned.map_err(|fault| Failure::Leaf(name.clone(), fault))? else { return Ok(()) };
        let spec = spec_of(around, waiting.queue, rental, &prices, (&batch, &waiting.pods));
        let object = SettlementBatch {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            spec,
            status: None,
        };
        let api: Api<SettlementBatch> = Api::namespaced(around.client.clone(), &around.settings.namespace);
        // If somebody took this place, or the answer is lost, the next round reads what stands there.
        let created = api.create(&PostParams::default(), &object).await;
        let created = created.map_err(Failure::kube(format!("recording SettlementBatch {name}")))?;
        tracing::info!("recorded {name}: {} receipts, {} XPL", batch.leaves.len(), batch.total);
        around.metrics.receipts.inc_by(batch.leaves.len() as u64);
        self.waiting_since.remove(&rental);
        batches.put(created);
        for (leaf, _) in &batch.leaves {
            if let Some((finished, _)) = waiting.pods.get(&leaf.pod_uid) {
                pods::release(&around.client, &finished.pod).await?;
            }
        }
        Ok(())
    }

    fn say(&mut self, finished: &Finished, why: &str) {
        if self.said.insert(finished.pod_uid, why.to_owned()).as_deref() != Some(why) {
            let (namespace, name) = (finished.pod.namespace().unwrap_or_default(), finished.pod.name_any());
            tracing::warn!("pod {namespace}/{name} waits for its receipt: {why}");
        }
    }
}

/// Where a rental begins of which no batch is recorded here: only the chain knows. It may have been settled before,
/// from a cluster that lost its batches.
async fn first_position(
    around: &Surroundings,
    rental: RentalId,
    prices: &[WeiPerGpuSecond],
) -> Result<Position, Failure> {
    around.chain.check_chain_id().await?;
    let newest = around.chain.newest_block().await?;
    let state = around.chain.rental(rental, newest.number).await?;
    if state.price_hash != price_hash(prices) {
        let message = format!(
            "rental {rental}: its prices on chain are not those of the ComputeQueue: correct the queue"
        );
        return Err(Failure::Setting(message));
    }
    Ok(Position { head: state.head, next_sequence: state.next_sequence, through: state.through })
}
