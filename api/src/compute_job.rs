//! ComputeJob: work that ends. One or more roles, each a number of identical pods, all or nothing.

use k8s_openapi::{
    api::core::v1::PodTemplateSpec,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::{CustomResource, KubeSchema};
use plasma_types::{Hash, JobUid, PodUid, PricePerGpuHour, Xpl};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// What a user asks for: pods that start together, run to their end, and are paid for by a queue.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "compute.plasma.dev",
    version = "v1alpha1",
    kind = "ComputeJob",
    plural = "computejobs",
    shortname = "cjob",
    category = "plasma",
    namespaced,
    status = "ComputeJobStatus",
    doc = "Work that ends: one or more roles, each a number of identical pods, all or nothing.",
    derive = "PartialEq",
    validation = Rule::new("size(self.metadata.name) <= 36 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must have at most 36 characters, start with a letter and hold only a-z, 0-9 and '-': its pods' host names are made of it"),
    printcolumn(name = "Queue", type_ = "string", json_path = ".spec.queue"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.pods"),
    printcolumn(name = "Succeeded", type_ = "integer", json_path = ".status.succeeded"),
    printcolumn(name = "Cost", type_ = "string", json_path = ".status.cost.total", description = "XPL, so far"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", description = "What the job waits for"),
    printcolumn(name = "Settled", type_ = "integer", json_path = ".status.cost.settled", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.queue == oldSelf.queue").message("spec.queue cannot be changed: make a new ComputeJob"),
    validation = Rule::new("self.roles == oldSelf.roles").message("spec.roles cannot be changed: make a new ComputeJob"),
    validation = Rule::new("self.maxRuntimeSeconds == oldSelf.maxRuntimeSeconds")
        .message("spec.maxRuntimeSeconds cannot be changed: make a new ComputeJob"),
    validation = Rule::new("self.roles.map(role, role.replicas).sum() <= 1024")
        .message("spec.roles must have at most 1024 replicas together: split the work into several jobs")
        .field_path(".roles"),
)]
pub struct ComputeJobSpec {
    /// The ComputeQueue that this job waits in and that pays for it.
    #[schemars(length(min = 1, max = 63))]
    pub queue: String,

    /// The kinds of pods; all pods of all roles start together.
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub roles: Vec<Role>,

    /// How long each pod may run, in seconds; waiting doesn't count. It bounds what the job can cost.
    #[schemars(range(min = 1, max = 31_536_000))]
    pub max_runtime_seconds: i64,

    /// The most that a GPU may cost an hour, in XPL as a decimal string. Needed where the queue bills.
    #[schemars(schema_with = "schema::optional_xpl")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_price_per_gpu_hour: Option<PricePerGpuHour>,

    /// The most that the whole job may cost, in XPL as a decimal string. Needed where the queue bills.
    #[schemars(schema_with = "schema::optional_xpl")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Xpl>,

    /// How many further attempts follow a failed one; each starts every pod anew.
    #[schemars(range(min = 0, max = 100))]
    #[serde(default)]
    pub backoff_limit: i32,
}

/// A number of identical pods.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.template.spec.restartPolicy) || self.template.spec.restartPolicy == 'Never'")
        .message("template.spec.restartPolicy must be Never or left out: a failed pod restarts the whole gang, see spec.backoffLimit")
        .field_path(".template.spec.restartPolicy"),
    validation = Rule::new("!has(self.template.spec.schedulerName) || self.template.spec.schedulerName == 'plasma-scheduler'")
        .message("template.spec.schedulerName must be plasma-scheduler or left out")
        .field_path(".template.spec.schedulerName"),
    validation = Rule::new("!has(self.template.spec.activeDeadlineSeconds)")
        .message("template.spec.activeDeadlineSeconds must be left out: set spec.maxRuntimeSeconds")
        .field_path(".template.spec.activeDeadlineSeconds"),
    validation = Rule::new("!has(self.template.spec.subdomain) && !has(self.template.spec.hostname)")
        .message("template.spec.hostname and subdomain must be left out: they carry the ranks' addresses")
        .field_path(".template.spec.subdomain"),
    validation = Rule::new("!has(self.template.spec.nodeName)")
        .message("template.spec.nodeName must be left out: the scheduler places all pods together; choose nodes by nodeSelector")
        .field_path(".template.spec.nodeName"),
    validation = Rule::new("self.template.spec.containers.all(container, !has(container.restartPolicy) && !has(container.restartPolicyRules))")
        .message("template.spec.containers[].restartPolicy and restartPolicyRules must be left out: a failed pod restarts the whole gang, see spec.backoffLimit")
        .field_path(".template.spec.containers"),
    validation = Rule::new("!has(self.template.spec.initContainers) || self.template.spec.initContainers.all(container, (!has(container.restartPolicy) || container.restartPolicy == 'Always') && !has(container.restartPolicyRules))")
        .message("template.spec.initContainers[].restartPolicy must be Always, for a side-car, or left out, and restartPolicyRules left out")
        .field_path(".template.spec.initContainers"),
    validation = Rule::new("has(self.template.spec) && size(self.template.spec.containers) > 0")
        .message("template.spec.containers must name at least one container")
        .field_path(".template.spec"),
)]
pub struct Role {
    /// The role's name: part of its pods' names.
    #[schemars(length(min = 1, max = 16), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// How many pods, ranked from 0; at most 1024 over all roles.
    #[schemars(range(min = 1, max = 1024))]
    pub replicas: i32,

