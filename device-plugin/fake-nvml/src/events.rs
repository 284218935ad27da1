//! Event sets: the XIDs that a state file appends to a GPU after the GPU was registered.

use std::{
    ffi::{c_uint, c_ulonglong},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlEventData_t, nvmlEventSet_t, nvmlEventTypeXidCriticalError, nvmlReturn_t,
};

use crate::{
    Xid, code,
    memory::write_value,
    session::{ask, ask_gpu, handle},
};

/// How often a waiting call looks for an event.
const LOOK: Duration = Duration::from_millis(20);

/// What a set watches: a GPU's index, and how many of its XIDs were told already.
type Set = Vec<(usize, usize)>;

/// All sets; a handle is the place plus one, and a freed place stays empty.
static SETS: Mutex<Vec<Option<Set>>> = Mutex::new(Vec::new());

fn with_set(handle: nvmlEventSet_t, work: impl FnOnce(&mut Set) -> nvmlReturn_t) -> nvmlReturn_t {
    let mut sets = SETS.lock().unwrap_or_else(PoisonError::into_inner);
    let place = handle.addr().checked_sub(1).and_then(|place| sets.get_mut(place));
    place.and_then(Option::as_mut).map_or(code::INVALID_ARGUMENT, work)
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetCreate(set: *mut nvmlEventSet_t) -> nvmlReturn_t {
    ask("nvmlEventSetCreate", |_| {
        let mut sets = SETS.lock().unwrap_or_else(PoisonError::into_inner);
        sets.push(Some(Set::new()));
        // SAFETY: the caller keeps the contract.
        unsafe { write_value(std::ptr::without_provenance_mut(sets.len()), set) }
    })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetFree(set: nvmlEventSet_t) -> nvmlReturn_t {
    let mut sets = SETS.lock().unwrap_or_else(PoisonError::into_inner);
    let place = set.addr().checked_sub(1).and_then(|place| sets.get_mut(place));
    match place.and_then(Option::take) {
        Some(_) => code::SUCCESS,
        None => code::INVALID_ARGUMENT,
    }
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetSupportedEventTypes(
    device: nvmlDevice_t,
    kinds: *mut c_ulonglong,
) -> nvmlReturn_t {
    ask_gpu("nvmlDeviceGetSupportedEventTypes", device, |_, _| {
        // SAFETY: the caller keeps the contract.
        unsafe { write_value(nvmlEventTypeXidCriticalError.into(), kinds) }
    })
}

/// As NVML's; every kind of event may be asked for, and only XIDs ever come.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceRegisterEvents(
    device: nvmlDevice_t,
    _kinds: c_ulonglong,
    set: nvmlEventSet_t,
) -> nvmlReturn_t {
    ask_gpu("nvmlDeviceRegisterEvents", device, |gpu, index| {
        with_set(set, |set| {
            set.push((index as usize, gpu.xids.len()));
            code::SUCCESS
        })
    })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetWait_v2(
    set: nvmlEventSet_t,
    data: *mut nvmlEventData_t,
    timeout_ms: c_uint,
) -> nvmlReturn_t {
    let started = Instant::now();
    loop {
        let result = ask("nvmlEventSetWait_v2", |state| {
            with_set(set, |set| {
                for (index, told) in set {
                    let xid = state.gpus.get(*index).and_then(|gpu| gpu.xids.get(*told));
                    let Some(xid) = xid.copied() else { continue };
                    *told += 1;
                    let (number, gpu_instance, compute_instance) = match xid {
                        Xid::OfGpu(number) => (number, c_uint::MAX, c_uint::MAX),
                        Xid::OfInstance { xid, gpu_instance, compute_instance } => {
                            (xid, gpu_instance, compute_instance)
                        }
                    };
                    let event = nvmlEventData_t {
                        device: handle(*index),
                        eventType: nvmlEventTypeXidCriticalError.into(),
                        eventData: number,
                        gpuInstanceId: gpu_instance,
                        computeInstanceId: compute_instance,
                    };
                    // SAFETY: the caller keeps the contract.
                    return unsafe { write_value(event, data) };
                }
                code::TIMEOUT
            })
        });
        if result != code::TIMEOUT || started.elapsed() >= Duration::from_millis(timeout_ms.into()) {
            return result;
        }
        thread::sleep(LOOK);
    }
}
