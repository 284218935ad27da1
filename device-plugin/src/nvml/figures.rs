//! What a GPU measures of itself, and how often each of it is asked for. A GPU that doesn't tell something leaves it out.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use nvml_wrapper::{
    Device,
    enum_wrappers::device::{Clock, TemperatureSensor},
    error::{NvmlError, nvml_try},
};
use nvml_wrapper_sys::bindings::nvmlMemory_t;
use plasma_device_plugin_core::Gpu;

use super::{
    fields::{self, Field, Told},
    gpm::{Activity, Gpm},
    signs,
};

/// Asked for at each look, in one call, together with the signs of health.
const EACH_LOOK: [Field; 10] = [
    fields::MEMORY_TEMP,
    fields::PCIE_REPLAY_COUNTER,
    fields::PERF_POLICY_POWER,
    fields::PERF_POLICY_THERMAL,
    fields::PERF_POLICY_SYNC_BOOST,
    fields::PERF_POLICY_BOARD_LIMIT,
    fields::PERF_POLICY_LOW_UTILIZATION,
    fields::PERF_POLICY_RELIABILITY,
    fields::NVLINK_THROUGHPUT_DATA_TX,
    fields::NVLINK_THROUGHPUT_DATA_RX,
];

/// Changes seldom, or can wait.
const SELDOM: [Field; 5] = [
    fields::ECC_SBE_VOL_TOTAL,
    fields::ECC_SBE_AGG_TOTAL,
    fields::ECC_DBE_AGG_TOTAL,
    fields::REMAPPED_COR,
    fields::REMAPPED_UNC,
];

/// How old what changes seldom may become.
const SELDOM_EVERY: Duration = Duration::from_secs(30);

/// Figures of one GPU for the metrics, in NVML's units; what a GPU doesn't have is left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) uuid: String,
    pub(crate) memory_used_bytes: Option<u64>,
    pub(crate) memory_free_bytes: Option<u64>,
    /// What the driver keeps for itself. Drivers that don't tell it count it as used.
    pub(crate) memory_reserved_bytes: Option<u64>,
    /// Share of the time in which a kernel ran. Not told of a divided GPU.
    pub(crate) utilization_percent: Option<u32>,
    /// Share of the time in which memory was read or written.
    pub(crate) memory_utilization_percent: Option<u32>,
    pub(crate) encoder_percent: Option<u32>,
    pub(crate) decoder_percent: Option<u32>,
    pub(crate) temperature_celsius: Option<u32>,
    pub(crate) memory_temperature_celsius: Option<u64>,
    pub(crate) power_milliwatts: Option<u32>,
    pub(crate) energy_millijoules: Option<u64>,
    pub(crate) sm_clock_megahertz: Option<u32>,
    pub(crate) memory_clock_megahertz: Option<u32>,
    /// NVML's bits of why the clocks are as they are.
    pub(crate) clock_event_reasons: Option<u64>,
    /// Nanoseconds in which clocks were held down, in the order of [`THROTTLES`].
    pub(crate) throttled_nanoseconds: [Option<u64>; THROTTLES.len()],
    pub(crate) pcie_replays: Option<u64>,
    pub(crate) nvlink_sent_kib: Option<u64>,
    pub(crate) nvlink_received_kib: Option<u64>,
    /// Sent and received between the last two looks.
    pub(crate) nvlink_kib_per_second: Option<f64>,
    pub(crate) memory_errors: MemoryErrors,
    pub(crate) activity: Option<Activity>,
    /// The same of each GPU instance, by its number, where the GPU is divided.
    pub(crate) instances: Vec<(u32, Activity)>,
}

/// Errors of a GPU's memory. Volatile ones count since the driver was loaded, the others over the GPU's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemoryErrors {
    pub(crate) correctable_volatile: Option<u64>,
    pub(crate) uncorrectable_volatile: Option<u64>,
    pub(crate) correctable_total: Option<u64>,
    pub(crate) uncorrectable_total: Option<u64>,
    /// Rows that were replaced after correctable errors.
    pub(crate) rows_correctable: Option<u64>,
    /// Rows that were replaced after uncorrectable errors.
    pub(crate) rows_uncorrectable: Option<u64>,
    pub(crate) remapping_pending: Option<u64>,
    pub(crate) remapping_failed: Option<u64>,
}

