//! How GPUs get into containers: the flags for it, what there is to hand over, and what must be there for it.

mod keep;
mod metrics;
mod prepare;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use plasma_device_plugin_core::{Driver, HandOver, Inventory, Needs, Spec, spec};
use plasma_runtime::prometheus::{Error, Registry};
use tokio::sync::watch;

use crate::{
    driver_root::DriverRoot,
    inventory::{Observed, Publisher},
    vital::Vital,
};
use keep::Keeper;
use metrics::Metrics;
use prepare::Preparer;

/// Device nodes of the driver without which no program can use a GPU.
const NEEDED_NODES: [&str; 2] = ["/dev/nvidiactl", "/dev/nvidia-uvm"];

/// How a device that the kubelet allocated gets into a container. The names are those of NVIDIA's plugin, where it has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Strategy {
    /// By its name in CDI: with its device nodes, and with the driver's libraries and programs.
    #[default]
    CdiCri,
    /// Its device nodes alone. The image has the driver's libraries, or nobody has.
    DeviceNodes,
    /// By the variable NVIDIA_VISIBLE_DEVICES, for NVIDIA's own container runtime.
    Envvar,
}

/// How GPUs get into containers.
#[derive(Clone, Debug, Args)]
pub(crate) struct HandOverArgs {
    /// How a device that the kubelet allocated gets into a container.
    #[arg(long, env = "DEVICE_LIST_STRATEGY", value_enum, default_value_t)]
    pub(crate) device_list_strategy: Strategy,

    /// The folder of the container runtime in which the CDI spec is kept.
    #[arg(long, env = "CDI_DIR", default_value = "/var/run/cdi")]
    pub(crate) cdi_dir: PathBuf,

    #[command(flatten)]
    pub(crate) driver_root: DriverRootArgs,
}

/// Where the driver is.
#[derive(Clone, Debug, Args)]
pub(crate) struct DriverRootArgs {
    /// The driver's root on the host: `/run/nvidia/driver` where NVIDIA's driver container installs it.
    #[arg(long, env = "DRIVER_ROOT", alias = "nvidia-driver-root", default_value = "/")]
    pub(crate) driver_root: PathBuf,

    /// Where this program sees the driver's root, if not under the same path.
    #[arg(long, env = "DRIVER_ROOT_CTR_PATH")]
    pub(crate) driver_root_ctr_path: Option<PathBuf>,

    /// The host's `ldconfig`, such as `/sbin/ldconfig`: run in each container's root before it starts, so that its loader's
    /// cache names the driver's libraries too. Needs runc.
    #[arg(long, env = "LDCACHE_HOOK", value_parser = absolute)]
    pub(crate) ldcache_hook: Option<String>,
}

/// A runtime that can't run a hook starts no container.
fn absolute(path: &str) -> Result<String, String> {
    match path.starts_with('/') {
        true => Ok(path.to_owned()),
        false => Err("it must be the program's whole path on the host, such as /sbin/ldconfig".to_owned()),
    }
}

impl DriverRootArgs {
    pub(crate) fn root(&self) -> DriverRoot {
        let seen_at = self.driver_root_ctr_path.as_ref().unwrap_or(&self.driver_root).clone();
        DriverRoot { on_host: self.driver_root.clone(), seen_at, ldconfig: self.ldcache_hook.clone() }
    }
}

/// What there is to hand over.
#[derive(Clone, Debug)]
pub(crate) struct ToHandOver {
    needs: Needs,
    simulated: bool,
}

impl ToHandOver {
    /// As the last look that NVML answered has it; none before the first.
    pub(crate) fn of(observed: &Observed) -> Option<Self> {
        let inventory = observed.seen();
        inventory.is_known().then(|| Self::new(inventory, observed.simulated))
    }

    pub(crate) fn new(inventory: &Inventory, simulated: bool) -> Self {
        Self { needs: Needs::of(inventory), simulated }
    }

    /// The spec for it.
    ///
    /// # Errors
    /// In words: the driver's version isn't known, its files aren't there, or a device node that CUDA needs isn't.
    pub(crate) fn spec(&self, find: impl FnOnce(&str) -> Result<Driver, String>) -> Result<Spec, String> {
        let driver = match (&self.needs.driver_version, self.simulated) {
            (_, true) => None,
            (Some(version), false) => Some(find(version)?),
            (None, false) => return Err("the driver's version isn't known".to_owned()),
        };
        self.must_have_nodes()?;
        Ok(spec(&self.needs.devices, &self.needs.shared_nodes, driver.as_ref()))
    }

    /// However a GPU is handed over, without these nodes it is of no use. Simulated ones have none.
    fn must_have_nodes(&self) -> Result<(), String> {
        let is_missing =
            |node: &&str| !self.simulated && !self.needs.shared_nodes.iter().any(|there| there == node);
        match NEEDED_NODES.into_iter().find(|node| is_missing(node)) {
            None => Ok(()),
            Some(missing) => Err(format!(
                "{missing} isn't there, without which CUDA fails: load its module and make it, as `nvidia-modprobe -u` does"
            )),
        }
    }
}

/// Starts making GPUs ready, where something has to be done or looked at for it.
///
/// # Errors
/// When a metric's name is taken.
pub(crate) fn start(
    args: &HandOverArgs,
    registry: &Registry,
    (observed, publish): (watch::Receiver<Observed>, Publisher),
    vital: &Vital,
) -> Result<(), Error> {
    let (preparer, metrics) = match args.device_list_strategy {
        Strategy::CdiCri => (
            Preparer::spec(args.cdi_dir.clone(), args.driver_root.root()),
            Some(Metrics::register(registry)?),
        ),
        Strategy::DeviceNodes => (Preparer::Nodes, None),
        // NVIDIA's runtime makes what it needs.
        Strategy::Envvar => {
            publish.hand_over(HandOver::NeedsNothing);
            return Ok(());
        }
    };
    vital.spawn("what containers get", Keeper::new(metrics, publish).keep(preparer, observed));
    Ok(())
}
