//! The node's labels, under the names that GPU feature discovery made usual.

mod node;
mod parts;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use plasma_api::names;
use plasma_device_plugin_core::{Gpu, Inventory, Mode, Policy, offers, product_label};

pub(crate) use node::NodeLabels;

/// The node's labels. One without a value is taken off.
pub(crate) type Labels = BTreeMap<String, Option<String>>;

/// How many GPUs of a model there are: a node may have several models.
const PRODUCT_COUNT: &str = "gpu-count.compute.plasma.dev/";

/// Who limits the memory that a container takes of a GPU that it shares, where GPUs are shared.
const MEMORY_LIMIT: &str = "compute.plasma.dev/memory-limit";

/// What the machine is called. The GPUs don't know it, so it is unknown until it is told.
const MACHINE: &str = "nvidia.com/gpu.machine";

/// Whether GPUs are shared through CUDA's Multi-Process Service. It is never this plugin that does so.
const MPS_CAPABLE: &str = "nvidia.com/mps.capable";

/// The node's labels. Model, memory and capability are the first GPU's: where a node has several models, there is a count of
/// each, and its GpuNode names each GPU.
pub(crate) fn labels(inventory: &Inventory, policy: &Policy, simulated: bool) -> Labels {
    let gpus = inventory.gpus();
    let first = gpus.first().map(|(gpu, _)| *gpu);
    let capability = first.and_then(|gpu| gpu.compute_capability);
    let cuda = inventory.cuda_version.filter(|_| first.is_some());
    let driver = inventory.driver_version.as_deref().filter(|_| first.is_some());
    let parts: Vec<&str> = driver.iter().flat_map(|all| all.split('.')).collect();
    let driver_part = |at: usize| parts.get(at).filter(|part| is_number(part)).map(|part| (*part).to_owned());
    let driver_full = driver.filter(|_| parts.iter().all(|part| is_number(part))).map(str::to_owned);
    let facts = [
        ("nvidia.com/gpu.family", capability.map(|(major, minor)| family(major, minor).to_owned())),
        ("nvidia.com/gpu.compute.major", capability.map(|(major, _)| major.to_string())),
        ("nvidia.com/gpu.compute.minor", capability.map(|(_, minor)| minor.to_string())),
        ("nvidia.com/cuda.driver-version.major", driver_part(0)),
        ("nvidia.com/cuda.driver-version.minor", driver_part(1)),
        ("nvidia.com/cuda.driver-version.revision", driver_part(2)),
        ("nvidia.com/cuda.driver-version.full", driver_full),
        ("nvidia.com/cuda.runtime-version.major", cuda.map(|(major, _)| major.to_string())),
        ("nvidia.com/cuda.runtime-version.minor", cuda.map(|(_, minor)| minor.to_string())),
        ("nvidia.com/cuda.runtime-version.full", cuda.map(|(major, minor)| format!("{major}.{minor}"))),
        ("nvidia.com/gpu.mode", first.map(|_| mode(gpus.iter().map(|(gpu, _)| *gpu)).label().to_owned())),
        (MACHINE, first.map(|_| "unknown".to_owned())),
        ("nvidia.com/mig.capable", first.map(|_| gpus.iter().any(|(gpu, _)| gpu.mig.is_some()).to_string())),
        (MPS_CAPABLE, first.map(|_| "false".to_owned())),
        (names::SIMULATED_LABEL, simulated.then(|| "true".to_owned())),
        // Until the driver has said that it does: nothing keeps one container from taking the memory of another one.
        (MEMORY_LIMIT, is_anything_shared(inventory, policy).then(|| "none".to_owned())),
    ];
    let mut labels: Labels = facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    labels.extend(parts::labels(inventory, policy));
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    gpus.iter().for_each(|(gpu, _)| *counts.entry(product_label(&gpu.name)).or_default() += 1);
    counts.remove("");
    labels.extend(
        counts
            .into_iter()
            .map(|(product, count)| (PRODUCT_COUNT.to_owned() + &product, Some(count.to_string()))),
    );
    labels
}

/// Whether this node has something that several containers may have at once.
fn is_anything_shared(inventory: &Inventory, policy: &Policy) -> bool {
    let offers = offers(inventory, policy);
    offers.resources.values().flatten().any(|device| device.replica.is_some())
}

/// Says that the driver limits the memory of those who share GPUs, where GPUs are shared.
pub(crate) fn limited_by_driver(labels: &mut Labels) {
    if let Some(limiter) = labels.get_mut(MEMORY_LIMIT).and_then(Option::as_mut) {
        *limiter = "driver".to_owned();
    }
}

/// What a node still has of an earlier layout or of other models: to be taken off.
pub(crate) fn left_over(on_node: &BTreeMap<String, String>, now: &Labels) -> Labels {
    let is_ours = |name: &str| name.starts_with(PRODUCT_COUNT) || parts::is_of_profile(name);
    let old = on_node.keys().filter(|name| is_ours(name) && !now.contains_key(*name));
    old.map(|name| (name.clone(), None)).collect()
}

/// What may be written beside another plugin, whose labels tell how that one offers the GPUs: labels that the node hasn't, and
/// those that we wrote last.
pub(crate) fn beside(now: &Labels, node: &ObjectMeta) -> Labels {
    let on_node = node.labels.clone().unwrap_or_default();
    let mut labels = left_over(&on_node, now);
    labels.extend(now.clone());
    labels.retain(|name, value| match on_node.get(name) {
        Some(_) => is_written_by_us(name, node),
        None => value.is_some(),
    });
    labels
}

/// The API server keeps who set a field to what it is.
fn is_written_by_us(label: &str, node: &ObjectMeta) -> bool {
    let is_ours =
        |entry: &&ManagedFieldsEntry| entry.manager.as_deref() == Some(names::field_manager::DEVICE_PLUGIN);
    let entries = node.managed_fields.iter().flatten().filter(is_ours);
    let mut fields = entries.filter_map(|entry| entry.fields_v1.as_ref());
    let key = format!("f:{label}");
    fields.any(|fields| !fields.0["f:metadata"]["f:labels"][key.as_str()].is_null())
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

/// What all GPUs are made for: unknown where they differ.
fn mode<'a>(gpus: impl Iterator<Item = &'a Gpu>) -> Mode {
    let one = gpus.map(|gpu| gpu.mode).reduce(|one, other| if one == other { one } else { Mode::Unknown });
    one.unwrap_or_default()
}

/// The architecture's name by compute capability (docs.nvidia.com/cuda/cuda-c-programming-guide).
fn family(major: u32, minor: u32) -> &'static str {
    match (major, minor) {
        (5, _) => "maxwell",
        (6, _) => "pascal",
        (7, 0..5) => "volta",
        (7, _) => "turing",
        (8, 0..9) => "ampere",
        (8, _) => "ada-lovelace",
        (9, _) => "hopper",
        (10 | 12, _) => "blackwell",
        (13, _) => "rubin",
        _ => "undefined",
    }
}

#[cfg(test)]
mod tests;
