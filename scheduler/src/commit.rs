//! Carrying a plan out: bindings that name the pod's UID, and their undoing. A time-out is unknown, and is looked up.

use futures::{StreamExt as _, stream};
use k8s_openapi::{
    api::core::v1::{Binding, ObjectReference, Pod},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use plasma_runtime::is_conflict;
use plasma_scheduler_core::{Bound, Placement};
use tokio::time::Instant;

use crate::{
    evict::{self, is_another_or_ending},
    metrics::Metrics,
    shares::Turns,
};

/// How many requests for one gang are under way at once.
const AT_ONCE: usize = 64;
/// How many pods of one gang are deleted at once.
const DELETED_AT_ONCE: usize = 16;
/// HTTP's codes for that.
const TIMED_OUT: u16 = 408;
const TOO_MANY_REQUESTS: u16 = 429;
/// How many bindings are on the wire at once: more would only wait at the API server instead of here.
const ON_THE_WIRE: usize = 128;
/// How many pods are taken away at once.
const TAKEN_AWAY: usize = 32;

/// Why something isn't written, in the API server's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Obstacle {
    pub(crate) words: String,
    /// The API server said no, and would say so again; otherwise it had a fault, which may be over in a moment.
    pub(crate) is_refusal: bool,
}

impl Obstacle {
    pub(crate) fn new(what: &str, fault: &kube::Error) -> Self {
        let words = match fault {
            kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
            other => other.to_string(),
        };
        Self { words: format!("{what}: {words}"), is_refusal: is_final(fault) }
    }
}

/// How bindings that were sent ended.
pub(crate) struct Answers {
    /// In the placements' order.
    pub(crate) outcomes: Vec<Bound>,
    /// Why the first of those isn't bound that aren't, and could be.
    pub(crate) obstacle: Option<Obstacle>,
}

/// Binds pods, and deletes those that must not stay bound.
#[derive(Clone)]
pub(crate) struct Binder {
    client: Client,
    metrics: Metrics,
    /// Turns at what comes before a pod is bound, and at that.
    pub(crate) wire: Turns,
    /// Turns at taking pods away, and at what comes before that: nobody stays longer than he may since others' bindings hang.
    pub(crate) away: Turns,
}

/// Until when a plan's pods are bound.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    /// By the clock that is written down.
    pub(crate) said: Timestamp,
    /// By the one that nobody sets.
    pub(crate) ours: Instant,
}

