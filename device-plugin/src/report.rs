//! Tells the cluster: the GpuNode object and the node's labels. A cluster that can't be reached stops nothing here.
//!
//! Settlement bills finished pods by the GpuNode of the node that they ran on, so it has no owner: it outlives its Node,
//! which an autoscaler may take away at any time. And a list of GPUs is never replaced by none.

use std::time::{Duration, Instant};

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{PartialObjectMeta, Patch, PatchParams},
    runtime::events::{Recorder, Reporter},
};
use plasma_api::{GpuNode, GpuNodeSpec, GpuNodeStatus, gpu_node::NodeMeter, names};
use plasma_runtime::{CancellationToken, ServiceAccount};
use serde_json::json;
use tokio::sync::watch;

use crate::{
    announce,
    backoff::Backoff,
    describe::{self, Described},
    inventory::{Observed, newer},
    labels::{self, Labels, NodeLabels},
    meter::MeterState,
    part::NodePart,
};

/// Nothing changed: tell again all the same, so that an object deleted by hand comes back.
const REPEAT: Duration = Duration::from_secs(60);
/// How long to wait after a failure, at first; then twice as long each time.
const RETRY_FIRST: Duration = Duration::from_secs(2);
const RETRY_LAST: Duration = Duration::from_secs(30);
/// How often to look whether something changed by growing old.
const LOOK: Duration = Duration::from_secs(1);

/// Why GPUs that were told of are kept when NVML counts none.
const NONE_LEFT: &str = "NVML counts no GPUs any more: those that it counted before stay, for pods that are yet to be billed; \
                         where they are gone for good, delete this GpuNode once nothing waits for it";

/// Tells the cluster about every change until the program ends.
/// `observes` says that another plugin offers the GPUs.
pub(crate) async fn run(
    (node, observes): (String, bool),
    (observed, meter): (watch::Receiver<Observed>, watch::Receiver<MeterState>),
    (account, shutdown): (ServiceAccount, CancellationToken),
) {
    shutdown
        .run_until_cancelled(async {
            let client = connect(&account).await;
            Teller { client, node, observes, meter }.report(observed).await;
        })
        .await;
}

async fn connect(account: &ServiceAccount) -> Client {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
    loop {
        let fault = match account.client() {
            Ok(client) => return client,
            Err(fault) => fault,
        };
        let pause = backoff.pause();
        tracing::warn!("no cluster to report to: {fault}; trying again in {pause:?}");
        tokio::time::sleep(pause).await;
    }
}

struct Teller {
    client: Client,
    node: String,
    /// Whether another plugin offers the GPUs, and labels the node accordingly.
    observes: bool,
    meter: watch::Receiver<MeterState>,
}

impl Teller {
    async fn report(&self, mut observed: watch::Receiver<Observed>) {
        let mut told: Option<(Described, MeterState, Instant)> = None;
        let mut announced: Option<GpuNodeStatus> = None;
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
        let mut labels = NodeLabels::new(self.observes);
        loop {
            let now = {
                let observed = observed.borrow_and_update();
                describe::describe(&observed.believed(), &observed.policy, observed.simulated)
                    .limited(&observed.limits)
                    .labelled(&mut labels)
            };
            let meter = self.meter.borrow().clone();
            let same = told.as_ref().is_some_and(|(was, metered, when)| {
                *was == now && *metered == meter && when.elapsed() < REPEAT
            });
            if !same {
                match self.tell(&now).await {
                    Ok(status) => {
                        if let Some(status) = status {
                            self.announce(announced.as_ref(), &status).await;
                            announced = Some(status);
                        }
                        told = Some((now, meter, Instant::now()));
                        backoff.reset();
                    }
                    Err(fault) => {
                        let (node, fault, pause) = (&self.node, in_words(&fault), backoff.pause());
                        tracing::warn!("GpuNode {node} can't be written: {fault}; trying again in {pause:?}");
                        tokio::time::sleep(pause).await;
                        continue;
                    }
                }
            }
            newer(&mut observed, LOOK).await;
        }
    }

    /// Writes GpuNode and labels; the health that was told, if any.
    async fn tell(&self, described: &Described) -> Result<Option<GpuNodeStatus>, kube::Error> {
        let (spec, status) = match described {
            Described::Nothing => return Ok(None),
            Described::Known(spec, status, labels) => {
                self.label(labels).await?;
                let before = if spec.gpus.is_empty() { self.known().await? } else { None };
                match before.filter(|before| !before.gpus.is_empty()) {
                    None => ((**spec).clone(), status.clone()),
                    Some(before) => {
                        let status = describe::unknown(&before, NONE_LEFT);
                        (before, status)
                    }
                }
            }
            Described::Unknown { simulated, fault } => {
                // What an earlier plugin saw here is still the best that anybody knows; only its health isn't.
                let spec = self.known().await?.unwrap_or_else(|| describe::empty(*simulated));
                let status = describe::unknown(&spec, fault);
                (spec, status)
            }
        };
        let meter = self.meter.borrow().clone();
        let spec = GpuNodeSpec { meter: self.meter_of(&meter).await?, ..spec };
        let status = with_fault(status, &meter);
        self.apply(&spec, &status).await?;
        Ok(Some(status))
    }

    /// The meter as the cluster is to know it. Before this process knows its journal, what was told of it stays.
    async fn meter_of(&self, meter: &MeterState) -> Result<Option<NodeMeter>, kube::Error> {
        let told = describe::meter(meter);
        if meter.since_ms.is_some() || meter.fault.is_some() || told.is_none() {
            return Ok(told);
        }
        Ok(self.known().await?.and_then(|known| known.meter).or(told))
    }

