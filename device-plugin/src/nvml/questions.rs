//! Every read-only question that the plugin asks NVML, one by one, with what the driver answers.

mod activity;
mod links;

use std::{
    fmt::Debug,
    path::Path,
    time::{Duration, Instant},
};

use nvml_wrapper::{
    Device,
    enum_wrappers::device::{Clock, TemperatureSensor},
    error::NvmlError,
};

use super::{Library, MemoryLimits, events, fields, figures, figures::Measuring, mig, numa_node};

/// Whether NVML can be used at all.
pub(crate) const LOAD: &str = "nvmlInit_v2";
/// How many GPUs there are; the answer is the number alone.
pub(crate) const COUNT: &str = "nvmlDeviceGetCount_v2";

const OF_LIBRARY: [&str; 5] = [
    LOAD,
    "nvmlSystemGetDriverVersion",
    "nvmlSystemGetNVMLVersion",
    "nvmlSystemGetCudaDriverVersion_v2",
    COUNT,
];

/// In the order in which they are asked, without the fields. Not every GPU is asked each: an undivided one has no instances.
const OF_GPU: &[&str] = &[
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetHandleByUUID",
    "nvmlDeviceGetName",
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetPciInfo_v3",
    "nvmlDeviceGetMinorNumber",
    "its device node",
    "sysfs numa_node",
    "nvmlDeviceGetNumaNodeId",
    "nvmlDeviceGetCudaComputeCapability",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetMaxMigDeviceCount",
    "nvmlDeviceGetMigDeviceHandleByIndex",
    "nvmlDeviceGetUUID (of an instance)",
    "nvmlDeviceGetHandleByUUID (of an instance)",
    "nvmlDeviceGetName (of an instance)",
    "nvmlDeviceGetGpuInstanceId, nvmlDeviceGetComputeInstanceId",
    "nvmlDeviceGetAttributes_v2",
    "nvmlDeviceGetMemoryInfo_v2 (of an instance)",
    "nvmlDeviceGetComputeRunningProcesses_v3 (of an instance)",
    "nvmlDeviceGetGraphicsRunningProcesses_v3 (of an instance)",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetClockInfo (SM)",
    "nvmlDeviceGetClockInfo (memory)",
    "nvmlDeviceGetEncoderUtilization",
    "nvmlDeviceGetDecoderUtilization",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
    "nvmlDeviceGetFieldValues (those of each look, at once)",
    "nvmlDeviceGetFieldValues (those that change seldom, at once)",
    "nvmlGpmQueryDeviceSupport",
    "nvmlGpmSampleFree",
    "nvmlGpmSampleAlloc, nvmlGpmSampleGet",
    "nvmlGpmMetricsGet",
    "nvmlGpmMigSampleGet",
    "nvmlGpmMetricsGet (of an instance)",
    "nvmlDeviceGetSupportedEventTypes",
    "nvmlEventSetCreate",
    "nvmlDeviceRegisterEvents (XIDs)",
    "nvmlEventSetWait_v2",
    "nvmlDeviceGetNvLinkState (each link)",
    "nvmlDeviceGetNvLinkRemoteDeviceType (each active link)",
    "nvmlDeviceGetNvLinkRemotePciInfo_v2 (each link to a GPU)",
    "nvmlDeviceGetTopologyCommonAncestor (each other GPU)",
    "nvmlDeviceGetMemoryLimits_v1 (of all cgroups)",
];

/// One question and its answer.
pub(crate) struct Answer {
    /// NVML's own name of it, or where else is asked.
    pub(crate) question: &'static str,
    /// Which GPU, by its index; the library itself where it is none.
    pub(crate) gpu: Option<u32>,
    /// What was answered, or the driver's refusal.
    pub(crate) answer: Result<String, String>,
    /// How long it took, where that was measured.
    pub(crate) took: Option<Duration>,
}

/// All that can be asked of the library.
pub(crate) fn of_library() -> Vec<&'static str> {
    OF_LIBRARY.to_vec()
}

/// All that can be asked of a GPU.
pub(crate) fn of_gpu() -> Vec<&'static str> {
    OF_GPU.iter().copied().chain(fields::ALL.iter().map(|field| field.question)).collect()
}