impl Binder {
    pub(crate) fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics, wire: Turns::new(ON_THE_WIRE), away: Turns::new(TAKEN_AWAY) }
    }

    /// Binds each pod to its node, until a moment after which nothing is sent any more.
    pub(crate) async fn bind_all(
        &self,
        namespace: &str,
        placements: &[Placement],
        until: Instant,
    ) -> Answers {
        let bind = |placement: Placement| async move { self.bind(namespace, &placement, Some(until)).await };
        let answers: Vec<_> = stream::iter(placements.to_vec()).map(bind).buffered(AT_ONCE).collect().await;
        let (outcomes, obstacles): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
        Answers { outcomes, obstacle: obstacles.into_iter().flatten().next() }
    }

    /// How the bindings stand, in the placements' order. Binds nothing.
    pub(crate) async fn look_up_all(&self, namespace: &str, placements: &[Placement]) -> Vec<Bound> {
        let look_up = |placement: Placement| async move { self.look_up(namespace, &placement).await };
        stream::iter(placements.to_vec()).map(look_up).buffered(AT_ONCE).collect().await
    }

    /// Binds a pod to its node, unless its turn comes too late. Where it isn't, and could be: why.
    pub(crate) async fn bind(
        &self,
        namespace: &str,
        placement: &Placement,
        until: Option<Instant>,
    ) -> (Bound, Option<Obstacle>) {
        let post = self.post_binding(namespace, placement);
        let posted = match until {
            Some(until) => self.wire.take_by(namespace, until, post).await,
            None => Some(self.wire.take(namespace, post).await),
        };
        let (outcome, fault) = match posted {
            // As if it had been refused: nothing was sent.
            None => return (Bound::Refused, None),
            Some(Ok(())) => (Bound::Yes, None),
            Some(Err(fault)) => {
                tracing::debug!("binding {namespace}/{} to {}: {fault}", placement.pod, placement.node);
                match self.look_up(namespace, placement).await {
                    Bound::NotYet if was_refused(&fault) => (Bound::Refused, Some(fault)),
                    found => (found, Some(fault).filter(|_| found.may_arrive())),
                }
            }
        };
        let result = match outcome {
            Bound::Yes | Bound::Started => "bound",
            Bound::Never => "lost",
            Bound::Refused => "refused",
            Bound::NotYet | Bound::Unknown => "unknown",
        };
        self.metrics.binds.with_label_values(&[result]).inc();
        let what = || format!("pod {} isn't bound", placement.pod);
        (outcome, fault.map(|fault| Obstacle::new(&what(), &fault)))
    }

    async fn post_binding(&self, namespace: &str, placement: &Placement) -> Result<(), kube::Error> {
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(placement.pod.clone()),
                // The precondition: another pod under the same name is not bound.
                uid: Some(placement.uid.clone()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(placement.node.clone()),
                ..Default::default()
            },
        };
        let _: Status = self
            .pods(namespace)
            .create_subresource("binding", &placement.pod, &PostParams::default(), &binding)
            .await?;
        Ok(())
    }

    /// Reads the pod itself, not the watch: what a failed binding did is a fact there.
    pub(crate) async fn look_up(&self, namespace: &str, placement: &Placement) -> Bound {
        match self.pods(namespace).get_opt(&placement.pod).await {
            Err(_) => Bound::Unknown,
            Ok(None) => Bound::Never,
            Ok(Some(pod)) if is_another_or_ending(&pod, &placement.uid) => Bound::Never,
            Ok(Some(pod)) => match pod.spec.and_then(|spec| spec.node_name).filter(|node| !node.is_empty()) {
                Some(node) if node == placement.node => {
                    let phase = pod.status.and_then(|status| status.phase);
                    if has_started(phase.as_deref()) { Bound::Started } else { Bound::Yes }
                }
                Some(_) => Bound::Never,
                None => Bound::NotYet,
            },
        }
    }

    /// Those of these pods, each with its namespace, that are there and on no node for sure: by UID.
    pub(crate) async fn unbound(&self, pods: Vec<(String, Placement)>) -> Vec<String> {
        let read = |(namespace, placement): (String, Placement)| async move {
            let pod = self.pods(&namespace).get_opt(&placement.pod).await.ok().flatten()?;
            let has_node = pod.spec.and_then(|spec| spec.node_name).is_some_and(|node| !node.is_empty());
            (pod.metadata.uid.as_ref() == Some(&placement.uid) && !has_node).then_some(placement.uid)
        };
        let unbound = stream::iter(pods).map(read).buffer_unordered(AT_ONCE);
        unbound.filter_map(std::future::ready).collect().await
    }

    /// Deletes pods of a plan that can't be finished. Whether all are gone, or going; those that aren't keep no other.
    pub(crate) async fn undo_all(
        &self,
        namespace: &str,
        placements: impl Iterator<Item = &Placement>,
    ) -> bool {
        let placements: Vec<Placement> = placements.cloned().collect();
        let undo = |placement: Placement| async move {
            self.away.take(namespace, self.undo(namespace, &placement)).await
        };
        let undone = stream::iter(placements).map(undo).buffer_unordered(DELETED_AT_ONCE);
        undone.fold(true, |all, is_undone| std::future::ready(all && is_undone)).await
    }

    /// Deletes a pod of a plan that can't be finished; its owner makes it anew. Whether it is gone, or going.
    async fn undo(&self, namespace: &str, placement: &Placement) -> bool {
        let told = ("GangNotPlaced", "not every pod of the gang could be bound by its deadline");
        let pods = self.pods(namespace);
        let find = || async {
            let found = pods.get_opt(&placement.pod).await?;
            Ok::<_, kube::Error>(found.filter(|pod| !is_another_or_ending(pod, &placement.uid)))
        };
        let fault = match find().await {
            // Gone, or made anew under its name, is what was wanted.
            Ok(None) => return true,
            Ok(Some(pod)) => evict::disrupt_and_delete(&pods, &pod, told).await.err(),
            Err(fault) => Some(fault),
        };
        let Some(fault) = fault else { return true };
        // What it did is read, not guessed from the fault.
        let is_gone = matches!(find().await, Ok(None));
        if !is_gone {
            tracing::warn!("undoing {namespace}/{}: {fault}; trying again", placement.pod);
        }
        is_gone
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

/// Whether the API server said no, for good or for now, and so did nothing: what it does after a time-out or a fault of its
/// own is unknown.
pub(crate) fn was_refused(fault: &kube::Error) -> bool {
    matches!(fault, kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != TIMED_OUT)
}

/// Whether it would say so again: not where it merely had too much to do, or somebody was faster.
fn is_final(fault: &kube::Error) -> bool {
    let is_too_much = matches!(fault, kube::Error::Api(status) if status.code == TOO_MANY_REQUESTS);
    was_refused(fault) && !is_too_much && !is_conflict(fault)
}

/// Whether a pod in this phase has containers that were started.
fn has_started(phase: Option<&str>) -> bool {
    phase.is_some_and(|phase| phase != "Pending")
}
