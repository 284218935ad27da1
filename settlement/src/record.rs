//! Making receipts durable.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, ResourceExt as _, api::PostParams};
use plasma_api::{SettlementBatch, compute_queue::Billing};
use plasma_chain::ChainError;
use plasma_settlement_core::{
    Batch, Leaf, Position, Span, Standing, Terms, is_whole, plan_batch, price_hash, standing,
};
use plasma_types::{Hash, PodUid, RentalId, WeiPerGpuSecond};

use crate::{
    batches::{Batches, name_of, spec_of},
    bill::{Bill, Reason},
    collect::Finished,
    failure::Failure,
    occupied::Occupied,
    pods,
    settle::{Surroundings, now_millis},
};

/// A pod that waits for its node's meter for longer is said to.
const A_METER_TELLS: plasma_types::Duration = plasma_types::Duration(30_000);

/// What is remembered between rounds. Nothing of it is needed after a restart.
#[derive(Default)]
pub(crate) struct Recorder {
    /// Since when receipts of a rental wait to be settled together.
    waiting_since: HashMap<Account, Instant>,
    /// What was last said of a pod that waits.
    said: HashMap<PodUid, String>,
    /// Accounts whose rental stands, on chain, where the recorded batches say, and holds these prices; with the longest time
    /// that one of its receipts bills.
    checked: HashMap<Account, Period>,
    /// Pods that the chain's events name and no batch here does.
    settled_before: HashSet<PodUid>,
}

/// A rental, and the hash of the prices that a queue has for it: two queues may name one rental, and a queue may be made
/// anew with other prices.
type Account = (RentalId, Hash);

type Period = plasma_types::Duration;

/// Pods, with their jobs' names.
pub(crate) type Pods<'a> = HashMap<PodUid, (&'a Finished, &'a str)>;

/// Receipts of one rental that aren't durable.
struct Waiting<'a> {
    queue: &'a str,
    prices: Vec<WeiPerGpuSecond>,
    pods: Pods<'a>,
    leaves: Vec<Leaf>,
}

