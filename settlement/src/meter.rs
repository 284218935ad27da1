//! What the nodes' meters have told, for the round that bills and for the calls that bring it.

pub(crate) mod caller;
pub(crate) mod gone;
pub(crate) mod keep;
pub(crate) mod parse;
pub(crate) mod serve;
pub(crate) mod stream;

use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use plasma_runtime::CancellationToken;
use plasma_settlement_core::{FromTheFuture, Ledger, Line, NodeClock, OutOfOrder, Place, PodMeter, Sums};
use plasma_types::{PodUid, UnixMillis};
use tokio::sync::watch;

use crate::{metrics::MeterMetrics, settle::now_millis};

/// So many pods of a node are remembered before somebody has said which of them are needed: a node runs far fewer, and one
/// that tells of more has to wait for the next round.
const MOST_PODS: usize = 4096;

/// Every node's ledger.
pub(crate) struct Meters {
    nodes: Mutex<BTreeMap<String, Node>>,
    /// How many rounds have said what is needed.
    rounds: watch::Sender<u64>,
    metrics: MeterMetrics,
}

/// One node's ledger, and the call that fills it.
struct Node {
    ledger: Ledger,
    acknowledged: watch::Sender<u64>,
    /// Ends the newest call. Cancelled: nobody calls.
    call: CancellationToken,
}

/// Who needs what a node tells of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Its receipt isn't durable.
    Receipt,
    /// Nobody.
    Nobody,
    /// Nobody: it is a pod of another node.
    OtherNode,
}

/// What a node has told of one pod, by our clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) told: Option<PodMeter>,
    pub(crate) complete_until: Option<UnixMillis>,
    /// Whether the node is connected.
    pub(crate) connected: bool,
    /// How far its meter's clock is from ours.
    pub(crate) clock: NodeClock,
}

/// A node's call, while it is the newest.
pub(crate) struct Call<'a> {
    meters: &'a Meters,
    node: String,
    /// Cancelled when a newer call takes its place.
    pub(crate) replaced: CancellationToken,
    /// Up to where the node may forget.
    pub(crate) acknowledged: watch::Receiver<u64>,
}

/// Why a record wasn't taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// One before it is missing.
    OutOfOrder(OutOfOrder),
    /// Too many pods wait for somebody to say whether they are needed.
    Full,
    /// A newer call took this one's place.
    Replaced,
}

