//! What the node has, as the last scan saw it, and what of it is offered to the kubelet.

use std::collections::BTreeMap;

/// A GPU's unchanging facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// NVML's UUID: also the kubelet's device id.
    pub uuid: String,
    /// NVML's index in this scan.
    pub index: u32,
    /// The number of its device node, `/dev/nvidia<minor>`.
    pub minor: u32,
    /// The model, as NVML names it.
    pub name: String,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// PCI address, where NVML gave one.
    pub pci_bus_id: Option<String>,
    /// CPU NUMA node, where the machine has several.
    pub numa_node: Option<u32>,
}

/// Whether a GPU can be given to pods; if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GpuState {
    /// It answers.
    Healthy,
    /// It doesn't, or it answers with a fault.
    Unhealthy(String),
    /// NVML itself can't be asked, so nobody knows. Not offered.
    Unknown(String),
}

/// What one look at NVML gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scan {
    /// NVML answered. A GPU that didn't answer has its UUID only if it was seen before, by its index.
    Seen {
        /// The driver's version, where it could be read.
        driver_version: Option<String>,
        /// One entry an index: the facts, or the fault that came instead.
        gpus: Vec<Result<Gpu, (u32, String)>>,
    },
    /// NVML can't be loaded or doesn't answer.
    Failed(String),
}

/// Everything known about the node's GPUs.
///
/// A GPU that was seen once stays in the inventory: a lost one is unhealthy, not gone, so the kubelet keeps its
/// capacity and says which pods held it. It leaves when NVML answers and counts fewer GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The driver's version, where it was ever read.
    pub driver_version: Option<String>,
    /// Why NVML can't be asked, where it can't.
    pub fault: Option<String>,
    gpus: BTreeMap<u32, (Gpu, GpuState)>,
    /// Indexes under which nothing ever answered: no id, so nothing to offer, but a fault to tell.
    nameless: BTreeMap<u32, String>,
}

/// One device as the kubelet is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// The device id.
    pub id: String,
    /// Whether it can be allocated.
    pub healthy: bool,
    /// Where it hangs.
    pub numa_node: Option<u32>,
}

impl Inventory {
    /// Takes in what a scan saw.
    pub fn observe(&mut self, scan: Scan) {
        match scan {
            Scan::Failed(fault) => {
                for (_, state) in self.gpus.values_mut() {
                    *state = GpuState::Unknown(fault.clone());
                }
                self.fault = Some(fault);
            }
            Scan::Seen { driver_version, gpus } => {
                self.fault = None;
                self.nameless.clear();
                self.driver_version = driver_version.or_else(|| self.driver_version.take());
                let counted = gpus.len();
                for seen in gpus {
                    self.observe_gpu(seen);
                }
                self.gpus.retain(|index, _| usize::try_from(*index).is_ok_and(|index| index < counted));
            }
        }
    }

    fn observe_gpu(&mut self, seen: Result<Gpu, (u32, String)>) {
        match seen {
            Ok(gpu) => {
                self.gpus.insert(gpu.index, (gpu, GpuState::Healthy));
            }
            Err((index, fault)) => match self.gpus.get_mut(&index) {
                Some((_, state)) => *state = GpuState::Unhealthy(fault),
                None => drop(self.nameless.insert(index, fault)),
            },
        }
    }

    /// What is wrong beyond the GPUs that are known by name, for people.
    pub fn message(&self) -> Option<String> {
        let nameless =
            self.nameless.iter().map(|(index, fault)| format!("GPU {index} never answered: {fault}"));
        let faults: Vec<String> = self.fault.iter().cloned().chain(nameless).collect();
        (!faults.is_empty()).then(|| faults.join("; "))
    }

    /// The GPUs in NVML's order, with their state.
    pub fn gpus(&self) -> impl Iterator<Item = (&Gpu, &GpuState)> {
        self.gpus.values().map(|(gpu, state)| (gpu, state))
    }

    /// The GPU with that UUID.
    pub fn find(&self, uuid: &str) -> Option<(&Gpu, &GpuState)> {
        self.gpus().find(|(gpu, _)| gpu.uuid == uuid)
    }

