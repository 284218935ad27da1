//! What a finished pod is to be billed for: by whom, from what, at which price.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::ListParams};
use plasma_api::{
    ComputeQueue, GpuNode,
    compute_queue::Billing,
    names::{JOB_NAME_LABEL, JOB_UID_LABEL, QUEUE_ANNOTATION},
};
use plasma_settlement_core::{Leaf, PodMeter, Source, Usage, flag};
use plasma_types::{Duration, JobUid, PodUid};

use crate::{
    collect::Over,
    failure::Failure,
    meter::{Meters, View, gone::Gone},
    metered::Evidence,
    pods,
    settle::Surroundings,
};

/// What is to become of a finished pod.
pub(crate) enum Bill {
    /// Nothing to be paid: no container started.
    Nothing,
    /// A receipt.
    Receipt(Box<Receipt>),
    /// It can't be told yet.
    Wait(Reason, String),
}

/// A receipt for a queue's rental.
pub(crate) struct Receipt {
    pub(crate) queue: String,
    pub(crate) billing: Billing,
    pub(crate) leaf: Leaf,
    pub(crate) job: String,
    /// What a person should know of it.
    pub(crate) note: Option<String>,
}

/// Why a pod has no receipt yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reason {
    /// Who pays isn't known.
    Payer,
    /// What its node has isn't known.
    Node,
    /// Its node's meter hasn't told all.
    Meter,
    /// Nothing is missing: it waits for others, or for the chain.
    Batch,
}

impl Reason {
    pub(crate) const ALL: [Self; 4] = [Self::Payer, Self::Node, Self::Meter, Self::Batch];

    /// As the metric has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Payer => "payer",
            Self::Node => "node",
            Self::Meter => "meter",
            Self::Batch => "batch",
        }
    }
}

/// What prices a pod.
pub(crate) struct Prices {
    queues: HashMap<String, ComputeQueue>,
    nodes: HashMap<String, GpuNode>,
    meters: Arc<Meters>,
    allow_simulated: bool,
}

impl Prices {
    pub(crate) async fn read(around: &Surroundings) -> Result<Self, Failure> {
        let every = ListParams::default();
        let queues: Api<ComputeQueue> = Api::all(around.client.clone());
        let queues = queues.list(&every).await.map_err(Failure::kube("listing ComputeQueues"))?;
        let nodes: Api<GpuNode> = Api::all(around.client.clone());
        let nodes = nodes.list(&every).await.map_err(Failure::kube("listing GpuNodes"))?;
        Ok(Self {
            queues: queues.into_iter().map(|queue| (queue.name_any(), queue)).collect(),
            nodes: nodes.into_iter().map(|node| (node.name_any(), node)).collect(),
            meters: around.meters.clone(),
            allow_simulated: around.settings.allow_simulated,
        })
    }

