//! kubectl-plasma: what a job cost, whether the chain agrees, and the break-glass.

mod args;
mod cluster;
mod failure;
mod output;
mod verbs;

use std::process::ExitCode;

use args::{Args, Verb};
use clap::Parser as _;
use failure::Failure;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::note(&format!("error: {failure}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Failure> {
    // Fails only where a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cluster = cluster::Cluster::connect(&args.connection).await?;
    match args.verb {
        Verb::Receipts { job, output } => verbs::receipts::run(&cluster, &job, output).await,
        Verb::Verify { job, chain } => verbs::verify::run(&cluster, &job, &chain).await,
        Verb::Release { pod, yes } => verbs::release::run(&cluster, &pod, yes).await,
    }
}
