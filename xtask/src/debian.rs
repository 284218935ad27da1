//! Packages that the distribution provides: looked for, installed where we may, named where we may not.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{command, paths, progress};

/// A program that must be there, and the Debian package that brings it.
#[derive(Clone, Copy)]
pub(crate) struct Needed {
    /// A program, or the path of a file, whose presence says that the package is installed.
    pub(crate) file: &'static str,
    /// The package's name in Debian and Ubuntu.
    pub(crate) package: &'static str,
}

/// What the node needs: namespaces, container runtime, pod networks, service rules, images.
pub(crate) const NODE: &[Needed] = &[
    Needed { file: "unshare", package: "util-linux" },
    Needed { file: "ip", package: "iproute2" },
    Needed { file: "runc", package: "runc" },
    Needed { file: "nft", package: "nftables" },
    Needed { file: "/usr/lib/cni/ptp", package: "containernetworking-plugins" },
    Needed { file: "buildah", package: "buildah" },
    Needed { file: "/etc/ssl/certs/ca-certificates.crt", package: "ca-certificates" },
    // An ordinary installation has a /bin/busybox too, which needs libraries that no image of ours holds.
    Needed { file: "/var/lib/dpkg/info/busybox-static.list", package: "busybox-static" },
];

/// What the image of the PyTorch example needs beside it.
pub(crate) const PYTORCH: &[Needed] = &[
    Needed { file: "mmdebstrap", package: "mmdebstrap" },
    Needed { file: "/usr/share/keyrings/debian-archive-keyring.gpg", package: "debian-archive-keyring" },
];

/// A program that no package of the distribution brings new enough.
struct Toolchain {
    program: &'static str,
    /// Prints the version.
    version: &'static [&'static str],
    /// The oldest that does, as major and minor.
    oldest: (u32, u32),
    /// What to say where it is missing or too old.
    what: &'static str,
}

const TOOLCHAINS: &[Toolchain] = &[
    Toolchain {
        program: "go",
        version: &["env", "GOVERSION"],
        oldest: (1, 26),
        what: "Go 1.26 or newer, which builds Kubernetes: https://go.dev/doc/install",
    },
    Toolchain {
        program: "node",
        version: &["--version"],
        oldest: (20, 0),
        what: "Node.js 20 or newer, which runs the contract tool chain: https://nodejs.org",
    },
    Toolchain {
        program: "npm",
        version: &["--version"],
        oldest: (0, 0),
        what: "npm, which brings the contract tool chain: it comes with Node.js",
    },
    Toolchain {
        program: "cc",
        version: &["--version"],
        oldest: (0, 0),
        what: "a C compiler: on Debian or Ubuntu, apt-get install gcc libc6-dev",
    },
];

/// Says plainly which tool chain is missing or too old, before anything long begins.
pub(crate) fn require_toolchains() -> Result<()> {
    let machine = std::env::consts::ARCH;
    ensure!(
        machine == "x86_64",
        "this needs an x86-64 machine, not {machine}: there is no other contract tool chain"
    );
    let missing: Vec<String> = TOOLCHAINS.iter().filter_map(lacks).collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("missing on this machine:\n  {}", missing.join("\n  "))
}

/// Says plainly where there is no Go that builds Kubernetes.
pub(crate) fn require_go() -> Result<()> {
    let go = TOOLCHAINS.iter().find(|toolchain| toolchain.program == "go");
    match go.and_then(lacks) {
        Some(missing) => bail!("missing on this machine:\n  {missing}"),
        None => Ok(()),
    }
}

fn lacks(need: &Toolchain) -> Option<String> {
    // Outside the repository: what a folder pins doesn't matter here.
    let mut ask = Command::new(need.program);
    let Ok(told) = command::output(ask.current_dir("/").args(need.version)) else {
        return Some(need.what.to_owned());
    };
    let is_old = version(&told).is_some_and(|found| found < need.oldest);
    is_old.then(|| format!("{} (there is only {})", need.what, told.trim()))
}

/// Major and minor of what a program says of its version: `go1.26.8`, `v20.20.2`, `12.2.0`.
fn version(told: &str) -> Option<(u32, u32)> {
    let digits = told.trim().trim_start_matches(|sign: char| !sign.is_ascii_digit());
    let mut numbers = digits.split('.').map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next().unwrap_or(0)))
}

/// Whether this process may change the system.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says that root is needed, and for what, before anything long begins. A container's root may not be enough.
pub(crate) fn require_root() -> Result<()> {
    if !is_root() {
        let command: Vec<String> = std::env::args().skip(1).collect();
        bail!(
            "the local cluster needs root: it makes namespaces, mounts and cgroups. This keeps your tool chains: \
             sudo --preserve-env=HOME env \"PATH=$PATH\" cargo xtask {}",
            command.join(" ")
        );
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--mount-proc", "true"]);
    command::output(&mut unshare).map(drop).context(
        "this root may not make namespaces (in a container: it needs CAP_SYS_ADMIN, as with docker run --privileged)",
    )
}

/// Installs what is missing with apt-get; without root, says what to install.
pub(crate) fn require(needed: &[&[Needed]]) -> Result<()> {
    let missing: Vec<_> = needed
        .concat()
        .into_iter()
        .filter(|need| !is_installed(need.file))
        .map(|need| need.package)
        .collect();
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
        // A fresh machine's own updates may hold the lock for a while.
        let install = ["install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=600"];
        command::logged(apt().args(install).args(&missing), &log)
    })
}

/// Distributions keep some programs in different folders.
fn is_installed(file: &str) -> bool {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].iter().any(|folder| Path::new(folder).join(file).exists())
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    apt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_what_programs_say() {
        assert_eq!(version("go1.26.8\n"), Some((1, 26)));
        assert_eq!(version("v20.20.2"), Some((20, 20)));
        assert_eq!(version("12"), Some((12, 0)));
        assert_eq!(version("none"), None);
    }

    #[test]
    fn a_program_is_found_in_any_of_its_folders_and_a_file_at_its_path() {
        assert!(is_installed("sh") && is_installed("/proc/self/status"));
        assert!(!is_installed("no-such-program") && !is_installed("/no/such/file"));
    }

    #[test]
    fn what_is_missing_or_too_old_is_named() {
        let need = |program, oldest| Toolchain { program, version: &["--version"], oldest, what: "a thing" };
        assert_eq!(lacks(&need("no-such-program", (0, 0))).as_deref(), Some("a thing"));
        assert_eq!(lacks(&need("cargo", (1, 0))), None);
        let old = lacks(&need("cargo", (99, 0))).expect("too old");
        assert!(old.starts_with("a thing (there is only cargo 1."), "{old}");
    }
}
