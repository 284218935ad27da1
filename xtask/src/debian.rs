//! Packages that the distribution provides: looked for, installed where we may, named where we may not.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};

use crate::{command, paths, progress};

/// A program that must be there, and the Debian package that brings it.
pub(crate) struct Needed {
    /// A file whose presence says that the package is installed.
    pub(crate) file: &'static str,
    /// The package's name in Debian and Ubuntu.
    pub(crate) package: &'static str,
}

/// What the node needs: namespaces, container runtime, pod networks, service rules, images.
pub(crate) const NODE: &[Needed] = &[
    Needed { file: "/usr/bin/unshare", package: "util-linux" },
    Needed { file: "/usr/sbin/ip", package: "iproute2" },
    Needed { file: "/usr/sbin/runc", package: "runc" },
    Needed { file: "/usr/sbin/nft", package: "nftables" },
    Needed { file: "/usr/lib/cni/ptp", package: "containernetworking-plugins" },
    Needed { file: "/usr/bin/buildah", package: "buildah" },
    Needed { file: "/etc/ssl/certs/ca-certificates.crt", package: "ca-certificates" },
    Needed { file: "/bin/busybox", package: "busybox-static" },
];

/// Programs that no package of the distribution brings new enough, and what to say where one is missing.
const TOOLCHAINS: &[(&str, &str)] = &[
    ("go", "Go 1.26 or newer, which builds Kubernetes: https://go.dev/doc/install"),
    ("npm", "Node.js 20 or newer with npm, which brings the contract tool chain: https://nodejs.org"),
    ("cc", "a C compiler: on Debian or Ubuntu, apt-get install gcc libc6-dev"),
];

/// Says plainly which tool chain is missing, before anything long begins.
pub(crate) fn require_toolchains() -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    let missing: Vec<&str> =
        TOOLCHAINS.iter().filter(|(name, _)| !is_there(name)).map(|(_, what)| *what).collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("missing on this machine:\n  {}", missing.join("\n  "))
}

/// Whether this process may change the system.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Installs what is missing with apt-get; without root, says what to install.
pub(crate) fn require(needed: &[Needed]) -> Result<()> {
    let missing: Vec<_> =
        needed.iter().filter(|need| !Path::new(need.file).exists()).map(|need| need.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if !is_root() || !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "missing: {packages}. Install these packages (on Debian or Ubuntu: apt-get install {packages})"
        );
    }
    let log = paths::logs()?.join("apt.log");
    progress::step(&format!("Debian packages: {packages}"), Some(&log), || {
        command::logged(apt().arg("update"), &log)?;
        command::logged(apt().args(["install", "-y", "--no-install-recommends"]).args(&missing), &log)
    })
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    apt
}
