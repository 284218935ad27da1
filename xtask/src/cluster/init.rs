//! The node's first process: makes the node's mounts and network, then keeps its daemons running.
//!
//! It is process 1 of a PID namespace. When it ends, the kernel ends every process of the node, and with the last
//! of them the namespaces go, and with those every mount, interface and rule: that is how nothing is left behind.

use std::{
    collections::HashMap,
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, WaitOptions};

use super::{
    config,
    daemons::Daemon,
    layout::{Layout, NODE, NODE_ADDRESS},
};
use crate::command;

/// A daemon that ends at once is started again only after this long.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// Never returns while the node lives.
pub(crate) fn run() -> Result<()> {
    let layout = Layout::new()?;
    mounts(&layout)?;
    network()?;
    let daemons = fs::read_to_string(layout.daemons()).context("read the list of daemons")?;
    let daemons: Vec<Daemon> = serde_json::from_str(&daemons).context("understand the list of daemons")?;
    supervise(&layout, &daemons)
}

/// The node's own /run, and its state under the paths that the kubelet, the pod network and the meter have fixed.
fn mounts(layout: &Layout) -> Result<()> {
    sh("mount --make-rprivate / && mount --make-rshared /")?;
    sh("mount -t tmpfs -o mode=755 tmpfs /run && mkdir -p /run/lock /run/netns /run/cdi /run/containerd")?;
    let state = layout.state.display();
    for (inside, outside) in [
        ("kubelet", "/var/lib/kubelet"),
        ("cni", "/var/lib/cni"),
        ("plasma", "/var/lib/plasma"),
        ("log", "/var/log"),
    ] {
        sh(&format!(
            "mkdir -p {state}/{inside} {outside} && mount --bind --make-rshared {state}/{inside} {outside}"
        ))?;
    }
    sh(&format!("mount --bind {}/hosts /etc/hosts && hostname {NODE}", layout.config().display()))?;
    kernel_settings(layout)
}

/// Lays files with the values that the kubelet wants over the kernel's own, which it would change for the whole machine,
/// and nobody would change back.
fn kernel_settings(layout: &Layout) -> Result<()> {
    for (setting, _) in config::KERNEL {
        let (shown, real) =
            (layout.config().join("kernel").join(setting), Path::new("/proc/sys").join(setting));
        if real.exists() {
            sh(&format!("mount --bind {} {}", shown.display(), real.display()))?;
        }
    }
    Ok(())
}

fn network() -> Result<()> {
    sh("ip link set lo up")?;
    // A bridge without ports carries the node's address: not every kernel has dummy interfaces.
    sh(&format!(
        "ip link add node0 type bridge && ip addr add {NODE_ADDRESS}/24 dev node0 && ip link set node0 up \
         && ip route add default via {NODE_ADDRESS} dev node0 && echo 1 > /proc/sys/net/ipv4/ip_forward"
    ))
}

fn sh(script: &str) -> Result<()> {
    command::output(Command::new("sh").args(["-ec", script])).map(drop)
}

fn supervise(layout: &Layout, daemons: &[Daemon]) -> Result<()> {
    let mut running: HashMap<Pid, (&Daemon, Instant)> = HashMap::new();
    for daemon in daemons {
        running.insert(start(layout, daemon)?, (daemon, Instant::now()));
    }
    loop {
        // Orphans of containers become our children too: whoever it was, it is reaped here.
        let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::empty()) else { continue };
        let Some((daemon, begun)) = running.remove(&pid) else { continue };
        eprintln!("{} ended ({status:?}); starting it again", daemon.name);
        thread::sleep(RESTART_DELAY.saturating_sub(begun.elapsed()));
        running.insert(start(layout, daemon)?, (daemon, Instant::now()));
    }
}

fn start(layout: &Layout, daemon: &Daemon) -> Result<Pid> {
    let (program, arguments) = daemon.command.split_first().context("a daemon without a program")?;
    let log = layout.logs().join(format!("{}.log", daemon.name));
    let log = File::options()
        .create(true)
        .append(true)
        .open(&log)
        .with_context(|| format!("open {}", log.display()))?;
    let path = format!(
        "{}:/usr/sbin:/usr/bin:/sbin:/bin",
        Path::new(program).parent().unwrap_or(Path::new("/")).display()
    );
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", path)
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("share the log")?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| format!("start {}", daemon.name))?;
    Ok(Pid::from_child(&child))
}
