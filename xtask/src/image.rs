//! Container images, made here by buildah from a staged folder, kept as archives in the cache.
//!
//! There is no registry: an archive is imported into the node's containerd.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::{command, paths};

/// The log of everything that makes images.
pub(crate) fn log() -> Result<PathBuf> {
    Ok(paths::logs()?.join("images.log"))
}

/// A short hash of what an image is made of.
pub(crate) fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        // Each part with its length, or two recipes could be told apart by nothing.
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hex::encode(&hasher.finalize()[..6])
}

/// Builds `name` from the folder's Dockerfile unless an archive of this recipe is in the cache; returns the archive.
///
/// The recipe is a hash of everything that the image is made of. Of each name the newest archive is kept.
pub(crate) fn build(name: &str, recipe: &str, stage: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = paths::cache()?.join("images");
    let file = format!("{}_{recipe}", name.replace(['/', ':'], "_"));
    let archive = folder.join(format!("{file}.tar"));
    if archive.exists() {
        return Ok(archive);
    }
    let staging = folder.join(format!("{file}.staging"));
    forget_interrupted(&folder)?;
    fs::create_dir_all(&staging).with_context(|| format!("create {}", staging.display()))?;
    stage(&staging)?;
    let unfinished = archive.with_extension("unfinished");
    let log = log()?;
    command::logged(buildah(&folder).args(["bud", "--isolation", "chroot", "-t", name]).arg(&staging), &log)?;
    let target = format!("docker-archive:{}:{name}", unfinished.display());
    command::logged(buildah(&folder).args(["push", name, &target]), &log)?;
    fs::rename(&unfinished, &archive).with_context(|| format!("move {} into place", archive.display()))?;
    forget_interrupted(&folder)?;
    forget_older(&folder, name, &archive)?;
    Ok(archive)
}

/// Removes what buildah keeps between builds, and what an interrupted build left: gigabytes that nothing reads again.
fn forget_interrupted(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let removed = match entry.path() {
            path if name.starts_with("storage") || name.ends_with(".staging") => fs::remove_dir_all(path),
            path if name.ends_with(".unfinished") => fs::remove_file(path),
            _ => continue,
        };
        removed.with_context(|| format!("remove {}", entry.path().display()))?;
    }
    Ok(())
}

fn forget_older(folder: &Path, name: &str, newest: &Path) -> Result<()> {
    let (repository, _) = name.split_once(':').unwrap_or((name, ""));
    let prefix = format!("{}_", repository.replace('/', "_"));
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?.flatten() {
        let path = entry.path();
        let is_of_it = entry.file_name().to_string_lossy().starts_with(&prefix);
        if is_of_it && path != newest && path.extension().is_some_and(|kind| kind == "tar") {
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn buildah(folder: &Path) -> Command {
    let mut buildah = Command::new("buildah");
    buildah.arg("--root").arg(folder.join("storage")).arg("--runroot").arg(folder.join("storage-run"));
    buildah.args(["--storage-driver", "vfs"]);
    buildah
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_is_told_from_any_other() {
        assert_eq!(hash([&b"a"[..], b"b"]), hash([&b"a"[..], b"b"]));
        assert_ne!(hash([&b"a"[..], b"b"]), hash([&b"ab"[..]]));
    }

    #[test]
    fn the_newest_archive_of_a_name_is_kept_and_others_are_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = ["x_shell_1_aa.tar", "x_shell_2_bb.tar", "x_shell-2_1_cc.tar", "x_other_1_dd.tar"];
        for file in files {
            fs::write(folder.path().join(file), "").expect("a file");
        }
        fs::write(folder.path().join("x_shell_2_bb.unfinished"), "").expect("a file");
        fs::create_dir_all(folder.path().join("storage/vfs")).expect("a folder");
        forget_interrupted(folder.path()).expect("removed");
        forget_older(folder.path(), "x/shell:2", &folder.path().join(files[1])).expect("removed");
        let left = fs::read_dir(folder.path()).expect("a folder").flatten();
        let mut left: Vec<_> = left.map(|entry| entry.file_name().into_string().expect("a name")).collect();
        left.sort();
        assert_eq!(left, ["x_other_1_dd.tar", "x_shell-2_1_cc.tar", "x_shell_2_bb.tar"]);
    }
}