    /// Nodes that don't call, and that pods wait for.
    pub(crate) fn awaited_nodes<'a>(&self, over: &'a [Over]) -> Vec<&'a str> {
        let waits = |over: &&Over| {
            let meters = pods::node(&over.pod).and_then(|node| self.nodes.get(node));
            meters.is_some_and(|node| node.spec.meter.is_some())
        };
        let nodes = over.iter().filter(waits).filter_map(|over| {
            let node = pods::node(&over.pod)?;
            (!self.meters.view(node, over.pod_uid).connected).then_some(node)
        });
        nodes.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// What is to become of it.
    pub(crate) fn bill(&self, over: &Over, gone: &Gone) -> Bill {
        let node = pods::node(&over.pod);
        let view = node.map(|node| self.meters.view(node, over.pod_uid)).unwrap_or_default();
        // No container started, by anybody's word: there is nothing to price. A status can be lost.
        if over.usage == Usage::Nothing && !view.told.as_ref().is_some_and(PodMeter::tells_time) {
            return Bill::Nothing;
        }
        self.receipt((over, &view), gone).map_or_else(|(reason, why)| Bill::Wait(reason, why), Bill::Receipt)
    }

    fn receipt(&self, (over, view): (&Over, &View), gone: &Gone) -> Result<Box<Receipt>, (Reason, String)> {
        let (queue, billing) = self.payer(&over.pod).map_err(|why| (Reason::Payer, why))?;
        let (job_uid, job) = job_of(&over.pod).map_err(|why| (Reason::Payer, why))?;
        let name = pods::node(&over.pod);
        let node = name.and_then(|name| self.nodes.get(name));
        let node_is_gone = name.is_some_and(|name| gone.is_gone(name));
        let evidence = Evidence { over, node, view, node_is_gone };
        let (source, note) = evidence.source().map_err(|why| (Reason::Meter, why))?;
        let usage = match source {
            Source::Meter(_) => evidence.metered(billing),
            _ => over.usage,
        };
        let is_described = node.is_some_and(|node| !node.spec.gpus.is_empty());
        if !is_described && pods::devices(&over.pod) > 0 && matches!(usage, Usage::Known { .. }) {
            let why = "its node's GpuNode isn't there or has no GPU, so which GPUs it had, and whether they are real, is \
                       unknown";
            return Err((Reason::Node, why.to_owned()));
        }
        let leaf = Leaf { pod_uid: over.pod_uid, job_uid, ..self.leaf((usage, source), billing, &evidence) };
        Ok(Box::new(Receipt { queue: queue.to_owned(), billing: billing.clone(), leaf, job, note }))
    }

    /// The queue that pays for it.
    fn payer(&self, pod: &Pod) -> Result<(&str, &Billing), String> {
        let Some(name) = pod.annotations().get(QUEUE_ANNOTATION) else {
            return Err(format!("it has no annotation {QUEUE_ANNOTATION}, so nobody is known to pay"));
        };
        let Some((name, queue)) = self.queues.get_key_value(name) else {
            return Err(format!("ComputeQueue {name}, which pays, doesn't exist: make it again"));
        };
        let namespace = pod.namespace().unwrap_or_default();
        if !queue.spec.namespaces.contains(&namespace) {
            // A pod may name any queue; whose payer it may spend is the queue's word.
            return Err(format!(
                "ComputeQueue {name} doesn't serve namespace {namespace}: add it to spec.namespaces"
            ));
        }
        let billing = queue.spec.billing.as_ref().ok_or_else(|| {
            format!(
                "it was billed when it was made, and ComputeQueue {name} bills no more: make the queue with its \
                 billing again, or give the payment up with kubectl plasma release"
            )
        })?;
        Ok((name, billing))
    }

    /// The pod's leaf, without its identities.
    fn leaf(&self, (usage, source): (Usage, Source), billing: &Billing, evidence: &Evidence<'_>) -> Leaf {
        let (end, duration, device_ms) = match usage {
            Usage::Known { end, duration, device_ms } => (end, duration, device_ms),
            Usage::Unknown { end } => (end, Duration(0), 0),
            Usage::Nothing => (evidence.over.seen, Duration(0), 0),
        };
        let class = evidence.class(billing, source);
        let simulated = evidence.is_simulated();
        let mut flags = match source {
            Source::Meter(_) => flag::METERED,
            _ => flag::FROM_POD_STATUS,
        };
        if simulated {
            flags |= flag::SIMULATED;
        }
        // What has no price, and what is simulated without leave, is recorded and worth nothing.
        if class.is_none() || (simulated && !self.allow_simulated) {
            flags |= flag::VOID;
        }
        let leaf = Leaf {
            pod_uid: PodUid([0; 16]),
            job_uid: JobUid([0; 16]),
            end,
            duration,
            device_ms,
            price_class: class.unwrap_or(0),
            node_index: 0,
            device_mask: evidence.device_mask(source),
            flags,
        };
        leaf.within_its_devices()
    }
}

/// The job that it belongs to, by its labels; none is zeros and no name.
fn job_of(pod: &Pod) -> Result<(JobUid, String), String> {
    let label = |name: &str| pod.labels().get(name).cloned().unwrap_or_default();
    let uid = match label(JOB_UID_LABEL) {
        none if none.is_empty() => JobUid([0; 16]),
        text => text.parse().map_err(|_| format!("its label {JOB_UID_LABEL} is no UID"))?,
    };
    Ok((uid, label(JOB_NAME_LABEL)))
}

#[cfg(test)]
mod tests;
