//! What a node could leave behind on the host: processes, mounts, network interfaces, namespaces, cgroups, settings of the
//! kernel.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Result, bail};

use super::{cgroups, config::KERNEL, layout::Layout, retry};

/// What is still there after this long is left behind.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the host has of these, each as one line for people.
#[derive(Debug)]
pub(crate) struct Traces {
    found: BTreeSet<String>,
    /// The folders that only we mount something in.
    folders: Vec<PathBuf>,
    /// The node's own namespaces: others' come and go.
    namespaces: BTreeSet<PathBuf>,
}

impl Traces {
    /// As of now.
    pub(crate) fn of_host() -> Result<Self> {
        let layout = Layout::new()?;
        let mut folders: Vec<PathBuf> = [
            "/var/lib/kubelet",
            "/var/lib/cni",
            "/var/lib/plasma",
            "/proc/sys/vm",
            "/proc/sys/kernel",
            "/run/containerd",
        ]
        .map(PathBuf::from)
        .to_vec();
        folders.extend([layout.state, layout.containerd]);
        let found = look(&folders, &BTreeSet::new());
        Ok(Self { found, folders, namespaces: BTreeSet::new() })
    }

    /// With the namespaces of a node that runs: nobody may be in them afterwards.
    pub(crate) fn and_of_node(self, namespaces: BTreeSet<PathBuf>) -> Self {
        Self { namespaces, ..self }
    }

    /// Fails where something is there that was not before.
    ///
    /// # Errors
    /// With each thing that is left.
    pub(crate) fn nothing_new(&self) -> Result<()> {
        retry(PATIENCE, || {
            let now = look(&self.folders, &self.namespaces);
            let left: Vec<String> = now.difference(&self.found).cloned().collect();
            if left.is_empty() {
                return Ok(());
            }
            // Looking is dear where there are many processes.
            thread::sleep(Duration::from_secs(1));
            bail!("left behind: {}", left.join("; "))
        })
    }
}

fn look(folders: &[PathBuf], namespaces: &BTreeSet<PathBuf>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The fifth field is the mount point (proc_pid_mountinfo(5)).
    let points = mounts.lines().filter_map(|line| line.split_whitespace().nth(4));
    let ours = points.filter(|point| folders.iter().any(|folder| Path::new(point).starts_with(folder)));
    found.extend(ours.map(|point| format!("mount {point}")));
    found.extend(names("/sys/class/net").map(|name| format!("network interface {name}")));
    found.extend(cgroups::existing().map(|group| format!("cgroup {}", group.display())));
    for (setting, _) in KERNEL {
        let value = fs::read_to_string(Path::new("/proc/sys").join(setting)).unwrap_or_default();
        found.insert(format!("kernel setting {setting} = {}", value.trim()));
    }
    for pid in names("/proc").filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
        let process = Path::new("/proc").join(&pid);
        found.extend(ours_of(&process, namespaces));
    }
    found
}

/// A process of the node, or one that leads into it.
fn ours_of(process: &Path, namespaces: &BTreeSet<PathBuf>) -> Option<String> {
    let groups = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
    let command = fs::read(process.join("cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let links = fs::read_dir(process.join("ns")).into_iter().flatten().flatten();
    let is_inside =
        links.filter_map(|link| fs::read_link(link.path()).ok()).any(|link| namespaces.contains(&link));
    let is_ours = is_inside
        || groups.contains("/plasma-dev")
        || command.contains(" cluster node-init")
        || command.contains(" cluster forward");
    is_ours.then(|| format!("process {}: {}", process.display(), command.trim()))
}

fn names(folder: &str) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn a_process_that_leads_into_a_node_is_found() {
        let before = Traces::of_host().expect("a cache");
        let mut forward = Command::new("sh")
            .args(["-c", "echo here; read wait", "xtask", "cluster", "forward"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        // While a process becomes another program, it has no command line.
        let mut here = [0; 4];
        forward.stdout.take().expect("its output").read_exact(&mut here).expect("a word");
        let is_found = |new: &String| new.contains("cluster forward");
        let found = look(&before.folders, &before.namespaces).difference(&before.found).any(is_found);
        forward.kill().expect("it ends");
        forward.wait().expect("it ended");
        assert!(found);
    }

    #[test]
    fn a_process_in_the_nodes_namespaces_is_found() {
        let own = fs::read_link("/proc/self/ns/net").expect("a namespace");
        let name = format!("process /proc/{}", std::process::id());
        let inside = |namespaces: &BTreeSet<PathBuf>| {
            look(&[], namespaces).iter().any(|found| found.starts_with(&name))
        };
        assert!(inside(&BTreeSet::from([own])));
        assert!(!inside(&BTreeSet::new()));
    }
}
