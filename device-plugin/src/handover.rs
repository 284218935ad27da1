//! Makes GPUs ready for containers: keeps the CDI spec as it should be, and says which GPUs can be handed over.
//!
//! Files are read and written beside everything else, at each look: a disk that hangs holds up nobody who asks for a GPU.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use plasma_device_plugin_core::{CDI_KIND, Driver, HandOut, HandOver, Inventory, Spec, hand_outs, spec};
use plasma_runtime::prometheus::{Error, IntCounterVec, IntGauge, Opts, Registry};
use tokio::sync::watch;

use crate::{
    cdi_file::{self, Written},
    driver_root::DriverRoot,
    inventory::{Observed, Publisher, newer},
    vital::Vital,
};

/// The driver's files are looked for anew after this long at the latest: somebody may have added to them.
const FIND_AGAIN: Duration = Duration::from_secs(60);

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
    devices: Vec<HandOut>,
    shared_nodes: Vec<String>,
    driver_version: Option<String>,
    simulated: bool,
}

impl ToHandOver {
    /// As the last look that NVML answered has it; none before the first.
    pub(crate) fn of(observed: &Observed) -> Option<Self> {
        let inventory = observed.believed();
        inventory.is_known().then(|| Self::new(&inventory, observed.simulated))
    }

    pub(crate) fn new(inventory: &Inventory, simulated: bool) -> Self {
        Self {
            devices: hand_outs(inventory),
            shared_nodes: inventory.shared_nodes().to_vec(),
            driver_version: inventory.driver_version.clone(),
            simulated,
        }
    }

    /// The spec for it.
    ///
    /// # Errors
    /// In words: the driver's version isn't known, its files aren't there, or a device node that CUDA needs isn't.
    pub(crate) fn spec(&self, find: impl FnOnce(&str) -> Result<Driver, String>) -> Result<Spec, String> {
        let driver = match (&self.driver_version, self.simulated) {
            (_, true) => None,
            (Some(version), false) => Some(find(version)?),
            (None, false) => return Err("the driver's version isn't known".to_owned()),
        };
        let is_missing =
            |node: &&str| !self.simulated && !self.shared_nodes.iter().any(|there| there == node);
        if let Some(missing) = NEEDED_NODES.into_iter().find(|node| is_missing(node)) {
            return Err(format!(
                "{missing} isn't there, without which CUDA fails: load its module and make it, as `nvidia-modprobe -u` does"
            ));
        }
        Ok(spec(&self.devices, &self.shared_nodes, driver.as_ref()))
    }
}

/// Keeps the spec, and knows where the driver's files are.
struct Preparer {
    folder: PathBuf,
    root: DriverRoot,
    found: Option<Found>,
}

struct Found {
    version: String,
    driver: Driver,
    at: Instant,
}

impl Preparer {
    /// Sees to it that the spec names what there is; which devices it names, and whether it had to be written.
    fn prepare(&mut self, devices: &ToHandOver) -> Result<(BTreeSet<String>, Written), String> {
        let spec = devices.spec(|version| self.driver(version))?;
        let named: BTreeSet<String> = spec.devices.iter().map(|device| device.name.clone()).collect();
        if named.is_empty() {
            // Runtimes refuse a spec without devices.
            cdi_file::remove(&self.folder)?;
            return Ok((named, Written::Unchanged));
        }
        let text = serde_json::to_string_pretty(&spec).map_err(|fault| fault.to_string())?;
        let written = cdi_file::ensure(&self.folder, &text)?;
        Ok((named, written))
    }

    fn driver(&mut self, version: &str) -> Result<Driver, String> {
        if let Some(found) = self.found.as_ref().filter(|found| self.holds(found, version)) {
            return Ok(found.driver.clone());
        }
        self.found = None;
        let driver = self.root.find(version)?;
        self.found = Some(Found { version: version.to_owned(), driver: driver.clone(), at: Instant::now() });
        Ok(driver)
    }

    /// A file that has gone would keep every container from starting.
    fn holds(&self, found: &Found, version: &str) -> bool {
        let libraries = found.driver.libraries.iter().map(|library| &library.host_path);
        let mut paths = libraries.chain(found.driver.files.iter().map(|file| &file.host_path));
        found.version == version
            && found.at.elapsed() < FIND_AGAIN
            && paths.all(|path| self.root.seen_of_host(path).is_some_and(|path| path.exists()))
    }
}

/// What is counted of it.
#[derive(Clone)]
struct Metrics {
    ready: IntGauge,
    writes: IntCounterVec,
}

impl Metrics {
    fn register(registry: &Registry) -> Result<Self, Error> {
        let ready = IntGauge::new("plasma_device_plugin_cdi_ready", "1 if the CDI spec is as it should be")?;
        let writes =
            Opts::new("plasma_device_plugin_cdi_writes_total", "Times that the CDI spec had to be written");
        let writes = IntCounterVec::new(writes, &["outcome"])?;
        registry.register(Box::new(ready.clone()))?;
        registry.register(Box::new(writes.clone()))?;
        Ok(Self { ready, writes })
    }

