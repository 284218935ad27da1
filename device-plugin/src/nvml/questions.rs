//! Every read-only question that the plugin asks NVML, one by one, with what the driver answers.

use std::{fmt::Debug, path::Path};

use nvml_wrapper::{
    Device, bitmasks::event::EventTypes, enum_wrappers::device::TemperatureSensor, error::NvmlError,
    structs::device::FieldId, sys_exports::field_id,
};

use super::{Library, numa_node};

/// One question and its answer.
pub(crate) struct Answer {
    /// NVML's own name of it, or where else is asked.
    pub(crate) question: &'static str,
    /// Which GPU, by its index; the library itself where it is none.
    pub(crate) gpu: Option<u32>,
    /// What was answered, or the driver's refusal.
    pub(crate) answer: Result<String, String>,
}

/// The fields that are asked for, each on its own.
const FIELDS: [(&str, u32); 4] = [
    ("field 230: GPU_RECOVERY_ACTION", field_id::NVML_FI_DEV_GET_GPU_RECOVERY_ACTION),
    ("field 4: ECC_DBE_VOL_TOTAL", field_id::NVML_FI_DEV_ECC_DBE_VOL_TOTAL),
    ("field 144: REMAPPED_PENDING", field_id::NVML_FI_DEV_REMAPPED_PENDING),
    ("field 145: REMAPPED_FAILURE", field_id::NVML_FI_DEV_REMAPPED_FAILURE),
];

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
        let told = ask();
        let answer = told.as_ref().map(|told| format!("{told:?}")).map_err(ToString::to_string);
        (self.answered)(Answer { question, gpu: self.gpu, answer });
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
                (self.answered)(Answer { question, gpu, answer });
                None
            }
        }
    }
}

fn about_gpu(ask: &mut Asker<'_>, library: &Library, device: &Device<'_>) {
    ask.about("nvmlDeviceGetUUID", || device.uuid());
    ask.about("nvmlDeviceGetName", || device.name());
    ask.about("nvmlDeviceGetMemoryInfo_v2", || device.memory_info());
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
    ask.about("nvmlDeviceGetMigMode", || device.mig_mode());
    ask.about("nvmlDeviceGetUtilizationRates", || device.utilization_rates());
    ask.about("nvmlDeviceGetTemperature", || device.temperature(TemperatureSensor::Gpu));
    ask.about("nvmlDeviceGetPowerUsage", || device.power_usage());
    ask.about("nvmlDeviceGetTotalEnergyConsumption", || device.total_energy_consumption());
    for (question, field) in FIELDS {
        ask.about(question, || {
            let told = device.field_values_for(&[FieldId(field)])?;
            told.into_iter().next().unwrap_or(Err(NvmlError::NotFound))?.value
        });
    }
    ask.about("nvmlDeviceGetSupportedEventTypes", || device.supported_event_types());
    ask.about("nvmlDeviceRegisterEvents (XIDs)", || {
        let set = library.nvml.create_event_set()?;
        device.register_events(EventTypes::CRITICAL_XID_ERROR, set).map(drop).map_err(|fault| fault.error)
    });
    ask.about("nvmlDeviceGetNvLinkState (link 0)", || device.link_wrapper_for(0).is_active());
}
