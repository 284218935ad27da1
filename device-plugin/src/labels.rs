//! The node's labels, under the names that GPU feature discovery made usual.

use std::collections::BTreeMap;

use plasma_api::{GpuNodeSpec, names};

/// The node's labels. One without a value is taken off. Model, memory and capability are the first GPU's: where a node has
/// several models, its GpuNode names each.
pub(crate) fn labels(spec: &GpuNodeSpec) -> BTreeMap<&'static str, Option<String>> {
    let first = spec.gpus.first();
    let capability = first.and_then(|gpu| version(gpu.compute_capability.as_deref()?));
    let cuda = spec.cuda_version.as_deref().and_then(version).filter(|_| first.is_some());
    let driver: Vec<String> =
        spec.driver_version.iter().flat_map(|all| all.split('.')).map(str::to_owned).collect();
    let driver_part = |at: usize| first.and_then(|_| driver.get(at).cloned()).filter(|part| is_number(part));
    let driver_full = first.and(spec.driver_version.clone()).filter(|all| all.split('.').all(is_number));
    BTreeMap::from([
        (names::GPU_PRODUCT_LABEL, first.map(|gpu| gpu.product.clone())),
        (names::GPU_COUNT_LABEL, first.map(|_| spec.gpus.len().to_string())),
        (names::GPU_MEMORY_LABEL, first.map(|gpu| gpu.memory_mib.to_string())),
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
        ("nvidia.com/mig.capable", first.map(|gpu| gpu.mig_capable.to_string())),
        (names::SIMULATED_LABEL, spec.simulated.then(|| "true".to_owned())),
    ])
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
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
        _ => "undefined",
    }
}

#[cfg(test)]
mod tests {
    use plasma_api::gpu_node::Gpu;

    use super::*;

    fn spec() -> GpuNodeSpec {
        let gpu = Gpu {
            uuid: "GPU-0".to_owned(),
            index: 0,
            product: "NVIDIA-H100-80GB-HBM3".to_owned(),
            memory_mib: 81_559,
            pci_bus_id: None,
            numa_node: None,
            compute_capability: Some("9.0".to_owned()),
            mig_capable: true,
        };
        GpuNodeSpec {
            simulated: true,
            driver_version: Some("580.95.05".to_owned()),
            cuda_version: Some("13.0".to_owned()),
            gpus: vec![gpu.clone(), gpu],
            links: Vec::new(),
            meter: None,
        }
    }

    #[test]
    fn a_node_is_labelled_as_gpu_feature_discovery_does() {
        let labels = labels(&spec());
        for (name, value) in [
            ("nvidia.com/gpu.product", "NVIDIA-H100-80GB-HBM3"),
            ("nvidia.com/gpu.count", "2"),
            ("nvidia.com/gpu.memory", "81559"),
            ("nvidia.com/gpu.family", "hopper"),
            ("nvidia.com/gpu.compute.major", "9"),
            ("nvidia.com/gpu.compute.minor", "0"),
            ("nvidia.com/cuda.driver-version.major", "580"),
            ("nvidia.com/cuda.driver-version.minor", "95"),
            ("nvidia.com/cuda.driver-version.revision", "05"),
            ("nvidia.com/cuda.driver-version.full", "580.95.05"),
            ("nvidia.com/cuda.runtime-version.major", "13"),
            ("nvidia.com/cuda.runtime-version.minor", "0"),
            ("nvidia.com/cuda.runtime-version.full", "13.0"),
            ("nvidia.com/mig.capable", "true"),
            ("compute.plasma.dev/simulated", "true"),
        ] {
            assert_eq!(labels[name].as_deref(), Some(value), "{name}");
        }
    }

    #[test]
    fn a_node_without_gpus_loses_its_labels() {
        let none = GpuNodeSpec { simulated: false, gpus: Vec::new(), ..spec() };
        assert!(labels(&none).values().all(Option::is_none), "{:?}", labels(&none));
    }

    #[test]
    fn what_a_label_cannot_hold_is_left_out() {
        let odd = GpuNodeSpec { driver_version: Some("simulated".to_owned()), ..spec() };
        assert_eq!(labels(&odd)["nvidia.com/cuda.driver-version.full"], None);
        assert_eq!(labels(&odd)["nvidia.com/cuda.driver-version.major"], None);
    }

    #[test]
    fn families_are_told_apart_where_the_minor_decides() {
        assert_eq!(
            [family(7, 0), family(7, 5), family(8, 6), family(8, 9)],
            ["volta", "turing", "ampere", "ada-lovelace"]
        );
    }
}
