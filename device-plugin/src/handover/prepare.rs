//! One look at what containers get: sees to it that the CDI spec is as it should be, where there is one.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, Instant},
};

use plasma_device_plugin_core::{Driver, HandOver, Needs};

use super::ToHandOver;
use crate::{
    cdi_file::{self, Written},
    driver_root::DriverRoot,
};

/// The driver's files are looked for anew after this long at the latest: somebody may have added to them.
const FIND_AGAIN: Duration = Duration::from_secs(60);

/// Makes GPUs ready for containers.
pub(super) enum Preparer {
    /// Keeps the spec, and knows where the driver's files are.
    Spec { folder: PathBuf, root: DriverRoot, found: Option<Box<Found>> },
    /// Containers get device nodes alone: those that all need must be there.
    Nodes,
}

/// The driver's files, where and when they were found.
pub(super) struct Found {
    version: String,
    driver: Driver,
    at: Instant,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prepared {
    pub(super) hand_over: HandOver,
    /// What became of the spec.
    pub(super) written: Written,
}

impl Preparer {
    pub(super) fn spec(folder: PathBuf, root: DriverRoot) -> Self {
        Self::Spec { folder, root, found: None }
    }

    /// What has to answer for it, for people.
    pub(super) fn places(&self) -> String {
        match self {
            Self::Spec { folder, root, .. } => {
                format!("{} or the driver's root, {}", folder.display(), root.seen_at.display())
            }
            Self::Nodes => "/dev".to_owned(),
        }
    }

    /// Sees to it that containers can get what there is.
    ///
    /// # Errors
    /// In words: what is missing, or can't be written.
    pub(super) fn prepare(&mut self, devices: &ToHandOver) -> Result<Prepared, String> {
        let Self::Spec { folder, root, found } = self else {
            devices.must_have_nodes()?;
            return Ok(Prepared { hand_over: HandOver::NeedsNothing, written: Written::Unchanged });
        };
        let spec = devices.spec(|version| find(root, found, version))?;
        let named: BTreeSet<&str> = spec.devices.iter().map(|device| device.name.as_str()).collect();
        let mut needs: Needs = devices.needs.clone();
        needs.devices.retain(|device| named.contains(device.id.as_str()));
        let hand_over = HandOver::Ready(needs);
        if named.is_empty() {
            // Runtimes refuse a spec without devices.
            cdi_file::remove(folder)?;
            return Ok(Prepared { hand_over, written: Written::Unchanged });
        }
        let text = serde_json::to_string_pretty(&spec).map_err(|fault| fault.to_string())?;
        Ok(Prepared { hand_over, written: cdi_file::ensure(folder, &text)? })
    }
}

fn find(root: &DriverRoot, known: &mut Option<Box<Found>>, version: &str) -> Result<Driver, String> {
    if let Some(found) = known.as_ref().filter(|found| found.holds(root, version)) {
        return Ok(found.driver.clone());
    }
    *known = None;
    let driver = root.find(version)?;
    let found = Found { version: version.to_owned(), driver: driver.clone(), at: Instant::now() };
    *known = Some(Box::new(found));
    Ok(driver)
}

impl Found {
    /// A file that has gone would keep every container from starting.
    fn holds(&self, root: &DriverRoot, version: &str) -> bool {
        let libraries = self.driver.libraries.iter().map(|library| &library.host_path);
        let mut paths = libraries.chain(self.driver.files.iter().map(|file| &file.host_path));
        self.version == version
            && self.at.elapsed() < FIND_AGAIN
            && paths.all(|path| root.seen_of_host(path).is_some_and(|path| path.exists()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use plasma_device_plugin_core::HandOut;

    use super::{super::NEEDED_NODES, *};

    fn one_gpu() -> ToHandOver {
        let needs = Needs {
            devices: vec![HandOut { id: "GPU-0".to_owned(), device_nodes: vec!["/dev/nvidia0".to_owned()] }],
            shared_nodes: NEEDED_NODES.map(str::to_owned).to_vec(),
            driver_version: Some("580.1".to_owned()),
        };
        ToHandOver { needs, simulated: false }
    }

    fn without_uvm(devices: &ToHandOver) -> ToHandOver {
        let needs = Needs { shared_nodes: vec!["/dev/nvidiactl".to_owned()], ..devices.needs.clone() };
        ToHandOver { needs, ..devices.clone() }
    }

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
        let mut preparer = Preparer::spec(folder.path().join("cdi"), root);
        let devices = one_gpu();
        let ready = |written| {
            Ok::<_, String>(Prepared { hand_over: HandOver::Ready(devices.needs.clone()), written })
        };
        let spec = || fs::read_to_string(folder.path().join("cdi/compute.plasma.dev-gpu.json")).unwrap();
        assert_eq!(preparer.prepare(&devices), ready(Written::Anew));
        assert_eq!(preparer.prepare(&devices), ready(Written::Unchanged));
        assert!(spec().contains("/run/nvidia/driver/usr/lib64/libnvidia-x.so.580.1"));
        fs::remove_file(libraries.join("libnvidia-x.so.580.1")).unwrap();
        assert_eq!(preparer.prepare(&devices), ready(Written::Anew));
        assert!(!spec().contains("libnvidia-x"));
        fs::remove_file(libraries.join("libcuda.so.580.1")).unwrap();
        assert!(preparer.prepare(&devices).unwrap_err().contains("libcuda.so.580.1"));
        fs::write(libraries.join("libcuda.so.580.1"), "").unwrap();
        let unknown = Needs { driver_version: None, ..devices.needs.clone() };
        let unknown = ToHandOver { needs: unknown, ..devices.clone() };
        assert!(preparer.prepare(&unknown).unwrap_err().contains("version isn't known"));
        let why = preparer.prepare(&without_uvm(&devices)).unwrap_err();
        assert!(why.contains("/dev/nvidia-uvm isn't there") && why.contains("nvidia-modprobe -u"), "{why}");
        let simulated = ToHandOver { simulated: true, ..without_uvm(&devices) };
        assert!(preparer.prepare(&simulated).is_ok(), "they have none");
    }

    #[test]
    fn what_the_spec_leaves_out_is_not_said_to_be_ready() {
        let folder = tempfile::tempdir().unwrap();
        let root = DriverRoot { on_host: "/".into(), seen_at: folder.path().to_owned(), ldconfig: None };
        let mut preparer = Preparer::spec(folder.path().to_owned(), root);
        let mut devices = ToHandOver { simulated: true, ..one_gpu() };
        devices.needs.devices.push(HandOut { id: "not a name".to_owned(), ..HandOut::default() });
        let ready = preparer.prepare(&devices).unwrap().hand_over;
        assert_eq!(ready.pending(&devices.needs), BTreeSet::from(["not a name".to_owned()]));
    }

    #[test]
    fn device_nodes_alone_are_of_no_use_without_those_that_every_program_needs() {
        let devices = one_gpu();
        let nothing = Prepared { hand_over: HandOver::NeedsNothing, written: Written::Unchanged };
        assert_eq!(Preparer::Nodes.prepare(&devices), Ok(nothing));
        let why = Preparer::Nodes.prepare(&without_uvm(&devices)).unwrap_err();
        assert!(why.contains("/dev/nvidia-uvm isn't there") && why.contains("nvidia-modprobe -u"), "{why}");
        let simulated = ToHandOver { simulated: true, ..without_uvm(&devices) };
        assert!(Preparer::Nodes.prepare(&simulated).is_ok());
    }
}
