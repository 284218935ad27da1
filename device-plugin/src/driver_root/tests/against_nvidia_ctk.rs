//! Our spec beside the one that `nvidia-ctk cdi generate` wrote on a real machine: each difference has its reason here, and a
//! difference without one fails.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::*;

const THEIRS: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/h100-580.159.04/nvidia-ctk-cdi.yaml"));
const GPU: &str = "GPU-00000000-0000-0000-0000-000000000000";
const LIBRARIES: &str = "/usr/local/nvidia/lib64/";
const PROGRAMS: &str = "/usr/local/nvidia/bin/";

/// What only one of the two gives, and why. `*` is any text.
const DIFFERENCES: &[(&str, &str)] = &[
    ("theirs: device 0", "an index may be another GPU after a restart; the kubelet knows UUIDs"),
    ("theirs: device all", "nobody is to get every GPU by one name"),
    ("theirs: node * rwm", "making device nodes isn't needed to use them"),
    ("ours: node * rw", "as above"),
    ("theirs: env NVIDIA_CTK_LIBCUDA_DIR=*", "for hooks of theirs"),
    (
        "ours: env TRITON_LIBCUDA_PATH=/usr/lib",
        "Triton reads the loader's cache, which stays as the image has it",
    ),
    (
        "theirs: file /var/run/nvidia-container-devices/void",
        "for NVIDIA_VISIBLE_DEVICES by mounts, which we don't have",
    ),
    ("theirs: library *.so.580.159.04", "programs load it by its SONAME, under which it is mounted"),
    ("theirs: library *.so", "nobody loads or links it by a name without a number"),
    ("theirs: library libGLX_indirect.so.0", "for OpenGL over the network of X"),
    (
        "theirs: library nvidia-drm_gbm.so",
        "Mesa looks for it in a folder that each distribution names otherwise",
    ),
    ("theirs: file /etc/vulkan/icd.d/nvidia_icd.json", "Vulkan's loader reads both folders"),
    ("ours: file /usr/share/vulkan/icd.d/nvidia_icd.json", "as above: the host's own path"),
    ("theirs: hook create-symlinks", "each library is mounted under each name that it is loaded by"),
    (
        "theirs: hook update-ldcache",
        "libraries are mounted where the loader looks by itself; --ldcache-hook adds it",
    ),
    (
        "theirs: hook enable-cuda-compat",
        "an image's newer CUDA is chosen by LD_LIBRARY_PATH, as before that hook",
    ),
    ("theirs: hook disable-device-node-modification", "no program of ours makes device nodes in containers"),
    ("theirs: hook update-application-profile", "only for graphics in MIG instances"),
    ("theirs: hook apply-cuda-memory-limits", "of newer drivers, for GPUs that are shared"),
];

/// A spec of theirs, with what we never write.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hooks {
    #[serde(default)]
    devices: Vec<Hooked>,
    container_edits: HookList,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hooked {
    container_edits: HookList,
}

#[derive(Deserialize)]
struct HookList {
    #[serde(default)]
    hooks: Vec<Hook>,
}

#[derive(Deserialize)]
struct Hook {
    args: Vec<String>,
}

impl Hooks {
    fn all(&self) -> impl Iterator<Item = &Hook> {
        self.devices
            .iter()
            .flat_map(|device| &device.container_edits.hooks)
            .chain(&self.container_edits.hooks)
    }

    /// Links that their hook makes: target and path.
    fn links(&self) -> Vec<(&str, &str)> {
        let links = self.all().filter(|hook| hook.args[1] == "create-symlinks").flat_map(|hook| &hook.args);
        links.filter_map(|argument| argument.split_once("::")).collect()
    }
}

/// The machine on which theirs was written: its files, by what was mounted of them and linked to them.
fn machine(theirs: &Spec, hooks: &Hooks) -> Host {
    let host = Host::new();
    for mount in &theirs.container_edits.mounts {
        let path = &mount.host_path;
        let Some(name) = path.strip_prefix(LIBRARIES) else {
            host.file(path);
            continue;
        };
        let links = hooks.links();
        let mut link = links
            .iter()
            .filter(|(target, _)| *target == name)
            .filter_map(|(_, link)| link.rsplit('/').next());
        let soname = link.find(|link| !link.ends_with(".so") && !link.contains("indirect"));
        host.library(path, soname.unwrap_or(name));
    }
    host
}

