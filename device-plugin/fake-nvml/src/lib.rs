//! A stand-in for `libnvidia-ml.so.1`, driven by a state file, so that the same program and the same calls run where
//! there is no GPU.
//!
//! `PLASMA_FAKE_NVML_STATE` names a JSON file (see [`State`]). It is read at each call, so editing it is how a GPU is
//! lost or hit by an XID, how a driver reloads, how a call fails or hangs. The symbol `plasma_fake_nvml` tells whoever
//! loads this library that everything it says is simulated.
//!
//! Each export has the contract of the NVML function whose name it bears: pointers are null or can be written, text
//! has room for the length given. Nothing here panics: that would end the program that loaded us.
#![allow(unsafe_code, reason = "FFI is the purpose of this crate: it is loaded in place of a C library")]
#![allow(clippy::missing_safety_doc, reason = "the contracts are NVML's, and stated once above")]
#![allow(non_snake_case, reason = "the names are NVML's")]

pub mod device;
pub mod events;
pub mod fields;
pub mod gpm;
pub mod limits;
mod memory;
pub mod mig;
pub mod older;
pub mod processes;
mod session;
mod state;
pub mod telemetry;
pub mod topology;

use std::ffi::{c_char, c_int, c_uint};

use nvml_wrapper_sys::bindings::nvmlReturn_t;
pub use state::{CALLS_VARIABLE, Gpu, Instance, Near, Process, STATE_VARIABLE, State, Xid};
pub use telemetry::{FieldValue, Telemetry};

/// NVML's return values that this stand-in uses of its own accord; a state file may ask for any.
mod code {
    pub(crate) const SUCCESS: u32 = 0;
    pub(crate) const UNINITIALIZED: u32 = 1;
    pub(crate) const INVALID_ARGUMENT: u32 = 2;
    pub(crate) const NOT_SUPPORTED: u32 = 3;
    pub(crate) const NOT_FOUND: u32 = 6;
    pub(crate) const INSUFFICIENT_SIZE: u32 = 7;
    pub(crate) const DRIVER_NOT_LOADED: u32 = 9;
    pub(crate) const TIMEOUT: u32 = 10;
    pub(crate) const GPU_IS_LOST: u32 = 15;
    pub(crate) const OPERATING_SYSTEM: u32 = 17;
    pub(crate) const LIB_RM_VERSION_MISMATCH: u32 = 18;
    pub(crate) const ARGUMENT_VERSION_MISMATCH: u32 = 25;
    pub(crate) const UNKNOWN: u32 = 999;
}

/// Says that this library is a stand-in.
#[unsafe(no_mangle)]
pub extern "C" fn plasma_fake_nvml() -> c_int {
    1
}

/// As NVML's.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> nvmlReturn_t {
    session::open("nvmlInit_v2")
}

/// As NVML's.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> nvmlReturn_t {
    session::open("nvmlInitWithFlags")
}

/// As NVML's.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> nvmlReturn_t {
    session::close()
}

/// As NVML's.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(result: nvmlReturn_t) -> *const c_char {
    let text = match result {
        code::SUCCESS => c"Success",
        code::UNINITIALIZED => c"Uninitialized",
        code::INVALID_ARGUMENT => c"Invalid Argument",
        code::NOT_SUPPORTED => c"Not Supported",
        code::NOT_FOUND => c"Not Found",
        code::INSUFFICIENT_SIZE => c"Insufficient Size",
        code::DRIVER_NOT_LOADED => c"Driver Not Loaded",
        code::TIMEOUT => c"Timeout",
        code::GPU_IS_LOST => c"GPU is lost",
        code::LIB_RM_VERSION_MISMATCH => c"Driver/library version mismatch",
        code::ARGUMENT_VERSION_MISMATCH => c"Argument version mismatch",
        _ => c"Unknown Error",
    };
    text.as_ptr()
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(text: *mut c_char, length: c_uint) -> nvmlReturn_t {
    session::ask("nvmlSystemGetDriverVersion", |state| {
        // SAFETY: the caller keeps the contract.
        unsafe { memory::write_text(&state.driver_version, text, length) }
    })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: *mut c_int) -> nvmlReturn_t {
    // SAFETY: the caller keeps the contract.
    session::ask("nvmlSystemGetCudaDriverVersion_v2", |state| unsafe {
        memory::write_option(state.cuda_version, version)
    })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetNVMLVersion(text: *mut c_char, length: c_uint) -> nvmlReturn_t {
    session::ask("nvmlSystemGetNVMLVersion", |state| {
        // SAFETY: the caller keeps the contract.
        unsafe { memory::write_text(&format!("13.{}", state.driver_version), text, length) }
    })
}
