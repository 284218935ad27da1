//! An upstream PodGroup (`scheduling.k8s.io`): pods that somebody wants to be placed, or disrupted, together.

use serde::Deserialize;
use serde_json::Value;

use super::{Meta, pod::written, skip::Skip};

/// A PodGroup. Its spec and status are read when somebody asks for them, so that one that makes no sense is a PodGroup with
/// a fault and not the end of a list.
#[derive(Clone, Debug, Deserialize)]
pub struct PodGroupDocument {
    /// What it says about itself.
    pub metadata: Meta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

/// Every field of a 1.37 PodGroup's spec.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(dead_code)]
pub(crate) struct PodGroupSpec {
    // Understood.
    pub(crate) disruption_mode: Option<DisruptionMode>,
    pub(crate) parent_composite_pod_group_name: Option<String>,
    pub(crate) preemption_policy: Option<String>,
    pub(crate) priority: Option<i32>,
    pub(crate) resource_claims: Option<Vec<Skip>>,
    pub(crate) scheduling_constraints: Option<Constraints>,
    pub(crate) scheduling_policy: Policy,
    // Nothing to do with placement: the class is in the priority, and what a Workload's template says is copied into this.
    priority_class_name: Skip,
    workload_ref: Skip,
}

/// Where the group's pods must be, as seen from each other.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Constraints {
    pub(crate) topology: Option<Vec<Skip>>,
}

/// One of these.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Policy {
    pub(crate) basic: Option<Empty>,
    pub(crate) gang: Option<GangPolicy>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GangPolicy {
    pub(crate) min_count: i32,
}

/// One of these.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DisruptionMode {
    pub(crate) single: Option<Empty>,
    pub(crate) all: Option<Empty>,
}

/// Something whose being there is all that it says. A field in it is one that isn't known.
#[derive(Debug, Deserialize)]
pub(crate) struct Empty {}

/// What is said of an object: `PodGroupInitiallyScheduled`, for one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConditionDocument {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// The generation of the spec that it is about.
    pub observed_generation: Option<i64>,
    /// When its status last changed, as RFC 3339 text.
    pub last_transition_time: Option<String>,
}

impl PodGroupDocument {
    /// The spec, and the paths of its fields that aren't known.
    pub(crate) fn spec(&self) -> Result<(PodGroupSpec, Vec<String>), serde_json::Error> {
        let mut unknown = Vec::new();
        let spec = serde_ignored::deserialize(&self.spec, |path| unknown.push(written(&path)))?;
        Ok((spec, unknown))
    }

    /// The condition of this type, where there is one that can be read.
    pub fn condition(&self, kind: &str) -> Option<ConditionDocument> {
        let conditions = self.status.get("conditions")?.as_array()?.iter();
        let mut conditions = conditions.filter_map(|one| ConditionDocument::deserialize(one).ok());
        conditions.find(|condition| condition.kind == kind)
    }
}
