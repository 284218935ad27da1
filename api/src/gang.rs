//! Gang: the scheduler's unit. Pods that carry its label are placed all or nothing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use plasma_types::PodUid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// How many pods must start together, and in which order gangs get room.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "compute.plasma.dev",
    version = "v1alpha1",
    kind = "Gang",
    plural = "gangs",
    category = "plasma",
    namespaced,
    status = "GangStatus",
    doc = "Pods that are placed all or nothing: those that carry the label compute.plasma.dev/gang with its name.",
    derive = "PartialEq",
    printcolumn(name = "Members", type_ = "integer", json_path = ".spec.minMember"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Bound", type_ = "integer", json_path = ".status.bound"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message")
)]
#[serde(rename_all = "camelCase")]
pub struct GangSpec {
    /// How many pods must be placed together; fewer are never bound.
    #[schemars(range(min = 1, max = 100_000))]
    pub min_member: i32,

    /// How long each pod may run, in seconds, where that is known.
    #[schemars(range(min = 1))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_runtime_seconds: Option<i64>,

    /// Gangs whose pods have a higher `spec.priority` get room first; among equals those for which this is higher, then the
    /// older ones.
    #[serde(default)]
    pub priority: i32,
}

/// What the scheduler did, and what it still needs. Written by the scheduler alone.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GangStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the gang is, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<GangPhase>,
    /// How many of its pods are bound to a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<i32>,
    /// What is missing, in numbers, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What is missing, one entry a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blockers: Vec<Blocker>,
    /// The plan that is being carried out: written before the first pod is bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Journal>,
    /// `Scheduled`.
    #[schemars(schema_with = "schema::conditions")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Where a gang is, in one word.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GangPhase {
    /// Fewer pods exist than must start together.
    Gathering,
    /// Its pods exist, and there is no room for all of them.
    Waiting,
    /// A plan is journalled and its pods are being bound.
    Binding,
    /// Every member is bound.
    Scheduled,
    /// A plan could not be finished by its deadline and is being undone.
    RollingBack,
}

/// One thing that keeps a gang from being placed.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blocker {
    /// A CamelCase reason, such as `InsufficientResource` or `UntoleratedTaint`.
    pub reason: String,
    /// What it is about: a resource, a taint, a label, a field.
    pub subject: String,
    /// How many nodes it rules out.
    pub nodes: i32,
    /// How much the gang needs, where the reason counts something; one pod of it, where no node is large enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<String>,
    /// How much is free, where the reason counts something; on the best node, where none is large enough for a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<String>,
}

/// A plan that is being carried out. After a crash it is finished, or undone once its deadline has passed.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Journal {
    /// When the plan is undone if not every pod is bound.
    pub deadline: Time,
    /// Which pod goes where.
    pub placements: Vec<Placement>,
}

/// One pod's place.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// The pod's name, in the gang's namespace.
    pub pod: String,
    /// The pod's UID, the precondition of its binding.
    #[schemars(schema_with = "schema::uid")]
    pub pod_uid: PodUid,
    /// The node's name.
    pub node: String,
}
