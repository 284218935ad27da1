//! Event sets: the XIDs that a state file appends to a GPU after the GPU was registered, and changes of its layout.

use std::{
    ffi::{c_uint, c_ulonglong},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlEventData_t, nvmlEventMigConfigChange, nvmlEventSet_t, nvmlEventTypeXidCriticalError,
    nvmlReturn_t,
};

use crate::{
    Gpu, Instance, Xid, code,
    memory::write_value,
    session::{ask, ask_gpu, handle, note},
};

/// How often a waiting call looks for an event.
const LOOK: Duration = Duration::from_millis(20);

/// What a set watches.
type Set = Vec<Watched>;

/// One GPU, and what was told of it already.
struct Watched {
    index: usize,
    /// So many of its XIDs.
    xids: usize,
    /// How it was divided; `None` where nobody asked for that.
    layout: Option<(Option<bool>, Vec<Instance>)>,
}

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
    note("nvmlEventSetFree");
    let mut sets = SETS.lock().unwrap_or_else(PoisonError::into_inner);
    let place = set.addr().checked_sub(1).and_then(|place| sets.get_mut(place));
    match place.and_then(Option::take) {
        Some(_) => code::SUCCESS,
        None => code::INVALID_ARGUMENT,
    }
}

/// As NVML's; a GPU that can't be divided has no changes of its layout.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetSupportedEventTypes(
    device: nvmlDevice_t,
    kinds: *mut c_ulonglong,
) -> nvmlReturn_t {
    // SAFETY: the caller keeps the contract.
    ask_gpu("nvmlDeviceGetSupportedEventTypes", device, |gpu, _| unsafe {
        write_value(supported(gpu), kinds)
    })
}

fn supported(gpu: &Gpu) -> c_ulonglong {
    let layout = if gpu.mig.is_some() { nvmlEventMigConfigChange } else { 0 };
    (nvmlEventTypeXidCriticalError | layout).into()
}

/// As NVML's: a kind that the GPU hasn't is refused, with all others.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceRegisterEvents(
    device: nvmlDevice_t,
    kinds: c_ulonglong,
    set: nvmlEventSet_t,
) -> nvmlReturn_t {
    ask_gpu("nvmlDeviceRegisterEvents", device, |gpu, index| {
        if kinds & !supported(gpu) != 0 {
            return code::NOT_SUPPORTED;
        }
        let layout = (kinds & c_ulonglong::from(nvmlEventMigConfigChange) != 0).then(|| layout(gpu));
        with_set(set, |set| {
            set.push(Watched { index: index as usize, xids: gpu.xids.len(), layout });
            code::SUCCESS
        })
    })
}

fn layout(gpu: &Gpu) -> (Option<bool>, Vec<Instance>) {
    (gpu.mig, gpu.parts().to_vec())
}

/// The next event of a GPU, which is told with that.
fn next(watched: &mut Watched, gpu: &Gpu) -> Option<nvmlEventData_t> {
    let of_gpu = nvmlEventData_t {
        device: handle(watched.index),
        eventType: nvmlEventTypeXidCriticalError.into(),
        eventData: 0,
        gpuInstanceId: c_uint::MAX,
        computeInstanceId: c_uint::MAX,
    };
    let now = layout(gpu);
    if let Some(told) = watched.layout.as_mut().filter(|told| **told != now) {
        *told = now;
        return Some(nvmlEventData_t { eventType: nvmlEventMigConfigChange.into(), ..of_gpu });
    }
    let xid = *gpu.xids.get(watched.xids)?;
    watched.xids += 1;
    Some(match xid {
        Xid::OfGpu(number) => nvmlEventData_t { eventData: number, ..of_gpu },
        Xid::OfInstance { xid, gpu_instance, compute_instance } => nvmlEventData_t {
            eventData: xid,
            gpuInstanceId: gpu_instance,
            computeInstanceId: compute_instance,
            ..of_gpu
        },
    })
}

/// As NVML's; a lost GPU's last events are told before that it is lost.
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
                for watched in set {
                    let Some(gpu) = state.gpus.get(watched.index) else { continue };
                    if let Some(event) = next(watched, gpu) {
                        // SAFETY: the caller keeps the contract.
                        return unsafe { write_value(event, data) };
                    }
                    if let Some(error) = gpu.errors.get("nvmlEventSetWait_v2") {
                        return *error;
                    }
                    if gpu.lost {
                        return code::GPU_IS_LOST;
                    }
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
