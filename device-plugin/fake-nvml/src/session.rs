//! What every call goes through: is the library initialised, is the driver still the one it was initialised with, and
//! does the state file want this call to fail or to hang?

use std::{
    env,
    ffi::c_uint,
    fs::OpenOptions,
    io::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

use crate::{CALLS_VARIABLE, Gpu, Instance, State, code};

/// How often a hanging call looks whether it may return.
const HANG_LOOK: Duration = Duration::from_millis(20);

/// How often the library was initialised and not shut down since, and with which driver.
#[derive(Default)]
struct Session {
    opened: u32,
    driver_epoch: u64,
}

static SESSION: Mutex<Session> = Mutex::new(Session { opened: 0, driver_epoch: 0 });

fn session() -> MutexGuard<'static, Session> {
    // Nobody panics while holding it; if somebody did, the numbers are still numbers.
    SESSION.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn open(function: &str) -> nvmlReturn_t {
    let state = match enter(function) {
        Ok(state) => state,
        Err(code) => return code,
    };
    let mut session = session();
    session.opened = session.opened.saturating_add(1);
    session.driver_epoch = state.driver_epoch;
    code::SUCCESS
}

pub(crate) fn close() -> nvmlReturn_t {
    note("nvmlShutdown");
    let mut session = session();
    match session.opened.checked_sub(1) {
        None => code::UNINITIALIZED,
        Some(opened) => {
            session.opened = opened;
            code::SUCCESS
        }
    }
}

/// Writes down that a function was called, where a file is named for that.
pub(crate) fn note(function: &str) {
    let Some(file) = env::var_os(CALLS_VARIABLE) else { return };
    let open = OpenOptions::new().append(true).create(true).open(file);
    // Whoever wants to know finds it missing.
    let _ = open.and_then(|mut file| file.write_all(format!("{function}\n").as_bytes()));
}

/// Reads the state for this call; holds it up as long as the file says that it hangs.
fn enter(function: &str) -> Result<Arc<State>, nvmlReturn_t> {
    note(function);
    loop {
        let state = State::read().map_err(|_| code::DRIVER_NOT_LOADED)?;
        if state.hang.contains(function) {
            thread::sleep(HANG_LOOK);
            continue;
        }
        return match state.errors.get(function).copied().or(state.driver_error) {
            Some(error) => Err(error),
            None => Ok(state),
        };
    }
}

/// Answers a call that needs no GPU.
pub(crate) fn ask(function: &str, answer: impl FnOnce(&State) -> nvmlReturn_t) -> nvmlReturn_t {
    let state = match enter(function) {
        Ok(state) => state,
        Err(code) => return code,
    };
    let (opened, driver_epoch) = {
        let session = session();
        (session.opened, session.driver_epoch)
    };
    if opened == 0 {
        code::UNINITIALIZED
    } else if driver_epoch != state.driver_epoch {
        code::LIB_RM_VERSION_MISMATCH
    } else {
        answer(&state)
    }
}

/// Answers a call about one whole GPU; a lost one answers nothing but that it is lost.
pub(crate) fn ask_gpu(
    function: &str,
    device: nvmlDevice_t,
    answer: impl FnOnce(&Gpu, c_uint) -> nvmlReturn_t,
) -> nvmlReturn_t {
    ask_device(function, device, |gpu, index, part| match part {
        None => answer(gpu, index),
        Some(_) => code::NOT_SUPPORTED,
    })
}

/// Answers a call about one GPU, or about one part of it.
pub(crate) fn ask_device(
    function: &str,
    device: nvmlDevice_t,
    answer: impl FnOnce(&Gpu, c_uint, Option<&Instance>) -> nvmlReturn_t,
) -> nvmlReturn_t {
    ask(function, |state| {
        let Some(index) = index_of(device) else { return code::INVALID_ARGUMENT };
        let Some(gpu) = state.gpus.get(index) else { return code::INVALID_ARGUMENT };
        let part = match place_of(device) {
            None => None,
            Some(place) => match gpu.parts().get(place) {
                Some(part) => Some(part),
                // It was there when its handle was given out.
                None => return code::NOT_FOUND,
            },
        };
        match gpu.errors.get(function) {
            Some(error) => *error,
            None if gpu.lost => code::GPU_IS_LOST,
            None => answer(gpu, c_uint::try_from(index).unwrap_or(c_uint::MAX), part),
        }
    })
}

/// A handle is the GPU's index plus one, so that it isn't null; and above these bits, for a part of it, its place plus one.
const INDEX_BITS: u32 = 16;

/// The index of the GPU behind a handle, if it is one.
pub(crate) fn index_of(device: nvmlDevice_t) -> Option<usize> {
    (device.addr() & ((1 << INDEX_BITS) - 1)).checked_sub(1)
}

/// Which part of the GPU is behind a handle, if it is a part.
fn place_of(device: nvmlDevice_t) -> Option<usize> {
    (device.addr() >> INDEX_BITS).checked_sub(1)
}

/// The handle of the GPU with that index.
pub(crate) fn handle(index: usize) -> nvmlDevice_t {
    std::ptr::without_provenance_mut(index.saturating_add(1))
}

/// The handle of the part at that place of a GPU.
pub(crate) fn part_handle(index: c_uint, place: c_uint) -> nvmlDevice_t {
    let (index, place) = (index as usize + 1, place as usize + 1);
    std::ptr::without_provenance_mut(index | place << INDEX_BITS)
}
