//! What a pretended GPU measures of itself, beside its health: clocks, engines, memory errors, activity.

use std::{
    collections::BTreeMap,
    ffi::{c_uint, c_ulonglong},
};

use nvml_wrapper_sys::bindings::{
    nvmlClockType_enum_NVML_CLOCK_MEM as MEMORY, nvmlClockType_enum_NVML_CLOCK_SM as SM, nvmlClockType_t,
    nvmlDevice_t, nvmlMemory_t, nvmlReturn_t,
};
use serde::{Deserialize, Serialize};

use crate::{
    code,
    memory::{write_option, write_value},
    session::ask_gpu,
};

/// How long NVML says that it watched an engine, in microseconds.
const SAMPLING_PERIOD: c_uint = 100_000;

/// What a pretended GPU measures of itself. What is left out, it doesn't support.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Telemetry {
    /// Clock of the multiprocessors, in MHz.
    pub sm_clock_mhz: Option<u32>,
    /// Clock of the memory, in MHz.
    pub memory_clock_mhz: Option<u32>,
    /// How busy the encoder is, in percent.
    pub encoder_percent: Option<u32>,
    /// How busy the decoder is, in percent.
    pub decoder_percent: Option<u32>,
    /// Share of the time in which memory was read or written, in percent; left out, it is the GPU's own utilisation.
    pub memory_percent: Option<u32>,
    /// Memory that the driver keeps for itself, in MiB.
    pub reserved_mib: u64,
    /// NVML's bits of why clocks are as they are.
    pub clock_event_reasons: Option<u64>,
    /// Remapped memory rows: by correctable errors, by uncorrectable ones, one is pending, one failed.
    pub remapped_rows: Option<[u32; 4]>,
    /// Field values by NVML's number.
    pub fields: BTreeMap<u32, FieldValue>,
    /// GPM metrics by NVML's number, in NVML's units; none: the GPU has no GPM.
    pub gpm: BTreeMap<u32, f64>,
    /// The same of GPU instances, by their number.
    pub gpm_instances: BTreeMap<u32, BTreeMap<u32, f64>>,
}

/// One field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FieldValue {
    /// An unsigned number of 64 bits.
    Number(u64),
    /// A number with NVML's tag of its type: 1 an unsigned one of 32 bits, 3 one of 64 bits.
    Tagged {
        /// The tag.
        #[serde(rename = "type")]
        kind: u32,
        /// The number.
        value: u64,
    },
}

/// As NVML's; version 1 counts what is reserved as used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo(
    device: nvmlDevice_t,
    memory: *mut nvmlMemory_t,
) -> nvmlReturn_t {
    ask_gpu("nvmlDeviceGetMemoryInfo", device, |gpu, _| {
        let [total, used, reserved] = gpu.memory();
        let used = used + reserved;
        // SAFETY: the caller keeps the contract.
        unsafe { write_value(nvmlMemory_t { total, used, free: total - used }, memory) }
    })
}

/// As NVML's; the clocks that are known are the multiprocessors' and the memory's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetClockInfo(
    device: nvmlDevice_t,
    kind: nvmlClockType_t,
    megahertz: *mut c_uint,
) -> nvmlReturn_t {
    ask_gpu("nvmlDeviceGetClockInfo", device, |gpu, _| {
        let clock = match kind {
            SM => gpu.telemetry.sm_clock_mhz,
            MEMORY => gpu.telemetry.memory_clock_mhz,
            _ => None,
        };
        // SAFETY: the caller keeps the contract.
        unsafe { write_option(clock, megahertz) }
    })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetEncoderUtilization(
    device: nvmlDevice_t,
    percent: *mut c_uint,
    period_us: *mut c_uint,
) -> nvmlReturn_t {
    ask_gpu("nvmlDeviceGetEncoderUtilization", device, |gpu, _| {
        // SAFETY: the caller keeps the contract.
        unsafe { write_utilization(gpu.telemetry.encoder_percent, percent, period_us) }
    })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetDecoderUtilization(
    device: nvmlDevice_t,
    percent: *mut c_uint,
    period_us: *mut c_uint,
) -> nvmlReturn_t {
    ask_gpu("nvmlDeviceGetDecoderUtilization", device, |gpu, _| {
        // SAFETY: the caller keeps the contract.
        unsafe { write_utilization(gpu.telemetry.decoder_percent, percent, period_us) }
    })
}

/// # Safety
/// Both are null or can be written.
unsafe fn write_utilization(told: Option<u32>, percent: *mut c_uint, period_us: *mut c_uint) -> nvmlReturn_t {
    // SAFETY: the caller promises it.
    match unsafe { write_option(told, percent) } {
        // SAFETY: as above.
        code::SUCCESS => unsafe { write_value(SAMPLING_PERIOD, period_us) },
        refusal => refusal,
    }
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCurrentClocksThrottleReasons(
    device: nvmlDevice_t,
    reasons: *mut c_ulonglong,
) -> nvmlReturn_t {
    ask_gpu("nvmlDeviceGetCurrentClocksThrottleReasons", device, |gpu, _| {
        // SAFETY: the caller keeps the contract.
        unsafe { write_option(gpu.telemetry.clock_event_reasons, reasons) }
    })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetRemappedRows(
    device: nvmlDevice_t,
    correctable: *mut c_uint,
    uncorrectable: *mut c_uint,
    pending: *mut c_uint,
    failed: *mut c_uint,
) -> nvmlReturn_t {
    ask_gpu("nvmlDeviceGetRemappedRows", device, |gpu, _| {
        let Some(rows) = gpu.telemetry.remapped_rows else { return code::NOT_SUPPORTED };
        let places = [correctable, uncorrectable, pending, failed];
        // SAFETY: the caller keeps the contract.
        let told = places.iter().zip(rows).map(|(place, row)| unsafe { write_value(row, *place) });
        told.max().unwrap_or(code::SUCCESS)
    })
}
