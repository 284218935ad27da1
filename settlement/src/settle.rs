//! The round: see what finished, make it durable, let the pods go, follow the payments, tell the jobs.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::jiff::Timestamp;
use kube::{Client, ResourceExt as _};
use plasma_chain::{Chain, ChainError, Endpoint, Fees, Key, KeyError, Signed, Unsigned};
use plasma_runtime::{CancellationToken, Runtime};
use plasma_types::{PodUid, UnixMillis, UnixSeconds, Xpl};
use tokio::task::JoinHandle;

use crate::{
    args::{Settings, TEST_CHAINS},
    batches::Batches,
    collect::{Collector, Finished},
    cost::Costs,
    deliver::Deliverer,
    failure::Failure,
    meter::{self, Meters, Need, keep::Keeper},
    metrics::Metrics,
    payout::Payouts,
    pods,
    record::Recorder,
};

/// How often a round begins.
const ROUND: Duration = Duration::from_secs(1);
/// How long something that keeps going wrong is not said again.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// What every part of a round needs.
pub(crate) struct Surroundings {
    pub(crate) settings: Settings,
    pub(crate) client: Client,
    pub(crate) chain: Chain,
    pub(crate) key: Key,
    pub(crate) metrics: Metrics,
    pub(crate) meters: Arc<Meters>,
    /// What was last said of what went wrong, and when.
    said: Mutex<HashMap<String, (String, Instant)>>,
}

impl Surroundings {
    /// Reads the key; nothing is asked yet.
    pub(crate) fn new(settings: Settings, client: Client, metrics: Metrics) -> Result<Self, Failure> {
        let endpoint = Endpoint {
            url: settings.chain_rpc.clone(),
            chain_id: settings.chain_id,
            contract: settings.contract,
        };
        Ok(Self {
            key: Key::from_file(&settings.key_file, settings.key_password_file.as_deref())?,
            chain: Chain::new(endpoint)?.since_block(settings.contract_block),
            meters: Arc::new(Meters::new(metrics.meter.clone())),
            metrics,
            settings,
            client,
            said: Mutex::default(),
        })
    }

    /// Signs a transaction to the contract, whose call takes so much gas by estimate.
    pub(crate) fn sign(
        &self,
        nonce: u64,
        data: Vec<u8>,
        (gas, fees): (u64, Fees),
    ) -> Result<Signed, KeyError> {
        let endpoint = self.chain.endpoint();
        self.key.sign(&Unsigned {
            chain_id: endpoint.chain_id,
            nonce,
            to: Some(endpoint.contract),
            value: Xpl::ZERO,
            data,
            // What the estimate misses when other transactions come first.
            gas: gas.saturating_add(gas / 4),
            fees,
        })
    }

    /// Counts and says what went wrong; the next round tries it again. The same again is said once a minute.
    pub(crate) fn try_again(&self, what: &str, failure: &Failure) {
        self.metrics.failures.inc();
        let text = failure.to_string();
        // A panic elsewhere can't leave a map of texts half changed.
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|_, (_, since)| since.elapsed() < SAY_AGAIN);
        if said.get(what).is_none_or(|(before, _)| *before != text) {
            tracing::warn!("{what}: {text}");
            said.insert(what.to_owned(), (text, Instant::now()));
        }
    }
}

/// Settles until the program is asked to end.
pub(crate) async fn run(settings: Settings, client: Client, runtime: &Runtime) -> Result<(), Failure> {
    if settings.allow_simulated && !TEST_CHAINS.contains(&settings.chain_id) {
        let message = format!(
            "--allow-simulated is for test chains {TEST_CHAINS:?}, not for chain {}",
            settings.chain_id
        );
        return Err(Failure::Setting(message));
    }
    let around = Surroundings::new(settings, client, Metrics::register(&runtime.registry))?;
    tracing::info!("settling on chain {} as {}", around.settings.chain_id, around.key.address());
    let ready = runtime.health.gate("round");
    let mut serving = None;
    let mut memory = Memory::default();
    while !runtime.shutdown.is_cancelled() {
        if serving.is_none() && around.settings.meter_listen.is_some() {
            serving = begin_to_meter(&around, &mut memory, runtime).await;
        }
        match round(&around, &mut memory).await {
            Ok(()) => ready.set(true),
            Err(failure) => around.try_again("this round", &failure),
        }
        let _ = runtime.shutdown.run_until_cancelled(tokio::time::sleep(ROUND)).await;
    }
    // Each node is told that its call ends, and calls whoever comes next.
    if let Some(serving) = serving {
        let _ = serving.await;
    }
    Ok(())
}

/// Serves the nodes' meters once what they told before is read.
async fn begin_to_meter(
    around: &Surroundings,
    memory: &mut Memory,
    runtime: &Runtime,
) -> Option<JoinHandle<()>> {
    match Keeper::load(around.client.clone(), &around.settings.namespace).await {
        Ok((keeper, all)) => {
            all.into_iter().for_each(|(node, sums)| around.meters.restore(&node, sums));
            memory.keeper = Some(keeper);
            serve_meters(around, runtime)
        }
        Err(failure) => {
            around.try_again("meters", &failure);
            None
        }
    }
}