    /// The full list that the kubelet is told.
    pub fn advertised(&self) -> Vec<Advertised> {
        let advertise = |(gpu, state): (&Gpu, &GpuState)| Advertised {
            id: gpu.uuid.clone(),
            healthy: *state == GpuState::Healthy,
            numa_node: gpu.numa_node,
        };
        self.gpus().map(advertise).collect()
    }
}

/// A model as the label `nvidia.com/gpu.product` has it: blanks become dashes, what a label can't hold is left out.
pub fn product_label(name: &str) -> String {
    let dashed = name.split_whitespace().collect::<Vec<_>>().join("-");
    let allowed: String =
        dashed.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(63).collect();
    allowed.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gpu(index: u32) -> Gpu {
        Gpu {
            uuid: format!("GPU-{index}"),
            index,
            minor: index,
            name: "NVIDIA H100 80GB HBM3".to_owned(),
            memory_bytes: 80 << 30,
            pci_bus_id: None,
            numa_node: None,
        }
    }

    fn seen(gpus: Vec<Result<Gpu, (u32, String)>>) -> Scan {
        Scan::Seen { driver_version: None, gpus }
    }

    fn healthy(inventory: &Inventory) -> Vec<bool> {
        inventory.advertised().iter().map(|device| device.healthy).collect()
    }

    #[test]
    fn a_lost_gpu_is_taken_out_and_comes_back() {
        let mut inventory = Inventory::default();
        inventory.observe(seen(vec![Ok(gpu(0)), Ok(gpu(1))]));
        assert_eq!(healthy(&inventory), [true, true]);
        inventory.observe(seen(vec![Ok(gpu(0)), Err((1, "GPU is lost".to_owned()))]));
        assert_eq!(healthy(&inventory), [true, false]);
        inventory.observe(seen(vec![Ok(gpu(0)), Ok(gpu(1))]));
        assert_eq!(healthy(&inventory), [true, true]);
    }

    #[test]
    fn when_nvml_does_not_answer_nothing_is_offered_and_nothing_is_forgotten() {
        let mut inventory = Inventory::default();
        inventory.observe(seen(vec![Ok(gpu(0))]));
        inventory.observe(Scan::Failed("driver is reloading".to_owned()));
        assert_eq!(healthy(&inventory), [false]);
        assert_eq!(inventory.fault.as_deref(), Some("driver is reloading"));
        inventory.observe(seen(vec![Ok(gpu(0))]));
        assert_eq!(healthy(&inventory), [true]);
        assert_eq!(inventory.fault, None);
    }

    #[test]
    fn a_gpu_that_never_answered_is_told_of_though_it_cannot_be_offered() {
        let mut inventory = Inventory::default();
        inventory.observe(seen(vec![Err((0, "GPU is lost".to_owned()))]));
        assert!(inventory.advertised().is_empty());
        assert_eq!(inventory.message().as_deref(), Some("GPU 0 never answered: GPU is lost"));
        inventory.observe(seen(vec![Ok(gpu(0))]));
        assert_eq!(inventory.message(), None);
    }

    #[test]
    fn a_gpu_leaves_only_when_nvml_counts_fewer() {
        let mut inventory = Inventory::default();
        inventory.observe(seen(vec![Ok(gpu(0)), Ok(gpu(1))]));
        inventory.observe(seen(vec![Ok(gpu(0))]));
        assert_eq!(healthy(&inventory), [true]);
    }

    #[test]
    fn the_product_label_is_as_gpu_feature_discovery_writes_it() {
        assert_eq!(product_label("NVIDIA H100 80GB HBM3"), "NVIDIA-H100-80GB-HBM3");
        assert_eq!(product_label("  odd (name) "), "odd-name");
    }

    proptest! {
        #[test]
        fn a_product_label_is_always_a_valid_label_value(name in ".{0,100}") {
            let label = product_label(&name);
            prop_assert!(label.len() <= 63);
            prop_assert!(label.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)));
            prop_assert!(label.chars().next().is_none_or(|c| c.is_ascii_alphanumeric()));
            prop_assert!(label.chars().last().is_none_or(|c| c.is_ascii_alphanumeric()));
        }
    }
}
