//! Questions about one GPU.

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlMemory_v2_t, nvmlPciInfo_t, nvmlReturn_t, nvmlUtilization_t,
};

use crate::{
    Gpu, code,
    memory::{write_option, write_text, write_value},
    session::{ask, ask_device, ask_gpu, handle, part_handle},
};

/// What a caller of the second version writes into its structure: its size, and the version above it.
pub const MEMORY_VERSION: c_uint = size_of::<nvmlMemory_v2_t>() as c_uint | 2 << 24;

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> nvmlReturn_t {
    ask("nvmlDeviceGetCount_v2", |state| {
        // SAFETY: the caller keeps the contract.
        unsafe { write_value(c_uint::try_from(state.gpus.len()).unwrap_or(c_uint::MAX), count) }
    })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(
    index: c_uint,
    device: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    let found = handle(index as usize);
    // SAFETY: the caller keeps the contract.
    ask_gpu("nvmlDeviceGetHandleByIndex_v2", found, |_, _| unsafe { write_value(found, device) })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByUUID(
    uuid: *const c_char,
    device: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    if uuid.is_null() {
        return code::INVALID_ARGUMENT;
    }
    // SAFETY: not null, and NVML's contract says that it is a terminated text.
    let wanted = unsafe { CStr::from_ptr(uuid) };
    ask("nvmlDeviceGetHandleByUUID", |state| {
        let is_wanted = |uuid: &str| uuid.as_bytes() == wanted.to_bytes();
        let found = state.gpus.iter().enumerate().find_map(|(index, gpu)| {
            let part = gpu.parts().iter().position(|part| is_wanted(&part.uuid));
            let part =
                part.and_then(|place| Some(part_handle(index.try_into().ok()?, place.try_into().ok()?)));
            part.or_else(|| is_wanted(&gpu.uuid).then(|| handle(index)))
        });
        match found {
            // SAFETY: the caller keeps the contract.
            Some(found) => unsafe { write_value(found, device) },
            None => code::NOT_FOUND,
        }
    })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(
    device: nvmlDevice_t,
    text: *mut c_char,
    length: c_uint,
) -> nvmlReturn_t {
    ask_device("nvmlDeviceGetUUID", device, |gpu, _, part| {
        let uuid = part.map_or(&gpu.uuid, |part| &part.uuid);
        // SAFETY: the caller keeps the contract.
        unsafe { write_text(uuid, text, length) }
    })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(
    device: nvmlDevice_t,
    text: *mut c_char,
    length: c_uint,
) -> nvmlReturn_t {
    ask_device("nvmlDeviceGetName", device, |gpu, _, part| {
        let name = part.map_or(gpu.name.clone(), |part| format!("{} MIG {}", gpu.name, part.profile));
        // SAFETY: the caller keeps the contract.
        unsafe { write_text(&name, text, length) }
    })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMinorNumber(device: nvmlDevice_t, minor: *mut c_uint) -> nvmlReturn_t {
    // SAFETY: the caller keeps the contract.
    ask_gpu("nvmlDeviceGetMinorNumber", device, |_, index| unsafe { write_value(index, minor) })
}

/// As NVML's. The caller has set the structure's version, which stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(
    device: nvmlDevice_t,
    memory: *mut nvmlMemory_v2_t,
) -> nvmlReturn_t {
    ask_device("nvmlDeviceGetMemoryInfo_v2", device, |gpu, _, part| {
        if memory.is_null() {
            return code::INVALID_ARGUMENT;
        }
        let [total, used, reserved] = match part {
            None => gpu.memory(),
            Some(part) => {
                let total = part.memory_mib.saturating_mul(1 << 20);
                [total, part.memory_used_mib.saturating_mul(1 << 20).min(total), 0]
            }
        };
        // SAFETY: not null, and the caller promises that it can be read and written.
        unsafe {
            let before = memory.read();
            if before.version != MEMORY_VERSION {
                return code::ARGUMENT_VERSION_MISMATCH;
            }
            memory.write(nvmlMemory_v2_t { total, used, free: total - used - reserved, reserved, ..before });
        }
        code::SUCCESS
    })
}

/// As NVML's; only the address is filled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPciInfo_v3(
    device: nvmlDevice_t,
    pci: *mut nvmlPciInfo_t,
) -> nvmlReturn_t {
    // SAFETY: the caller keeps the contract.
    ask_gpu("nvmlDeviceGetPciInfo_v3", device, |gpu, index| unsafe { write_value(pci_info(gpu, index), pci) })
}

/// A GPU's PCI address, as the structure has it.
pub(crate) fn pci_info(gpu: &Gpu, index: c_uint) -> nvmlPciInfo_t {
    // SAFETY: the structure is made of integers and arrays of them, for which zero is a value.
    let mut info: nvmlPciInfo_t = unsafe { std::mem::zeroed() };
    info.bus = index;
    let address = gpu.pci_bus_id.clone().unwrap_or_else(|| format!("00000000:{index:02X}:00.0"));
    // The last place stays the terminator.
    let room = info.busId.len().saturating_sub(1);
    for (place, byte) in info.busId.iter_mut().zip(address.bytes().take(room)) {
        *place = byte as c_char;
    }
    info
}

/// As NVML's. There it means something else than the CPU's NUMA node; here it is where a state file says that one,
/// since there is no PCI device behind a simulated GPU.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetNumaNodeId(device: nvmlDevice_t, node: *mut c_uint) -> nvmlReturn_t {
    // SAFETY: the caller keeps the contract.
    ask_gpu("nvmlDeviceGetNumaNodeId", device, |gpu, _| unsafe { write_option(gpu.numa_node, node) })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUtilizationRates(
    device: nvmlDevice_t,
    rates: *mut nvmlUtilization_t,
) -> nvmlReturn_t {
    ask_gpu("nvmlDeviceGetUtilizationRates", device, |gpu, _| {
        if gpu.mig == Some(true) {
            return code::NOT_SUPPORTED;
        }
        let memory = gpu.telemetry.memory_percent.unwrap_or(gpu.utilization_percent);
        let value = nvmlUtilization_t { gpu: gpu.utilization_percent, memory };
        // SAFETY: the caller keeps the contract.
        unsafe { write_value(value, rates) }
    })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTemperature(
    device: nvmlDevice_t,
    _sensor: c_uint,
    degrees: *mut c_uint,
) -> nvmlReturn_t {
    ask_gpu("nvmlDeviceGetTemperature", device, |gpu, _| {
        // SAFETY: the caller keeps the contract.
        unsafe { write_value(gpu.temperature_celsius, degrees) }
    })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPowerUsage(
    device: nvmlDevice_t,
    milliwatts: *mut c_uint,
) -> nvmlReturn_t {
    ask_gpu("nvmlDeviceGetPowerUsage", device, |gpu, _| {
        // SAFETY: the caller keeps the contract.
        unsafe { write_option(gpu.power_milliwatts, milliwatts) }
    })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTotalEnergyConsumption(
    device: nvmlDevice_t,
    millijoules: *mut c_ulonglong,
) -> nvmlReturn_t {
    ask_gpu("nvmlDeviceGetTotalEnergyConsumption", device, |gpu, _| {
        // SAFETY: the caller keeps the contract.
        unsafe { write_option(gpu.energy_millijoules, millijoules) }
    })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCudaComputeCapability(
    device: nvmlDevice_t,
    major: *mut c_int,
    minor: *mut c_int,
) -> nvmlReturn_t {
    ask_gpu("nvmlDeviceGetCudaComputeCapability", device, |gpu, _| {
        let capability = gpu.compute_capability;
        // SAFETY: the caller keeps the contract.
        let told = unsafe { write_option(capability.map(|told| told[0]), major) };
        // SAFETY: as above.
        if told == code::SUCCESS {
            unsafe { write_option(capability.map(|told| told[1]), minor) }
        } else {
            told
        }
    })
}