    /// Says what changed since it was said last, by events, and how the node is, by its condition. Who watches neither
    /// still has the GpuNode.
    async fn announce(&self, before: Option<&GpuNodeStatus>, now: &GpuNodeStatus) {
        let reporter =
            Reporter { controller: names::field_manager::DEVICE_PLUGIN.to_owned(), instance: None };
        let recorder = Recorder::new(self.client.clone(), reporter);
        for event in announce::events(before, now) {
            if let Err(fault) = recorder.publish(&event, &announce::node_reference(&self.node)).await {
                tracing::warn!("an event of node {} can't be written: {}", self.node, in_words(&fault));
            }
        }
        if let Err(fault) = self.set_condition(now).await {
            tracing::warn!("the condition of node {} can't be written: {}", self.node, in_words(&fault));
        }
    }

    async fn set_condition(&self, now: &GpuNodeStatus) -> Result<(), kube::Error> {
        let nodes: Api<NodePart> = Api::all(self.client.clone());
        let conditions = nodes.get(&self.node).await?.status.conditions.unwrap_or_default();
        let condition = announce::condition(now, &Time(Timestamp::now()));
        let condition = announce::merge(announce::ours(&conditions), condition);
        // Of the list, the one of our type alone.
        let patch = Patch::Strategic(json!({ "status": { "conditions": [condition] } }));
        let manager = Some(names::field_manager::DEVICE_PLUGIN.to_owned());
        let params = PatchParams { field_manager: manager, ..PatchParams::default() };
        nodes.patch_status(&self.node, &params, &patch).await.map(drop)
    }

    /// What was told of this node before, by whichever plugin.
    async fn known(&self) -> Result<Option<GpuNodeSpec>, kube::Error> {
        let known = Api::<GpuNode>::all(self.client.clone()).get_opt(&self.node).await?;
        Ok(known.map(|known| known.spec))
    }

    /// Sets the node's labels, and takes off those of an earlier layout: which those are, only the node knows.
    async fn label(&self, labels: &Labels) -> Result<(), kube::Error> {
        if self.observes {
            return self.label_beside_another(labels).await;
        }
        let node = self.patch_labels(labels, None).await?;
        let old = labels::left_over(node.labels(), labels);
        if !old.is_empty() {
            self.patch_labels(&old, None).await?;
        }
        Ok(())
    }

    async fn label_beside_another(&self, labels: &Labels) -> Result<(), kube::Error> {
        let node = Api::<NodePart>::all(self.client.clone()).get_metadata(&self.node).await?;
        let ours = labels::beside(labels, &node.metadata);
        if !ours.is_empty() {
            // What somebody else writes meanwhile is theirs: then the API server refuses this, and it is tried again.
            self.patch_labels(&ours, node.metadata.resource_version).await?;
        }
        Ok(())
    }

    async fn patch_labels(
        &self,
        labels: &Labels,
        of_version: Option<String>,
    ) -> Result<PartialObjectMeta<NodePart>, kube::Error> {
        let manager = Some(names::field_manager::DEVICE_PLUGIN.to_owned());
        let params = PatchParams { field_manager: manager, ..PatchParams::default() };
        let mut metadata = json!({ "labels": labels });
        if let Some(version) = of_version {
            metadata["resourceVersion"] = json!(version);
        }
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        Api::<NodePart>::all(self.client.clone()).patch_metadata(&self.node, &params, &patch).await
    }

    async fn apply(&self, spec: &GpuNodeSpec, status: &GpuNodeStatus) -> Result<(), kube::Error> {
        // Nobody else writes a GpuNode: whoever did by hand loses.
        let params = PatchParams::apply(names::field_manager::DEVICE_PLUGIN).force();
        let nodes: Api<GpuNode> = Api::all(self.client.clone());
        let metadata = ObjectMeta { name: Some(self.node.clone()), ..ObjectMeta::default() };
        let object = GpuNode { metadata: metadata.clone(), spec: spec.clone(), status: None };
        nodes.patch(&self.node, &params, &Patch::Apply(&object)).await?;
        let status = GpuNodeStatus { observed_at: Some(Time(Timestamp::now())), ..status.clone() };
        let object = GpuNode { metadata, spec: spec.clone(), status: Some(status) };
        nodes.patch_status(&self.node, &params, &Patch::Apply(&object)).await?;
        Ok(())
    }
}

/// The status with what is wrong with the meter, where pods are billed from it.
fn with_fault(status: GpuNodeStatus, meter: &MeterState) -> GpuNodeStatus {
    let fault =
        meter.fault.as_ref().filter(|_| meter.reports).map(|fault| format!("the meter is off: {fault}"));
    let waits =
        meter.waits_for.as_ref().filter(|_| meter.reports).map(|what| format!("the meter waits: {what}"));
    let message: Vec<String> = status.message.iter().cloned().chain(fault).chain(waits).collect();
    GpuNodeStatus { message: (!message.is_empty()).then(|| message.join("; ")), ..status }
}

/// What the API server answered, without the rest of the answer; other faults as they are.
fn in_words(fault: &kube::Error) -> String {
    match fault {
        kube::Error::Api(status) => status.message.clone(),
        fault => fault.to_string(),
    }
}

#[cfg(test)]
mod tests;
