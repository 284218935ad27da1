//! plasma-device-plugin: runs on every GPU node and tells the kubelet, and the cluster, which GPUs there are.

mod args;
mod inventory;
mod kubelet;
mod metrics;
mod nvml;
mod report;
mod service;

use std::process::ExitCode;

use args::Args;
use clap::Parser as _;
use plasma_runtime::Runtime;

#[tokio::main]
async fn main() -> ExitCode {
    plasma_runtime::exit(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<(), plasma_runtime::StartError> {
    let runtime = Runtime::start(&args.runtime).await?;
    let inventory = inventory::start(&args);
    metrics::start(&runtime.registry, inventory.clone());
    tokio::spawn(report::run(args.clone(), inventory.clone(), runtime.shutdown.clone()));
    kubelet::run(&args, inventory, runtime.health.gate("kubelet"), runtime.shutdown).await;
    Ok(())
}
