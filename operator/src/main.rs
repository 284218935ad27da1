//! plasma-operator: turns ComputeJobs into objects that Kubernetes' own controllers run.

mod apply;
mod args;
mod controller;
mod grouped;
mod metrics;
mod observe;
mod report;

use std::process::ExitCode;

use args::Args;
use clap::Parser as _;
use plasma_runtime::{Runtime, StartError};

#[tokio::main]
async fn main() -> ExitCode {
    plasma_runtime::exit(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<(), StartError> {
    let runtime = Runtime::start(&args.runtime).await?;
    let client = runtime.kube_client().await?;
    controller::run(client, &runtime, args).await;
    Ok(())
}
