//! A stand-in for `libnvidia-ml.so.1`, driven by a state file, so that the same program and the same calls run where
//! there is no GPU.
//!
//! `PLASMA_FAKE_NVML_STATE` names a JSON file (see [`state::State`]); it is read anew at each call, so editing it is
//! how a GPU is lost, a driver reloads, or a call fails. The symbol `plasma_fake_nvml` tells whoever loads this
//! library that everything it says is simulated.

mod state;

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlMemory_v2_t, nvmlPciInfo_t, nvmlReturn_t, nvmlUtilization_t,
};
use state::{Gpu, State};

/// NVML's return values that this stand-in uses.
mod code {
    pub(crate) const SUCCESS: u32 = 0;
    pub(crate) const INVALID_ARGUMENT: u32 = 2;
    pub(crate) const NOT_SUPPORTED: u32 = 3;
    pub(crate) const INSUFFICIENT_SIZE: u32 = 7;
    pub(crate) const DRIVER_NOT_LOADED: u32 = 9;
    pub(crate) const GPU_IS_LOST: u32 = 15;
}

/// Says that this library is a stand-in.
#[unsafe(no_mangle)]
pub extern "C" fn plasma_fake_nvml() -> c_int {
    1
}

/// As NVML's.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> nvmlReturn_t {
    match State::read() {
        Ok(state) => state.init_error.unwrap_or(code::SUCCESS),
        Err(_) => code::DRIVER_NOT_LOADED,
    }
}

/// As NVML's.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> nvmlReturn_t {
    nvmlInit_v2()
}

/// As NVML's.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> nvmlReturn_t {
    code::SUCCESS
}

/// As NVML's; there are no event sets here.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetFree(_set: *mut c_void) -> nvmlReturn_t {
    code::SUCCESS
}

/// As NVML's; there are no samples here.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmSampleFree(_sample: *mut c_void) -> nvmlReturn_t {
    code::SUCCESS
}

/// As NVML's.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(_code: nvmlReturn_t) -> *const c_char {
    c"simulated NVML error".as_ptr()
}

/// As NVML's.
///
/// # Safety
/// `text` has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(text: *mut c_char, length: c_uint) -> nvmlReturn_t {
    match State::read() {
        // SAFETY: the caller keeps the promise about `text`.
        Ok(state) => unsafe { write_text(&state.driver_version, text, length) },
        Err(_) => code::DRIVER_NOT_LOADED,
    }
}

/// As NVML's.
///
/// # Safety
/// `count` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> nvmlReturn_t {
    let Ok(state) = State::read() else { return code::DRIVER_NOT_LOADED };
    // SAFETY: the caller keeps the promise about `count`.
    unsafe { write_value(u32::try_from(state.gpus.len()).unwrap_or(0), count) }
}

/// As NVML's. The handle is the index plus one.
///
/// # Safety
/// `device` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(
    index: c_uint,
    device: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    let Ok(state) = State::read() else { return code::DRIVER_NOT_LOADED };
    let handle = index as usize + 1;
    if handle > state.gpus.len() {
        return code::INVALID_ARGUMENT;
    }
    // SAFETY: the caller keeps the promise about `device`.
    unsafe { write_value(std::ptr::without_provenance_mut(handle), device) }
}

/// As NVML's.
///
/// # Safety
/// `text` has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(
    device: nvmlDevice_t,
    text: *mut c_char,
    length: c_uint,
) -> nvmlReturn_t {
    // SAFETY: the caller keeps the promise about `text`.
    ask(device, |gpu, _| unsafe { write_text(&gpu.uuid, text, length) })
}

/// As NVML's.
///
/// # Safety
/// `text` has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(
    device: nvmlDevice_t,
    text: *mut c_char,
    length: c_uint,
) -> nvmlReturn_t {
    // SAFETY: the caller keeps the promise about `text`.
    ask(device, |gpu, _| unsafe { write_text(&gpu.name, text, length) })
}

/// As NVML's.
///
/// # Safety
/// `minor` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMinorNumber(device: nvmlDevice_t, minor: *mut c_uint) -> nvmlReturn_t {
    // SAFETY: the caller keeps the promise about `minor`.
    ask(device, |_, index| unsafe { write_value(index, minor) })
}