/// What holds clocks down, as NVML counts it.
pub(crate) const THROTTLES: [&str; 6] =
    ["power", "thermal", "sync_boost", "board_limit", "low_utilization", "reliability"];

/// What is remembered of one GPU between two looks.
#[derive(Default)]
pub(super) struct Measuring<'lib> {
    seldom: Option<(Instant, Told)>,
    gpm: Gpm<'lib>,
    /// Of each GPU instance, by its number.
    instances: BTreeMap<u32, Gpm<'lib>>,
    /// Whether the GPU has GPM at all; `None` until it was asked.
    has_gpm: Option<bool>,
    /// When the data over NVLink was counted, and how much it was, in KiB.
    nvlink: Option<(Instant, u64)>,
}

impl<'lib> Measuring<'lib> {
    /// The fields that each look needs: signs of health and figures.
    ///
    /// # Errors
    /// When the call itself fails.
    pub(super) fn fields(device: &Device<'_>) -> Result<Told, NvmlError> {
        let fields: Vec<Field> = signs::FIELDS.into_iter().chain(EACH_LOOK).collect();
        fields::ask(device, &fields)
    }

    /// The figures as they are now.
    pub(super) fn measure(&mut self, gpu: &Gpu, device: &Device<'lib>, told: &Told) -> Figures {
        let memory = memory(device).ok();
        let utilization = device.utilization_rates().ok();
        let throttled = [2, 3, 4, 5, 6, 7].map(|place| told.get(EACH_LOOK[place]));
        Figures {
            uuid: gpu.uuid.clone(),
            memory_used_bytes: memory.as_ref().map(|memory| memory.used),
            memory_free_bytes: memory.as_ref().map(|memory| memory.free),
            memory_reserved_bytes: memory.and_then(|memory| memory.reserved),
            utilization_percent: utilization.as_ref().map(|rates| rates.gpu),
            memory_utilization_percent: utilization.map(|rates| rates.memory),
            encoder_percent: device.encoder_utilization().ok().map(|told| told.utilization),
            decoder_percent: device.decoder_utilization().ok().map(|told| told.utilization),
            temperature_celsius: device.temperature(TemperatureSensor::Gpu).ok(),
            memory_temperature_celsius: told.get(fields::MEMORY_TEMP),
            power_milliwatts: device.power_usage().ok(),
            energy_millijoules: device.total_energy_consumption().ok(),
            sm_clock_megahertz: device.clock_info(Clock::SM).ok(),
            memory_clock_megahertz: device.clock_info(Clock::Memory).ok(),
            clock_event_reasons: device.current_throttle_reasons().ok().map(|reasons| reasons.bits()),
            throttled_nanoseconds: throttled,
            pcie_replays: told.get(fields::PCIE_REPLAY_COUNTER),
            nvlink_sent_kib: told.get(fields::NVLINK_THROUGHPUT_DATA_TX),
            nvlink_received_kib: told.get(fields::NVLINK_THROUGHPUT_DATA_RX),
            nvlink_kib_per_second: self.nvlink_rate(told),
            memory_errors: self.memory_errors(device, told),
            activity: self.activity(device),
            instances: self.instances(gpu, device),
        }
    }

    fn nvlink_rate(&mut self, told: &Told) -> Option<f64> {
        let sent = told.get(fields::NVLINK_THROUGHPUT_DATA_TX)?;
        let now = (Instant::now(), sent.saturating_add(told.get(fields::NVLINK_THROUGHPUT_DATA_RX)?));
        let (before, counted) = self.nvlink.replace(now)?;
        // A counter that went back began anew.
        let moved = now.1.checked_sub(counted)?;
        Some(moved as f64 / now.0.duration_since(before).as_secs_f64()).filter(|rate| rate.is_finite())
    }

