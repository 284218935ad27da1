//! The memory of those who share a GPU: what each may take, whether the driver sees to it, and what it uses.

use plasma_device_plugin_core::Inventory;
use plasma_runtime::prometheus::proto::LabelPair;

use super::labels::{self, label};
use crate::{inventory::Observed, limits::Kept, nvml::Limited};

/// A value of one container's share; the driver's word is `None` where there is none.
type Value = fn(&Kept, Option<Limited>) -> Option<f64>;

/// Name, help and value of each.
pub(super) const METRICS: [(&str, &str, Value); 3] = [
    (
        "plasma_gpu_memory_limit_enforced",
        "1 if the driver says that it limits the container to its share of the GPU's memory",
        |_, limited| Some(f64::from(u8::from(limited.is_some()))),
    ),
    (
        "plasma_gpu_memory_share_bytes",
        "The container's share of the GPU's memory, whether or not it is enforced",
        |kept, _| Some(kept.share.bytes as f64),
    ),
    (
        "plasma_gpu_memory_share_used_bytes",
        "What the container uses of the GPU's memory, by the driver's account of its cgroup",
        |_, limited| limited.map(|limited| limited.used as f64),
    ),
];

/// Each container's labels and value. What was true when NVML answered last isn't any more where it is `up` no longer.
pub(super) fn told(
    observed: &Observed,
    (inventory, up): (&Inventory, bool),
    node: &str,
    value: Value,
) -> Vec<(Vec<LabelPair>, f64)> {
    let told = observed.limits.shares.iter().filter_map(|kept| {
        let (gpu, _) = inventory.find(&kept.share.gpu)?;
        let value = value(kept, kept.limited.as_ref().ok().copied().filter(|_| up))?;
        let mut labels =
            vec![label("node", node), label("gpu", &gpu.index.to_string()), label("uuid", &gpu.uuid)];
        labels.extend(labels::of_holder(&kept.share.holder));
        Some((labels, value))
    });
    told.collect()
}
