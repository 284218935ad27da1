//! Upstream's PodGroups (`scheduling.k8s.io`), where the API server serves them: one for an attempt's gang, so that
//! kube-scheduler and others who evict pods take the gang as a whole or not at all. Our own scheduler needs none of it.

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{PodSchedulingGroup, PodSpec},
        scheduling::v1beta1::{
            AllDisruptionMode, DisruptionMode, GangSchedulingPolicy, PodGroup, PodGroupSchedulingPolicy,
            PodGroupSpec,
        },
    },
    apimachinery::pkg::apis::meta::v1::{APIResourceList, Time},
};
use plasma_api::{
    ComputeJobStatus, Gang,
    condition::{self, Holds, Statement},
};

use crate::desire::Children;

/// The condition by which a job says whether the pods of its attempt are in a PodGroup.
const GROUPED: &str = "Grouped";

/// A version of `scheduling.k8s.io` whose PodGroups are used. Alphas aren't: each has other fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupVersion {
    /// `v1`: of no release yet, and made as `v1beta1` is.
    V1,
    /// `v1beta1`: Kubernetes 1.37, where it is switched on.
    V1beta1,
}

impl GroupVersion {
    /// The API group.
    pub const GROUP: &'static str = "scheduling.k8s.io";
    /// In the order in which they are looked for.
    pub const NEWEST_FIRST: [Self; 2] = [Self::V1, Self::V1beta1];

    /// The version's name.
    pub fn version(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1beta1 => "v1beta1",
        }
    }

    /// Group and version, as an object's `apiVersion` has them.
    pub fn api_version(self) -> String {
        format!("{}/{}", Self::GROUP, self.version())
    }
}

/// The PodGroup of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// In which version it is made.
    pub version: GroupVersion,
    /// What it is; the versions don't differ in what we say.
    pub pod_group: PodGroup,
}

/// Whether what discovery lists of a version has PodGroups in it.
pub fn has_pod_groups(discovered: &APIResourceList) -> bool {
    discovered.resources.iter().any(|resource| resource.name == "podgroups" && resource.kind == "PodGroup")
}

/// Why an attempt has no PodGroup, though PodGroups are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ungrouped {
    /// A PodGroup has one priority, and the roles name several priority classes.
    SeveralPriorities,
    /// In a PodGroup the API server doesn't take the attempt, without one it does: what it doesn't take, and its words.
    NotTaken(String),
    /// The API server drops what says that pods belong to a PodGroup.
    Dropped,
}

impl Ungrouped {
    fn reason(&self) -> &'static str {
        match self {
            Self::SeveralPriorities => "SeveralPriorities",
            Self::NotTaken(_) => "NotTaken",
            Self::Dropped => "FieldDropped",
        }
    }
}

/// Says in a job's status whether the pods of the attempt that is made now are in a PodGroup, or why not; nothing where the
/// API server serves none.
pub fn tell_group(
    status: &mut ComputeJobStatus,
    (group, ungrouped): (Option<&Group>, Option<&Ungrouped>),
    now: &Time,
) {
    let (holds, reason, message) = match (group, ungrouped) {
        (Some(group), _) => {
            let name = group.pod_group.metadata.name.as_deref().unwrap_or_default();
            (Holds::True, "PodGroup", format!("its pods are in PodGroup {name}"))
        }
        (None, Some(why)) => {
            let message =
                format!("its pods are in no PodGroup, so others may evict one without the rest: {why}");
            (Holds::False, why.reason(), message)
        }
        (None, None) => return status.conditions.retain(|condition| condition.type_ != GROUPED),
    };
    let statement = Statement { kind: GROUPED, holds, reason: reason.to_owned(), message };
    condition::merge(&mut status.conditions, statement, status.observed_generation, now);
}

impl std::fmt::Display for Ungrouped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SeveralPriorities => {
                write!(f, "its roles name several priority classes, and a PodGroup has one")
            }
            Self::NotTaken(what) => write!(f, "the API server doesn't take {what}"),
            Self::Dropped => write!(
                f,
                "the API server drops spec.schedulingGroup: is the feature gate GenericWorkload on in each of them?"
            ),
        }
    }
}

impl Children {
    /// These, with a PodGroup to which every pod belongs.
    ///
    /// # Errors
    /// Why they can't be one.
    pub fn grouped(&self, version: GroupVersion) -> Result<Self, Ungrouped> {
        let class = one_class(&self.jobs).ok_or(Ungrouped::SeveralPriorities)?;
        let pod_group = pod_group(&self.gang, class);
        let mut grouped = self.clone();
        for pod in grouped.jobs.iter_mut().filter_map(pod_of) {
            let name = pod_group.metadata.name.clone();
            pod.scheduling_group = Some(PodSchedulingGroup { pod_group_name: name });
        }
        grouped.group = Some(Group { version, pod_group });
        Ok(grouped)
    }

    /// Whether the Jobs, as the API server answered, still say that their pods belong to the group; true where there is none.
    pub fn keep_group(&self, answers: &[Job]) -> bool {
        let Some(group) = &self.group else { return true };
        let name = |job: &Job| {
            job.spec.as_ref()?.template.spec.as_ref()?.scheduling_group.as_ref()?.pod_group_name.clone()
        };
        answers.iter().all(|job| name(job) == group.pod_group.metadata.name)
    }
}

fn pod_group(gang: &Gang, class: Option<String>) -> PodGroup {
    // The metadata of the Gang: its name, its labels, its owner, with which both go.
    PodGroup {
        metadata: gang.metadata.clone(),
        spec: PodGroupSpec {
            scheduling_policy: PodGroupSchedulingPolicy {
                gang: Some(GangSchedulingPolicy { min_count: gang.spec.min_member }),
                ..PodGroupSchedulingPolicy::default()
            },
            disruption_mode: Some(DisruptionMode { all: Some(anything()), ..DisruptionMode::default() }),
            // Who evicts others compares the group's priority, not its pods': it must be theirs.
            priority_class_name: class,
            ..PodGroupSpec::default()
        },
        status: None,
    }
}

/// A mode is chosen by an empty object.
fn anything() -> AllDisruptionMode {
    AllDisruptionMode(k8s_openapi::serde_json::Value::Object(Default::default()))
}

fn pod_of(job: &mut Job) -> Option<&mut PodSpec> {
    job.spec.as_mut()?.template.spec.as_mut()
}

/// The priority class that all pods name, which may be none; nothing where they name several.
fn one_class(jobs: &[Job]) -> Option<Option<String>> {
    let mut classes = jobs.iter().map(|job| {
        let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        // To the API server, an empty name is none.
        pod.and_then(|pod| pod.priority_class_name.clone()).filter(|name| !name.is_empty())
    });
    let first = classes.next().flatten();
    classes.all(|class| class == first).then_some(first)
}

#[cfg(test)]
mod tests;