    /// The pod, as in any Job. GPUs are `resources.limits["nvidia.com/gpu"]`.
    #[schemars(schema_with = "schema::pod_template")]
    pub template: PodTemplateSpec,
}

/// What became of a job. `cost` is settlement's; everything else is the operator's.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComputeJobStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Where the job is, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,

    /// What the job waits for, or how it ended, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,

    /// `Admitted`, `Scheduled`, `Running`, `Complete`, `Failed`.
    #[schemars(schema_with = "schema::conditions")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,

    /// The attempts made so far; the current one is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Attempts>,

    /// How many pods one attempt has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<i32>,
    /// How many pods of this attempt run or wait to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<i32>,
    /// How many pods of this attempt succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<i32>,
    /// How many pods of this attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<i32>,

    /// When the first pod of any attempt was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the job succeeded, or failed for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,

    /// What the job has cost so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

/// Where a job is, in one word.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Refused before anything started; the `Admitted` condition says why and how to mend it.
    Refused,
    /// Waiting for room, or for its pods to start.
    Waiting,
    /// Every pod has started.
    Running,
    /// Every pod succeeded.
    Succeeded,
    /// Failed for good.
    Failed,
}

/// How many attempts were made.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempts {
    /// Attempts started, so the current one's number is one less.
    pub started: i32,
    /// Attempts that failed through the job's own doing: what `backoffLimit` bounds.
    pub failed: i32,
    /// Whether the current attempt lost pods through no fault of the job's, and so doesn't count. Kept here, since the
    /// pods that tell of it may be gone by the time that it is decided what follows.
    #[serde(default, skip_serializing_if = "is_false")]
    pub disturbed: bool,
}

/// What a job has cost so far. Written by settlement alone.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// XPL over all receipts, settled or not, as a decimal string.
    #[schemars(schema_with = "schema::xpl")]
    pub total: Xpl,
    /// How many pods have a receipt.
    pub recorded: i32,
    /// How many of those are final on chain.
    pub settled: i32,
    /// Whether the chain answers; false delays payment and stops nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_reachable: Option<bool>,
    /// One entry a pod.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["podUid"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receipts: Vec<PodCost>,
}

/// What one pod cost, and where the chain says so.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodCost {
    /// The pod's name.
    pub pod: String,
    /// The pod's UID: its name may be used again.
    #[schemars(schema_with = "schema::uid")]
    pub pod_uid: PodUid,
    /// XPL, as a decimal string.
    #[schemars(schema_with = "schema::xpl")]
    pub amount: Xpl,
    /// The SettlementBatch that holds the receipt.
    pub batch: String,
    /// The transaction that settled it, once there is one.
    #[schemars(schema_with = "schema::optional_hash")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<Hash>,
    /// How far the payment is.
    pub state: crate::settlement_batch::BatchPhase,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl ComputeJob {
    /// The job's UID, where the API server has given one.
    pub fn job_uid(&self) -> Option<JobUid> {
        self.metadata.uid.as_deref().and_then(|uid| uid.parse().ok())
    }
}
