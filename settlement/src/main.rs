//! plasma-settlement: turns finished pods into receipts, receipts into batches, batches into transactions, and follows
//! those until they are final. The only program with a key.

#[cfg(test)]
mod api_server;
mod args;
mod batches;
mod bill;
mod collect;
mod cost;
mod deliver;
mod failure;
mod meter;
mod metered;
mod metrics;
mod occupied;
mod payout;
mod pods;
mod record;
mod release;
mod settle;

use std::process::ExitCode;

use args::{Args, Verb};
use clap::Parser as _;
use failure::Failure;
use plasma_runtime::Runtime;

#[tokio::main]
async fn main() -> ExitCode {
    plasma_runtime::exit(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<(), Failure> {
    let runtime = Runtime::start(&args.runtime).await?;
    let client = runtime.kube_client().await?;
    match args.verb {
        Verb::ReleaseAll => release::release_all(&client).await,
        Verb::Run(settings) => settle::run(*settings, client, &runtime).await,
    }
}

#[cfg(test)]
mod tests;
