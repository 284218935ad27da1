//! plasma-scheduler: decides which node each pod of a gang runs on, and binds them all or none.

mod args;
mod commit;
mod cycle;
mod journal;
mod metrics;
mod observe;
mod report;
#[cfg(test)]
mod tests;
mod world;

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
    let metrics = metrics::Metrics::register(&runtime.registry);
    let watched = observe::start(&client, runtime.health.gate("watches"), runtime.shutdown.clone());
    cycle::run(cycle::Scheduler::new(args, client, watched, metrics), runtime.shutdown).await;
    Ok(())
}
