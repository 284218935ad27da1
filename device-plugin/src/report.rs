//! Tells the cluster: the GpuNode object and the node's labels. A cluster that can't be reached stops nothing here.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::core::v1::Node,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use plasma_api::{GpuNode, GpuNodeSpec, GpuNodeStatus, names};
use plasma_runtime::Runtime;
use serde_json::json;
use tokio::sync::watch;

use crate::{
    describe::{self, Described, labels},
    inventory::{Observed, newer},
};

/// Nothing changed: tell again all the same, so that an object deleted by hand comes back.
const REPEAT: Duration = Duration::from_secs(60);
/// How long to wait after a failure, at first; then twice as long each time.
const RETRY_FIRST: Duration = Duration::from_secs(2);
const RETRY_LAST: Duration = Duration::from_secs(60);
/// How often to look whether something changed by growing old.
const LOOK: Duration = Duration::from_secs(1);

/// Tells the cluster about every change until the program ends.
pub(crate) async fn run(node: String, observed: watch::Receiver<Observed>, runtime: Arc<Runtime>) {
    let shutdown = runtime.shutdown.clone();
    shutdown
        .run_until_cancelled(async {
            let client = connect(&runtime).await;
            Reporter { client, node }.report(observed).await;
        })
        .await;
}

async fn connect(runtime: &Runtime) -> Client {
    let mut retry = RETRY_FIRST;
    loop {
        match runtime.kube_client().await {
            Ok(client) => return client,
            Err(fault) => tracing::warn!("no cluster to report to: {fault}; trying again in {retry:?}"),
        }
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(RETRY_LAST);
    }
}

struct Reporter {
    client: Client,
    node: String,
}

impl Reporter {
    async fn report(&self, mut observed: watch::Receiver<Observed>) {
        let mut told: Option<(Described, Instant)> = None;
        let mut retry = RETRY_FIRST;
        loop {
            let now = {
                let observed = observed.borrow_and_update();
                describe::describe(&observed.believed(), observed.simulated)
            };
            let same = told.as_ref().is_some_and(|(was, when)| *was == now && when.elapsed() < REPEAT);
            if !same {
                match self.tell(&now).await {
                    Ok(()) => (told, retry) = (Some((now, Instant::now())), RETRY_FIRST),
                    Err(fault) => {
                        let node = &self.node;
                        tracing::warn!("GpuNode {node} can't be written: {fault}; trying again in {retry:?}");
                        tokio::time::sleep(retry).await;
                        retry = (retry * 2).min(RETRY_LAST);
                        continue;
                    }
                }
            }
            newer(&mut observed, LOOK).await;
        }
    }

    async fn tell(&self, described: &Described) -> Result<(), kube::Error> {
        match described {
            Described::Nothing => Ok(()),
            Described::Known(spec, status) => {
                let owner = self.label(json!(labels(spec))).await?;
                self.apply(spec, status, owner).await
            }
            Described::Unknown { simulated, fault } => {
                // What an earlier plugin saw here is still the best that anybody knows; only its health isn't.
                let known = Api::<GpuNode>::all(self.client.clone()).get_opt(&self.node).await?;
                let spec = known.map_or_else(|| describe::empty(*simulated), |known| known.spec);
                let owner = self.label(json!({})).await?;
                self.apply(&spec, &describe::unknown(&spec, fault), owner).await
            }
        }
    }

    /// Sets the node's labels, and gives the reference to it: a GpuNode goes when its node does.
    async fn label(&self, labels: serde_json::Value) -> Result<OwnerReference, kube::Error> {
        let manager = Some(names::field_manager::DEVICE_PLUGIN.to_owned());
        let params = PatchParams { field_manager: manager, ..PatchParams::default() };
        let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
        let node = Api::<Node>::all(self.client.clone()).patch_metadata(&self.node, &params, &patch).await?;
        Ok(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: self.node.clone(),
            uid: node.metadata.uid.unwrap_or_default(),
            ..OwnerReference::default()
        })
    }

    async fn apply(
        &self,
        spec: &GpuNodeSpec,
        status: &GpuNodeStatus,
        owner: OwnerReference,
    ) -> Result<(), kube::Error> {
        // Nobody else writes a GpuNode: whoever did by hand loses.
        let params = PatchParams::apply(names::field_manager::DEVICE_PLUGIN).force();
        let nodes: Api<GpuNode> = Api::all(self.client.clone());
        let owner_references = Some(vec![owner]);
        let metadata =
            ObjectMeta { name: Some(self.node.clone()), owner_references, ..ObjectMeta::default() };
        let object = GpuNode { metadata: metadata.clone(), spec: spec.clone(), status: None };
        nodes.patch(&self.node, &params, &Patch::Apply(&object)).await?;
        let status = GpuNodeStatus { observed_at: Some(Time(Timestamp::now())), ..status.clone() };
        let object = GpuNode { metadata, spec: spec.clone(), status: Some(status) };
        nodes.patch_status(&self.node, &params, &Patch::Apply(&object)).await?;
        Ok(())
    }
}
