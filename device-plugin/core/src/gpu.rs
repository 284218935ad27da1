//! The words: a GPU, what one look at NVML gives, and what a GPU is believed to be.

use crate::{
    health::{Signs, Silence},
    mig::{Mig, MigInstance},
    topology::Topology,
};

/// What a GPU is made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nobody told, or it is something else.
    #[default]
    Unknown,
    /// To compute: it has no display.
    Compute,
    /// To draw.
    Graphics,
}

impl Mode {
    /// By the PCI class: base class, sub-class and interface in three bytes (PCI Code and ID Assignment Specification, display
    /// controllers: 3D, or compatible with VGA).
    pub fn of_pci_class(class: u32) -> Self {
        match class {
            0x03_02_00 => Self::Compute,
            0x03_00_00 => Self::Graphics,
            _ => Self::Unknown,
        }
    }

    /// As the label `nvidia.com/gpu.mode` has it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Compute => "compute",
            Self::Graphics => "graphics",
        }
    }
}

/// A GPU's unchanging facts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gpu {
    /// NVML's UUID: also the kubelet's device id.
    pub uuid: String,
    /// NVML's index in this look.
    pub index: u32,
    /// Its device node, `/dev/nvidia<minor>`. A simulated GPU has none.
    pub device_node: Option<String>,
    /// The model, as NVML names it.
    pub name: String,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// PCI address, where NVML gave one.
    pub pci_bus_id: Option<String>,
    /// What it is made for.
    pub mode: Mode,
    /// CPU NUMA node, where the machine has several.
    pub numa_node: Option<u32>,
    /// CUDA's compute capability: major, minor.
    pub compute_capability: Option<(u32, u32)>,
    /// How it is divided, where it can be.
    pub mig: Option<Mig>,
}

impl Gpu {
    /// Whether it is in MIG mode now.
    pub fn is_divided(&self) -> bool {
        self.mig.as_ref().is_some_and(|mig| mig.enabled)
    }

    /// Its parts, where it is divided.
    pub fn instances(&self) -> &[MigInstance] {
        self.mig.as_ref().filter(|mig| mig.enabled).map_or(&[], |mig| &mig.instances)
    }

    /// Its own UUID, and those of its parts.
    pub fn uuids(&self) -> impl Iterator<Item = &str> {
        let parts = self.instances().iter().map(|part| part.uuid.as_str());
        std::iter::once(self.uuid.as_str()).chain(parts)
    }
}

/// What has to happen before a GPU works again, in NVML's opinion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recovery {
    /// This driver or this GPU doesn't say.
    #[default]
    NotTold,
    /// Nothing.
    NotNeeded,
    /// Something, in words.
    Needed(&'static str),
}

/// What one GPU said in one look.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one a GPU, and nearly all of them answer")]
pub enum Seen {
    /// It answered.
    Answered {
        /// Its facts.
        gpu: Gpu,
        /// What it says about its health.
        signs: Signs,
    },
    /// It didn't; why not.
    Silent(Silence),
}

/// What a look saw when NVML answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Counts how often the library was loaded: a new number means that the driver may have been reloaded.
    pub session: u64,
    /// The driver's version, where it could be read.
    pub driver_version: Option<String>,
    /// The newest CUDA that the driver runs: major, minor.
    pub cuda_version: Option<(u32, u32)>,
    /// The device nodes that every GPU's user needs. None where the GPUs are simulated.
    pub shared_nodes: Vec<String>,
    /// One entry an index.
    pub gpus: Vec<Seen>,
    /// How those that answered are connected.
    pub topology: Topology,
}

/// What one look at NVML gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scan {
    /// NVML answered.
    Looked(Look),
    /// NVML can't be loaded or doesn't answer: nobody knows anything. Why.
    Failed(String),
}

/// Whether a GPU can be given to pods; if not, or not for certain, why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GpuState {
    /// It can.
    #[default]
    Healthy,
    /// It can, and it is watched: something may be wrong with it.
    Suspect(String),
    /// It doesn't answer, or has a fault. Not offered.
    Unhealthy(String),
    /// What was wrong is over, and must stay so for some looks. Not offered yet.
    Recovering(String),
    /// NVML itself can't be asked, so nobody knows. Not offered.
    Unknown(String),
}

impl GpuState {
    /// Whether pods may get it.
    pub fn is_offered(&self) -> bool {
        matches!(self, Self::Healthy | Self::Suspect(_))
    }

    /// What is wrong, or may be.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Healthy => None,
            Self::Suspect(why) | Self::Unhealthy(why) | Self::Recovering(why) | Self::Unknown(why) => {
                Some(why)
            }
        }
    }

    /// The worse of two: a part of a GPU is no better than the GPU, and may be worse.
    pub(crate) fn worse<'a>(&'a self, other: &'a Self) -> &'a Self {
        if other.rank() > self.rank() { other } else { self }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Healthy => 0,
            Self::Suspect(_) => 1,
            Self::Recovering(_) => 2,
            Self::Unhealthy(_) => 3,
            Self::Unknown(_) => 4,
        }
    }
}

/// A model as the label `nvidia.com/gpu.product` has it: blanks become dashes, what a label can't hold is left out.
pub fn product_label(name: &str) -> String {
    let is_allowed = |c: &char| c.is_ascii_alphanumeric() || c.is_whitespace() || "-_.".contains(*c);
    let allowed: String = name.chars().filter(is_allowed).collect();
    let dashed: String = allowed.split_whitespace().collect::<Vec<_>>().join("-").chars().take(63).collect();
    dashed.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_product_label_is_as_gpu_feature_discovery_writes_it() {
        assert_eq!(product_label("NVIDIA H100 80GB HBM3"), "NVIDIA-H100-80GB-HBM3");
        assert_eq!(product_label("  odd (name) "), "odd-name");
        assert_eq!(product_label("one + two"), "one-two");
    }

    #[test]
    fn a_gpu_is_made_for_what_its_pci_class_says() {
        let modes = [0x03_00_00, 0x03_02_00, 0x12_00_00].map(|class| Mode::of_pci_class(class).label());
        assert_eq!(modes, ["graphics", "compute", "unknown"]);
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
