//! How the pretended GPUs are connected: NVLinks, and levels of PCIe.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlEnableState_t, nvmlGpuTopologyLevel_t, nvmlIntNvLinkDeviceType_t, nvmlPciInfo_t,
    nvmlReturn_t,
};

use crate::{
    Gpu, State, code,
    device::pci_info,
    memory::{write_option, write_value},
    session::{ask, ask_gpu, index_of},
};

/// Where a link leads that leads to no GPU.
const SWITCH: &str = "switch";
/// Two GPUs that are anywhere in the machine.
const SYSTEM: u32 = 50;

fn of_link<T>(
    function: &str,
    (device, link): (nvmlDevice_t, c_uint),
    place: *mut T,
    answer: impl FnOnce(&State, &str) -> Option<T>,
) -> nvmlReturn_t {
    let leads_to = |gpu: &Gpu| gpu.nvlinks.get(link as usize).cloned();
    let mut found = None;
    let told = ask_gpu(function, device, |gpu, _| {
        found = leads_to(gpu);
        if found.is_some() { code::SUCCESS } else { code::NOT_SUPPORTED }
    });
    let Some(leads_to) = found else { return told };
    // SAFETY: the caller keeps the contract.
    ask(function, |state| unsafe { write_option(answer(state, &leads_to), place) })
}

/// As NVML's; a link that isn't in the state file isn't supported.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetNvLinkState(
    device: nvmlDevice_t,
    link: c_uint,
    active: *mut nvmlEnableState_t,
) -> nvmlReturn_t {
    of_link("nvmlDeviceGetNvLinkState", (device, link), active, |_, _| Some(1))
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetNvLinkRemoteDeviceType(
    device: nvmlDevice_t,
    link: c_uint,
    kind: *mut nvmlIntNvLinkDeviceType_t,
) -> nvmlReturn_t {
    let kind_of = |leads_to: &str| if leads_to == SWITCH { 2 } else { 0 };
    of_link("nvmlDeviceGetNvLinkRemoteDeviceType", (device, link), kind, |_, leads_to| {
        Some(kind_of(leads_to))
    })
}

/// As NVML's; a switch has no address here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetNvLinkRemotePciInfo_v2(
    device: nvmlDevice_t,
    link: c_uint,
    pci: *mut nvmlPciInfo_t,
) -> nvmlReturn_t {
    of_link("nvmlDeviceGetNvLinkRemotePciInfo_v2", (device, link), pci, |state, leads_to| {
        let index = state.gpus.iter().position(|gpu| gpu.uuid == leads_to)?;
        Some(pci_info(&state.gpus[index], c_uint::try_from(index).ok()?))
    })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTopologyCommonAncestor(
    one: nvmlDevice_t,
    other: nvmlDevice_t,
    level: *mut nvmlGpuTopologyLevel_t,
) -> nvmlReturn_t {
    ask("nvmlDeviceGetTopologyCommonAncestor", |state| {
        let (Some(one), Some(other)) = (index_of(one), index_of(other)) else {
            return code::INVALID_ARGUMENT;
        };
        let is_it = |gpus: [usize; 2]| gpus == [one, other] || gpus == [other, one];
        let near = state.near.iter().find(|near| is_it(near.gpus)).map_or(SYSTEM, |near| near.level);
        // SAFETY: the caller keeps the contract.
        unsafe { write_value(near, level) }
    })
}
