//! `cargo xtask bench`: figures of what is shipped, each beside the bar that it must keep.

mod device_plugin;
mod figures;
mod planning;
pub(crate) mod scheduler;

use anyhow::Result;
use clap::Subcommand;

/// What can be measured.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// The device plugin, as it is shipped, with the kubelet's own managers.
    DevicePlugin {
        /// Print one line of JSON on standard output.
        #[arg(long)]
        json: bool,
        /// How many rolling upgrades and kubelet restarts.
        #[arg(long, default_value_t = 100)]
        rounds: u32,
    },
    /// The scheduler, as it is shipped, and kube-scheduler, in turns at the same API server.
    Scheduler(scheduler::Options),
    /// The scheduler's core alone, on large clusters where much waits: CPU time and memory.
    Planning {
        /// Print lines of JSON on standard output.
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(verb: &Verb) -> Result<()> {
    match verb {
        Verb::DevicePlugin { json, rounds } => device_plugin::run(*json, *rounds),
        Verb::Scheduler(options) => scheduler::run(options),
        Verb::Planning { json } => planning::run(*json),
    }
}
