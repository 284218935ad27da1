//! NVML: the one file that touches it. It owns everything NVML gives and lets out plain values only.
#![allow(unsafe_code)]

use std::path::Path;

use nvml_wrapper::{Device, Nvml, enum_wrappers::device::TemperatureSensor, error::NvmlError};
use plasma_device_plugin_core::{Gpu, Scan};

/// The driver's own library.
pub(crate) const DRIVER_LIBRARY: &str = "libnvidia-ml.so.1";

/// What a substitute exports, to say that it is one.
const SUBSTITUTE_SYMBOL: &[u8] = b"plasma_fake_nvml\0";

/// A loaded library. It is dropped and loaded again when the driver reloads.
pub(crate) struct Library {
    nvml: Nvml,
    substitute: bool,
}

/// Figures of one GPU for the metrics; what a GPU doesn't have is left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) uuid: String,
    pub(crate) memory_used_bytes: Option<u64>,
    pub(crate) utilization_percent: Option<u32>,
    pub(crate) temperature_celsius: Option<u32>,
    pub(crate) power_milliwatts: Option<u32>,
}

impl Library {
    /// Loads and initialises the library.
    ///
    /// # Errors
    /// In words: the library can't be loaded, or the driver isn't there.
    pub(crate) fn load(path: &Path) -> Result<Self, String> {
        let nvml = Nvml::builder().lib_path(path.as_os_str()).init();
        let nvml = nvml.map_err(|fault| format!("NVML ({}) can't be used: {fault}", path.display()))?;
        // SAFETY: the symbol is only looked for, never called or read.
        let says_so = unsafe { nvml.lib().__library.get::<*const ()>(SUBSTITUTE_SYMBOL) }.is_ok();
        Ok(Self { nvml, substitute: says_so || path != Path::new(DRIVER_LIBRARY) })
    }

    /// Whether what it says is simulated.
    pub(crate) fn is_substitute(&self) -> bool {
        self.substitute
    }

    /// Looks at every GPU. A fault of one GPU is that GPU's; a fault of the library is everybody's.
    pub(crate) fn scan(&self) -> (Scan, Vec<Figures>) {
        let count = match self.nvml.device_count() {
            Ok(count) => count,
            Err(fault) => return (Scan::Failed(format!("NVML doesn't count its GPUs: {fault}")), Vec::new()),
        };
        let mut figures = Vec::new();
        let look = |index| {
            let device = self.nvml.device_by_index(index)?;
            let gpu = facts(index, &device)?;
            figures.push(measure(&gpu.uuid, &device));
            Ok(gpu)
        };
        let gpus = (0..count).map(look).enumerate();
        let gpus = gpus.map(|(index, seen): (usize, Result<Gpu, NvmlError>)| {
            seen.map_err(|fault| (u32::try_from(index).unwrap_or(u32::MAX), fault.to_string()))
        });
        let gpus = gpus.collect();
        (Scan::Seen { driver_version: self.nvml.sys_driver_version().ok(), gpus }, figures)
    }
}

fn facts(index: u32, device: &Device<'_>) -> Result<Gpu, NvmlError> {
    let pci_bus_id = device.pci_info().ok().map(|pci| pci.bus_id);
    Ok(Gpu {
        uuid: device.uuid()?,
        index,
        minor: device.minor_number()?,
        name: device.name()?,
        memory_bytes: device.memory_info()?.total,
        numa_node: pci_bus_id.as_deref().and_then(numa_node),
        pci_bus_id,
    })
}

fn measure(uuid: &str, device: &Device<'_>) -> Figures {
    Figures {
        uuid: uuid.to_owned(),
        memory_used_bytes: device.memory_info().ok().map(|memory| memory.used),
        utilization_percent: device.utilization_rates().ok().map(|rates| rates.gpu),
        temperature_celsius: device.temperature(TemperatureSensor::Gpu).ok(),
        power_milliwatts: device.power_usage().ok(),
    }
}

/// The kernel knows on which NUMA node a PCI device hangs; NVML's own number means something else.
fn numa_node(pci_bus_id: &str) -> Option<u32> {
    // NVML writes an eight-digit domain, sysfs a four-digit one.
    let address = pci_bus_id.to_lowercase();
    let address = if address.len() > 12 { address.get(address.len() - 12..)? } else { &address };
    let text = std::fs::read_to_string(format!("/sys/bus/pci/devices/{address}/numa_node")).ok()?;
    text.trim().parse().ok()
}