impl Recorder {
    /// Records what can be recorded; the pods that have a durable receipt now, or nothing to be paid.
    ///
    /// What goes wrong with one pod or one rental holds up no other.
    pub(crate) async fn record<'a>(
        &mut self,
        around: &Surroundings,
        finished: &'a [Finished],
        batches: &mut Batches,
        chain: &Result<(), ChainError>,
    ) -> Vec<&'a Finished> {
        let recorded = batches.recorded_pods();
        let mut waiting: BTreeMap<Account, Waiting<'_>> = BTreeMap::new();
        let mut occupied = Occupied::recorded(batches);
        let mut free = Vec::new();
        let mut reasons = Vec::new();
        // In an order of their own: which of two that exclude each other is billed is the same in each round.
        let mut finished: Vec<&Finished> = finished.iter().collect();
        finished.sort_by_key(|pod| pod.pod_uid);
        for pod in finished.iter().copied() {
            let has_receipt =
                recorded.contains_key(&pod.pod_uid) || self.settled_before.contains(&pod.pod_uid);
            match &pod.bill {
                _ if has_receipt => free.push(pod),
                Bill::Nothing => free.push(pod),
                Bill::Wait(reason, why) => {
                    reasons.push(*reason);
                    // A meter takes its seconds.
                    let waited = now_millis().since(pod.seen);
                    if *reason != Reason::Meter || waited >= A_METER_TELLS {
                        self.say(pod, &format!("waits for its receipt: {why}"));
                    }
                }
                Bill::Receipt(receipt) => {
                    reasons.push(Reason::Batch);
                    let (leaf, void) = occupied.admit(pods::node(&pod.pod).unwrap_or_default(), receipt.leaf);
                    void.iter().chain(&receipt.note).for_each(|note| self.say(pod, note));
                    let prices = prices_of(&receipt.billing);
                    let account = (receipt.billing.rental, price_hash(&prices));
                    let of_account =
                        waiting.entry(account).or_insert_with(|| Waiting::new(&receipt.queue, prices));
                    of_account.pods.insert(pod.pod_uid, (pod, &receipt.job));
                    of_account.leaves.push(leaf);
                }
            }
        }
        let count = |reason| reasons.iter().filter(|other| **other == reason).count();
        around.metrics.tell_waiting(count);
        self.waiting_since.retain(|account, _| waiting.contains_key(account));
        self.said.retain(|uid, _| finished.iter().any(|pod| pod.pod_uid == *uid));
        for (account, of_account) in waiting {
            if self.is_due(around, account, of_account.leaves.len()) {
                match self.record_batch(around, (account, &of_account), batches, chain).await {
                    Ok(pods) => free.extend(pods),
                    Err(failure) => around.try_again(&format!("rental {}", account.0), &failure),
                }
            }
        }
        free
    }

    /// Pods that finish together are settled together: the first one waits a little for the others.
    fn is_due(&mut self, around: &Surroundings, account: Account, count: usize) -> bool {
        let since = self.waiting_since.entry(account).or_insert_with(Instant::now);
        let waited = since.elapsed() >= Duration::from_secs(around.settings.batch_seconds);
        waited || count >= usize::from(around.settings.batch_limit)
    }

    /// Makes a batch of what waits; the pods that now have a receipt.
    async fn record_batch<'a>(
        &mut self,
        around: &Surroundings,
        (account, waiting): (Account, &Waiting<'a>),
        batches: &mut Batches,
        chain: &Result<(), ChainError>,
    ) -> Result<Vec<&'a Finished>, Failure> {
        let rental = account.0;
        let recorded = batches.spans(rental);
        let (from, period) = match (recorded.last().zip(batches.period(rental)), chain) {
            (Some((last, period)), _) if self.checked.get(&account) == Some(&period) => (last.to, period),
            // What is recorded here counts while the chain can't be asked. Where nothing is, pods wait; so they do where
            // something is missing, since only the chain knows which of them were settled with that.
            (Some((last, period)), Err(_)) if is_whole(&recorded) => (last.to, period),
            (_, Err(fault)) => return Err(fault.clone().into()),
            (_, Ok(())) => self.compare(around, account, &waiting.prices, &recorded).await?,
        };
        let terms = Terms { prices: &waiting.prices, period };
        let unsettled = waiting.leaves.iter().filter(|leaf| !self.settled_before.contains(&leaf.pod_uid));
        let unsettled: Vec<Leaf> = unsettled.copied().collect();
        let limit = usize::from(around.settings.batch_limit);
        let name = name_of(rental, from.next_sequence);
        let planned = plan_batch(from, &unsettled, terms, limit);
        let Some(batch) = planned.map_err(|fault| Failure::Leaf(name.clone(), fault))? else {
            return Ok(Vec::new());
        };
        self.say_unbilled(&batch, waiting);
        let spec = spec_of(around, waiting.queue, rental, terms, (&batch, &waiting.pods));
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
        self.waiting_since.remove(&account);
        batches.put(created);
        let of_leaf = |(leaf, _): &(Leaf, _)| waiting.pods.get(&leaf.pod_uid).map(|(finished, _)| *finished);
        Ok(batch.leaves.iter().filter_map(of_leaf).collect())
    }

    /// What the rental's next batch follows, once it is known whether the chain stands where the recorded batches say:
    /// asked of each rental once, before anything is numbered.
    async fn compare(
        &mut self,
        around: &Surroundings,
        account: Account,
        prices: &[WeiPerGpuSecond],
        recorded: &[Span],
    ) -> Result<(Position, Period), Failure> {
        let rental = account.0;
        let (chain, period) = position_on_chain(around, rental, prices).await?;
        let stands = standing(recorded, chain);
        around.metrics.tell_forked(rental, stands == Standing::Forked);
        match stands {
            Standing::Recorded(last) => {
                if !is_whole(recorded) {
                    self.remember_settled(around, rental).await?;
                }
                self.checked.insert(account, period);
                Ok((last, period))
            }
            // Where nothing was ever settled, no event needs to be looked for.
            Standing::ChainAhead(chain) if chain.next_sequence == 0 => Ok((chain, period)),
            Standing::ChainAhead(chain) => {
                self.remember_settled(around, rental).await?;
                Ok((chain, period))
            }
            Standing::Forked => Err(Failure::Forked(rental)),
        }
    }

    /// Reads from the chain's events which pods were settled: none of them is numbered again.
    async fn remember_settled(&mut self, around: &Surroundings, rental: RentalId) -> Result<(), Failure> {
        let settled = around.chain.settled_pods(rental).await?;
        self.settled_before.extend(settled.into_iter().map(|pod| pod.pod_uid));
        Ok(())
    }

    /// A receipt that can't be billed as it is takes its place in the batch, and is worth nothing.
    fn say_unbilled(&mut self, batch: &Batch, waiting: &Waiting<'_>) {
        for (uid, why) in &batch.unbilled {
            if let Some((finished, _)) = waiting.pods.get(uid) {
                self.say(finished, &format!("has a receipt that is worth nothing: {why}"));
            }
        }
    }

    fn say(&mut self, finished: &Finished, what: &str) {
        if self.said.insert(finished.pod_uid, what.to_owned()).as_deref() != Some(what) {
            let (namespace, name) = (finished.pod.namespace().unwrap_or_default(), finished.pod.name_any());
            tracing::warn!("pod {namespace}/{name} {what}");
        }
    }
}

impl<'a> Waiting<'a> {
    fn new(queue: &'a str, prices: Vec<WeiPerGpuSecond>) -> Self {
        Self { queue, prices, pods: HashMap::new(), leaves: Vec::new() }
    }
}

fn prices_of(billing: &Billing) -> Vec<WeiPerGpuSecond> {
    billing.prices.iter().map(|price| price.price_per_gpu_hour.per_second()).collect()
}

/// Where the chain says that the rental stands, whether it is the one that the queue means, and whether the key may settle
/// it; with the longest time that one of its receipts bills.
async fn position_on_chain(
    around: &Surroundings,
    rental: RentalId,
    prices: &[WeiPerGpuSecond],
) -> Result<(Position, Period), Failure> {
    let newest = around.chain.newest_block().await?;
    let state = around.chain.rental(rental, newest.number).await?;
    if state.price_hash != price_hash(prices) {
        let message = "its prices on chain are not those of the ComputeQueue: make a queue with the prices that were agreed";
        return Err(Failure::Rental(rental, message.to_owned()));
    }
    let (provider, ours) = (state.provider, around.key.address());
    if !around.chain.is_signer(around.settings.providers, (provider, ours), newest.number).await? {
        let message = format!(
            "its provider is {provider}, for whom the key's account {ours} doesn't sign: let the provider register it \
             (setSigner of the Providers contract), or mount a key that is registered"
        );
        return Err(Failure::Rental(rental, message));
    }
    let at = Position { head: state.head, next_sequence: state.next_sequence, through: state.through };
    Ok((at, state.period))
}
