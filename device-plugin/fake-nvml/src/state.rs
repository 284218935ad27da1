//! The state file: what the stand-in pretends.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::Telemetry;

/// The environment variable that names the state file.
pub const STATE_VARIABLE: &str = "PLASMA_FAKE_NVML_STATE";

/// The environment variable that names a file into which each function that is called is written, a line each.
pub const CALLS_VARIABLE: &str = "PLASMA_FAKE_NVML_CALLS";

/// What the stand-in pretends, as JSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    /// The driver's version.
    pub driver_version: String,
    /// The newest CUDA that it runs, as NVML counts: 13000 is 13.0.
    #[serde(default)]
    pub cuda_version: Option<i32>,
    /// Another number than when the library was initialised means that the driver was reloaded: every call fails
    /// until the library is shut down and initialised again.
    #[serde(default)]
    pub driver_epoch: u64,
    /// The NVML return value that every call gives, initialisation too: 9 is a driver that isn't loaded.
    #[serde(default)]
    pub driver_error: Option<u32>,
    /// NVML return values of single functions, such as `"nvmlDeviceGetCount_v2": 999`.
    #[serde(default)]
    pub errors: BTreeMap<String, u32>,
    /// Functions that don't return as long as they stand here.
    #[serde(default)]
    pub hang: BTreeSet<String>,
    /// The GPUs, in order of their index.
    pub gpus: Vec<Gpu>,
    /// How near pairs of GPUs are over PCIe. A pair that isn't here is anywhere in the machine.
    #[serde(default)]
    pub near: Vec<Near>,
}

/// How near two GPUs are over PCIe.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Near {
    /// Their indexes.
    pub gpus: [usize; 2],
    /// NVML's level: 0 one board, 10 one switch, 20 several switches, 30 one host bridge, 40 one NUMA node.
    pub level: u32,
}

/// One pretended GPU.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gpu {
    /// `GPU-…`
    pub uuid: String,
    /// The model.
    pub name: String,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Used memory, in MiB.
    #[serde(default)]
    pub memory_used_mib: u64,
    /// The processes that use it.
    #[serde(default)]
    pub processes: Vec<Process>,
    /// PCI address; made from the index where it is left out.
    #[serde(default)]
    pub pci_bus_id: Option<String>,
    /// The CPU NUMA node that it hangs on.
    #[serde(default)]
    pub numa_node: Option<u32>,
    /// CUDA's compute capability: major, minor.
    #[serde(default)]
    pub compute_capability: Option<[i32; 2]>,
    /// Whether it can be divided (MIG), and whether it is; left out, it can't.
    #[serde(default)]
    pub mig: Option<bool>,
    /// Whether it will be divided after a reset; left out, as it is.
    #[serde(default)]
    pub mig_pending: Option<bool>,
    /// What it is divided into, where it is. Another list is another layout.
    #[serde(default)]
    pub instances: Vec<Instance>,
    /// Where each of its NVLinks leads: another GPU's UUID, or `switch`.
    #[serde(default)]
    pub nvlinks: Vec<String>,
    /// How busy it is, in percent.
    #[serde(default)]
    pub utilization_percent: u32,
    /// Temperature, in degrees Celsius.
    #[serde(default)]
    pub temperature_celsius: u32,
    /// Power, in milliwatts; left out, the query isn't supported.
    #[serde(default)]
    pub power_milliwatts: Option<u32>,
    /// Energy since the driver was loaded, in millijoules; left out, the query isn't supported.
    #[serde(default)]
    pub energy_millijoules: Option<u64>,
    /// Whether it fell off the bus: every query says so.
    #[serde(default)]
    pub lost: bool,
    /// All XIDs it was ever hit by; one that is appended is an event.
    #[serde(default)]
    pub xids: Vec<Xid>,
    /// Uncorrectable memory errors since the driver was loaded; left out, they aren't counted.
    #[serde(default)]
    pub uncorrectable_errors: Option<u64>,
    /// Whether a memory row waits to be remapped; left out, rows can't be remapped.
    #[serde(default)]
    pub remapping_pending: Option<bool>,
    /// Whether a memory row could not be remapped.
    #[serde(default)]
    pub remapping_failed: Option<bool>,
    /// NVML's recovery action: 0 none, 1 reset, 2 reboot, 3 drain, 4 drain and reset; left out, it isn't supported.
    #[serde(default)]
    pub recovery_action: Option<u32>,
    /// What it measures of itself.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// NVML return values of single functions for this GPU.
    #[serde(default)]
    pub errors: BTreeMap<String, u32>,
}

impl Gpu {
    /// Its memory in bytes: all, used, reserved; never more of it than there is.
    pub(crate) fn memory(&self) -> [u64; 3] {
        let bytes = |mib: u64| mib.saturating_mul(1 << 20);
        let total = bytes(self.memory_mib);
        let reserved = bytes(self.telemetry.reserved_mib).min(total);
        [total, bytes(self.memory_used_mib).min(total - reserved), reserved]
    }
}

/// A process that uses a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The memory that it uses there, in MiB.
    #[serde(default)]
    pub memory_mib: u64,
    /// Whether it draws; else it computes.
    #[serde(default)]
    pub graphics: bool,
}

/// One part of a divided GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Instance {
    /// `MIG-…`
    pub uuid: String,
    /// Its kind, such as `1g.10gb`.
    pub profile: String,
    /// GPU instance.
    pub gpu_instance: u32,
    /// Compute instance in it.
    #[serde(default)]
    pub compute_instance: u32,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Used memory, in MiB.
    #[serde(default)]
    pub memory_used_mib: u64,
    /// Streaming multiprocessors.
    #[serde(default)]
    pub multiprocessors: u32,
    /// Slices of the GPU instance and, of these, the compute instance's.
    #[serde(default)]
    pub slices: [u32; 2],
    /// Copy engines, decoders, encoders, JPEG decoders, optical-flow accelerators.
    #[serde(default)]
    pub engines: [u32; 5],
}

impl Gpu {
    /// Its parts, where it is divided.
    pub(crate) fn parts(&self) -> &[Instance] {
        if self.mig == Some(true) { &self.instances } else { &[] }
    }
}

/// An XID: its number, or with the part of a divided GPU that it hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Xid {
    /// About the whole GPU.
    OfGpu(u64),
    /// About one instance.
    #[serde(rename_all = "camelCase")]
    OfInstance {
        /// Its number.
        xid: u64,
        /// GPU instance.
        gpu_instance: u32,
        /// Compute instance in it.
        compute_instance: u32,
    },
}

/// The last text that was read, and the last state that was understood.
static LAST: Mutex<(String, Option<Arc<State>>)> = Mutex::new((String::new(), None));

impl State {
    /// The file as it is now. No file is a driver that isn't loaded. A file that isn't understood is taken for one
    /// that is being written: what it said before holds. What was read before isn't understood anew: a look at eight GPUs
    /// is hundreds of calls.
    pub(crate) fn read() -> Result<Arc<Self>, String> {
        let file = env::var(STATE_VARIABLE).map_err(|_| format!("{STATE_VARIABLE} is not set"))?;
        let text = fs::read_to_string(&file).map_err(|fault| format!("{file}: {fault}"))?;
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != text {
            match serde_json::from_str::<Self>(&text) {
                Ok(state) => last.1 = Some(Arc::new(state)),
                Err(fault) => eprintln!("fake NVML: {file} is not understood: {fault}"),
            }
            last.0 = text;
        }
        last.1.clone().ok_or_else(|| format!("{file} was never understood"))
    }
}
