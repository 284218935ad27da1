//! Flags, each with an environment variable.

use clap::{ArgAction, Parser};
use plasma_runtime::RuntimeArgs;

/// Turns ComputeJobs into Jobs, Gangs and Services.
#[derive(Clone, Debug, Parser)]
#[command(name = "plasma-operator", version)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) runtime: RuntimeArgs,

    /// Whether this cluster has settlement; where it has none, queues that bill take no job.
    #[arg(long, env = "SETTLEMENT", default_value_t = true, action = ArgAction::Set)]
    pub(crate) settlement: bool,

    /// `spec.schedulerName` of the jobs' pods: Plasma's scheduler has to have the same.
    #[arg(long, env = "SCHEDULER_NAME", default_value = plasma_api::names::SCHEDULER_NAME)]
    pub(crate) scheduler_name: String,
}
