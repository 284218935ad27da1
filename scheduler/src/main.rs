//! plasma-scheduler: decides which node each pod of a gang runs on, and binds them all or none.

mod args;
mod commit;
mod condition;
mod cycle;
mod event;
mod evict;
mod faults;
mod journal;
mod kept;
mod metrics;
mod object;
mod observe;
mod outcome;
mod pauses;
mod pod_groups;
mod report;
mod rests;
mod said;
mod shares;
mod state;
mod storage;
mod strays;
#[cfg(test)]
mod tests;
mod undone;
mod volumes;
mod waits;

use std::process::ExitCode;

use args::Args;
use clap::Parser as _;
use plasma_runtime::{CancellationToken, Runtime, StartError};

/// How many connections there are for requests: an API server takes about 100 at once on each, answered or not.
const CONNECTIONS: usize = 4;

#[tokio::main]
async fn main() -> ExitCode {
    plasma_runtime::exit(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<(), StartError> {
    let runtime = Runtime::start(&args.runtime).await?;
    let args = args.with_lease_of_its_name();
    let client = runtime.multiplexed_kube_client(CONNECTIONS).await?;
    let metrics = metrics::Metrics::register(&runtime.registry);
    let (shutdown, lost) = (&runtime.shutdown, CancellationToken::new());
    // What is known is listed only after the lease is held: by then all that an earlier leader wrote is there to be seen.
    // The lease has a connection of its own: its renewals wait for no other request.
    let of_lease = runtime.kube_client().await?;
    let (ready, ends) = (runtime.health.gate("watches"), (shutdown, &lost));
    let leading = plasma_runtime::lead(&of_lease, &args.scheduler_name, &args.leader, ends, &ready).await;
    let Some(leadership) = leading else { return Ok(()) };
    let client = leadership.guard(client, &args.leader);
    let observations = observe::start(&client, shutdown);
    let mut scheduler = cycle::Scheduler::new(args, client, metrics);
    let cycles = cycle::run(&mut scheduler, observations, ready, shutdown, &leadership);
    if lost.run_until_cancelled(cycles).await.is_none() {
        return Err(StartError::LeaseLost);
    }
    Ok(())
}
