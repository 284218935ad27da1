//! Memory limits of cgroups, which drivers have since CUDA 13.4. nvml-wrapper doesn't know them: they are looked for by name.

use std::{
    ffi::{CStr, CString},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use nvml_wrapper::{
    Device, Nvml,
    error::{NvmlError, nvml_try},
};
use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

const SET: &[u8] = b"nvmlDeviceSetMemoryLimits_v1\0";
const GET: &[u8] = b"nvmlDeviceGetMemoryLimits_v1\0";

/// The cgroup in which all others are.
const ROOT: &CStr = c"/sys/fs/cgroup";

/// `nvmlSetMemoryLimits_v1_t`
#[repr(C)]
struct SetLimits {
    cgroup: *const std::ffi::c_char,
    soft: u64,
    hard: u64,
}

/// `nvmlGetMemoryLimits_v1_t`
#[repr(C)]
struct GetLimits {
    cgroup: *const std::ffi::c_char,
    soft: u64,
    hard: u64,
    used: u64,
}

type Set = unsafe extern "C" fn(nvmlDevice_t, *mut SetLimits) -> nvmlReturn_t;
type Get = unsafe extern "C" fn(nvmlDevice_t, *mut GetLimits) -> nvmlReturn_t;

/// What the driver says of one cgroup on one GPU, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limited {
    /// What it is promised.
    pub(crate) soft: u64,
    /// More than this it doesn't get.
    pub(crate) hard: u64,
    /// What it uses now.
    pub(crate) used: u64,
}

/// The library's two functions. They are good as long as it is loaded.
pub(super) struct MemoryLimits {
    set: Set,
    get: Get,
}

impl MemoryLimits {
    /// `None` where the driver is older.
    pub(super) fn of(nvml: &Nvml) -> Option<Self> {
        let library = &nvml.lib().__library;
        // SAFETY: the types are those of NVML's header, and the name says which version of them.
        let (set, get) = unsafe { (library.get::<Set>(SET).ok()?, library.get::<Get>(GET).ok()?) };
        Some(Self { set: *set, get: *get })
    }

    /// Sees to it that the cgroup has that limit, and says what the driver says of it then. What it already says isn't set
    /// again.
    pub(super) fn ensure(
        &self,
        device: &Device<'_>,
        cgroup: &Path,
        bytes: u64,
    ) -> Result<Limited, NvmlError> {
        let cgroup = CString::new(cgroup.as_os_str().as_bytes())?;
        match self.ask(device, &cgroup) {
            Ok(limited) if (limited.soft, limited.hard) == (bytes, bytes) => return Ok(limited),
            Ok(_) | Err(NvmlError::NotFound) => {}
            Err(fault) => return Err(fault),
        }
        let mut limits = SetLimits { cgroup: cgroup.as_ptr(), soft: bytes, hard: bytes };
        // SAFETY: the handle lives as long as its borrow, and the text as long as this call.
        nvml_try(unsafe { (self.set)(device.handle(), &raw mut limits) })?;
        self.ask(device, &cgroup)
    }

    /// What all cgroups together may take, if anybody has said so.
    pub(super) fn of_all(&self, device: &Device<'_>) -> Result<Option<Limited>, NvmlError> {
        match self.ask(device, &CString::from(ROOT)) {
            Err(NvmlError::NotFound) => Ok(None),
            told => told.map(Some),
        }
    }

    fn ask(&self, device: &Device<'_>, cgroup: &CString) -> Result<Limited, NvmlError> {
        let mut limits = GetLimits { cgroup: cgroup.as_ptr(), soft: 0, hard: 0, used: 0 };
        // SAFETY: as above; the library writes numbers alone.
        nvml_try(unsafe { (self.get)(device.handle(), &raw mut limits) })?;
        Ok(Limited { soft: limits.soft, hard: limits.hard, used: limits.used })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_are_as_large_as_in_nvmls_header() {
        assert_eq!((size_of::<SetLimits>(), size_of::<GetLimits>()), (3 * 8, 4 * 8));
    }
}
