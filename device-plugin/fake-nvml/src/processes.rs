//! Questions about the processes that use a GPU.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlProcessInfo_t, nvmlReturn_t};

use crate::{Process, code, session::ask_gpu};

/// What NVML says of an instance where the GPU isn't divided.
const NO_INSTANCE: c_uint = c_uint::MAX;

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: nvmlDevice_t,
    count: *mut c_uint,
    processes: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    ask_gpu("nvmlDeviceGetComputeRunningProcesses_v3", device, |gpu, _| {
        let computing = gpu.processes.iter().filter(|process| !process.graphics);
        // SAFETY: the caller keeps the contract.
        unsafe { list(computing, count, processes) }
    })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v3(
    device: nvmlDevice_t,
    count: *mut c_uint,
    processes: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    ask_gpu("nvmlDeviceGetGraphicsRunningProcesses_v3", device, |gpu, _| {
        let drawing = gpu.processes.iter().filter(|process| process.graphics);
        // SAFETY: the caller keeps the contract.
        unsafe { list(drawing, count, processes) }
    })
}

/// Writes them where there is room for all, and how many there are in any case.
///
/// # Safety
/// `count` is null or says for how many processes there is room; it can be read and written.
unsafe fn list<'a>(
    found: impl Iterator<Item = &'a Process>,
    count: *mut c_uint,
    processes: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    if count.is_null() {
        return code::INVALID_ARGUMENT;
    }
    let found: Vec<&Process> = found.collect();
    // SAFETY: not null, and the caller promises the rest.
    let room = unsafe { count.replace(c_uint::try_from(found.len()).unwrap_or(c_uint::MAX)) } as usize;
    if room < found.len() {
        return code::INSUFFICIENT_SIZE;
    }
    for (place, process) in found.into_iter().enumerate() {
        let info = nvmlProcessInfo_t {
            pid: process.pid,
            usedGpuMemory: process.memory_mib.saturating_mul(1 << 20),
            gpuInstanceId: NO_INSTANCE,
            computeInstanceId: NO_INSTANCE,
        };
        if processes.is_null() {
            return code::INVALID_ARGUMENT;
        }
        // SAFETY: not null, and there is room for all.
        unsafe { processes.add(place).write(info) };
    }
    code::SUCCESS
}
