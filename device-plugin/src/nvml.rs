//! NVML: the only module that touches it. Plain values come out; nothing borrows the library elsewhere.
#![allow(unsafe_code, reason = "a symbol that nvml-wrapper doesn't know, and two calls that it gets wrong")]

mod events;
mod fields;
mod figures;
mod gpm;
mod limits;
mod mig;
mod occupancy;
mod questions;
mod signs;
mod source;
mod topology;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nvml_wrapper::{Device, Nvml, error::NvmlError};
use plasma_device_plugin_core::{Gpu, Look, Mode, Occupancy, Scan, Seen, Silence, Topology};

use events::Events;
use figures::Measuring;
use limits::MemoryLimits;

pub(crate) use figures::{Figures, THROTTLES};
pub(crate) use gpm::Activity;
pub(crate) use limits::Limited;
pub(crate) use questions::{Answer, COUNT, LOAD, ask_all, of_gpu, of_library};
pub(crate) use source::Source;

/// The driver's own library.
pub(crate) const DRIVER_LIBRARY: &str = "libnvidia-ml.so.1";

/// What a substitute exports, to say that it is one.
const SUBSTITUTE_SYMBOL: &[u8] = b"plasma_fake_nvml\0";

/// Device nodes that every user of a GPU needs, where the machine has them.
const SHARED_NODES: [&str; 3] = ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"];

/// How the GPUs are connected is asked anew after this long.
const CONNECTED: Duration = Duration::from_secs(60);

/// A loaded library. It is dropped and loaded again when the driver reloads.
pub(crate) struct Library {
    nvml: Nvml,
    file: PathBuf,
    substitute: bool,
}

impl Library {
    /// Loads and initialises the library.
    ///
    /// # Errors
    /// In words: the library can't be loaded, or the driver isn't there.
    pub(crate) fn load(source: &Source) -> Result<Self, String> {
        let file = source.file();
        let nvml = Nvml::builder().lib_path(file.as_os_str()).init();
        let nvml = nvml.map_err(|fault| {
            format!("NVML ({}) can't be used: {fault}{}", file.display(), source.in_vain(&file))
        })?;
        // nvml-wrapper panics when it can't clean up: such a library is better left loaded than used.
        let lib = nvml.lib();
        if lib.nvmlShutdown.is_err() || lib.nvmlEventSetFree.is_err() {
            std::mem::forget(nvml);
            return Err(format!("{} can't be used: it is not NVML, or only a part of it", file.display()));
        }
        // SAFETY: the symbol is only looked for, never called or read.
        let says_so = unsafe { nvml.lib().__library.get::<*const ()>(SUBSTITUTE_SYMBOL) }.is_ok();
        Ok(Self { nvml, file, substitute: says_so || source.is_substitute() })
    }

    /// What was loaded.
    pub(crate) fn file(&self) -> &Path {
        &self.file
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
    events: Events<'lib>,
    /// When the GPUs were last asked how they are connected, who answered then, and what they said.
    connected: Option<(Instant, Vec<String>, Topology)>,
    /// What is remembered of each GPU's figures, by its UUID.
    measuring: BTreeMap<String, Measuring<'lib>>,
    /// `None` where the driver has no memory limits.
    limits: Option<MemoryLimits>,
}

impl<'lib> Session<'lib> {
    /// `number` tells this session from earlier ones.
    pub(crate) fn new(library: &'lib Library, number: u64) -> Self {
        let events = Events::new(&library.nvml);
        let limits = MemoryLimits::of(&library.nvml);
        Self { library, number, events, connected: None, measuring: BTreeMap::new(), limits }
    }

    /// Takes in the events that have come, without waiting; whether there were any, so that a look is due.
    pub(crate) fn hear(&mut self) -> bool {
        self.events.hear()
    }

    /// The XIDs that came since this was asked last, each with its GPU's UUID, whether or not that GPU still answers.
    pub(crate) fn news(&mut self) -> Vec<(String, u64)> {
        self.events.news()
    }

    /// Looks at every GPU. A fault of one GPU is that GPU's; a fault of the library is everybody's.
    pub(crate) fn look(&mut self) -> (Scan, Vec<Figures>) {
        let count = match self.library.nvml.device_count() {
            Ok(count) => count,
            Err(fault) => return (Scan::Failed(format!("NVML doesn't count its GPUs: {fault}")), Vec::new()),
        };
        // What came until now belongs to this look.
        self.events.hear();
        let mut figures = Vec::new();
        let gpus = (0..count).map(|index| {
            self.look_at(index, &mut figures).unwrap_or_else(|fault| Seen::Silent(signs::silence(&fault)))
        });
        let gpus: Vec<Seen> = gpus.collect();
        self.measuring.retain(|uuid, _| figures.iter().any(|figures| figures.uuid == *uuid));
        let shared = SHARED_NODES.iter().filter(|node| !self.library.substitute && Path::new(node).exists());
        let look = Look {
            session: self.number,
            driver_version: self.library.nvml.sys_driver_version().ok(),
            cuda_version: self.library.nvml.sys_cuda_driver_version().ok().and_then(cuda_version),
            shared_nodes: shared.map(|node| (*node).to_owned()).collect(),
            topology: self.topology(&gpus),
            gpus,
        };
        (Scan::Looked(look), figures)
    }

