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
