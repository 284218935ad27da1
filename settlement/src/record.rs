//! Making receipts durable, and only then letting the pods go.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, ResourceExt as _, api::PostParams};
use plasma_api::{SettlementBatch, compute_queue::Billing};
use plasma_chain::ChainError;
use plasma_settlement_core::{Leaf, Position, Standing, plan_batch, price_hash, standing};
use plasma_types::{PodUid, RentalId, WeiPerGpuSecond};

use crate::{
    batches::{Batches, name_of, spec_of},
    collect::{Bill, Finished},
    failure::Failure,
    pods,
    settle::Surroundings,
};

/// What is remembered between rounds. Nothing of it is needed after a restart.
#[derive(Default)]
pub(crate) struct Recorder {
    /// Since when receipts of a rental wait to be settled together.
    waiting_since: HashMap<RentalId, Instant>,
    /// What was last said of a pod that waits.
    said: HashMap<PodUid, String>,
    /// Rentals of which the chain stands where the recorded batches say.
    checked: HashSet<RentalId>,
    /// Pods that the chain's events name and no batch here does.
    settled_before: HashSet<PodUid>,
}

/// Receipts of one rental that aren't durable.
struct Waiting<'a> {
    queue: &'a str,
    billing: &'a Billing,
    pods: HashMap<PodUid, (&'a Finished, &'a str)>,
    leaves: Vec<Leaf>,
}

impl Recorder {
    /// Records what can be recorded, and lets go whatever pod is recorded or has nothing to be paid: those that it gives.
    ///
    /// What goes wrong with one pod or one rental holds up no other.
    pub(crate) async fn record(
        &mut self,
        around: &Surroundings,
        finished: &[Finished],
        batches: &mut Batches,
        chain: &Result<(), ChainError>,
    ) -> Vec<PodUid> {
        let recorded = batches.recorded_pods();
        let mut waiting: BTreeMap<RentalId, Waiting<'_>> = BTreeMap::new();
        let mut free = Vec::new();
        let mut without_receipt = 0;
        for pod in finished {
            let has_receipt =
                recorded.contains_key(&pod.pod_uid) || self.settled_before.contains(&pod.pod_uid);
            match &pod.bill {
                _ if has_receipt => free.push(pod),
                Bill::Nothing => free.push(pod),
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
        self.said.retain(|uid, _| finished.iter().any(|pod| pod.pod_uid == *uid));
        for (rental, of_rental) in waiting {
            if self.is_due(around, rental, of_rental.leaves.len()) {
                match self.record_batch(around, (rental, &of_rental), batches, chain).await {
                    Ok(pods) => free.extend(pods),
                    Err(failure) => around.try_again(&format!("rental {rental}"), &failure),
                }
            }
        }
        let_go(around, free).await
    }

    /// Pods that finish together are settled together: the first one waits a little for the others.
    fn is_due(&mut self, around: &Surroundings, rental: RentalId, count: usize) -> bool {
        let since = self.waiting_since.entry(rental).or_insert_with(Instant::now);
        let waited = since.elapsed() >= Duration::from_secs(around.settings.batch_seconds);
        waited || count >= usize::from(around.settings.batch_limit)
    }

    /// Makes a batch of what waits; the pods that now have a receipt.
    async fn record_batch<'a>(
        &mut self,
        around: &Surroundings,
        (rental, waiting): (RentalId, &Waiting<'a>),
        batches: &mut Batches,
        chain: &Result<(), ChainError>,
    ) -> Result<Vec<&'a Finished>, Failure> {
        let prices: Vec<WeiPerGpuSecond> =
            waiting.billing.prices.iter().map(|price| price.price_per_gpu_hour.per_second()).collect();
        let recorded = batches.positions(rental);
        let from = match (recorded.last(), chain) {
            (Some(last), _) if self.checked.contains(&rental) => *last,
            // What is recorded here counts while the chain can't be asked; where nothing is, pods wait.
            (Some(last), Err(_)) => *last,
            (None, Err(fault)) => return Err(fault.clone().into()),
            (_, Ok(())) => self.compare(around, rental, &prices, &recorded).await?,
        };
        let unsettled = waiting.leaves.iter().filter(|leaf| !self.settled_before.contains(&leaf.pod_uid));
        let unsettled: Vec<Leaf> = unsettled.copied().collect();
        let limit = usize::from(around.settings.batch_limit);
        let name = name_of(rental, from.next_sequence);
        let planned = plan_batch(from, &unsettled, &prices, limit);
        let Some(batch) = planned.map_err(|fault| Failure::Leaf(name.clone(), fault))? else {
            return Ok(Vec::new());
        };
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
        let of_leaf = |(leaf, _): &(Leaf, _)| waiting.pods.get(&leaf.pod_uid).map(|(finished, _)| *finished);
        Ok(batch.leaves.iter().filter_map(of_leaf).collect())
    }

    /// What the rental's next batch follows, once it is known whether the chain stands where the recorded batches say:
    /// asked of each rental once, before anything is numbered.
    async fn compare(
        &mut self,
        around: &Surroundings,
        rental: RentalId,
        prices: &[WeiPerGpuSecond],
        recorded: &[Position],
    ) -> Result<Position, Failure> {
        let chain = position_on_chain(around, rental, prices).await?;
        let stands = standing(recorded, chain);
        around.metrics.tell_forked(rental, stands == Standing::Forked);
        match stands {
            Standing::Recorded(last) => {
                self.checked.insert(rental);
                Ok(last)
            }
            Standing::ChainAhead(chain) => {
                let settled = around.chain.settled_pods(rental).await?;
                self.settled_before.extend(settled.into_iter().map(|pod| pod.pod_uid));
                Ok(chain)
            }
            Standing::Forked => Err(Failure::Forked(rental)),
        }
    }

    fn say(&mut self, finished: &Finished, why: &str) {
        if self.said.insert(finished.pod_uid, why.to_owned()).as_deref() != Some(why) {
            let (namespace, name) = (finished.pod.namespace().unwrap_or_default(), finished.pod.name_any());
            tracing::warn!("pod {namespace}/{name} waits for its receipt: {why}");
        }
    }
}

/// Takes the finalizer off each; those from which it is off.
async fn let_go(around: &Surroundings, free: Vec<&Finished>) -> Vec<PodUid> {
    let mut gone = Vec::new();
    for finished in free {
        match pods::release(&around.client, &finished.pod).await {
            Ok(()) => gone.push(finished.pod_uid),
            Err(failure) => around.try_again(&format!("pod {}", finished.pod.name_any()), &failure),
        }
    }
    gone
}

/// Where the chain says that the rental stands, and whether it is the one that the queue means.
async fn position_on_chain(
    around: &Surroundings,
    rental: RentalId,
    prices: &[WeiPerGpuSecond],
) -> Result<Position, Failure> {
    let newest = around.chain.newest_block().await?;
    let state = around.chain.rental(rental, newest.number).await?;
    if state.price_hash != price_hash(prices) {
        let message = "its prices on chain are not those of the ComputeQueue: make a queue with the prices that were agreed";
        return Err(Failure::Rental(rental, message.to_owned()));
    }
    if state.provider != around.key.address() {
        let (provider, ours) = (state.provider, around.key.address());
        let message =
            format!("its provider is {provider}, and the key's account is {ours}: mount the provider's key");
        return Err(Failure::Rental(rental, message));
    }
    Ok(Position { head: state.head, next_sequence: state.next_sequence, through: state.through })
}
