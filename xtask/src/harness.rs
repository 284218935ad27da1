//! A node for device plugins: the kubelet's own managers (`e2e/kubelet-harness`), pretended GPUs, and our plugin's processes.

mod kubelet;
mod node;
mod plugin;
mod pod;

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};

pub(crate) use kubelet::{Change, Count, Kubelet, Start};
pub(crate) use node::{Node, Way};
pub(crate) use plugin::Plugin;
pub(crate) use pod::Pod;

use crate::{debian, programs, tools};

/// The resource that our plugin offers.
pub(crate) const RESOURCE: &str = "nvidia.com/gpu";
/// The version of Kubernetes that the managers are of.
pub(crate) const KUBERNETES: &str = "1.37.2";

/// What runs on such nodes.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// The kubelet's managers.
    pub(crate) kubelet: PathBuf,
    /// Our plugin.
    pub(crate) plugin: PathBuf,
    /// The stand-in for the driver's library.
    pub(crate) nvml: PathBuf,
}

impl Programs {
    /// Builds what isn't built.
    ///
    /// # Errors
    /// A tool chain is missing, or a build fails: its log is named.
    pub(crate) fn build(profile: programs::Profile) -> Result<Self> {
        debian::require_go()?;
        let kubelet = tools::build(&tools::KUBELET_HARNESS)?.join("kubelet-harness");
        let folder = programs::device_plugin(profile)?;
        let (plugin, nvml) = (folder.join("plasma-device-plugin"), folder.join("libplasma_fake_nvml.so"));
        Ok(Self { kubelet, plugin, nvml })
    }
}

/// Now, as the kubelet's managers tell the time: nanoseconds of Unix time.
pub(crate) fn now() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Waits until that is so.
///
/// # Errors
/// It isn't within that time; the error says what it was last.
pub(crate) fn eventually<T>(within: Duration, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let end = now().saturating_add(u64::try_from(within.as_nanos()).unwrap_or(u64::MAX));
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(fault) if now() > end => return Err(fault).with_context(|| format!("not within {within:?}")),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}
