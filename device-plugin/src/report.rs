//! Tells the cluster: the GpuNode object and the node's labels. A cluster that can't be reached stops nothing here.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::core::v1::Node,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use plasma_api::{
    GpuNode, GpuNodeSpec, GpuNodeStatus,
    gpu_node::{Gpu as ApiGpu, GpuHealth, Health},
    names,
};
use plasma_device_plugin_core::{Gpu, GpuState, Inventory, product_label};
use plasma_runtime::CancellationToken;
use serde_json::json;
use tokio::sync::watch;

use crate::{args::Args, inventory::Observed};

/// Nothing changed: tell again all the same, so that an object deleted by hand comes back.
const REPEAT: Duration = Duration::from_secs(60);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// How often to look whether something changed.
const LOOK: Duration = Duration::from_secs(1);

/// What was told last, without its time.
type Told = (GpuNodeSpec, GpuNodeStatus);

/// Tells the cluster about every change until the program ends.
pub(crate) async fn run(args: Args, observed: watch::Receiver<Observed>, shutdown: CancellationToken) {
    let Some(client) = connect(&shutdown).await else { return };
    let mut told: Option<Told> = None;
    let mut since_told = Duration::ZERO;
    loop {
        let (inventory, simulated) = {
            let observed = observed.borrow();
            (observed.believed(), observed.simulated)
        };
        let now = describe(&inventory, simulated);
        let mut pause = LOOK;
        if told.as_ref() != Some(&now) || since_told >= REPEAT {
            match tell(&client, &args.node_name, &now).await {
                Ok(()) => (told, since_told) = (Some(now), Duration::ZERO),
                Err(fault) => {
                    tracing::warn!(
                        "GpuNode {} can't be written: {fault}; trying again in {RETRY:?}",
                        args.node_name
                    );
                    pause = RETRY;
                }
            }
        }
        since_told += pause;
        if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

async fn connect(shutdown: &CancellationToken) -> Option<Client> {
    loop {
        match Client::try_default().await {
            Ok(client) => return Some(client),
            Err(fault) => tracing::warn!("no cluster to report to: {fault}"),
        }
        shutdown.run_until_cancelled(tokio::time::sleep(RETRY)).await?;
    }
}

async fn tell(client: &Client, node: &str, (spec, status): &Told) -> Result<(), kube::Error> {
    let params = PatchParams::apply(names::field_manager::DEVICE_PLUGIN).force();
    let nodes: Api<GpuNode> = Api::all(client.clone());
    let metadata = ObjectMeta { name: Some(node.to_owned()), ..Default::default() };
    let object = GpuNode { metadata: metadata.clone(), spec: spec.clone(), status: None };
    nodes.patch(node, &params, &Patch::Apply(&object)).await?;
    let status = GpuNodeStatus { observed_at: Some(Time(Timestamp::now())), ..status.clone() };
    let object = GpuNode { metadata, spec: spec.clone(), status: Some(status) };
    nodes.patch_status(node, &params, &Patch::Apply(&object)).await?;
    let labels = json!({ "metadata": { "labels": labels(spec) } });
    Api::<Node>::all(client.clone()).patch(node, &PatchParams::default(), &Patch::Merge(&labels)).await?;
    Ok(())
}

/// A label without a value is taken off.
fn labels(spec: &GpuNodeSpec) -> BTreeMap<&'static str, Option<String>> {
    let first = spec.gpus.first();
    BTreeMap::from([
        (names::GPU_PRODUCT_LABEL, first.map(|gpu| gpu.product.clone())),
        (names::GPU_COUNT_LABEL, first.map(|_| spec.gpus.len().to_string())),
        (names::GPU_MEMORY_LABEL, first.map(|gpu| gpu.memory_mib.to_string())),
        (names::SIMULATED_LABEL, spec.simulated.then(|| "true".to_owned())),
    ])
}

fn describe(inventory: &Inventory, simulated: bool) -> Told {
    let gpus: Vec<_> = inventory.gpus().map(|(gpu, _)| facts(gpu)).collect();
    let health: Vec<_> = inventory.gpus().map(|(gpu, state)| health_of(gpu, state)).collect();
    let count = |healths: &[GpuHealth]| i32::try_from(healths.len()).unwrap_or(i32::MAX);
    let healthy: Vec<_> = health.iter().filter(|gpu| gpu.health == Health::Healthy).cloned().collect();
    let spec = GpuNodeSpec { simulated, driver_version: inventory.driver_version.clone(), gpus };
    let status = GpuNodeStatus {
        total: count(&health),
        healthy: count(&healthy),
        message: inventory.message(),
        observed_at: None,
        gpus: health,
    };
    (spec, status)
}

fn facts(gpu: &Gpu) -> ApiGpu {
    ApiGpu {
        uuid: gpu.uuid.clone(),
        index: i32::try_from(gpu.index).unwrap_or(i32::MAX),
        product: product_label(&gpu.name),
        memory_mib: i64::try_from(gpu.memory_bytes >> 20).unwrap_or(i64::MAX),
        pci_bus_id: gpu.pci_bus_id.clone(),
        numa_node: gpu.numa_node.and_then(|node| i32::try_from(node).ok()),
    }
}

fn health_of(gpu: &Gpu, state: &GpuState) -> GpuHealth {
    let (health, reason) = match state {
        GpuState::Healthy => (Health::Healthy, None),
        GpuState::Unhealthy(why) => (Health::Unhealthy, Some(why.clone())),
        GpuState::Unknown(why) => (Health::Unknown, Some(why.clone())),
    };
    GpuHealth { uuid: gpu.uuid.clone(), health, reason }
}