impl Meters {
    pub(crate) fn new(metrics: MeterMetrics) -> Self {
        Self { nodes: Mutex::default(), rounds: watch::Sender::new(0), metrics }
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, Node>> {
        // Each change of a ledger is whole before anything could panic.
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on from what was kept of a node, before any is heard.
    pub(crate) fn restore(&self, name: &str, sums: Sums) {
        self.nodes().insert(name.to_owned(), Node { ledger: Ledger::from_sums(sums), ..Node::new() });
    }

    /// A node calls; its earlier call ends.
    pub(crate) fn begin(&self, name: &str, journal: &str, first_sequence: u64) -> Call<'_> {
        let mut nodes = self.nodes();
        let node = nodes.entry(name.to_owned()).or_insert_with(Node::new);
        node.call.cancel();
        node.call = CancellationToken::new();
        node.ledger.open(journal, first_sequence);
        node.tell();
        let (replaced, acknowledged) = (node.call.clone(), node.acknowledged.subscribe());
        self.count(&nodes);
        Call { meters: self, node: name.to_owned(), replaced, acknowledged }
    }

    /// What is known of a pod by its own node, and by no other.
    pub(crate) fn view(&self, node: &str, pod: PodUid) -> View {
        let nodes = self.nodes();
        let Some(node) = nodes.get(node) else { return View::default() };
        View {
            told: node.ledger.pod(pod).cloned().map(|told| told.by(node.ledger.clock())),
            complete_until: node.ledger.complete_until(),
            connected: !node.call.is_cancelled(),
            clock: *node.ledger.clock(),
        }
    }

    /// How far each node is: to be asked before the pods are listed.
    pub(crate) fn places(&self) -> BTreeMap<String, Place> {
        self.nodes().iter().map(|(name, node)| (name.clone(), node.ledger.place().clone())).collect()
    }

    /// Forgets what nobody needs of what came before `looked`, and has the nodes forget it, too.
    pub(crate) fn forget(&self, looked: &BTreeMap<String, Place>, need: impl Fn(&str, PodUid) -> Need) {
        let mut nodes = self.nodes();
        for (name, node) in nodes.iter_mut() {
            let Some(place) = looked.get(name) else { continue };
            let others = Cell::new(0_u64);
            node.ledger.forget(place, |pod| {
                let need = need(name, pod);
                others.set(others.get() + u64::from(need == Need::OtherNode));
                need == Need::Receipt
            });
            if others.get() > 0 {
                self.metrics.records_by("other_node", others.get());
                tracing::warn!(
                    "node {name}: its meter tells of {} pods of other nodes: not heard",
                    others.get()
                );
            }
            node.tell();
        }
        nodes.retain(|_, node| !node.call.is_cancelled() || node.ledger.pods() > 0);
        drop(nodes);
        self.rounds.send_modify(|rounds| *rounds += 1);
    }

    /// How many records each node has to keep though they are here: those of pods that run.
    pub(crate) fn held_back(&self) -> Vec<(String, u64)> {
        let held_back = |node: &Node| node.ledger.place().through - node.ledger.acknowledged();
        let nodes = self.nodes();
        nodes
            .iter()
            .map(|(name, node)| (name.clone(), held_back(node)))
            .filter(|(_, held)| *held > 0)
            .collect()
    }

    /// What a node has told, to be kept.
    pub(crate) fn sums(&self, name: &str) -> Option<Sums> {
        self.nodes().get(name).map(|node| node.ledger.sums())
    }

    /// What a node told up to there is kept: it may forget that.
    pub(crate) fn kept(&self, name: &str, place: &Place) {
        if let Some(node) = self.nodes().get_mut(name) {
            node.ledger.is_durable(place);
            node.tell();
        }
    }

    /// Whether anything that a node told is still needed.
    pub(crate) fn remembers(&self, name: &str) -> bool {
        self.nodes().get(name).is_some_and(|node| node.ledger.pods() > 0)
    }

    fn count(&self, nodes: &BTreeMap<String, Node>) {
        let connected = nodes.values().filter(|node| !node.call.is_cancelled()).count();
        self.metrics.nodes.set(i64::try_from(connected).unwrap_or(i64::MAX));
    }
}

impl Node {
    fn new() -> Self {
        let call = CancellationToken::new();
        call.cancel();
        Self { ledger: Ledger::default(), acknowledged: watch::Sender::new(0), call }
    }

    fn tell(&self) {
        let acknowledged = self.ledger.acknowledged();
        self.acknowledged.send_if_modified(|before| std::mem::replace(before, acknowledged) != acknowledged);
    }
}

impl Call<'_> {
    /// Takes a record.
    pub(crate) fn take(&self, sequence: u64, line: &Line) -> Result<(), NotTaken> {
        self.with(|node| {
            if node.ledger.pods() > MOST_PODS {
                return Err(NotTaken::Full);
            }
            let is_new = node.ledger.take(sequence, line.clone()).map_err(NotTaken::OutOfOrder)?;
            self.meters.metrics.record(if is_new { "taken" } else { "repeated" });
            node.tell();
            Ok(())
        })
    }

    /// Its meter's clock shows this, by its first message.
    pub(crate) fn first_shows(&self, shown: UnixMillis) -> Result<(), NotTaken> {
        self.with(|node| {
            node.ledger.first_shows(shown, now_millis());
            Ok(())
        })
    }

    /// All that ended before that moment was sent, and the meter's clock shows `shown`; why that isn't believed.
    pub(crate) fn complete(
        &self,
        until: UnixMillis,
        shown: UnixMillis,
    ) -> Result<Result<(), FromTheFuture>, NotTaken> {
        self.with(|node| {
            node.ledger.shows(shown, now_millis());
            Ok(node.ledger.complete(until, now_millis()))
        })
    }

    /// Says which rounds were; for whoever waits for the next.
    pub(crate) fn rounds(&self) -> watch::Receiver<u64> {
        self.meters.rounds.subscribe()
    }

    fn with<T>(&self, change: impl FnOnce(&mut Node) -> Result<T, NotTaken>) -> Result<T, NotTaken> {
        let mut nodes = self.meters.nodes();
        match nodes.get_mut(&self.node) {
            Some(node) if !self.replaced.is_cancelled() => change(node),
            _ => Err(NotTaken::Replaced),
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let nodes = self.meters.nodes();
        // Of this call alone: a newer one has a token of its own.
        self.replaced.cancel();
        self.meters.count(&nodes);
    }
}

#[cfg(test)]
mod tests;
