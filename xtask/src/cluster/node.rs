//! Starting, entering and ending the node: a set of namespaces held by one process.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{
    cgroups, config,
    daemons::{self, Programs},
    layout::{API_ON_HOST, API_SERVICE, Layout, NODE, NODE_ADDRESS},
    pki,
};
use crate::{command, image};

/// Writes what the daemons read and starts the node's first process.
pub(crate) fn start(layout: &Layout, programs: &Programs<'_>) -> Result<()> {
    for folder in [layout.pki(), layout.config(), layout.logs(), layout.containerd.clone()] {
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    }
    identities(layout)?;
    for (file, text) in config::all(layout) {
        config::write(&file, &text)?;
    }
    config::write(&layout.daemons(), &daemons(layout, programs)?)?;
    cgroups::create()?;
    spawn(layout)
}

fn daemons(layout: &Layout, programs: &Programs<'_>) -> Result<String> {
    serde_json::to_string_pretty(&daemons::all(layout, programs)).context("write the list of daemons")
}

/// A hash of everything that a node is made of: its programs with their arguments, its settings, its images.
pub(crate) fn fingerprint(layout: &Layout, programs: &Programs<'_>, images: &[PathBuf]) -> Result<String> {
    let mut parts = vec![daemons(layout, programs)?];
    parts.extend(config::all(layout).into_iter().map(|(_, text)| text));
    parts.extend(images.iter().map(|image| image.display().to_string()));
    Ok(image::hash(parts.iter().map(String::as_bytes)))
}

fn identities(layout: &Layout) -> Result<()> {
    let users = pki::write_all(&layout.pki(), NODE, NODE_ADDRESS, API_SERVICE)?;
    let inside = format!("https://{NODE_ADDRESS}:6443");
    for (file, user, groups) in [
        ("kube-controller-manager", "system:kube-controller-manager", &[][..]),
        ("kube-scheduler", "system:kube-scheduler", &[]),
        ("kube-proxy", "system:kube-proxy", &[]),
        ("kubelet", &format!("system:node:{NODE}"), &["system:nodes"]),
    ] {
        let kubeconfig = config::kubeconfig(&inside, &users.certificate, &users.issue(user, groups, &[])?);
        config::write(&layout.config().join(format!("{file}.kubeconfig")), &kubeconfig)?;
    }
    let administrator = users.issue("plasma-dev-admin", &["system:masters"], &[])?;
    let outside = format!("https://{API_ON_HOST}");
    config::write(&layout.kubeconfig(), &config::kubeconfig(&outside, &users.certificate, &administrator))
}

fn spawn(layout: &Layout) -> Result<()> {
    let itself = layout.program();
    fs::copy("/proc/self/exe", &itself)
        .with_context(|| format!("copy this program to {}", itself.display()))?;
    let log_file = layout.logs().join("node.log");
    let log = File::create(&log_file).context("create the node's log")?;
    let unshare = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"])
        .arg(itself)
        .args(["cluster", "node-init"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("share the node's log")?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .context("start unshare")?;
    let children = format!("/proc/{0}/task/{0}/children", unshare.id());
    let pid = super::retry(Duration::from_secs(5), || {
        let children = fs::read_to_string(&children).with_context(|| format!("read {children}"))?;
        let child = children.split_whitespace().next().map(str::to_owned);
        child.with_context(|| format!("unshare has started nothing: {}", command::tail(&log_file)))
    })?;
    config::write(&layout.init_pid(), &pid)
}

/// The id of the node's first process, where it lives.
pub(crate) fn init_pid(layout: &Layout) -> Option<i32> {
    let pid = fs::read_to_string(layout.init_pid()).ok()?.trim().parse().ok()?;
    // The id may be somebody else's by now.
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    command.contains("node-init").then_some(pid)
}

/// The namespaces that the node has for itself, as `/proc/PID/ns` names them.
pub(crate) fn namespaces(layout: &Layout) -> BTreeSet<PathBuf> {
    let Some(pid) = init_pid(layout) else { return BTreeSet::new() };
    let of = |process: &str| -> BTreeSet<PathBuf> {
        let links = fs::read_dir(format!("/proc/{process}/ns")).into_iter().flatten().flatten();
        links.filter_map(|link| fs::read_link(link.path()).ok()).collect()
    };
    of(&pid.to_string()).difference(&of("self")).cloned().collect()
}

/// A command inside the node's namespaces.
pub(crate) fn enter(layout: &Layout, program: &str) -> Result<Command> {
    let pid = init_pid(layout).context("the cluster is down: cargo xtask cluster up")?;
    let mut nsenter = Command::new("nsenter");
    nsenter.args([
        "--target",
        &pid.to_string(),
        "--net",
        "--mount",
        "--pid",
        "--uts",
        "--ipc",
        "--",
        program,
    ]);
    Ok(nsenter)
}
