//! The labels of a GPU's metrics, and who holds it.

use plasma_device_plugin_core::{Gpu, Holder, Holdings};
use plasma_runtime::prometheus::proto::LabelPair;

/// Between a GPU's UUID and the number of one of those that share it, in the kubelet's device ids.
const REPLICA: &str = "::";

/// One label.
pub(super) fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

/// The labels of our own metrics: the GPU, and whose it is.
pub(super) fn own(gpu: &Gpu, simulated: bool, node: &str, holders: &[Holder]) -> Vec<LabelPair> {
    let mut labels = vec![
        label("node", node),
        label("gpu", &gpu.index.to_string()),
        label("uuid", &gpu.uuid),
        label("product", &gpu.name),
        label("simulated", if simulated { "true" } else { "false" }),
    ];
    labels.extend(held_by(holders));
    labels
}

/// dcgm-exporter's labels. What is simulated says so here too.
pub(super) fn dcgm(gpu: &Gpu, simulated: bool, node: &str, holders: &[Holder]) -> Vec<LabelPair> {
    let device = gpu.device_node.as_deref().and_then(|node| node.strip_prefix("/dev/"));
    let device = device.map_or_else(|| format!("nvidia{}", gpu.index), str::to_owned);
    let mut labels = vec![
        label("gpu", &gpu.index.to_string()),
        label("UUID", &gpu.uuid),
        label("pci_bus_id", gpu.pci_bus_id.as_deref().unwrap_or_default()),
        label("device", &device),
        label("modelName", &gpu.name),
        label("hostname", node),
    ];
    labels.extend(simulated.then(|| label("simulated", "true")));
    labels.extend(held_by(holders));
    labels
}

/// Whose the whole GPU is: nobody's labels where it is shared, since its figures are then nobody's own.
fn held_by(holders: &[Holder]) -> Vec<LabelPair> {
    let Some(one) = holders.first().filter(|one| holders.iter().all(|holder| holder.pod_uid == one.pod_uid))
    else {
        return Vec::new();
    };
    let mut labels = of_pod(one);
    // Containers of one pod that follow each other, as at its start, may have the same GPU.
    labels.extend((holders.len() == 1).then(|| label("container", &one.container)));
    labels
}

/// The labels of one holder.
pub(super) fn of_holder(holder: &Holder) -> Vec<LabelPair> {
    let mut labels = of_pod(holder);
    labels.push(label("container", &holder.container));
    labels
}

fn of_pod(holder: &Holder) -> Vec<LabelPair> {
    vec![label("namespace", &holder.namespace), label("pod", &holder.pod), label("pod_uid", &holder.pod_uid)]
}

/// Everybody who has the GPU, or a share of it; each once.
pub(super) fn everybody(holdings: &Holdings, uuid: &str) -> Vec<Holder> {
    let Some(holders) = holdings.named() else { return Vec::new() };
    let of_gpu = holders.range(uuid.to_owned()..).take_while(|(id, _)| id.starts_with(uuid));
    let of_gpu = of_gpu.filter(|(id, _)| id.len() == uuid.len() || id[uuid.len()..].starts_with(REPLICA));
    let mut everybody: Vec<Holder> = of_gpu.flat_map(|(_, holders)| holders.iter().cloned()).collect();
    everybody.sort();
    everybody.dedup();
    everybody
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn holder(pod: &str, container: &str) -> Holder {
        Holder {
            pod_uid: format!("uid-of-{pod}"),
            namespace: "lab".to_owned(),
            pod: pod.to_owned(),
            container: container.to_owned(),
        }
    }

    fn text(labels: &[LabelPair]) -> Vec<String> {
        labels.iter().map(|pair| format!("{}={}", pair.name(), pair.value())).collect()
    }

    #[test]
    fn a_gpu_is_labelled_with_the_pod_that_has_it_alone() {
        let gpu = Gpu { uuid: "GPU-0".to_owned(), name: "H100".to_owned(), index: 3, ..Gpu::default() };
        let free = text(&own(&gpu, false, "node-a", &[]));
        assert_eq!(free, ["node=node-a", "gpu=3", "uuid=GPU-0", "product=H100", "simulated=false"]);
        let one = text(&held_by(&[holder("a", "train")]));
        assert_eq!(one, ["namespace=lab", "pod=a", "pod_uid=uid-of-a", "container=train"]);
        let same_pod = text(&held_by(&[holder("a", "init"), holder("a", "train")]));
        assert_eq!(same_pod, ["namespace=lab", "pod=a", "pod_uid=uid-of-a"]);
        assert!(held_by(&[holder("a", "train"), holder("b", "train")]).is_empty(), "it is neither's own");
    }

    #[test]
    fn dcgm_exporters_labels_have_its_names() {
        let gpu = Gpu {
            uuid: "GPU-0".to_owned(),
            name: "H100".to_owned(),
            device_node: Some("/dev/nvidia5".to_owned()),
            pci_bus_id: Some("00000000:06:00.0".to_owned()),
            ..Gpu::default()
        };
        let labels = text(&dcgm(&gpu, true, "node-a", &[]));
        assert_eq!(
            labels,
            [
                "gpu=0",
                "UUID=GPU-0",
                "pci_bus_id=00000000:06:00.0",
                "device=nvidia5",
                "modelName=H100",
                "hostname=node-a",
                "simulated=true"
            ]
        );
    }

    #[test]
    fn everybody_is_found_by_the_gpus_id_and_by_its_replicas() {
        let id = |id: &str, pod: &str| (id.to_owned(), vec![holder(pod, "c")]);
        let held = BTreeMap::from([
            id("GPU-0", "a"),
            id("GPU-0::1", "b"),
            id("GPU-0::2", "b"),
            id("GPU-00", "another GPU's"),
            id("GPU-1", "c"),
        ]);
        let pods = |uuid| {
            let everybody = everybody(&Holdings::Known(held.clone()), uuid);
            everybody.into_iter().map(|holder| holder.pod).collect::<Vec<_>>()
        };
        assert_eq!(pods("GPU-0"), ["a", "b"]);
        assert_eq!(pods("GPU-1"), ["c"]);
        assert!(pods("GPU-2").is_empty() && everybody(&Holdings::Unknown, "GPU-0").is_empty());
    }
}
