//! Flags, each with an environment variable.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};
use plasma_runtime::{RuntimeArgs, ServiceAccount};

use crate::{
    cdi::Printing, dirt::DirtArgs, handover::HandOverArgs, inspect::Looking, meter::MeterArgs, nvml::Source,
    policy::PolicyArgs,
};

/// Tells the kubelet which GPUs this node has, and hands them out.
#[derive(Clone, Debug, Parser)]
#[command(name = "plasma-device-plugin", version, args_conflicts_with_subcommands = true)]
pub(crate) struct CommandLine {
    /// Something else than serving the kubelet.
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,

    #[command(flatten)]
    pub(crate) serve: Args,
}

/// What can be done without a kubelet.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Verb {
    /// Print what the plugin sees of this machine's GPUs.
    Inspect(Looking),
    /// Ask NVML everything that the plugin relies on, and print each answer.
    Check(Looking),
    /// Print the CDI spec by which containers would get this machine's GPUs.
    Cdi(Printing),
}

/// What serving the kubelet needs to know.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) runtime: RuntimeArgs,

    #[command(flatten)]
    pub(crate) account: ServiceAccount,

    /// The node that this runs on. Needed to serve the kubelet.
    #[arg(long, env = "NODE_NAME")]
    pub(crate) node_name: Option<String>,

    /// The NVML library: the driver's own, from the driver's root or where the loader finds it. Anything else is a
    /// substitute, and what it says is marked simulated.
    #[arg(long, env = "NVML_LIBRARY", default_value = crate::nvml::DRIVER_LIBRARY)]
    pub(crate) nvml_library: PathBuf,

    /// The extended resource that one GPU is.
    #[arg(long, env = "RESOURCE_NAME", default_value = plasma_api::names::GPU_RESOURCE)]
    pub(crate) resource_name: String,

    #[command(flatten)]
    pub(crate) policy: PolicyArgs,

    /// The kubelet's folder for device plugins.
    #[arg(long, env = "DEVICE_PLUGIN_DIR", default_value = "/var/lib/kubelet/device-plugins")]
    pub(crate) device_plugin_dir: PathBuf,

    /// The folder in which the kubelet looks for plugins.
    #[arg(long, env = "PLUGINS_REGISTRY_DIR", default_value = "/var/lib/kubelet/plugins_registry")]
    pub(crate) plugins_registry_dir: PathBuf,

    /// The kubelet's socket that tells which devices it gave to which pods.
    #[arg(long, env = "POD_RESOURCES_SOCKET", default_value = "/var/lib/kubelet/pod-resources/kubelet.sock")]
    pub(crate) pod_resources_socket: PathBuf,

    /// The kubelet's socket that tells of its pods. Where it isn't there, the API server is asked.
    #[arg(long, env = "PODS_API_SOCKET", default_value = "/var/lib/kubelet/pods-api/pods-api.sock")]
    pub(crate) pods_api_socket: PathBuf,

    /// Seconds for which the pods must be told of again, after a time in which nobody did, before the meter takes it for the
    /// truth: a kubelet that was started anew tells old news at first.
    #[arg(long, env = "SETTLE_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) settle_seconds: u64,

    #[command(flatten)]
    pub(crate) hand_over: HandOverArgs,

    #[command(flatten)]
    pub(crate) dirt: DirtArgs,

    #[command(flatten)]
    pub(crate) meter: MeterArgs,

    /// The host's cgroups, by which the driver limits the memory of containers that share a GPU. It must be the same path here
    /// as on the host.
    #[arg(long, env = "CGROUP_ROOT", default_value = "/sys/fs/cgroup")]
    pub(crate) cgroup_root: PathBuf,

    /// Seconds between two looks at the GPUs.
    #[arg(long, env = "SCAN_SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub(crate) scan_seconds: u64,

    /// Only watch: health, labels, GpuNode and metrics, while another plugin offers the GPUs to the kubelet.
    #[arg(long, env = "OBSERVE")]
    pub(crate) observe: bool,

    /// Tell the GPUs' metrics under dcgm-exporter's names too, for dashboards and alerts that were made for it.
    #[arg(long, env = "DCGM_METRIC_NAMES")]
    pub(crate) dcgm_metric_names: bool,

    /// A file that changes what XIDs say about a GPU.
    #[arg(long, env = "HEALTH_CONFIG")]
    pub(crate) health_config: Option<PathBuf>,
}

impl Args {
    /// Where NVML is.
    pub(crate) fn nvml(&self) -> Source {
        Source { library: self.nvml_library.clone(), root: self.hand_over.driver_root.root() }
    }
}
