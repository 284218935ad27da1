//! NVML: the only file that touches it. Plain values come out; nothing borrows the library elsewhere.
//!
//! One event set per GPU, since a registration that fails takes its whole set along; and no waiting for events: each
//! look takes what has come.
#![allow(unsafe_code, reason = "one lookup of a symbol that nvml-wrapper doesn't know")]

use std::{collections::BTreeMap, path::Path};

use nvml_wrapper::{
    Device, EventSet, Nvml,
    bitmasks::event::EventTypes,
    enum_wrappers::device::TemperatureSensor,
    enums::{device::SampleValue, event::XidError},
    error::NvmlError,
    structs::device::FieldId,
    sys_exports::field_id::NVML_FI_DEV_GET_GPU_RECOVERY_ACTION,
};
use plasma_device_plugin_core::{Gpu, Look, Recovery, Scan, Seen};

/// The driver's own library.
pub(crate) const DRIVER_LIBRARY: &str = "libnvidia-ml.so.1";

/// What a substitute exports, to say that it is one.
const SUBSTITUTE_SYMBOL: &[u8] = b"plasma_fake_nvml\0";

/// Device nodes that every user of a GPU needs, where the machine has them.
const SHARED_NODES: [&str; 3] = ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"];

/// More events of one GPU than these are left for the next look.
const EVENTS_A_LOOK: usize = 64;

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
    pub(crate) energy_millijoules: Option<u64>,
}

impl Library {
    /// Loads and initialises the library.
    ///
    /// # Errors
    /// In words: the library can't be loaded, or the driver isn't there.
    pub(crate) fn load(path: &Path) -> Result<Self, String> {
        let nvml = Nvml::builder().lib_path(path.as_os_str()).init();
        let nvml = nvml.map_err(|fault| format!("NVML ({}) can't be used: {fault}", path.display()))?;
        // nvml-wrapper panics when it can't clean up: such a library is better left loaded than used.
        let lib = nvml.lib();
        if lib.nvmlShutdown.is_err() || lib.nvmlEventSetFree.is_err() {
            std::mem::forget(nvml);
            return Err(format!("{} can't be used: it is not NVML, or only a part of it", path.display()));
        }
        // SAFETY: the symbol is only looked for, never called or read.
        let says_so = unsafe { nvml.lib().__library.get::<*const ()>(SUBSTITUTE_SYMBOL) }.is_ok();
        Ok(Self { nvml, substitute: says_so || path != Path::new(DRIVER_LIBRARY) })
    }

    /// Whether what it says is simulated.
    pub(crate) fn is_substitute(&self) -> bool {
        self.substitute
    }
}

/// The looks through one loaded library.
pub(crate) struct Session<'lib> {
    library: &'lib Library,
    number: u64,
    /// By UUID; `None` where the GPU has no events.
    events: BTreeMap<String, Option<EventSet<'lib>>>,
}

impl<'lib> Session<'lib> {
    /// `number` tells this session from earlier ones.
    pub(crate) fn new(library: &'lib Library, number: u64) -> Self {
        Self { library, number, events: BTreeMap::new() }
    }

    /// Looks at every GPU. A fault of one GPU is that GPU's; a fault of the library is everybody's.
    pub(crate) fn look(&mut self) -> (Scan, Vec<Figures>) {
        let count = match self.library.nvml.device_count() {
            Ok(count) => count,
            Err(fault) => return (Scan::Failed(format!("NVML doesn't count its GPUs: {fault}")), Vec::new()),
        };
        let mut figures = Vec::new();
        let gpus = (0..count).map(|index| {
            self.look_at(index, &mut figures).unwrap_or_else(|fault| Seen::Silent(fault.to_string()))
        });
        let gpus = gpus.collect();
        let shared = SHARED_NODES.iter().filter(|node| !self.library.substitute && Path::new(node).exists());
        let look = Look {
            session: self.number,
            driver_version: self.library.nvml.sys_driver_version().ok(),
            shared_nodes: shared.map(|node| (*node).to_owned()).collect(),
            gpus,
        };
        (Scan::Looked(look), figures)
    }

    fn look_at(&mut self, index: u32, figures: &mut Vec<Figures>) -> Result<Seen, NvmlError> {
        let device = self.library.nvml.device_by_index(index)?;
        let gpu = facts(index, &device, self.library.substitute)?;
        if let Some(missing) = gpu.device_node.as_deref().filter(|node| !Path::new(node).exists()) {
            return Ok(Seen::Silent(format!("its device node {missing} isn't there")));
        }
        figures.push(measure(&gpu.uuid, &device));
        let xids = self.xids(&gpu.uuid, &device);
        Ok(Seen::Answered { recovery: recovery(&device), xids, gpu })
    }

