//! The Container Device Interface: the file that tells a container runtime what a container gets with each device.
//!
//! Only what we use of the format, <https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md>.

use serde::{Deserialize, Serialize};

use crate::driver_files::{Driver, DriverFile, FileKind};

/// Of what kind our devices are: vendor and class. Never NVIDIA's own `nvidia.com/gpu`, which `nvidia-ctk` writes.
pub const CDI_KIND: &str = "compute.plasma.dev/gpu";
/// The oldest version of the format that has all we use (`hostPath` of a device node): older runtimes take it.
const VERSION: &str = "0.5.0";
/// Container folders in which the loader of every glibc looks by itself: Debian's family in the first, after its own
/// `/usr/lib/<triplet>`; Red Hat's and SUSE's in the second.
const LIBRARY_FOLDERS: [&str; 2] = ["/usr/lib", "/usr/lib64"];
/// Where a container finds the driver's programs.
const PROGRAM_FOLDER: &str = "/usr/bin";
/// Keeps NVIDIA's own runtime hook from adding all GPUs because an image asks for them.
const NOTHING_FROM_NVIDIAS_HOOK: &str = "NVIDIA_VISIBLE_DEVICES=void";
/// Triton, below PyTorch's compiler and vLLM, asks the loader's cache for CUDA, unless it is told where it is.
const FOR_TRITON: &str = "TRITON_LIBCUDA_PATH=/usr/lib";
/// Tells a program that its GPUs are pretended.
const SIMULATED: &str = "PLASMA_SIMULATED=true";
/// Read and write; nobody makes device nodes by it.
const PERMISSIONS: &str = "rw";

/// What a container gets for one device that the kubelet allocated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandOut {
    /// The device's id at the kubelet, and its name in CDI.
    pub id: String,
    /// Its own device nodes; a simulated device has none.
    pub device_nodes: Vec<String>,
}

/// A spec file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// Of the format.
    pub cdi_version: String,
    /// Vendor and class.
    pub kind: String,
    /// One entry a device.
    pub devices: Vec<Device>,
    /// What every container with any of the devices gets.
    pub container_edits: Edits,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Its name within the kind.
    pub name: String,
    /// What a container gets with it.
    pub container_edits: Edits,
}

/// What is done to a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Edits {
    /// Variables, `NAME=value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Device nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_nodes: Vec<DeviceNode>,
    /// Mounts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Programs of the host that the runtime runs for the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
}

/// A device node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceNode {
    /// In the container; on the host too where that isn't said.
    pub path: String,
    /// On the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_path: Option<String>,
    /// `r`, `w`, `m`.
    pub permissions: String,
}

/// A mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// On the host.
    pub host_path: String,
    /// In the container.
    pub container_path: String,
    /// As `mount` names them.
    pub options: Vec<String>,
}

/// A program that the runtime runs for the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hook {
    /// When: `createContainer` is after its mounts, before it leaves the host's root.
    pub hook_name: String,
    /// Of the host.
    pub path: String,
    /// Its name first.
    pub args: Vec<String>,
    /// All its variables. Without any it would get the image's, and with them what the image wants loaded.
    pub env: Vec<String>,
}

/// The device's name as the kubelet passes it to the runtime.
pub fn qualified(device: &str) -> String {
    format!("{CDI_KIND}={device}")
}

/// Whether the format takes it as a device's name: letters, digits and `_-.:`, of which the last four not at either end.
pub fn is_device_name(name: &str) -> bool {
    let ends_well = |end: Option<char>| end.is_some_and(|end| end.is_ascii_alphanumeric());
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "_-.:".contains(letter);
    name.chars().all(allowed) && ends_well(name.chars().next()) && ends_well(name.chars().last())
}

/// The spec for these devices: each by its own name, and never one name for all of them.
///
/// `driver` is none where the GPUs are simulated: then a device node that is `/dev/null` stands for each GPU. A device whose
/// name the format doesn't take, or that has nothing to hand over, is left out: runtimes would refuse the whole file.
pub fn spec(devices: &[HandOut], shared_nodes: &[String], driver: Option<&Driver>) -> Spec {
    let named = devices.iter().filter(|device| is_device_name(&device.id));
    let devices = named.map(|device| Device {
        name: device.id.clone(),
        container_edits: match driver {
            Some(_) => nodes(&device.device_nodes),
            None => stand_in(&device.id),
        },
    });
    let devices = devices.filter(|device| device.container_edits != Edits::default());
    let container_edits = match driver {
        Some(driver) => Edits {
            env: vec![NOTHING_FROM_NVIDIAS_HOOK.to_owned(), FOR_TRITON.to_owned()],
            mounts: mounts(driver),
            hooks: driver.ldconfig.as_deref().map(loader_cache).into_iter().collect(),
            ..nodes(shared_nodes)
        },
        None => Edits { env: vec![SIMULATED.to_owned()], ..Edits::default() },
    };
    Spec {
        cdi_version: VERSION.to_owned(),
        kind: CDI_KIND.to_owned(),
        devices: devices.collect(),
        container_edits,
    }
}

fn nodes(paths: &[String]) -> Edits {
    let node = |path: &String| DeviceNode {
        path: path.clone(),
        host_path: None,
        permissions: PERMISSIONS.to_owned(),
    };
    Edits { device_nodes: paths.iter().map(node).collect(), ..Edits::default() }
}

fn stand_in(device: &str) -> Edits {
    let node = DeviceNode {
        path: format!("/dev/plasma-simulated/{device}"),
        host_path: Some("/dev/null".to_owned()),
        permissions: PERMISSIONS.to_owned(),
    };
    Edits { device_nodes: vec![node], ..Edits::default() }
}

/// Writes the container's loader cache anew. The runtime stands in the container's root by then (runc does), and
/// `ldconfig` locks itself in there before it reads anything of the image.
fn loader_cache(ldconfig: &str) -> Hook {
    Hook {
        hook_name: "createContainer".to_owned(),
        path: ldconfig.to_owned(),
        args: ["ldconfig", "-r", "."].map(str::to_owned).to_vec(),
        env: vec!["LC_ALL=C".to_owned()],
    }
}

/// Each library under the names by which programs load it, where every loader looks: no link has to be made and no cache
/// to be written in the container, so nothing has to run on the host.
fn mounts(driver: &Driver) -> Vec<Mount> {
    let libraries = driver.libraries.iter().flat_map(|library| {
        let places =
            library.names.iter().flat_map(|name| LIBRARY_FOLDERS.map(|folder| format!("{folder}/{name}")));
        places.map(|place| mount(&library.host_path, place, &[]))
    });
    libraries.chain(driver.files.iter().map(file)).collect()
}

fn file(file: &DriverFile) -> Mount {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    match file.kind {
        FileKind::Program => mount(&file.host_path, format!("{PROGRAM_FOLDER}/{name}"), &[]),
        FileKind::Data => mount(&file.host_path, file.path.clone(), &["noexec"]),
        FileKind::Socket => mount(&file.host_path, file.path.clone(), &["noexec"]),
    }
}

fn mount(host_path: &str, container_path: String, more: &[&str]) -> Mount {
    let options = ["ro", "nosuid", "nodev", "rbind", "rprivate"];
    let options = options.iter().chain(more).map(|option| (*option).to_owned()).collect();
    Mount { host_path: host_path.to_owned(), container_path, options }
}

#[cfg(test)]
mod tests;
