//! Names that two programs, or a program and a user, must spell alike.

/// The API group of every Plasma kind.
pub const GROUP: &str = "compute.plasma.dev";
/// The version that is served and stored.
pub const VERSION: &str = "v1alpha1";

/// `spec.schedulerName` of pods that our scheduler binds.
pub const SCHEDULER_NAME: &str = "plasma-scheduler";
/// The extended resource that one whole GPU is. No setting: admission counts it, settlement bills it.
pub const GPU_RESOURCE: &str = "nvidia.com/gpu";
/// What the names of all resources begin with that are GPUs, or parts of them.
pub const GPU_PREFIX: &str = "nvidia.com/";
/// Where Plasma's own objects (settlement batches among them) live, unless it is installed elsewhere.
pub const SYSTEM_NAMESPACE: &str = "plasma-system";

/// On a pod from birth; only settlement takes it off, once the pod's receipt is durable.
pub const SETTLEMENT_FINALIZER: &str = "compute.plasma.dev/settlement";

/// Label of a pod: the Gang it belongs to, in its own namespace.
pub const GANG_LABEL: &str = "compute.plasma.dev/gang";
/// Label of a pod and of a job's children: the ComputeJob's name.
pub const JOB_NAME_LABEL: &str = "compute.plasma.dev/job-name";
/// Label of a pod and of a job's children: the ComputeJob's UID.
pub const JOB_UID_LABEL: &str = "compute.plasma.dev/job-uid";
/// Label of a pod and of a batch/v1 Job: the role's name.
pub const ROLE_LABEL: &str = "compute.plasma.dev/role";
/// Label of a pod and of a job's children: the attempt, from 0.
pub const ATTEMPT_LABEL: &str = "compute.plasma.dev/attempt";
/// Annotation of a pod: the ComputeQueue that pays for it.
pub const QUEUE_ANNOTATION: &str = "compute.plasma.dev/queue";
/// Annotation of a GpuNode, by an administrator: a time in RFC 3339. What the node's meter has not told of pods that began
/// until then is given up, and they are billed from their status.
pub const UNMETERED_UNTIL_ANNOTATION: &str = "compute.plasma.dev/unmetered-until";
/// Label of a node whose GPUs come from a substituted NVML: `true`.
pub const SIMULATED_LABEL: &str = "compute.plasma.dev/simulated";

/// Label of a node under the name that GPU feature discovery made usual: the GPUs' model.
pub const GPU_PRODUCT_LABEL: &str = "nvidia.com/gpu.product";
/// Label of a node: how many GPUs it has.
pub const GPU_COUNT_LABEL: &str = "nvidia.com/gpu.count";
/// Label of a node: the memory of one GPU, in MiB.
pub const GPU_MEMORY_LABEL: &str = "nvidia.com/gpu.memory";

/// Field managers, one a program: who wrote which field.
pub mod field_manager {
    /// The operator's.
    pub const OPERATOR: &str = "plasma-operator";
    /// The scheduler's.
    pub const SCHEDULER: &str = "plasma-scheduler";
    /// The device plugin's.
    pub const DEVICE_PLUGIN: &str = "plasma-device-plugin";
    /// Settlement's.
    pub const SETTLEMENT: &str = "plasma-settlement";
}
