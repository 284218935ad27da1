//! Which pods have finished, or are gone; what each of them is to be billed for.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::ListParams};
use plasma_api::{
    ComputeQueue, GpuNode,
    compute_queue::Billing,
    names::{GANG_LABEL, JOB_NAME_LABEL, JOB_UID_LABEL, QUEUE_ANNOTATION},
};
use plasma_settlement_core::{Leaf, Usage, flag, measure};
use plasma_types::{Duration, JobUid, PodUid};

use crate::{
    failure::Failure,
    pods,
    settle::{Surroundings, now_millis},
};

/// A pod that runs no more and waits for its receipt.
pub(crate) struct Finished {
    pub(crate) pod: Pod,
    pub(crate) pod_uid: PodUid,
    pub(crate) bill: Bill,
}

/// What is to become of it.
pub(crate) enum Bill {
    /// Nothing to be paid: no container started, or its queue doesn't bill.
    Nothing,
    /// A receipt for this queue's rental.
    Receipt { queue: String, billing: Billing, leaf: Box<Leaf>, job: String },
    /// It can't be told yet.
    Wait(String),
}

/// Reads the finished pods, and remembers those that run: one that vanishes gets a receipt all the same.
#[derive(Default)]
pub(crate) struct Collector {
    held: HashMap<PodUid, Pod>,
}

/// What prices a pod.
struct Prices {
    queues: HashMap<String, ComputeQueue>,
    nodes: HashMap<String, GpuNode>,
    allow_simulated: bool,
}

impl Collector {
    /// Reads the finished pods, and what prices them.
    pub(crate) async fn collect(&mut self, around: &Surroundings) -> Result<Vec<Finished>, Failure> {
        let pods: Api<Pod> = Api::all(around.client.clone());
        let of_gangs = ListParams::default().labels(GANG_LABEL);
        let listed = pods.list(&of_gangs).await.map_err(Failure::kube("listing pods"))?;
        let held = listed.into_iter().filter(pods::is_held);
        let held: HashMap<PodUid, Pod> =
            held.filter_map(|pod| Some((pod.uid()?.parse().ok()?, pod))).collect();
        let mut vanished = Vec::new();
        for (uid, pod) in &self.held {
            // One that only lost its label or our finalizer is let alone: whoever may do that has answered for it.
            if !held.contains_key(uid) && pods::is_gone(&around.client, pod).await? {
                vanished.push((*uid, pod.clone()));
            }
        }
        let over: Vec<_> = held.iter().filter(|(_, pod)| pods::is_over(pod, now_millis())).collect();
        let mut finished = Vec::new();
        if !(over.is_empty() && vanished.is_empty()) {
            let prices = Prices::read(around).await?;
            let bill = |pod_uid: PodUid, pod: &Pod, usage| {
                let bill = prices.bill(pod, pod_uid, usage);
                Finished { pod: pod.clone(), pod_uid, bill }
            };
            finished.extend(over.iter().map(|(uid, pod)| bill(**uid, pod, measure(&pods::run_of(pod)))));
            finished.extend(vanished.iter().map(|(uid, pod)| bill(*uid, pod, usage_of_vanished(pod))));
        }
        // A vanished one is remembered until it has its receipt.
        self.held = held.into_iter().chain(vanished).collect();
        Ok(finished)
    }

    /// These are recorded, or have nothing to be paid.
    pub(crate) fn forget(&mut self, pods: &[PodUid]) {
        pods.iter().for_each(|uid| drop(self.held.remove(uid)));
    }
}

/// What a pod used that went without telling its end: nothing is billed, in the payer's favour.
fn usage_of_vanished(pod: &Pod) -> Usage {
    match measure(&pods::run_of(pod)) {
        Usage::Unknown { .. } => Usage::Unknown { end: now_millis() },
        told => told,
    }
}

