//! A copy of the contracts in the cache, for what needs settings of its own or mistakes in it.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use super::{folder, program};
use crate::{command, paths};

/// A folder that forge takes for a project.
pub(super) struct Workspace {
    pub(super) root: PathBuf,
}

impl Workspace {
    /// A folder with these files and folders of `contracts/`, as they are now. What forge built there before stays.
    pub(super) fn with(name: &str, parts: &[&str]) -> Result<Self> {
        let root = paths::cache()?.join("contracts").join(name);
        for leftover in ["src", "test"] {
            let _ = fs::remove_dir_all(root.join(leftover));
        }
        for part in [parts, &["foundry.toml", "tools"]].concat() {
            let to = root.join(part);
            let parent = to.parent().unwrap_or(&root);
            fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
            let mut copy = Command::new("cp");
            command::output(copy.arg("--recursive").arg(folder().join(part)).arg(parent))?;
        }
        let packages = root.join("node_modules");
        let _ = fs::remove_file(&packages);
        std::os::unix::fs::symlink(folder().join("node_modules"), &packages).context("link the packages")?;
        Ok(Self { root })
    }

    /// The same again, with everything that was built.
    pub(super) fn copy(&self, name: &str) -> Result<Self> {
        let root = self.root.with_file_name(name);
        let _ = fs::remove_dir_all(&root);
        command::output(Command::new("cp").arg("--archive").arg(&self.root).arg(&root))?;
        Ok(Self { root })
    }

    pub(super) fn forge(&self, arguments: &[&str]) -> Result<Command> {
        let mut forge = Command::new(program("forge")?);
        forge.current_dir(&self.root).args(arguments);
        Ok(forge)
    }
}