    /// The XIDs since the last look. Where events fail, the other signs of health remain.
    fn xids(&mut self, uuid: &str, device: &Device<'lib>) -> Vec<u64> {
        if !self.events.contains_key(uuid) {
            match self.register(device) {
                Ok(set) => drop(self.events.insert(uuid.to_owned(), Some(set))),
                Err(NvmlError::NotSupported) => {
                    tracing::info!("GPU {uuid} has no XID events");
                    self.events.insert(uuid.to_owned(), None);
                }
                Err(fault) => tracing::warn!("GPU {uuid}: its XID events can't be had: {fault}"),
            }
        }
        let Some(Some(set)) = self.events.get(uuid) else { return Vec::new() };
        let mut xids = Vec::new();
        while xids.len() < EVENTS_A_LOOK {
            match set.wait(0).map(|event| event.event_data) {
                Ok(Some(XidError::Value(xid))) => xids.push(xid),
                Ok(Some(XidError::Unknown)) => xids.push(999),
                Ok(None) | Err(NvmlError::Timeout) => break,
                Err(fault) => {
                    tracing::warn!("GPU {uuid}: its XID events can't be read: {fault}");
                    self.events.remove(uuid);
                    break;
                }
            }
        }
        xids
    }

    fn register(&self, device: &Device<'lib>) -> Result<EventSet<'lib>, NvmlError> {
        let set = self.library.nvml.create_event_set()?;
        device.register_events(EventTypes::CRITICAL_XID_ERROR, set).map_err(|fault| fault.error)
    }
}

fn facts(index: u32, device: &Device<'_>, substitute: bool) -> Result<Gpu, NvmlError> {
    let pci_bus_id = device.pci_info().ok().map(|pci| pci.bus_id);
    // Behind a simulated GPU there is neither a device node nor a PCI device of this machine.
    let (device_node, numa_node) = if substitute {
        (None, device.numa_node_id().ok())
    } else {
        let node = format!("/dev/nvidia{}", device.minor_number()?);
        (Some(node), pci_bus_id.as_deref().and_then(numa_node))
    };
    let (uuid, name, memory_bytes) = (device.uuid()?, device.name()?, device.memory_info()?.total);
    Ok(Gpu { uuid, index, device_node, name, memory_bytes, pci_bus_id, numa_node })
}

/// What NVML says has to happen. Whatever isn't a clear answer is none: it must not heal a GPU.
fn recovery(device: &Device<'_>) -> Recovery {
    let asked = device.field_values_for(&[FieldId(NVML_FI_DEV_GET_GPU_RECOVERY_ACTION)]);
    let value = asked.ok().and_then(|values| values.into_iter().next()?.ok()?.value.ok());
    let action = match value {
        Some(SampleValue::U32(action)) => u64::from(action),
        Some(SampleValue::U64(action)) => action,
        _ => return Recovery::NotTold,
    };
    match action {
        0 => Recovery::NotNeeded,
        1 => Recovery::Needed("a GPU reset"),
        2 => Recovery::Needed("a node reboot"),
        3 => Recovery::Needed("an end of all peer-to-peer traffic"),
        4 => Recovery::Needed("a drained node and a GPU reset"),
        _ => Recovery::Needed("something that this version doesn't know"),
    }
}

fn measure(uuid: &str, device: &Device<'_>) -> Figures {
    Figures {
        uuid: uuid.to_owned(),
        memory_used_bytes: device.memory_info().ok().map(|memory| memory.used),
        utilization_percent: device.utilization_rates().ok().map(|rates| rates.gpu),
        temperature_celsius: device.temperature(TemperatureSensor::Gpu).ok(),
        power_milliwatts: device.power_usage().ok(),
        energy_millijoules: device.total_energy_consumption().ok(),
    }
}

/// The kernel knows on which NUMA node a PCI device hangs; NVML's own number means something else.
fn numa_node(pci_bus_id: &str) -> Option<u32> {
    // NVML writes an eight-digit domain, sysfs a four-digit one.
    let address = pci_bus_id.to_lowercase();
    let address = if address.len() > 12 { address.get(address.len() - 12..)? } else { &address };
    let text = std::fs::read_to_string(format!("/sys/bus/pci/devices/{address}/numa_node")).ok()?;
    // -1 is a machine with a single one.
    text.trim().parse().ok()
}
