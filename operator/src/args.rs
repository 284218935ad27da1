//! Flags, each with an environment variable.

use clap::Parser;
use plasma_runtime::RuntimeArgs;

/// Turns ComputeJobs into Jobs, Gangs and Services.
#[derive(Clone, Debug, Parser)]
#[command(name = "plasma-operator", version)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) runtime: RuntimeArgs,
}
