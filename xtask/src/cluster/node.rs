//! Starting, entering and ending the node: a set of namespaces held by one process.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{
    cgroups, config,
    daemons::{self, Programs},
    layout::{API_ON_HOST, API_SERVICE, Layout, NODE, NODE_ADDRESS},
    pki,
};

/// Writes what the daemons read and starts the node's first process.
pub(crate) fn start(layout: &Layout, programs: &Programs<'_>) -> Result<()> {
    for folder in [layout.pki(), layout.config(), layout.logs(), layout.containerd.clone()] {
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    }
    identities(layout)?;
    config::write_all(layout)?;
    let daemons =
        serde_json::to_string_pretty(&daemons::all(layout, programs)).context("write the list of daemons")?;
    config::write(&layout.daemons(), &daemons)?;
    cgroups::create()?;
    spawn(layout)
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
    let itself = std::env::current_exe().context("find this program")?;
    let log = File::create(layout.logs().join("node.log")).context("create the node's log")?;
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
        children.split_whitespace().next().map(str::to_owned).context("unshare has started nothing yet")
    })?;
    config::write(&layout.init_pid(), &pid)
}

/// The id of the node's first process, where it lives.
pub(crate) fn init_pid(layout: &Layout) -> Option<u32> {
    let pid = fs::read_to_string(layout.init_pid()).ok()?.trim().parse().ok()?;
    // The id may be somebody else's by now.
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    command.contains("node-init").then_some(pid)
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

/// Ends the node's first process, and with it every process of the node.
pub(crate) fn stop(layout: &Layout) -> Result<()> {
    let Some(pid) = init_pid(layout) else { return Ok(()) };
    let raw = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).context("a process id")?;
    rustix::process::kill_process(raw, rustix::process::Signal::KILL)
        .with_context(|| format!("end process {pid}"))?;
    for _ in 0..100 {
        if init_pid(layout).is_none() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    bail!("the node's first process {pid} doesn't end: a process of the node may be stuck in the kernel")
}
