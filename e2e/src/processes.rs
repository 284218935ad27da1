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
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let is_victim = program(&entry.path()).is_some_and(|program| program == victim.program());
        let pid = entry.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| is_victim && is_in_a_container(&entry.path())) {
            found.push(pid);
        }
    }
    found
}

fn program(process: &Path) -> Option<String> {
    let command = fs::read(process.join("cmdline")).ok()?;
    let first = command.split(|byte| *byte == 0).next()?;
    String::from_utf8(first.to_vec()).ok()
}

/// Only what the kubelet of the cluster under test started: its cgroup says so.
fn is_in_a_container(process: &Path) -> bool {
    fs::read_to_string(process.join("cgroup")).is_ok_and(|groups| groups.contains("/plasma-dev/kubepods"))
}