/// Asks them all. `asking` is told each before it is asked, so that one that hangs has a name; `answered` gets each answer.
pub(crate) fn ask_all(
    library: &Library,
    asking: &mut dyn FnMut(Option<u32>, &'static str),
    answered: &mut dyn FnMut(Answer),
) {
    let mut ask = Asker { gpu: None, asking, answered };
    let nvml = &library.nvml;
    ask.about("nvmlSystemGetDriverVersion", || nvml.sys_driver_version());
    ask.about("nvmlSystemGetNVMLVersion", || nvml.sys_nvml_version());
    ask.about("nvmlSystemGetCudaDriverVersion_v2", || nvml.sys_cuda_driver_version());
    let count = ask.about(COUNT, || nvml.device_count()).unwrap_or(0);
    for index in 0..count {
        ask.gpu = Some(index);
        let device = ask.found("nvmlDeviceGetHandleByIndex_v2", || nvml.device_by_index(index));
        if let Some(device) = device {
            about_gpu(&mut ask, library, &device);
            links::about_neighbours(&mut ask, &device, (0..count).filter(|other| *other != index));
            about_limits(&mut ask, &device);
        }
    }
}

struct Asker<'a> {
    gpu: Option<u32>,
    asking: &'a mut dyn FnMut(Option<u32>, &'static str),
    answered: &'a mut dyn FnMut(Answer),
}

impl Asker<'_> {
    fn about<T: Debug>(
        &mut self,
        question: &'static str,
        ask: impl FnOnce() -> Result<T, NvmlError>,
    ) -> Option<T> {
        self.put(question, ask, |told| format!("{told:?}"))
    }

    /// For what is of use, and has nothing to be read.
    fn found<T>(&mut self, question: &'static str, ask: impl FnOnce() -> Result<T, NvmlError>) -> Option<T> {
        self.put(question, ask, |_| "done".to_owned())
    }

    fn put<T>(
        &mut self,
        question: &'static str,
        ask: impl FnOnce() -> Result<T, NvmlError>,
        words: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        (self.asking)(self.gpu, question);
        let began = Instant::now();
        let told = ask();
        let took = Some(began.elapsed());
        let answer = told.as_ref().map(words).map_err(ToString::to_string);
        (self.answered)(Answer { question, gpu: self.gpu, answer, took });
        told.ok()
    }
}

fn about_gpu(ask: &mut Asker<'_>, library: &Library, device: &Device<'_>) {
    if let Some(uuid) = ask.about("nvmlDeviceGetUUID", || device.uuid()) {
        ask.found("nvmlDeviceGetHandleByUUID", || library.nvml.device_by_uuid(uuid.as_str()));
    }
    ask.about("nvmlDeviceGetName", || device.name());
    if ask.about("nvmlDeviceGetMemoryInfo_v2", || device.memory_info()).is_none() {
        ask.about("nvmlDeviceGetMemoryInfo", || figures::memory(device));
    }
    about_place(ask, library, device);
    ask.about("nvmlDeviceGetCudaComputeCapability", || device.cuda_compute_capability());
    let is_divided = ask.about("nvmlDeviceGetMigMode", || device.mig_mode());
    let instances = match is_divided {
        Some(mode) if mode.current == 1 => about_instances(ask, device),
        _ => Vec::new(),
    };
    ask.about("nvmlDeviceGetComputeRunningProcesses_v3", || device.running_compute_processes());
    ask.about("nvmlDeviceGetGraphicsRunningProcesses_v3", || device.running_graphics_processes());
    about_figures(ask, device);
    activity::about_activity(ask, device, &instances);
    about_events(ask, library, device);
}

/// Where in the machine it is.
fn about_place(ask: &mut Asker<'_>, library: &Library, device: &Device<'_>) {
    let pci = ask.about("nvmlDeviceGetPciInfo_v3", || device.pci_info());
    let minor = ask.about("nvmlDeviceGetMinorNumber", || device.minor_number());
    if library.substitute {
        ask.about("nvmlDeviceGetNumaNodeId", || device.numa_node_id());
    } else if let Some(minor) = minor {
        let node = format!("/dev/nvidia{minor}");
        ask.about("its device node", || {
            let is_there = if Path::new(&node).exists() { "is there" } else { "is missing" };
            Ok(format!("{node} {is_there}"))
        });
    }
    if let Some(pci) = pci {
        ask.about("sysfs numa_node", || Ok(numa_node(&pci.bus_id)));
    }
}

