//! Killing our programs as a machine would: by a signal that nobody can catch.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use plasma_api::names::SYSTEM_NAMESPACE;
use rustix::process::{Pid, Signal, kill_process};

use crate::World;

/// How long the kubelet may take to start a program again.
const PATIENCE: Duration = Duration::from_secs(240);

/// One of our programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names are the programs'.
pub enum Victim {
    Operator,
    Scheduler,
    Settlement,
    DevicePlugin,
    Chain,
}

impl Victim {
    /// The four programs of Plasma.
    pub const PLASMA: [Self; 4] = [Self::Operator, Self::Scheduler, Self::Settlement, Self::DevicePlugin];

    /// The value of its pods' label `app.kubernetes.io/name`.
    fn name(self) -> &'static str {
        match self {
            Self::Operator => "plasma-operator",
            Self::Scheduler => "plasma-scheduler",
            Self::Settlement => "plasma-settlement",
            Self::DevicePlugin => "plasma-device-plugin",
            Self::Chain => "plasma-dev-chain",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Operator => "/usr/bin/plasma-operator",
            Self::Scheduler => "/usr/bin/plasma-scheduler",
            Self::Settlement => "/usr/bin/plasma-settlement",
            Self::DevicePlugin => "/usr/bin/plasma-device-plugin",
            Self::Chain => "anvil",
        }
    }
}

/// Kills the program, wherever it runs in the cluster under test; whether there was one.
pub fn kill(victim: Victim) -> bool {
    signal(victim, Signal::KILL)
}

/// Kills the kubelet of the cluster under test, which its node starts again; whether there was one.
pub fn kill_kubelet() -> bool {
    signal_daemon("kubelet", Signal::KILL)
}

/// Stops kube-scheduler without ending it: it renews no lease; whether there was one.
pub fn stop_kube_scheduler() -> bool {
    signal_daemon("kube-scheduler", Signal::STOP)
}

/// Lets it go on: where another leads by now it ends, and its node starts it again.
pub fn resume_kube_scheduler() -> bool {
    signal_daemon("kube-scheduler", Signal::CONT)
}

fn signal_daemon(name: &str, signal: Signal) -> bool {
    let Some(state) =
        std::env::var_os("KUBECONFIG").and_then(|file| Path::new(&file).parent().map(Path::to_owned))
    else {
        return false;
    };
    // A machine may have such a daemon of its own: ours reads its settings from the cluster's folder.
    let ours = format!("--kubeconfig={}/", state.display());
    let mut found = false;
    for (pid, command) in commands() {
        let is_called_so = command.first().is_some_and(|program| Path::new(program).ends_with(name));
        if is_called_so && command.iter().any(|argument| argument.starts_with(&ours)) {
            found |= kill_process(pid, signal).is_ok();
        }
    }
    found
}

/// Stops the program without ending it: it answers nobody.
pub fn stop(victim: Victim) -> bool {
    signal(victim, Signal::STOP)
}

/// Lets it go on.
pub fn resume(victim: Victim) -> bool {
    signal(victim, Signal::CONT)
}

/// Whether the program runs.
pub fn runs(victim: Victim) -> bool {
    !processes(victim).is_empty()
}

/// A file as the program sees it; `None` where it doesn't run, or has no such file.
pub(crate) fn file_of(victim: Victim, path: &str) -> Option<Vec<u8>> {
    let root = |pid: Pid| format!("/proc/{}/root{path}", pid.as_raw_nonzero());
    processes(victim).into_iter().find_map(|pid| fs::read(root(pid)).ok())
}

/// Waits until all of them run: whoever was killed before may still wait for the kubelet.
///
/// # Panics
/// When one of them doesn't come back.
pub async fn all_run(victims: &[Victim]) {
    let begun = Instant::now();
    while !victims.iter().all(|victim| runs(*victim)) {
        assert!(begun.elapsed() < PATIENCE, "{victims:?}: not all of them run");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// How often the kubelet has started the program's containers again.
///
/// # Panics
/// Where its pods can't be listed.
pub async fn containers_started(world: &World, victim: Victim) -> i32 {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let selector = format!("app.kubernetes.io/name={}", victim.name());
    let pods = pods.list(&ListParams::default().labels(&selector)).await.expect("pods");
    let statuses = pods.items.into_iter().filter_map(|pod| pod.status?.container_statuses).flatten();
    statuses.map(|container| container.restart_count).sum()
}

fn signal(victim: Victim, signal: Signal) -> bool {
    let mut found = false;
    for pid in processes(victim) {
        found |= kill_process(pid, signal).is_ok();
    }
    found
}

fn processes(victim: Victim) -> Vec<Pid> {
    let is_victim = |pid: &Pid, command: &[String]| {
        command.first().is_some_and(|program| program == victim.program()) && is_in_a_container(*pid)
    };
    commands().into_iter().filter(|(pid, command)| is_victim(pid, command)).map(|(pid, _)| pid).collect()
}

/// Every process of this machine with its command line.
fn commands() -> Vec<(Pid, Vec<String>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
        let Some((pid, command)) = pid.zip(fs::read(entry.path().join("cmdline")).ok()) else { continue };
        let words = command.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        found.push((pid, words.collect()));
    }
    found
}

/// Only what the kubelet of the cluster under test started: its cgroup says so.
fn is_in_a_container(process: Pid) -> bool {
    fs::read_to_string(format!("/proc/{}/cgroup", process.as_raw_nonzero()))
        .is_ok_and(|groups| groups.contains("/plasma-dev/kubepods"))
}
