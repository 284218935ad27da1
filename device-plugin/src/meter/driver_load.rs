//! Which load of the driver is in the kernel: its energy counters begin anew with each.

use std::{fs, os::unix::fs::MetadataExt as _};

/// Names the load, where the kernel shows it: the boot, and the inode of the module's folder, whose numbers the kernel
/// doesn't use again within a boot.
pub(crate) fn name() -> Option<String> {
    let boot = crate::clock::boot()?;
    let module = fs::metadata("/sys/module/nvidia").ok()?;
    Some(format!("{boot}/{}", module.ino()))
}