/// The numbers of its GPU instances.
fn about_instances(ask: &mut Asker<'_>, device: &Device<'_>) -> Vec<u32> {
    ask.about("nvmlDeviceGetMaxMigDeviceCount", || device.mig_device_count());
    let parts = ask.found("nvmlDeviceGetMigDeviceHandleByIndex", || mig::parts(device));
    let mut instances = Vec::new();
    for part in parts.unwrap_or_default() {
        if let Some(uuid) = ask.about("nvmlDeviceGetUUID (of an instance)", || part.uuid()) {
            let by_uuid = || part.nvml().device_by_uuid(uuid.as_str());
            ask.found("nvmlDeviceGetHandleByUUID (of an instance)", by_uuid);
        }
        ask.about("nvmlDeviceGetName (of an instance)", || part.name());
        let place = "nvmlDeviceGetGpuInstanceId, nvmlDeviceGetComputeInstanceId";
        instances.extend(ask.about(place, || mig::place(&part)).map(|place| place.gpu));
        ask.about("nvmlDeviceGetAttributes_v2", || part.attributes());
        ask.about("nvmlDeviceGetMemoryInfo_v2 (of an instance)", || part.memory_info());
        let processes = "nvmlDeviceGetComputeRunningProcesses_v3 (of an instance)";
        ask.about(processes, || part.running_compute_processes());
        let processes = "nvmlDeviceGetGraphicsRunningProcesses_v3 (of an instance)";
        ask.about(processes, || part.running_graphics_processes());
    }
    instances.sort_unstable();
    instances.dedup();
    instances
}

fn about_figures(ask: &mut Asker<'_>, device: &Device<'_>) {
    ask.about("nvmlDeviceGetUtilizationRates", || device.utilization_rates());
    ask.about("nvmlDeviceGetTemperature", || device.temperature(TemperatureSensor::Gpu));
    ask.about("nvmlDeviceGetPowerUsage", || device.power_usage());
    ask.about("nvmlDeviceGetTotalEnergyConsumption", || device.total_energy_consumption());
    ask.about("nvmlDeviceGetClockInfo (SM)", || device.clock_info(Clock::SM));
    ask.about("nvmlDeviceGetClockInfo (memory)", || device.clock_info(Clock::Memory));
    ask.about("nvmlDeviceGetEncoderUtilization", || device.encoder_utilization());
    ask.about("nvmlDeviceGetDecoderUtilization", || device.decoder_utilization());
    ask.about("nvmlDeviceGetCurrentClocksThrottleReasons", || device.current_throttle_reasons());
    for field in fields::ALL {
        ask.about(field.question, || {
            fields::ask(device, &[*field])?.get(*field).ok_or(NvmlError::NotSupported)
        });
    }
    ask.about("nvmlDeviceGetFieldValues (those of each look, at once)", || Measuring::fields(device));
    ask.about("nvmlDeviceGetFieldValues (those that change seldom, at once)", || figures::seldom(device));
}

/// As the plugin does: a set of its own, and a look into it without waiting.
fn about_events(ask: &mut Asker<'_>, library: &Library, device: &Device<'_>) {
    let nvml = &library.nvml;
    ask.about("nvmlDeviceGetSupportedEventTypes", || device.supported_event_types());
    let Some(set) = ask.found("nvmlEventSetCreate", || nvml.create_event_set()) else { return };
    let register = || device.register_events(events::wanted(device), set).map_err(|fault| fault.error);
    let Some(set) = ask.found("nvmlDeviceRegisterEvents (XIDs)", register) else { return };
    ask.about("nvmlEventSetWait_v2", || events::next(nvml, &set));
}

/// What the root's cgroup may take, in which all others are; mostly nobody has said.
fn about_limits(ask: &mut Asker<'_>, device: &Device<'_>) {
    ask.about("nvmlDeviceGetMemoryLimits_v1 (of all cgroups)", || {
        let limits = MemoryLimits::of(device.nvml());
        let missing = || NvmlError::FailedToLoadSymbol("the driver has no memory limits".to_owned());
        limits.ok_or_else(missing)?.of_all(device)
    });
}