impl Prices {
    async fn read(around: &Surroundings) -> Result<Self, Failure> {
        let every = ListParams::default();
        let queues: Api<ComputeQueue> = Api::all(around.client.clone());
        let queues = queues.list(&every).await.map_err(Failure::kube("listing ComputeQueues"))?;
        let nodes: Api<GpuNode> = Api::all(around.client.clone());
        let nodes = nodes.list(&every).await.map_err(Failure::kube("listing GpuNodes"))?;
        Ok(Self {
            queues: queues.into_iter().map(|queue| (queue.name_any(), queue)).collect(),
            nodes: nodes.into_iter().map(|node| (node.name_any(), node)).collect(),
            allow_simulated: around.settings.allow_simulated,
        })
    }

    fn bill(&self, pod: &Pod, pod_uid: PodUid, usage: Usage) -> Bill {
        // No container started: there is nothing to price.
        if usage == Usage::Nothing {
            return Bill::Nothing;
        }
        let Some(name) = pod.annotations().get(QUEUE_ANNOTATION) else {
            return Bill::Wait(format!("it has no annotation {QUEUE_ANNOTATION}, so nobody is known to pay"));
        };
        let Some(queue) = self.queues.get(name) else {
            return Bill::Wait(format!("ComputeQueue {name}, which pays, doesn't exist: make it again"));
        };
        let Some(billing) = &queue.spec.billing else { return Bill::Nothing };
        let namespace = pod.namespace().unwrap_or_default();
        if !queue.spec.namespaces.contains(&namespace) {
            // A pod may name any queue; whose payer it may spend is the queue's word.
            return Bill::Wait(format!(
                "ComputeQueue {name} doesn't serve namespace {namespace}: add it to spec.namespaces"
            ));
        }
        let label = |name: &str| pod.labels().get(name).cloned().unwrap_or_default();
        let job_uid = match label(JOB_UID_LABEL) {
            none if none.is_empty() => JobUid([0; 16]),
            text => match text.parse() {
                Ok(uid) => uid,
                Err(_) => return Bill::Wait(format!("its label {JOB_UID_LABEL} is no UID")),
            },
        };
        let node = pods::node(pod).and_then(|node| self.nodes.get(node));
        if node.is_none() && pods::gpus(pod) > 0 && matches!(usage, Usage::Known { .. }) {
            return Bill::Wait(
                "its node's GpuNode isn't there, so whether its GPUs are real is unknown".to_owned(),
            );
        }
        let Some(leaf) = leaf(usage, billing, node, self.allow_simulated) else { return Bill::Nothing };
        let leaf = Box::new(Leaf { pod_uid, job_uid, ..leaf });
        Bill::Receipt { queue: name.clone(), billing: billing.clone(), leaf, job: label(JOB_NAME_LABEL) }
    }
}

/// The leaf of a pod without its identities.
fn leaf(usage: Usage, billing: &Billing, node: Option<&GpuNode>, allow_simulated: bool) -> Option<Leaf> {
    let product = node.and_then(|node| node.spec.gpus.first()).map(|gpu| gpu.product.as_str());
    let class = billing.class_of(product).and_then(|class| u16::try_from(class).ok());
    let simulated = node.is_some_and(|node| node.spec.simulated);
    let (end, duration, device_ms) = match usage {
        Usage::Known { end, duration, device_ms } => (end, duration, device_ms),
        Usage::Unknown { end } => (end, Duration(0), 0),
        Usage::Nothing => return None,
    };
    let mut flags = flag::FROM_POD_STATUS;
    if simulated {
        flags |= flag::SIMULATED;
    }
    // What has no price, and what is simulated without leave, is recorded and worth nothing.
    if class.is_none() || (simulated && !allow_simulated) {
        flags |= flag::VOID;
    }
    Some(Leaf {
        pod_uid: PodUid([0; 16]),
        job_uid: JobUid([0; 16]),
        end,
        duration,
        device_ms,
        price_class: class.unwrap_or(0),
        node_index: 0,
        device_mask: 0,
        flags,
    })
}
