//! plasma-device-plugin: runs on every GPU node and tells the kubelet, and the cluster, which GPUs there are.

mod announce;
mod args;
mod authority;
mod describe;
mod health_config;
mod inventory;
mod kubelet;
mod labels;
mod metrics;
mod nvml;
mod report;
mod service;
mod socket;

use std::{error::Error, process::ExitCode, sync::Arc};

use args::Args;
use clap::Parser as _;
use kubelet::Kubelet;
use plasma_runtime::Runtime;

#[tokio::main]
async fn main() -> ExitCode {
    plasma_runtime::exit(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<(), Box<dyn Error>> {
    let runtime = Arc::new(Runtime::start(&args.runtime).await?);
    let (gate, shutdown) = (runtime.health.gate("kubelet"), runtime.shutdown.clone());
    let observed = inventory::start(&args, health_config::read(args.health_config.as_deref())?)?;
    let metrics = metrics::start(&runtime.registry, observed.clone())?;
    tokio::spawn(report::run(args.node_name.clone(), observed.clone(), runtime));
    Kubelet { args, observed, gate, metrics, shutdown }.run().await;
    Ok(())
}
