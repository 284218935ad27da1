//! plasma-device-plugin: runs on every GPU node and tells the kubelet, and the cluster, which GPUs there are.

mod announce;
mod args;
mod aside;
mod authority;
mod backoff;
mod cdi;
mod cdi_file;
mod check;
mod clock;
mod describe;
mod dirt;
mod driver_root;
mod handover;
mod health_config;
mod inspect;
mod inventory;
mod kubelet;
mod labels;
mod limits;
mod meter;
mod metrics;
mod nvml;
mod part;
mod pods;
mod policy;
mod preference;
mod replace;
mod report;
mod service;
mod socket;
mod vital;

use std::{error::Error, process::ExitCode, sync::Arc};

use args::{Args, CommandLine, Verb};
use aside::Fault;
use clap::Parser as _;
use clock::Clock;
use kubelet::{Kubelet, Standing};
use limits::Limiter;
use meter::MeterArgs;
use metrics::{LookMetrics, Sources};
use plasma_device_plugin_core::HandOver;
use plasma_runtime::Runtime;
use tokio::sync::mpsc;
use vital::Vital;

/// The exit code of a verb to which the driver didn't answer in time. 1 is any other failure, 2 a wrong flag.
const HANGS: u8 = 3;

// The kubelet has a thread of its own; all the rest has this one.
fn main() -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(answer());
            // A disk that hangs would hold up the end, and with it the next beginning.
            runtime.shutdown_background();
            code
        }
        Err(fault) => plasma_runtime::exit(Err::<(), _>(fault)),
    }
}

async fn answer() -> ExitCode {
    let command = CommandLine::parse();
    let shown = match command.verb {
        Some(Verb::Inspect(looking)) => inspect::inspect(&looking),
        Some(Verb::Check(looking)) => check::check(&looking),
        Some(Verb::Cdi(printing)) => cdi::cdi(&printing),
        None => return plasma_runtime::exit(run(command.serve).await),
    };
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(Fault::Refused(why)) => plasma_runtime::exit(Err(why)),
        Err(Fault::Hangs(why)) => {
            plasma_runtime::exit(Err(why));
            ExitCode::from(HANGS)
        }
    }
}

async fn run(args: Args) -> Result<(), Box<dyn Error>> {
    let node = args.node_name.clone().ok_or("--node-name is needed: the node that this runs on")?;
    if !args.observe {
        socket::fits("--device-plugin-dir", &args.device_plugin_dir)?;
        socket::fits("--plugins-registry-dir", &args.plugins_registry_dir)?;
    }
    let runtime = Runtime::start(&args.runtime).await?;
    let (gate, shutdown) = (runtime.health.gate("kubelet"), runtime.shutdown.clone());
    let rules = health_config::read(args.health_config.as_deref())?;
    let policy = args.policy.policy(&args.resource_name)?;
    let looks = LookMetrics::register(&runtime.registry)?;
    let vital = Vital::new(shutdown.clone());
    let clock = Clock::open(&args.meter.meter_dir);
    let pods = pods::start(&args, &node, clock.clone(), &vital);
    let limits = !args.observe && !policy.shared.is_empty();
    let limiter =
        limits.then(|| Limiter::new(args.cgroup_root.clone(), pods.holdings.clone(), pods.running.clone()));
    let look = (looks.clone(), policy, clock.clone());
    let (observed, publish) = inventory::start(&args, rules, look, limiter, &vital)?;
    let sources = Sources {
        observed: observed.clone(),
        holdings: pods.holdings.clone(),
        looks,
        node: node.clone(),
        observes: args.observe,
        dcgm_names: args.dcgm_metric_names,
    };
    let metrics = metrics::start(&runtime.registry, sources)?;
    let meter_args = MeterArgs { look_ms: args.scan_seconds.saturating_mul(1000), ..args.meter.clone() };
    let around = (&runtime.registry, shutdown.clone(), &vital);
    let meter = meter::start(meter_args, node.clone(), (observed.clone(), pods.clone(), clock), around)?;
    let report = report::run(
        (node, args.observe),
        (observed.clone(), meter),
        (args.account.clone(), shutdown.clone()),
    );
    vital.spawn("the report to the cluster", report);
    if args.observe {
        publish.hand_over(HandOver::NeedsNothing);
        tracing::info!("observing: another plugin offers the GPUs to the kubelet");
        gate.set(true);
        shutdown.cancelled().await;
    } else {
        let (granted, grants) = mpsc::unbounded_channel();
        dirt::start(args.dirt, observed.clone(), (pods.holdings.clone(), grants), publish.clone(), &vital);
        handover::start(&args.hand_over, &runtime.registry, (observed.clone(), publish), &vital)?;
        let standing = Arc::new(Standing::new(gate, metrics.clone()));
        let kubelet = Kubelet { args: Arc::new(args), observed, metrics, shutdown, standing, granted };
        tokio::task::spawn_blocking(move || kubelet.run()).await??;
    }
    Ok(vital.outcome()?)
}
