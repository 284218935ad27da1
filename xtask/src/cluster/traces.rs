//! What a node could leave behind on the host: processes, mounts, network interfaces, namespaces, cgroups.

use std::{collections::BTreeSet, fs, path::Path, thread, time::Duration};

use anyhow::{Result, bail};

use super::{cgroups, retry};

/// Other programs come and go, too: what is still there after this long is left behind.
const PATIENCE: Duration = Duration::from_secs(10);
const KINDS: [&str; 6] = ["mnt", "net", "pid", "uts", "ipc", "cgroup"];

/// What the host has of these, each as one line for people.
#[derive(Debug)]
pub(crate) struct Traces(BTreeSet<String>);

impl Traces {
    /// As of now.
    pub(crate) fn of_host() -> Self {
        let mut found = BTreeSet::new();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        // The fifth field is the mount point (proc_pid_mountinfo(5)).
        let points = mounts.lines().filter_map(|line| line.split_whitespace().nth(4));
        found.extend(points.map(|point| format!("mount {point}")));
        found.extend(names("/sys/class/net").map(|name| format!("network interface {name}")));
        found.extend(cgroups::existing().map(|group| format!("cgroup {}", group.display())));
        for pid in names("/proc").filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
            let process = Path::new("/proc").join(&pid);
            let namespaces =
                KINDS.iter().filter_map(|kind| fs::read_link(process.join("ns").join(kind)).ok());
            found.extend(namespaces.map(|namespace| format!("namespace {}", namespace.display())));
            found.extend(ours(&process));
        }
        Self(found)
    }

    /// Fails where something is there that was not before.
    ///
    /// # Errors
    /// With each thing that is left.
    pub(crate) fn nothing_new(&self) -> Result<()> {
        retry(PATIENCE, || {
            let left: Vec<String> = Self::of_host().0.difference(&self.0).cloned().collect();
            if left.is_empty() {
                return Ok(());
            }
            // Looking is dear where there are many processes.
            thread::sleep(Duration::from_secs(1));
            bail!("left behind: {}", left.join("; "))
        })
    }
}

/// A process of the node, or one that leads into it.
fn ours(process: &Path) -> Option<String> {
    let groups = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
    let command = fs::read(process.join("cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let is_ours = groups.contains("/plasma-dev")
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
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_that_leads_into_a_node_is_found() {
        let before = Traces::of_host();
        let mut forward = Command::new("sh")
            .args(["-c", "read wait", "xtask", "cluster", "forward"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        let found = Traces::of_host().0.difference(&before.0).any(|new| new.contains("cluster forward"));
        forward.kill().expect("it ends");
        forward.wait().expect("it ended");
        assert!(found);
    }
}
