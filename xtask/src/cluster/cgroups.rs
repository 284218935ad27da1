//! The cgroup that holds the node's pods: made before the kubelet asks for it, removed with the cluster.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::layout::CGROUP;

const MOUNT: &str = "/sys/fs/cgroup";
/// The kernel keeps a cgroup busy for a moment after its last process has ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes the cgroup in the unified hierarchy, or in each controller's where the machine still has those.
pub(crate) fn create() -> Result<()> {
    for hierarchy in hierarchies() {
        let group = hierarchy.join(CGROUP);
        fs::create_dir_all(&group).with_context(|| format!("create {}", group.display()))?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let (parent, own) = (hierarchy.join(file), group.join(file));
            if parent.exists() && own.exists() {
                let value = fs::read(&parent).with_context(|| format!("read {}", parent.display()))?;
                fs::write(&own, value).with_context(|| format!("write {}", own.display()))?;
            }
        }
        delegate(&hierarchy)?;
        delegate(&group)?;
    }
    Ok(())
}

/// In the unified hierarchy a group's children have only the controllers that it hands down.
fn delegate(group: &Path) -> Result<()> {
    let Ok(controllers) = fs::read_to_string(group.join("cgroup.controllers")) else { return Ok(()) };
    for controller in controllers.split_whitespace() {
        let file = group.join("cgroup.subtree_control");
        fs::write(&file, format!("+{controller}"))
            .with_context(|| format!("enable {controller} in {}", file.display()))?;
    }
    Ok(())
}

/// Removes the cgroup and everything below it; its processes have ended before.
pub(crate) fn remove() -> Result<()> {
    hierarchies()
        .iter()
        .try_for_each(|hierarchy| super::retry(PATIENCE, || remove_tree(&hierarchy.join(CGROUP))))
}

/// The node's cgroups that there are.
pub(crate) fn existing() -> impl Iterator<Item = PathBuf> {
    hierarchies().into_iter().map(|hierarchy| hierarchy.join(CGROUP)).filter(|group| group.exists())
}

fn remove_tree(group: &Path) -> Result<()> {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    // A cgroup is removed by rmdir; one that is gone already is no fault.
    match fs::remove_dir(group) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => {
            Err(fault).with_context(|| format!("remove the cgroup {}", group.display()))
        }
        _ => Ok(()),
    }
}

fn hierarchies() -> Vec<PathBuf> {
    let mount = PathBuf::from(MOUNT);
    if mount.join("cgroup.controllers").exists() {
        return vec![mount];
    }
    let entries = fs::read_dir(&mount).into_iter().flatten().flatten();
    let hierarchies = entries.map(|entry| entry.path()).filter(|path| path.join("cgroup.procs").exists());
    // Links such as `cpu` → `cpu,cpuacct` name a hierarchy twice; making a group twice does no harm.
    hierarchies.collect()
}
