//! Flags, each with an environment variable.

use clap::Parser;
use plasma_runtime::{LeaderArgs, RuntimeArgs};

/// Places gangs of pods on nodes, all or nothing.
#[derive(Clone, Debug, Parser)]
#[command(name = "plasma-scheduler", version)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) runtime: RuntimeArgs,

    #[command(flatten)]
    pub(crate) leader: LeaderArgs,

    /// Pods with this `spec.schedulerName` are ours.
    #[arg(long, env = "SCHEDULER_NAME", default_value = plasma_api::names::SCHEDULER_NAME)]
    pub(crate) scheduler_name: String,

    /// Seconds until a gang that could be bound only in part is undone.
    #[arg(long, env = "GANG_DEADLINE_SECONDS", default_value_t = 60)]
    pub(crate) gang_deadline_seconds: u32,

    /// Seconds for which nodes are kept for a group for which others are evicted; then it is looked at anew.
    #[arg(long, env = "NOMINATION_SECONDS", default_value_t = 600)]
    pub(crate) nomination_seconds: u32,
}
