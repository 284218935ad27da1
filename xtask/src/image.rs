//! Container images, made here by buildah from a staged folder, kept as archives in the cache.
//!
//! There is no registry: an archive is imported into the node's containerd.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{command, paths};

/// Builds `name` from the folder's Dockerfile unless an archive of that name is in the cache; returns the archive.
///
/// The name's tag must change with the content.
pub(crate) fn build(name: &str, stage: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = paths::cache()?.join("images");
    let file = name.replace(['/', ':'], "_");
    let archive = folder.join(format!("{file}.tar"));
    if archive.exists() {
        return Ok(archive);
    }
    let staging = folder.join(format!("{file}.staging"));
    let _ = fs::remove_dir_all(&staging);
    fs::create_dir_all(&staging).with_context(|| format!("create {}", staging.display()))?;
    stage(&staging)?;
    let log = paths::logs()?.join("images.log");
    let unfinished = archive.with_extension("unfinished");
    let _ = fs::remove_file(&unfinished);
    command::logged(buildah(&folder).args(["bud", "--isolation", "chroot", "-t", name]).arg(&staging), &log)?;
    let target = format!("docker-archive:{}:{name}", unfinished.display());
    command::logged(buildah(&folder).args(["push", name, &target]), &log)?;
    command::logged(buildah(&folder).args(["rmi", "-f", name]), &log)?;
    fs::rename(&unfinished, &archive).with_context(|| format!("move {} into place", archive.display()))?;
    fs::remove_dir_all(&staging).with_context(|| format!("remove {}", staging.display()))?;
    Ok(archive)
}

fn buildah(folder: &Path) -> Command {
    let mut buildah = Command::new("buildah");
    buildah.arg("--root").arg(folder.join("storage")).arg("--runroot").arg(folder.join("storage-run"));
    buildah.args(["--storage-driver", "vfs"]);
    buildah
}
