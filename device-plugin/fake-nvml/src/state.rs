//! The state file: what the stand-in pretends.

use std::{env, fs};

use serde::Deserialize;

/// The environment variable that names the state file.
pub const STATE_VARIABLE: &str = "PLASMA_FAKE_NVML_STATE";

/// What the stand-in pretends, as JSON.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    /// The driver's version.
    pub driver_version: String,
    /// The NVML return value that initialisation gives instead of success.
    #[serde(default)]
    pub init_error: Option<u32>,
    /// The GPUs, in order of their index.
    pub gpus: Vec<Gpu>,
}

/// One pretended GPU.
#[derive(Clone, Debug, Deserialize)]
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
    /// PCI address; made from the index where it is left out.
    #[serde(default)]
    pub pci_bus_id: Option<String>,
    /// How busy it is, in percent.
    #[serde(default)]
    pub utilization_percent: u32,
    /// Temperature, in degrees Celsius.
    #[serde(default)]
    pub temperature_celsius: u32,
    /// Power, in milliwatts; left out, the query isn't supported.
    #[serde(default)]
    pub power_milliwatts: Option<u32>,
    /// Whether it fell off the bus: every query says so.
    #[serde(default)]
    pub lost: bool,
}

impl State {
    /// The file as it is now. No file, or one that isn't understood, is a driver that isn't loaded.
    pub(crate) fn read() -> Result<Self, String> {
        let file = env::var(STATE_VARIABLE).map_err(|_| format!("{STATE_VARIABLE} is not set"))?;
        let text = fs::read_to_string(&file).map_err(|fault| format!("{file}: {fault}"))?;
        serde_json::from_str(&text).map_err(|fault| {
            eprintln!("fake NVML: {file} is not understood: {fault}");
            fault.to_string()
        })
    }
}