fn ours(host: &Host) -> Spec {
    let root = DriverRoot { on_host: "/".into(), seen_at: host.folder.path().to_owned(), ldconfig: None };
    let gpu = HandOut { id: GPU.to_owned(), device_nodes: vec!["/dev/nvidia0".to_owned()] };
    let shared = ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"].map(str::to_owned);
    spec(&[gpu], &shared, Some(&root.find(VERSION).unwrap()))
}

/// What a container gets, one line each.
fn gives(spec: &Spec) -> BTreeSet<String> {
    let edits = spec.devices.iter().map(|device| &device.container_edits).chain([&spec.container_edits]);
    let mut lines: BTreeSet<String> =
        spec.devices.iter().map(|device| format!("device {}", device.name)).collect();
    for edits in edits {
        lines.extend(edits.env.iter().map(|variable| format!("env {variable}")));
        lines
            .extend(edits.device_nodes.iter().map(|node| format!("node {} {}", node.path, node.permissions)));
        lines.extend(edits.mounts.iter().map(|mount| {
            let path = &mount.container_path;
            let name = path.rsplit('/').next().unwrap();
            let is_in =
                |folders: &[&str]| folders.iter().any(|folder| path.strip_prefix(folder) == Some(name));
            if is_in(&[LIBRARIES, "/usr/lib/", "/usr/lib64/"]) {
                format!("library {name}")
            } else if is_in(&[PROGRAMS, "/usr/bin/"]) {
                format!("program {name}")
            } else {
                format!("file {path}")
            }
        }));
    }
    lines
}

fn fits(pattern: &str, line: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == line,
        Some((begin, end)) => {
            line.len() >= begin.len() + end.len() && line.starts_with(begin) && line.ends_with(end)
        }
    }
}

#[test]
fn each_difference_from_nvidias_spec_of_a_real_machine_is_explained() {
    let (spec, hooks): (Spec, Hooks) =
        (serde_saphyr::from_str(THEIRS).unwrap(), serde_saphyr::from_str(THEIRS).unwrap());
    let ours = gives(&ours(&machine(&spec, &hooks)));
    let mut theirs = gives(&spec);
    theirs.extend(hooks.all().map(|hook| format!("hook {}", hook.args[1])));
    theirs.extend(
        hooks.links().iter().map(|(_, link)| format!("library {}", link.rsplit('/').next().unwrap())),
    );

    for shared in
        ["library libcuda.so.1", "library libcuda.so", "library libnvidia-ml.so.1", "program nvidia-smi"]
    {
        assert!(ours.contains(shared) && theirs.contains(shared), "{shared}");
    }
    let differences: Vec<String> = (theirs.difference(&ours).map(|line| format!("theirs: {line}")))
        .chain(ours.difference(&theirs).map(|line| format!("ours: {line}")))
        .collect();
    for difference in &differences {
        assert!(
            DIFFERENCES.iter().any(|(pattern, _)| fits(pattern, difference)),
            "not explained: {difference}"
        );
    }
    for (pattern, why) in DIFFERENCES {
        assert!(differences.iter().any(|line| fits(pattern, line)), "no longer so: {pattern} ({why})");
    }
}

#[test]
fn every_library_that_they_hand_over_can_be_loaded_by_its_name() {
    let (spec, hooks): (Spec, Hooks) =
        (serde_saphyr::from_str(THEIRS).unwrap(), serde_saphyr::from_str(THEIRS).unwrap());
    let host = machine(&spec, &hooks);
    let ours = gives(&ours(&host));
    let libraries = spec.container_edits.mounts.iter().filter(|mount| mount.host_path.starts_with(LIBRARIES));
    let mut seen = 0;
    for mount in libraries {
        let soname = soname(&host.path(&mount.host_path)).unwrap();
        assert!(ours.contains(&format!("library {soname}")), "{soname} of {}", mount.host_path);
        seen += 1;
    }
    assert!(seen > 20, "{seen} libraries");
}