/// As NVML's. The caller has set the structure's version, which stays.
///
/// # Safety
/// `memory` is null or can be read and written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(
    device: nvmlDevice_t,
    memory: *mut nvmlMemory_v2_t,
) -> nvmlReturn_t {
    ask(device, |gpu, _| {
        if memory.is_null() {
            return code::INVALID_ARGUMENT;
        }
        let total = gpu.memory_mib << 20;
        let used = (gpu.memory_used_mib << 20).min(total);
        // SAFETY: not null, and the caller promises that it can be read and written.
        unsafe {
            memory.write(nvmlMemory_v2_t { total, used, free: total - used, reserved: 0, ..memory.read() })
        };
        code::SUCCESS
    })
}

/// As NVML's; only the address is filled.
///
/// # Safety
/// `pci` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPciInfo_v3(
    device: nvmlDevice_t,
    pci: *mut nvmlPciInfo_t,
) -> nvmlReturn_t {
    ask(device, |gpu, index| {
        // SAFETY: the structure is made of integers and arrays of them, for which zero is a value.
        let mut info: nvmlPciInfo_t = unsafe { std::mem::zeroed() };
        info.bus = index;
        let address = gpu.pci_bus_id.clone().unwrap_or_else(|| format!("00000000:{index:02X}:00.0"));
        for (place, byte) in info.busId.iter_mut().zip(address.bytes().take(31)) {
            *place = byte as c_char;
        }
        // SAFETY: the caller keeps the promise about `pci`.
        unsafe { write_value(info, pci) }
    })
}

/// As NVML's.
///
/// # Safety
/// `rates` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUtilizationRates(
    device: nvmlDevice_t,
    rates: *mut nvmlUtilization_t,
) -> nvmlReturn_t {
    ask(device, |gpu, _| {
        let value = nvmlUtilization_t { gpu: gpu.utilization_percent, memory: gpu.utilization_percent };
        // SAFETY: the caller keeps the promise about `rates`.
        unsafe { write_value(value, rates) }
    })
}

/// As NVML's.
///
/// # Safety
/// `degrees` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTemperature(
    device: nvmlDevice_t,
    _sensor: c_uint,
    degrees: *mut c_uint,
) -> nvmlReturn_t {
    // SAFETY: the caller keeps the promise about `degrees`.
    ask(device, |gpu, _| unsafe { write_value(gpu.temperature_celsius, degrees) })
}

/// As NVML's.
///
/// # Safety
/// `milliwatts` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPowerUsage(
    device: nvmlDevice_t,
    milliwatts: *mut c_uint,
) -> nvmlReturn_t {
    // SAFETY: the caller keeps the promise about `milliwatts`.
    ask(device, |gpu, _| match gpu.power_milliwatts {
        Some(power) => unsafe { write_value(power, milliwatts) },
        None => code::NOT_SUPPORTED,
    })
}

/// Finds the GPU behind a handle; a lost one answers nothing but that it is lost.
fn ask(device: nvmlDevice_t, answer: impl FnOnce(&Gpu, c_uint) -> nvmlReturn_t) -> nvmlReturn_t {
    let Ok(state) = State::read() else { return code::DRIVER_NOT_LOADED };
    let Some(index) = device.addr().checked_sub(1) else { return code::INVALID_ARGUMENT };
    match state.gpus.get(index) {
        None => code::INVALID_ARGUMENT,
        Some(gpu) if gpu.lost => code::GPU_IS_LOST,
        Some(gpu) => answer(gpu, u32::try_from(index).unwrap_or(0)),
    }
}

/// # Safety
/// `place` is null or can be written.
unsafe fn write_value<T>(value: T, place: *mut T) -> nvmlReturn_t {
    if place.is_null() {
        return code::INVALID_ARGUMENT;
    }
    // SAFETY: not null, and the caller promises that it can be written.
    unsafe { place.write(value) };
    code::SUCCESS
}

/// # Safety
/// `place` is null or has room for `length` bytes.
unsafe fn write_text(text: &str, place: *mut c_char, length: c_uint) -> nvmlReturn_t {
    let bytes: Vec<u8> = text.bytes().filter(|byte| *byte != 0).chain([0]).collect();
    if place.is_null() || CStr::from_bytes_with_nul(&bytes).is_err() {
        return code::INVALID_ARGUMENT;
    }
    if bytes.len() > length as usize {
        return code::INSUFFICIENT_SIZE;
    }
    // SAFETY: the caller promises the room, and the bytes fit.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), place, bytes.len()) };
    code::SUCCESS
}
