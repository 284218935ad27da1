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
    cost::JobKey,
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

impl Finished {
    /// The job that its receipt is told to.
    pub(crate) fn job_uid(&self) -> Option<JobUid> {
        let label = self.pod.labels().get(JOB_UID_LABEL)?;
        label.parse().ok()
    }

    /// The job, where the pod waits for a receipt.
    pub(crate) fn waits_for_receipt(&self) -> Option<JobKey> {
        let Bill::Receipt { job, .. } = &self.bill else { return None };
        Some((self.job_uid()?, (self.pod.namespace()?, job.clone())))
    }
}

/// What is to become of it.
pub(crate) enum Bill {
    /// Nothing to be paid: no container started.
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
        let namespace = pod.namespace().unwrap_or_default();
        if !queue.spec.namespaces.contains(&namespace) {
            // A pod may name any queue; whose payer it may spend is the queue's word.
            return Bill::Wait(format!(
                "ComputeQueue {name} doesn't serve namespace {namespace}: add it to spec.namespaces"
            ));
        }
        let Some(billing) = &queue.spec.billing else {
            return Bill::Wait(format!(
                "it was billed when it was made, and ComputeQueue {name} bills no more: make the queue with its \
                 billing again, or give the payment up with kubectl plasma release"
            ));
        };
        let label = |name: &str| pod.labels().get(name).cloned().unwrap_or_default();
        let job_uid = match label(JOB_UID_LABEL) {
            none if none.is_empty() => JobUid([0; 16]),
            text => match text.parse() {
                Ok(uid) => uid,
                Err(_) => return Bill::Wait(format!("its label {JOB_UID_LABEL} is no UID")),
            },
        };
        let node = pods::node(pod).and_then(|node| self.nodes.get(node));
        let is_described = node.is_some_and(|node| !node.spec.gpus.is_empty());
        if !is_described && pods::gpus(pod) > 0 && matches!(usage, Usage::Known { .. }) {
            return Bill::Wait(
                "its node's GpuNode isn't there or has no GPU, so which GPUs it had, and whether they are real, is \
                 unknown"
                    .to_owned(),
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

#[cfg(test)]
mod tests {
    use plasma_types::UnixMillis;
    use serde_json::json;

    use super::*;

    const USED: Usage = Usage::Known { end: UnixMillis(9000), duration: Duration(8000), device_ms: 16_000 };

    fn object<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).expect("an object of its kind")
    }

    /// A queue that bills namespace `team` for two models, and a node with GPUs of the dearer one.
    fn prices(simulated: bool, allow_simulated: bool) -> Prices {
        let queue: ComputeQueue = object(json!({
            "apiVersion": "compute.plasma.dev/v1alpha1", "kind": "ComputeQueue", "metadata": {"name": "q"},
            "spec": {"namespaces": ["team"], "billing": {
                "payer": format!("0x{}", "11".repeat(20)), "rental": format!("0x{}", "22".repeat(32)),
                "prices": [{"gpuProduct": "A100", "pricePerGpuHour": "1"}, {"gpuProduct": "H100", "pricePerGpuHour": "3"}],
            }},
        }));
        let node: GpuNode = object(json!({
            "apiVersion": "compute.plasma.dev/v1alpha1", "kind": "GpuNode", "metadata": {"name": "n"},
            "spec": {"simulated": simulated,
                "gpus": [{"uuid": "GPU-1", "index": 0, "product": "H100", "memoryMib": 1}]},
        }));
        Prices {
            queues: HashMap::from([("q".to_owned(), queue)]),
            nodes: HashMap::from([("n".to_owned(), node)]),
            allow_simulated,
        }
    }

    fn pod(namespace: &str, queue: &str, node: &str) -> Pod {
        object(json!({
            "metadata": {"name": "p", "namespace": namespace, "annotations": {QUEUE_ANNOTATION: queue},
                "labels": {JOB_NAME_LABEL: "j", JOB_UID_LABEL: "123e4567-e89b-12d3-a456-426614174000"}},
            "spec": {"nodeName": node,
                "containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": "2"}}}]},
        }))
    }

    fn bill(prices: &Prices, pod: &Pod, usage: Usage) -> Bill {
        prices.bill(pod, PodUid([5; 16]), usage)
    }

    #[test]
    fn a_pod_is_billed_by_its_nodes_model() {
        let Bill::Receipt { leaf, job, .. } = bill(&prices(false, false), &pod("team", "q", "n"), USED)
        else {
            panic!("no receipt");
        };
        assert_eq!((leaf.price_class, leaf.device_ms, leaf.flags), (1, 16_000, flag::FROM_POD_STATUS));
        assert_eq!((leaf.pod_uid, job.as_str()), (PodUid([5; 16]), "j"));
    }

    #[test]
    fn nobody_spends_from_a_queue_that_does_not_serve_his_namespace() {
        let crossing = bill(&prices(false, false), &pod("other", "q", "n"), USED);
        assert!(matches!(crossing, Bill::Wait(why) if why.contains("doesn't serve namespace other")));
    }

    #[test]
    fn what_is_unknown_waits_and_says_for_what() {
        let no_queue = bill(&prices(false, false), &pod("team", "gone", "n"), USED);
        assert!(matches!(no_queue, Bill::Wait(why) if why.contains("ComputeQueue gone")));
        let no_node = bill(&prices(false, false), &pod("team", "q", "gone"), USED);
        assert!(matches!(no_node, Bill::Wait(why) if why.contains("GpuNode")));
        let mut no_gpus = prices(false, false);
        no_gpus.nodes.values_mut().for_each(|node| node.spec.gpus.clear());
        let no_gpus = bill(&no_gpus, &pod("team", "q", "n"), USED);
        assert!(matches!(no_gpus, Bill::Wait(why) if why.contains("has no GPU")));
        let mut unbilled = prices(false, false);
        unbilled.queues.values_mut().for_each(|queue| queue.spec.billing = None);
        let unbilled = bill(&unbilled, &pod("team", "q", "n"), USED);
        assert!(matches!(unbilled, Bill::Wait(why) if why.contains("bills no more")));
    }

    #[test]
    fn what_never_started_is_let_go() {
        assert!(matches!(bill(&prices(false, false), &pod("team", "q", "n"), Usage::Nothing), Bill::Nothing));
    }

    #[test]
    fn simulated_gpus_are_worth_nothing_unless_allowed() {
        let flags = |allowed| match bill(&prices(true, allowed), &pod("team", "q", "n"), USED) {
            Bill::Receipt { leaf, .. } => leaf.flags,
            _ => panic!("no receipt"),
        };
        assert_eq!(flags(false), flag::FROM_POD_STATUS | flag::SIMULATED | flag::VOID);
        assert_eq!(flags(true), flag::FROM_POD_STATUS | flag::SIMULATED);
    }

    #[test]
    fn one_that_vanished_while_it_ran_is_recorded_and_worth_nothing() {
        let ran = Usage::Unknown { end: UnixMillis(77) };
        // Not even its node needs to be known.
        let Bill::Receipt { leaf, .. } = bill(&prices(false, false), &pod("team", "q", "gone"), ran) else {
            panic!("no receipt");
        };
        assert_eq!((leaf.device_ms, leaf.end), (0, UnixMillis(77)));
    }
}
