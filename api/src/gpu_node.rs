//! GpuNode: what one node has. GPUs with UUID, model, health and reasons. Written by the node's device plugin alone.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The node's GPUs as NVML names them; what changes with their health is in the status.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "compute.plasma.dev",
    version = "v1alpha1",
    kind = "GpuNode",
    plural = "gpunodes",
    shortname = "gn",
    category = "plasma",
    status = "GpuNodeStatus",
    doc = "What one node has: its GPUs with model, memory and health. Named as its node.",
    derive = "PartialEq",
    printcolumn(name = "Product", type_ = "string", json_path = ".spec.gpus[0].product"),
    printcolumn(name = "GPUs", type_ = "integer", json_path = ".status.total"),
    printcolumn(name = "Healthy", type_ = "integer", json_path = ".status.healthy"),
    printcolumn(name = "Simulated", type_ = "boolean", json_path = ".spec.simulated"),
    printcolumn(name = "Driver", type_ = "string", json_path = ".spec.driverVersion"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct GpuNodeSpec {
    /// Whether all of this comes from a substitute of NVML: such a node earns nothing.
    pub simulated: bool,
    /// The driver's version, where it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_version: Option<String>,
    /// The newest CUDA that the driver runs, such as `13.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuda_version: Option<String>,
    /// The GPUs, in NVML's order.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["uuid"]))]
    #[serde(default)]
    pub gpus: Vec<Gpu>,
    /// What connects pairs of GPUs. Pairs that are anywhere in the machine, without NVLink, are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// The node's meter, where the device plugin is set up to have one, whether or not it works just now: settlement bills
    /// from its records, and waits for them. Absent where there is none: pods are billed from their status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meter: Option<NodeMeter>,
}

/// A node's meter.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeMeter {
    /// When the meter's journal began, by the node's clock. Pods that the kubelet admitted earlier are billed from their
    /// status, since the meter can't know all of them. It stays the same over restarts, and is absent while the journal
    /// can't be read: then pods wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

/// What connects two GPUs.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// The two, by UUID.
    #[schemars(length(min = 2, max = 2))]
    pub gpus: Vec<String>,
    /// Active NVLinks between them, directly or through switches.
    pub nvlinks: i32,
    /// How far they are from each other over PCIe.
    pub distance: Distance,
}

/// How far two GPUs are from each other over PCIe, nearest first.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Distance {
    /// On one board.
    Board,
    /// Behind one PCIe switch.
    Switch,
    /// Behind several PCIe switches, below one host bridge.
    Switches,
    /// Below one host bridge.
    HostBridge,
    /// On one NUMA node.
    Node,
    /// Anywhere in the machine.
    Machine,
}

/// One GPU's unchanging facts.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gpu {
    /// `GPU-…`, as NVML has it: also the kubelet's device id. A claim, not a proof.
    pub uuid: String,
    /// NVML's index at the last scan.
    pub index: i32,
    /// The model as the label `nvidia.com/gpu.product` has it, such as `NVIDIA-H100-80GB-HBM3`.
    pub product: String,
    /// Memory, in MiB.
    pub memory_mib: i64,
    /// PCI address, such as `00000000:3B:00.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci_bus_id: Option<String>,
    /// The CPU NUMA node it hangs on, where the machine has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<i32>,
    /// CUDA's compute capability, such as `9.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_capability: Option<String>,
    /// Whether it can be divided (MIG).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mig_capable: bool,
    /// Whether it is in MIG mode: then no program can use it as a whole.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mig_enabled: bool,
    /// Where it will be in another mode once it is reset: whether that is MIG mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mig_pending: Option<bool>,
    /// What it is divided into, where it is in MIG mode.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["uuid"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<MigInstance>,
}

/// One part of a divided GPU.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MigInstance {
    /// `MIG-…`, as NVML has it: also the kubelet's device id.
    pub uuid: String,
    /// Its kind, such as `1g.10gb` or `1g.10gb+me`.
    pub profile: String,
    /// The model that it is sold as, such as `NVIDIA-H100-80GB-HBM3-MIG-1g.10gb`.
    pub product: String,
    /// NVML's number of the GPU instance.
    pub gpu_instance: i32,
    /// NVML's number of the compute instance in it.
    pub compute_instance: i32,
    /// Memory, in MiB.
    pub memory_mib: i64,
}

/// The GPUs' health, and the plugin's own.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuNodeStatus {
    /// How many GPUs there are.
    pub total: i32,
    /// How many of them can be given to pods.
    pub healthy: i32,
    /// What is wrong, for people; empty when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When this was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<Time>,
    /// One entry a GPU.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["uuid"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuHealth>,
}

/// One GPU's health.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuHealth {
    /// Which GPU.
    pub uuid: String,
    /// Whether it can be given to pods.
    pub health: Health,
    /// What is wrong, such as `XID 79 (the GPU has fallen off the bus)` or `NVML does not answer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where it is divided: those of its parts that are worse than itself.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["uuid"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<InstanceHealth>,
}

/// The health of one part of a divided GPU.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceHealth {
    /// Which part.
    pub uuid: String,
    /// Whether it can be given to pods.
    pub health: Health,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether a GPU can be given to pods.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    /// It can.
    Healthy,
    /// It can, and it is watched: something may be wrong with it.
    Suspect,
    /// It can't.
    Unhealthy,
    /// What was wrong is over, and must stay so for a moment.
    Recovering,
    /// NVML can't be asked; treated as unhealthy.
    Unknown,
}