    /// Who uses those GPUs. One that is divided isn't used itself, and one that doesn't tell isn't in it.
    pub(crate) fn occupancies<'a>(
        &self,
        gpus: impl IntoIterator<Item = &'a str>,
    ) -> BTreeMap<String, Occupancy> {
        let is_divided = |device: &Device<'_>| device.mig_mode().is_ok_and(|mode| mode.current != 0);
        let occupied = gpus.into_iter().filter_map(|gpu| {
            let device = self.library.nvml.device_by_uuid(gpu).ok()?;
            (!is_divided(&device)).then(|| (gpu.to_owned(), occupancy::occupancy(&device)))
        });
        occupied.collect()
    }

    /// Whether the driver has limits of the memory that a cgroup takes.
    pub(crate) fn has_memory_limits(&self) -> bool {
        self.limits.is_some()
    }

    /// Sees to it that whoever is in the cgroup takes no more than so many bytes of the GPU's memory.
    pub(crate) fn limit_memory(&self, gpu: &str, cgroup: &Path, bytes: u64) -> Result<Limited, String> {
        let limits = self.limits.as_ref().ok_or("it has no such function")?;
        let device = self.library.nvml.device_by_uuid(gpu);
        let limited = device.and_then(|device| limits.ensure(&device, cgroup, bytes));
        limited.map_err(|fault| fault.to_string())
    }

    /// How the GPUs are connected: asked anew when others answer than before, and now and then, since links are trained after a
    /// driver is there.
    fn topology(&mut self, gpus: &[Seen]) -> Topology {
        let answered = gpus.iter().filter_map(|seen| match seen {
            Seen::Answered { gpu, .. } => Some(gpu.uuid.clone()),
            Seen::Silent(_) => None,
        });
        let answered: Vec<String> = answered.collect();
        let topology = match self.connected.take() {
            Some((at, before, topology)) if before == answered && at.elapsed() < CONNECTED => {
                self.connected = Some((at, before, topology.clone()));
                return topology;
            }
            _ => {
                let device = |uuid: &String| {
                    Some((uuid.clone(), self.library.nvml.device_by_uuid(uuid.as_str()).ok()?))
                };
                let devices: Vec<_> = answered.iter().filter_map(device).collect();
                topology::topology(&devices)
            }
        };
        self.connected = Some((Instant::now(), answered, topology.clone()));
        topology
    }

    fn look_at(&mut self, index: u32, figures: &mut Vec<Figures>) -> Result<Seen, NvmlError> {
        let device = self.library.nvml.device_by_index(index)?;
        let gpu = facts(index, &device, self.library.substitute)?;
        if let Some(missing) = gpu.device_node.as_deref().filter(|node| !Path::new(node).exists()) {
            let why = format!("its device node {missing} isn't there");
            return Ok(Seen::Silent(Silence { why, certain: true }));
        }
        let told = Measuring::fields(&device).unwrap_or_default();
        let measuring = self.measuring.entry(gpu.uuid.clone()).or_default();
        figures.push(measuring.measure(&gpu, &device, &told));
        self.events.register(&gpu.uuid, &device);
        let signs = signs::signs(&told, self.events.take(&gpu.uuid));
        Ok(Seen::Answered { gpu, signs })
    }
}

fn facts(index: u32, device: &Device<'_>, substitute: bool) -> Result<Gpu, NvmlError> {
    let pci_bus_id = device.pci_info().ok().map(|pci| pci.bus_id);
    // Behind a simulated GPU there is neither a device node nor a PCI device of this machine.
    let pci = pci_bus_id.as_deref().filter(|_| !substitute);
    let (device_node, numa_node) = if substitute {
        (None, device.numa_node_id().ok())
    } else {
        (Some(format!("/dev/nvidia{}", device.minor_number()?)), pci.and_then(numa_node))
    };
    let mode = pci.and_then(pci_class).map(Mode::of_pci_class).unwrap_or_default();
    let (uuid, name, memory_bytes) = (device.uuid()?, device.name()?, figures::memory(device)?.total);
    let capability = device.cuda_compute_capability().ok();
    let compute_capability =
        capability.and_then(|has| Some((has.major.try_into().ok()?, has.minor.try_into().ok()?)));
    let mig = mig::mig(device, substitute)?;
    Ok(Gpu {
        uuid,
        index,
        device_node,
        name,
        memory_bytes,
        pci_bus_id,
        mode,
        numa_node,
        compute_capability,
        mig,
    })
}

/// 13000 is CUDA 13.0, 12080 is 12.8.
fn cuda_version(told: i32) -> Option<(u32, u32)> {
    let told = u32::try_from(told).ok()?;
    Some((told / 1000, told % 1000 / 10))
}

/// The kernel knows on which NUMA node a PCI device hangs; NVML's own number means something else.
fn numa_node(pci_bus_id: &str) -> Option<u32> {
    // -1 is a machine with a single one.
    kernel_says(pci_bus_id, "numa_node")?.parse().ok()
}

/// What kind of PCI device it is. Newer drivers' NVML tells it too; the kernel always does.
fn pci_class(pci_bus_id: &str) -> Option<u32> {
    u32::from_str_radix(kernel_says(pci_bus_id, "class")?.strip_prefix("0x")?, 16).ok()
}

/// One of the kernel's facts about a PCI device.
fn kernel_says(pci_bus_id: &str, fact: &str) -> Option<String> {
    // NVML writes an eight-digit domain, sysfs a four-digit one.
    let address = pci_bus_id.to_lowercase();
    let address = if address.len() > 12 { address.get(address.len() - 12..)? } else { &address };
    let text = std::fs::read_to_string(format!("/sys/bus/pci/devices/{address}/{fact}")).ok()?;
    Some(text.trim().to_owned())
}