    fn tell(&self, prepared: &Result<(BTreeSet<String>, Written), String>) {
        self.ready.set(prepared.is_ok().into());
        match prepared {
            Ok((_, Written::Unchanged)) => {}
            Ok((_, Written::Anew)) => self.writes.with_label_values(&["written"]).inc(),
            Err(_) => self.writes.with_label_values(&["failed"]).inc(),
        }
    }
}

/// Starts keeping the spec, where one is asked for.
///
/// # Errors
/// When a metric's name is taken.
pub(crate) fn start(
    args: &HandOverArgs,
    registry: &Registry,
    (observed, publish): (watch::Receiver<Observed>, Publisher),
    vital: &Vital,
) -> Result<(), Error> {
    if args.device_list_strategy != Strategy::CdiCri {
        publish.hand_over(HandOver::NeedsNothing);
        return Ok(());
    }
    let metrics = Metrics::register(registry)?;
    let preparer = Preparer { folder: args.cdi_dir.clone(), root: args.driver_root.root(), found: None };
    vital.spawn("the CDI spec", keep(preparer, metrics, observed, publish));
    Ok(())
}

/// Looks at the spec again at each look at the GPUs, and as often where there is none.
async fn keep(
    mut preparer: Preparer,
    metrics: Metrics,
    mut observed: watch::Receiver<Observed>,
    publish: Publisher,
) {
    let mut told = HandOver::Unknown;
    loop {
        let seen = observed.borrow_and_update().clone();
        if let Some(devices) = ToHandOver::of(&seen) {
            let work = tokio::task::spawn_blocking(move || {
                let prepared = preparer.prepare(&devices);
                (preparer, prepared)
            });
            // It ends early only when the program does.
            let Ok((back, prepared)) = work.await else { return };
            preparer = back;
            metrics.tell(&prepared);
            let now = match prepared {
                Ok((devices, written)) => {
                    if written == Written::Anew {
                        tracing::info!(
                            "the CDI spec of {CDI_KIND} is written, for {} devices",
                            devices.len()
                        );
                    }
                    HandOver::Ready(devices)
                }
                Err(why) => HandOver::Refused(format!("it can't be handed to containers: {why}")),
            };
            if let HandOver::Refused(why) = &now
                && told != now
            {
                tracing::error!("no GPU is offered: {why}");
            }
            publish.hand_over(now.clone());
            told = now;
        }
        newer(&mut observed, seen.period()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_of_the_driver_that_goes_is_no_longer_handed_over() {
        let folder = tempfile::tempdir().unwrap();
        let libraries = folder.path().join("usr/lib64");
        fs::create_dir_all(&libraries).unwrap();
        for name in ["libcuda.so.580.1", "libnvidia-x.so.580.1"] {
            fs::write(libraries.join(name), "").unwrap();
        }
        let root = DriverRoot {
            on_host: "/run/nvidia/driver".into(),
            seen_at: folder.path().to_owned(),
            ldconfig: None,
        };
        let mut preparer = Preparer { folder: folder.path().join("cdi"), root, found: None };
        let devices = ToHandOver {
            devices: vec![HandOut { id: "GPU-0".to_owned(), device_nodes: vec!["/dev/nvidia0".to_owned()] }],
            shared_nodes: NEEDED_NODES.map(str::to_owned).to_vec(),
            driver_version: Some("580.1".to_owned()),
            simulated: false,
        };
        let all = BTreeSet::from(["GPU-0".to_owned()]);
        let spec = || fs::read_to_string(folder.path().join("cdi/compute.plasma.dev-gpu.json")).unwrap();
        assert_eq!(preparer.prepare(&devices), Ok((all.clone(), Written::Anew)));
        assert_eq!(preparer.prepare(&devices), Ok((all.clone(), Written::Unchanged)));
        assert!(spec().contains("/run/nvidia/driver/usr/lib64/libnvidia-x.so.580.1"));
        fs::remove_file(libraries.join("libnvidia-x.so.580.1")).unwrap();
        assert_eq!(preparer.prepare(&devices), Ok((all, Written::Anew)));
        assert!(!spec().contains("libnvidia-x"));
        fs::remove_file(libraries.join("libcuda.so.580.1")).unwrap();
        assert!(preparer.prepare(&devices).unwrap_err().contains("libcuda.so.580.1"));
        fs::write(libraries.join("libcuda.so.580.1"), "").unwrap();
        let no_uvm = ToHandOver { shared_nodes: vec!["/dev/nvidiactl".to_owned()], ..devices.clone() };
        let why = preparer.prepare(&no_uvm).unwrap_err();
        assert!(why.contains("/dev/nvidia-uvm isn't there") && why.contains("nvidia-modprobe -u"), "{why}");
        assert!(preparer.prepare(&ToHandOver { simulated: true, ..no_uvm }).is_ok(), "they have none");
        let unknown = ToHandOver { driver_version: None, ..devices };
        assert!(preparer.prepare(&unknown).unwrap_err().contains("version isn't known"));
    }
}
