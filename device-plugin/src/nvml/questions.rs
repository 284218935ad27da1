//! Every read-only question that the plugin asks NVML, one by one, with what the driver answers.

use std::{
    fmt::Debug,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nvml_wrapper::{
    Device,
    bitmasks::event::EventTypes,
    enum_wrappers::device::{Clock, TemperatureSensor},
    error::NvmlError,
};

use super::{Library, fields, figures, figures::Measuring, gpm, mig, numa_node};

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
    let count = ask.about("nvmlDeviceGetCount_v2", || nvml.device_count()).unwrap_or(0);
    for index in 0..count {
        ask.gpu = Some(index);
        let device = ask.quietly("nvmlDeviceGetHandleByIndex_v2", || nvml.device_by_index(index));
        if let Some(device) = device {
            about_gpu(&mut ask, library, &device);
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
        (self.asking)(self.gpu, question);
        let began = Instant::now();
        let told = ask();
        let took = Some(began.elapsed());
        let answer = told.as_ref().map(|told| format!("{told:?}")).map_err(ToString::to_string);
        (self.answered)(Answer { question, gpu: self.gpu, answer, took });
        told.ok()
    }

    /// Only a refusal is worth a line.
    fn quietly<T>(
        &mut self,
        question: &'static str,
        ask: impl FnOnce() -> Result<T, NvmlError>,
    ) -> Option<T> {
        (self.asking)(self.gpu, question);
        match ask() {
            Ok(told) => Some(told),
            Err(fault) => {
                let (gpu, answer) = (self.gpu, Err(fault.to_string()));
                (self.answered)(Answer { question, gpu, answer, took: None });
                None
            }
        }
    }
}

fn about_gpu(ask: &mut Asker<'_>, library: &Library, device: &Device<'_>) {
    ask.about("nvmlDeviceGetUUID", || device.uuid());
    ask.about("nvmlDeviceGetName", || device.name());
    if ask.about("nvmlDeviceGetMemoryInfo_v2", || device.memory_info()).is_none() {
        ask.about("nvmlDeviceGetMemoryInfo", || figures::memory(device));
    }
    let pci = ask.about("nvmlDeviceGetPciInfo_v3", || device.pci_info());
    let minor = ask.about("nvmlDeviceGetMinorNumber", || device.minor_number());
    if let Some(minor) = minor.filter(|_| !library.substitute) {
        let node = format!("/dev/nvidia{minor}");
        ask.about("its device node", || {
            let is_there = if Path::new(&node).exists() { "is there" } else { "is missing" };
            Ok(format!("{node} {is_there}"))
        });
    }
    if let Some(pci) = pci {
        ask.about("sysfs numa_node", || Ok(numa_node(&pci.bus_id)));
    }
    ask.about("nvmlDeviceGetCudaComputeCapability", || device.cuda_compute_capability());
    if ask.about("nvmlDeviceGetMigMode", || device.mig_mode()).is_some_and(|mode| mode.current == 1) {
        about_instances(ask, device);
    }
    ask.about("nvmlDeviceGetComputeRunningProcesses_v3", || device.running_compute_processes());
    ask.about("nvmlDeviceGetGraphicsRunningProcesses_v3", || device.running_graphics_processes());
    ask.about("nvmlDeviceGetUtilizationRates", || device.utilization_rates());
    ask.about("nvmlDeviceGetTemperature", || device.temperature(TemperatureSensor::Gpu));
    ask.about("nvmlDeviceGetPowerUsage", || device.power_usage());
    ask.about("nvmlDeviceGetTotalEnergyConsumption", || device.total_energy_consumption());
    about_figures(ask, device);
    about_activity(ask, device);
    ask.about("nvmlDeviceGetSupportedEventTypes", || device.supported_event_types());
    ask.about("nvmlDeviceRegisterEvents (XIDs)", || {
        let set = library.nvml.create_event_set()?;
        device.register_events(EventTypes::CRITICAL_XID_ERROR, set).map(drop).map_err(|fault| fault.error)
    });
    ask.about("nvmlDeviceGetNvLinkState (link 0)", || device.link_wrapper_for(0).is_active());
}

fn about_instances(ask: &mut Asker<'_>, device: &Device<'_>) {
    ask.about("nvmlDeviceGetMaxMigDeviceCount", || device.mig_device_count());
    let parts = ask.quietly("nvmlDeviceGetMigDeviceHandleByIndex", || mig::parts(device));
    for part in parts.unwrap_or_default() {
        ask.about("nvmlDeviceGetUUID (of an instance)", || part.uuid());
        ask.about("nvmlDeviceGetName (of an instance)", || part.name());
        ask.about("nvmlDeviceGetGpuInstanceId, nvmlDeviceGetComputeInstanceId", || mig::place(&part));
        ask.about("nvmlDeviceGetAttributes_v2", || part.attributes());
    }
}

fn about_figures(ask: &mut Asker<'_>, device: &Device<'_>) {
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

/// Two samples, and what was between them; the only question that takes its time, so that there is something between.
fn about_activity(ask: &mut Asker<'_>, device: &Device<'_>) {
    if ask.about("nvmlGpmQueryDeviceSupport", || device.gpm_support()) != Some(true) {
        return;
    }
    if ask.quietly("nvmlGpmSampleFree", || gpm::can_free(device.nvml())).is_none() {
        return;
    }
    let Some(before) = ask.quietly("nvmlGpmSampleAlloc", || device.gpm_sample()) else { return };
    thread::sleep(gpm::APART);
    ask.about("nvmlGpmSampleGet", || device.gpm_sample().map(drop));
    let Some(after) = ask.quietly("nvmlGpmSampleGet", || device.gpm_sample()) else { return };
    ask.about("nvmlGpmMetricsGet", || gpm::activity(device.nvml(), &before, &after));
}
