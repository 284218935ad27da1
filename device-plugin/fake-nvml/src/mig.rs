//! Divided GPUs: how they are divided, and what each part has.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlDeviceAttributes_t, nvmlReturn_t};

use crate::{
    Instance, code,
    memory::{write_option, write_value},
    session::{ask_device, ask_gpu, part_handle},
};

/// So many parts a GPU can have (NVIDIA's MIG User Guide).
const MOST_PARTS: c_uint = 7;

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigMode(
    device: nvmlDevice_t,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> nvmlReturn_t {
    ask_gpu("nvmlDeviceGetMigMode", device, |gpu, _| {
        let mode = gpu.mig.map(c_uint::from);
        // SAFETY: the caller keeps the contract.
        let told = unsafe { write_option(mode, current) };
        let mode = gpu.mig_pending.map(c_uint::from).or(mode);
        // SAFETY: as above.
        if told == code::SUCCESS { unsafe { write_option(mode, pending) } } else { told }
    })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(
    device: nvmlDevice_t,
    count: *mut c_uint,
) -> nvmlReturn_t {
    ask_gpu("nvmlDeviceGetMaxMigDeviceCount", device, |gpu, _| {
        // SAFETY: the caller keeps the contract.
        unsafe { write_value(if gpu.mig.is_some() { MOST_PARTS } else { 0 }, count) }
    })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: nvmlDevice_t,
    place: c_uint,
    part: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    ask_gpu("nvmlDeviceGetMigDeviceHandleByIndex", device, |gpu, index| {
        if gpu.parts().get(place as usize).is_none() {
            return code::NOT_FOUND;
        }
        // SAFETY: the caller keeps the contract.
        unsafe { write_value(part_handle(index, place), part) }
    })
}

fn of_part<T>(
    function: &str,
    device: nvmlDevice_t,
    place: *mut T,
    answer: impl FnOnce(&Instance) -> T,
) -> nvmlReturn_t {
    ask_device(function, device, |_, _, part| match part {
        None => code::INVALID_ARGUMENT,
        // SAFETY: the caller keeps the contract.
        Some(part) => unsafe { write_value(answer(part), place) },
    })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGpuInstanceId(device: nvmlDevice_t, id: *mut c_uint) -> nvmlReturn_t {
    of_part("nvmlDeviceGetGpuInstanceId", device, id, |part| part.gpu_instance)
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeInstanceId(
    device: nvmlDevice_t,
    id: *mut c_uint,
) -> nvmlReturn_t {
    of_part("nvmlDeviceGetComputeInstanceId", device, id, |part| part.compute_instance)
}

/// As NVML's; a whole GPU has none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetAttributes_v2(
    device: nvmlDevice_t,
    attributes: *mut nvmlDeviceAttributes_t,
) -> nvmlReturn_t {
    of_part("nvmlDeviceGetAttributes_v2", device, attributes, |part| {
        let [copy, decoder, encoder, jpeg, optical_flow] = part.engines;
        nvmlDeviceAttributes_t {
            multiprocessorCount: part.multiprocessors,
            sharedCopyEngineCount: copy,
            sharedDecoderCount: decoder,
            sharedEncoderCount: encoder,
            sharedJpegCount: jpeg,
            sharedOfaCount: optical_flow,
            gpuInstanceSliceCount: part.slices[0],
            computeInstanceSliceCount: part.slices[1],
            memorySizeMB: part.memory_mib,
        }
    })
}
