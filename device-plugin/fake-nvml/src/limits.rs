//! Memory limits of cgroups, as drivers have them since CUDA 13.4.
//!
//! They are kept in a file beside the state file, so that others can see what was set, and outlive a process as a driver's
//! do. A limit goes with its cgroup: a folder that isn't there has none.

use std::{
    collections::BTreeMap,
    env,
    ffi::{CStr, c_char, c_ulonglong},
    fs, io,
    path::{Path, PathBuf},
};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

use crate::{Gpu, STATE_VARIABLE, code, session::ask_gpu};

/// What the file's name is the state file's with.
const ENDING: &str = "limits";

/// NVML's `nvmlSetMemoryLimits_v1_t`.
#[repr(C)]
#[allow(missing_docs, reason = "the names are NVML's")]
pub struct nvmlSetMemoryLimits_v1_t {
    pub nameSpace: *const c_char,
    pub softLimit: c_ulonglong,
    pub hardLimit: c_ulonglong,
}

/// NVML's `nvmlGetMemoryLimits_v1_t`.
#[repr(C)]
#[allow(missing_docs, reason = "the names are NVML's")]
pub struct nvmlGetMemoryLimits_v1_t {
    pub nameSpace: *const c_char,
    pub softLimit: c_ulonglong,
    pub hardLimit: c_ulonglong,
    pub currentUsed: c_ulonglong,
}

/// Soft and hard limit in bytes, by the GPU's UUID and the cgroup's path.
pub type Limits = BTreeMap<String, BTreeMap<PathBuf, [u64; 2]>>;

/// The limits that were set, by the state file beside which they are kept.
///
/// # Errors
/// When the file can't be read or isn't understood; that there is none is no limit.
pub fn limits(state_file: &Path) -> io::Result<Limits> {
    match fs::read(state_file.with_extension(ENDING)) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(Limits::new()),
        Err(fault) => Err(fault),
    }
}

fn keep(state_file: &Path, limits: &Limits) -> io::Result<()> {
    // Never half written.
    let new = state_file.with_extension("limits.new");
    fs::write(&new, serde_json::to_vec(limits)?)?;
    fs::rename(new, state_file.with_extension(ENDING))
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceSetMemoryLimits_v1(
    device: nvmlDevice_t,
    limits: *mut nvmlSetMemoryLimits_v1_t,
) -> nvmlReturn_t {
    ask_gpu("nvmlDeviceSetMemoryLimits_v1", device, |gpu, _| {
        // SAFETY: the caller keeps the contract.
        let Some(asked) = (unsafe { limits.as_ref() }) else { return code::INVALID_ARGUMENT };
        // SAFETY: as above.
        let cgroup = match unsafe { cgroup(asked.nameSpace) } {
            Ok(cgroup) => cgroup,
            Err(code) => return code,
        };
        let (soft, hard) = (asked.softLimit, asked.hardLimit);
        let [total, ..] = gpu.memory();
        if soft > hard || (hard != u64::MAX && hard > total) {
            return code::INVALID_ARGUMENT;
        }
        set(gpu, cgroup, [soft, hard]).map_or(code::UNKNOWN, |()| code::SUCCESS)
    })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryLimits_v1(
    device: nvmlDevice_t,
    limits: *mut nvmlGetMemoryLimits_v1_t,
) -> nvmlReturn_t {
    ask_gpu("nvmlDeviceGetMemoryLimits_v1", device, |gpu, _| {
        // SAFETY: the caller keeps the contract.
        let Some(asked) = (unsafe { limits.as_mut() }) else { return code::INVALID_ARGUMENT };
        // SAFETY: as above.
        let cgroup = match unsafe { cgroup(asked.nameSpace) } {
            Ok(cgroup) => cgroup,
            Err(code) => return code,
        };
        let Some(all) = state_file().and_then(|file| self::limits(&file).ok()) else { return code::UNKNOWN };
        let Some([soft, hard]) = all.get(&gpu.uuid).and_then(|of_gpu| of_gpu.get(&cgroup)) else {
            return code::NOT_FOUND;
        };
        (asked.softLimit, asked.hardLimit) = (*soft, *hard);
        asked.currentUsed = gpu.memory()[1].min(*hard);
        code::SUCCESS
    })
}

fn state_file() -> Option<PathBuf> {
    env::var_os(STATE_VARIABLE).map(PathBuf::from)
}

fn set(gpu: &Gpu, cgroup: PathBuf, limits: [u64; 2]) -> io::Result<()> {
    let file = state_file().ok_or(io::ErrorKind::NotFound)?;
    let mut all = self::limits(&file)?;
    let of_gpu = all.entry(gpu.uuid.clone()).or_default();
    of_gpu.retain(|cgroup, _| cgroup.is_dir());
    of_gpu.insert(cgroup, limits);
    keep(&file, &all)
}

/// The cgroup's folder, which must be there.
///
/// # Safety
/// The text is null, or ends with a zero.
unsafe fn cgroup(path: *const c_char) -> Result<PathBuf, nvmlReturn_t> {
    if path.is_null() {
        return Err(code::INVALID_ARGUMENT);
    }
    // SAFETY: not null, and the caller promises the rest.
    let path = unsafe { CStr::from_ptr(path) }.to_str().map_err(|_| code::INVALID_ARGUMENT)?;
    let path = PathBuf::from(path);
    if path.is_dir() { Ok(path) } else { Err(code::OPERATING_SYSTEM) }
}
