//! plasma-scheduler: decides which node each pod of a gang runs on, and binds them all or none.

mod args;
mod commit;
mod cycle;
mod event;
mod evict;
mod journal;
mod metrics;
mod object;
mod observe;
mod outcome;
mod report;
mod state;
mod storage;
#[cfg(test)]
mod tests;
mod volumes;
mod waits;

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
    let observations = observe::start(&client, &runtime.shutdown);
    let scheduler = cycle::Scheduler::new(args, client, metrics);
    cycle::run(scheduler, observations, runtime.health.gate("watches"), runtime.shutdown).await;
    Ok(())
}