    fn memory_errors(&mut self, device: &Device<'_>, told: &Told) -> MemoryErrors {
        if self.seldom.as_ref().is_none_or(|(at, _)| at.elapsed() >= SELDOM_EVERY) {
            self.seldom = Some((Instant::now(), seldom(device).unwrap_or_default()));
        }
        let seldom = |field| self.seldom.as_ref().and_then(|(_, told)| told.get(field));
        MemoryErrors {
            correctable_volatile: seldom(fields::ECC_SBE_VOL_TOTAL),
            uncorrectable_volatile: told.get(fields::ECC_DBE_VOL_TOTAL),
            correctable_total: seldom(fields::ECC_SBE_AGG_TOTAL),
            uncorrectable_total: seldom(fields::ECC_DBE_AGG_TOTAL),
            rows_correctable: seldom(fields::REMAPPED_COR),
            rows_uncorrectable: seldom(fields::REMAPPED_UNC),
            remapping_pending: told.get(fields::REMAPPED_PENDING),
            remapping_failed: told.get(fields::REMAPPED_FAILURE),
        }
    }

    fn has_gpm(&mut self, device: &Device<'_>) -> bool {
        *self.has_gpm.get_or_insert_with(|| device.gpm_support().unwrap_or(false))
    }

    fn activity(&mut self, device: &Device<'lib>) -> Option<Activity> {
        if !self.has_gpm(device) {
            return None;
        }
        let told = self.gpm.look(device.nvml(), || device.gpm_sample());
        told.inspect_err(|fault| tracing::debug!("no activity of a GPU: {fault}")).ok().flatten()
    }

    fn instances(&mut self, gpu: &Gpu, device: &Device<'lib>) -> Vec<(u32, Activity)> {
        let numbers: BTreeSet<u32> = gpu.instances().iter().map(|part| part.instance.gpu).collect();
        self.instances.retain(|number, _| numbers.contains(number));
        if !self.has_gpm(device) {
            return Vec::new();
        }
        let told = numbers.into_iter().filter_map(|number| {
            let gpm = self.instances.entry(number).or_default();
            let told = gpm.look(device.nvml(), || device.gpm_mig_sample(number));
            let told = told.inspect_err(|fault| tracing::debug!("no activity of a GPU instance: {fault}"));
            Some((number, told.ok().flatten()?))
        });
        told.collect()
    }
}

/// The fields that change seldom.
///
/// # Errors
/// When the call itself fails.
pub(super) fn seldom(device: &Device<'_>) -> Result<Told, NvmlError> {
    fields::ask(device, &SELDOM)
}

/// A GPU's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) total: u64,
    used: u64,
    free: u64,
    reserved: Option<u64>,
}

/// A GPU's memory. Drivers before 510 have the first version of the question alone, which counts what is reserved as used.
///
/// # Errors
/// When the GPU doesn't tell it.
pub(super) fn memory(device: &Device<'_>) -> Result<Memory, NvmlError> {
    match device.memory_info() {
        Ok(memory) => Ok(Memory {
            total: memory.total,
            used: memory.used,
            free: memory.free,
            reserved: Some(memory.reserved),
        }),
        Err(NvmlError::FailedToLoadSymbol(_)) => first_version_of_memory(device),
        Err(fault) => Err(fault),
    }
}

fn first_version_of_memory(device: &Device<'_>) -> Result<Memory, NvmlError> {
    let ask = device.nvml().lib().nvmlDeviceGetMemoryInfo.as_ref();
    let ask = ask.map_err(|fault| NvmlError::FailedToLoadSymbol(fault.to_string()))?;
    let mut told = nvmlMemory_t { total: 0, used: 0, free: 0 };
    // SAFETY: the handle lives as long as its borrow, and the library writes one structure.
    nvml_try(unsafe { ask(device.handle(), &mut told) })?;
    Ok(Memory { total: told.total, used: told.used, free: told.free, reserved: None })
}
