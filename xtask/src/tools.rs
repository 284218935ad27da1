//! Pinned tools that are built here from Go modules, once, into the cache: Kubernetes, etcd, containerd, CoreDNS,
//! helm, Prometheus' parser.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::{command, paths, progress};

/// One Go module of this repository, and how it is built.
pub(crate) struct Group {
    folder: &'static str,
    title: &'static str,
    flags: &'static [&'static str],
    /// `tool` builds what go.mod lists; `.` builds the module's own main.
    target: &'static str,
}

/// The control plane, the kubelet, kube-proxy and kubectl.
pub(crate) const KUBERNETES: Group = Group {
    folder: "xtask/tools/kubernetes",
    title: "Kubernetes 1.37.2",
    flags: &[
        "-ldflags",
        "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2 \
         -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37",
    ],
    target: "tool",
};
/// etcd, containerd, its shim and ctr.
pub(crate) const NODE: Group = Group {
    folder: "xtask/tools/node",
    title: "etcd 3.7.3 and containerd 2.4.2",
    flags: &["-tags", "no_btrfs no_zfs no_devmapper", "-ldflags", "-s -w"],
    target: "tool",
};
/// The cluster's DNS.
pub(crate) const COREDNS: Group = Group {
    folder: "xtask/tools/coredns",
    title: "CoreDNS 1.15.0",
    flags: &["-ldflags", "-s -w"],
    target: ".",
};
/// What installs the charts.
pub(crate) const HELM: Group =
    Group { folder: "xtask/tools/helm", title: "helm 4.3.1", flags: &["-ldflags", "-s -w"], target: "tool" };

/// The kubelet's device manager and plugin manager, without a kubelet.
pub(crate) const KUBELET_HARNESS: Group = Group {
    folder: "e2e/kubelet-harness",
    title: "the kubelet's managers of Kubernetes 1.37.2",
    flags: &["-ldflags", "-s -w"],
    target: ".",
};

/// kube-scheduler's own filters, without a scheduler.
pub(crate) const SCHEDULER_ORACLE: Group = Group {
    folder: "e2e/scheduler-oracle",
    title: "the filters of kube-scheduler 1.37.2",
    flags: &["-ldflags", "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2"],
    target: ".",
};

/// What understands the expressions of dashboards and alerts.
pub(crate) const PROMQL: Group = Group {
    folder: "xtask/tools/promql",
    title: "the parser of Prometheus 3.16.0",
    flags: &["-ldflags", "-s -w"],
    target: ".",
};

/// The folder with the group's programs, built first where this version of them isn't in the cache.
pub(crate) fn build(group: &Group) -> Result<PathBuf> {
    let source = paths::repository().join(group.folder);
    let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let bin = paths::cache()?.join("bin").join(format!("{name}-{}", fingerprint(group, &source)?));
    if bin.is_dir() {
        return Ok(bin);
    }
    let log = paths::logs()?.join(format!("build-{name}.log"));
    progress::step(&format!("build {}", group.title), Some(&log), || {
        // Built beside its place and moved there whole: an interrupted build leaves nothing that looks finished.
        let unfinished = bin.with_extension("unfinished");
        let _ = fs::remove_dir_all(&unfinished);
        fs::create_dir_all(&unfinished).with_context(|| format!("create {}", unfinished.display()))?;
        let mut go = Command::new("go");
        // Nothing of the checkout goes into them: git refuses to be asked in a checkout of somebody else's.
        go.current_dir(&source).env("CGO_ENABLED", "0").args(["build", "-v", "-buildvcs=false"]);
        go.args(group.flags);
        command::logged(go.arg("-o").arg(format!("{}/", unfinished.display())).arg(group.target), &log)?;
        fs::rename(&unfinished, &bin).with_context(|| format!("move {} into place", bin.display()))
    })?;
    Ok(bin)
}

/// What decides whether a build can be used again: the module's files and the flags.
fn fingerprint(group: &Group, source: &Path) -> Result<String> {
    let mut files = vec![source.join("go.mod"), source.join("go.sum")];
    let listed = fs::read_dir(source).with_context(|| format!("list {}", source.display()))?;
    let mut code: Vec<PathBuf> = listed.flatten().map(|file| file.path()).collect();
    code.retain(|file| file.extension().is_some_and(|extension| extension == "go"));
    code.sort();
    files.append(&mut code);
    let mut hasher = Sha256::new();
    for file in files.iter().filter(|file| file.exists()) {
        hasher.update(fs::read(file).with_context(|| format!("read {}", file.display()))?);
    }
    group.flags.iter().for_each(|flag| hasher.update(flag));
    Ok(hex::encode(&hasher.finalize()[..6]))
}
