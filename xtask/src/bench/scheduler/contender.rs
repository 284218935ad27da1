//! The two schedulers: ours as it is shipped, and kube-scheduler with its client's limits lifted and GPUs packed.

use std::{ffi::OsStr, fs, path::PathBuf};

use anyhow::{Context as _, Result};
use plasma_api::names::{GPU_RESOURCE, SCHEDULER_NAME};
use serde_json::json;

use super::{control_plane::ControlPlane, daemon::Daemon};

/// Who schedules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    Ours,
    Theirs,
}

/// The programs of both.
pub(super) struct Schedulers {
    pub(super) ours: PathBuf,
    pub(super) theirs: PathBuf,
}

impl Contender {
    /// Its name, its user's, and what pods call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours => SCHEDULER_NAME,
            Self::Theirs => "kube-scheduler",
        }
    }

    /// `spec.schedulerName` of its pods.
    pub(super) fn scheduler_name(self) -> &'static str {
        match self {
            Self::Ours => SCHEDULER_NAME,
            Self::Theirs => "default-scheduler",
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// It can't be started.
    pub(super) fn start(self, plane: &ControlPlane, schedulers: &Schedulers) -> Result<Daemon> {
        let kubeconfig = plane.kubeconfig(self.name())?;
        match self {
            Self::Ours => {
                let ours = schedulers.ours.display().to_string();
                let command = [ours, "--metrics-address=127.0.0.1:0".to_owned()];
                // As kube-scheduler's settings below: one replica needs no election. The arena is the chart's.
                let environment = [
                    ("KUBECONFIG", kubeconfig.as_os_str()),
                    ("LEADER_ELECT", OsStr::new("false")),
                    ("MALLOC_ARENA_MAX", OsStr::new("1")),
                ];
                Daemon::start(self.name(), &command, &environment)
            }
            Self::Theirs => {
                let settings = plane.folder().join("kube-scheduler.json");
                let text = settings_of_kube_scheduler(&kubeconfig.display().to_string());
                fs::write(&settings, text).with_context(|| format!("write {}", settings.display()))?;
                let theirs = schedulers.theirs.display().to_string();
                let config = format!("--config={}", settings.display());
                Daemon::start(self.name(), &[theirs, config, "--secure-port=0".to_owned()], &[])
            }
        }
    }
}

/// Every default, but for the client's limits, the election that one replica doesn't need, and GPUs that are packed.
fn settings_of_kube_scheduler(kubeconfig: &str) -> String {
    json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
        "leaderElection": { "leaderElect": false },
        "clientConnection": { "kubeconfig": kubeconfig, "qps": 5000, "burst": 10000 },
        "profiles": [{ "schedulerName": "default-scheduler", "pluginConfig": [
            { "name": "NodeResourcesFit", "args": { "scoringStrategy": {
                "type": "MostAllocated", "resources": [{ "name": GPU_RESOURCE, "weight": 1 }] } } },
        ] }],
    })
    .to_string()
}
