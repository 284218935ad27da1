//! Which pods have finished, and what each of them is to be billed for.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::ListParams};
use plasma_api::{
    ComputeQueue, GpuNode,
    compute_queue::Billing,
    names::{JOB_NAME_LABEL, JOB_UID_LABEL, QUEUE_ANNOTATION},
};
use plasma_settlement_core::{Leaf, Usage, flag, measure};
use plasma_types::{Duration, JobUid, PodUid};

use crate::{failure::Failure, pods, settle::Surroundings};

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

/// Reads the finished pods, and what prices them.
pub(crate) async fn collect(around: &Surroundings) -> Result<Vec<Finished>, Failure> {
    let pods: Api<Pod> = Api::all(around.client.clone());
    let of_jobs = ListParams::default().labels(JOB_UID_LABEL);
    let listed = pods.list(&of_jobs).await.map_err(Failure::kube("listing pods"))?;
    let held: Vec<Pod> = listed.into_iter().filter(|pod| pods::is_held(pod) && pods::is_over(pod)).collect();
    if held.is_empty() {
        return Ok(Vec::new());
    }
    let queues: Api<ComputeQueue> = Api::all(around.client.clone());
    let queues = queues.list(&ListParams::default()).await.map_err(Failure::kube("listing ComputeQueues"))?;
    let nodes: Api<GpuNode> = Api::all(around.client.clone());
    let nodes = nodes.list(&ListParams::default()).await.map_err(Failure::kube("listing GpuNodes"))?;
    let queues: HashMap<String, ComputeQueue> =
        queues.into_iter().map(|queue| (queue.name_any(), queue)).collect();
    let nodes: HashMap<String, GpuNode> = nodes.into_iter().map(|node| (node.name_any(), node)).collect();
    let finished = held.into_iter().filter_map(|pod| {
        let pod_uid: PodUid = pod.uid()?.parse().ok()?;
        let bill = bill(&pod, pod_uid, &queues, &nodes, around.settings.allow_simulated);
        Some(Finished { pod, pod_uid, bill })
    });
    Ok(finished.collect())
}

fn bill(
    pod: &Pod,
    pod_uid: PodUid,
    queues: &HashMap<String, ComputeQueue>,
    nodes: &HashMap<String, GpuNode>,
    allow_simulated: bool,
) -> Bill {
    let usage = measure(&pods::run_of(pod));
    // No container started: there is nothing to price.
    if usage == Usage::Nothing {
        return Bill::Nothing;
    }
    let label = |name: &str| pod.labels().get(name).cloned().unwrap_or_default();
    let Some(queue) = pod.annotations().get(QUEUE_ANNOTATION) else { return Bill::Nothing };
    let Some(found) = queues.get(queue) else {
        return Bill::Wait(format!("ComputeQueue {queue}, which pays, doesn't exist: make it again"));
    };
    let Some(billing) = &found.spec.billing else { return Bill::Nothing };
    let Ok(job_uid) = label(JOB_UID_LABEL).parse() else {
        return Bill::Wait(format!("its label {JOB_UID_LABEL} is no UID"));
    };
    let node = pods::node(pod).and_then(|node| nodes.get(node));
    if node.is_none() && pods::gpus(pod) > 0 {
        return Bill::Wait(
            "its node's GpuNode is not there, so whether its GPUs are real is unknown".to_owned(),
        );
    }
    let Some(leaf) = leaf(pod_uid, job_uid, usage, billing, node, allow_simulated) else {
        return Bill::Nothing;
    };
    let job = label(JOB_NAME_LABEL);
    Bill::Receipt { queue: queue.clone(), billing: billing.clone(), leaf: Box::new(leaf), job }
}

fn leaf(
    pod_uid: PodUid,
    job_uid: JobUid,
    usage: Usage,
    billing: &Billing,
    node: Option<&GpuNode>,
    allow_simulated: bool,
) -> Option<Leaf> {
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
    let price_class = class.unwrap_or(0);
    Some(Leaf {
        pod_uid,
        job_uid,
        end,
        duration,
        device_ms,
        price_class,
        node_index: 0,
        device_mask: 0,
        flags,
    })
}