/// Begins to serve the nodes' meters, where it is asked for.
fn serve_meters(around: &Surroundings, runtime: &Runtime) -> Option<JoinHandle<()>> {
    let (address, folder) = around.settings.meter_listen.zip(around.settings.meter_tls_dir.clone())?;
    let service = meter::stream::Service {
        meters: around.meters.clone(),
        callers: meter::caller::Callers::new(around.client.clone(), &around.settings.namespace),
        ending: CancellationToken::new(),
    };
    let shutdown = runtime.shutdown.clone();
    tracing::info!("meters report to {address}");
    Some(tokio::spawn(async move { meter::serve::serve(address, &folder, service, shutdown).await }))
}

/// What the parts of a round remember until the next one.
#[derive(Default)]
struct Memory {
    collector: Collector,
    recorder: Recorder,
    costs: Costs,
    payouts: Payouts,
    /// Where meters report.
    keeper: Option<Keeper>,
    /// Whether the chain failed to answer somebody in the last round: until it does, jobs aren't told that it is back.
    chain_was_silent: bool,
}

async fn round(around: &Surroundings, memory: &mut Memory) -> Result<(), Failure> {
    let chain = look_at_chain(around).await;
    // Before the pods are listed: what a meter tells of one that isn't in the list may be of one that came since.
    let told = around.meters.places();
    let mut batches = Batches::read(around).await?;
    let finished = memory.collector.collect(around).await?;
    let free = memory.recorder.record(around, &finished, &mut batches, &chain).await;
    let freed: HashSet<PodUid> = free.iter().map(|pod| pod.pod_uid).collect();
    let collector = &memory.collector;
    let need = |node: &str, pod: PodUid| {
        if freed.contains(&pod) { Need::Nobody } else { collector.need(node, pod) }
    };
    around.meters.forget(&told, need);
    if let Some(keeper) = &mut memory.keeper {
        for (node, failure) in keeper.keep(&around.meters).await {
            around.try_again(&format!("node {node}"), &failure);
        }
    }
    let waiting = finished.iter().filter(|pod| !freed.contains(&pod.pod_uid));
    let waiting = waiting.filter_map(Finished::waits_for_receipt);
    let waiting: Vec<_> = waiting.collect();
    // A pod goes only once its job knows what it cost: whoever admits another attempt may count on that.
    let reachable = chain.is_ok() && !memory.chain_was_silent;
    let untold = memory.costs.tell(around, (&batches, &waiting), reachable).await;
    let gone =
        let_go(around, free.into_iter().filter(|pod| pod.job_uid().is_none_or(|job| !untold.contains(&job))))
            .await;
    memory.collector.forget(&gone);
    let delivered = deliver(around, &mut memory.payouts, &mut batches, &chain).await;
    memory.chain_was_silent = !matches!(delivered, Ok(true));
    memory.costs.tell(around, (&batches, &waiting), !memory.chain_was_silent).await;
    delivered.map(drop)
}

/// One key, one transaction at a time: the batches', and while none of theirs is under way, one that releases; whether the
/// chain answered.
pub(crate) async fn deliver(
    around: &Surroundings,
    payouts: &mut Payouts,
    batches: &mut Batches,
    chain: &Result<(), ChainError>,
) -> Result<bool, Failure> {
    let is_out = if chain.is_ok() { payouts.is_out(around).await } else { Ok(false) };
    let may_begin = matches!(is_out, Ok(false));
    let reachable = Deliverer::new(around).deliver(batches, chain, may_begin).await? && is_out.is_ok();
    if reachable && let Err((rental, failure)) = payouts.pay_out(around, batches).await {
        around.try_again(&format!("releasing of rental {rental}"), &failure);
    }
    Ok(reachable)
}

/// Takes the finalizer off each; those from which it is off.
async fn let_go(around: &Surroundings, free: impl Iterator<Item = &Finished>) -> Vec<PodUid> {
    let mut gone = Vec::new();
    for finished in free {
        match pods::release(&around.client, &finished.pod).await {
            Ok(()) => gone.push(finished.pod_uid),
            Err(failure) => around.try_again(&format!("pod {}", finished.pod.name_any()), &failure),
        }
    }
    gone
}

/// Whether the chain that is meant answers: asked once a round, so that one that is down delays a round only once.
async fn look_at_chain(around: &Surroundings) -> Result<(), ChainError> {
    let answer = around.chain.check_chain_id().await;
    around.metrics.chain_reachable.set(i64::from(answer.is_ok()));
    // A gauge for people; whether it can be read decides nothing.
    if answer.is_ok()
        && let Ok(balance) = around.chain.balance(around.key.address()).await
    {
        around.metrics.tell_key_balance(balance);
    }
    answer
}

/// Now, in milliseconds.
pub(crate) fn now_millis() -> UnixMillis {
    UnixMillis(u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0))
}

/// Now, in seconds.
pub(crate) fn now_seconds() -> UnixSeconds {
    UnixSeconds(u64::try_from(Timestamp::now().as_second()).unwrap_or(0))
}
