//! Whether an attempt lost pods through no fault of the job's. Such an attempt doesn't count.

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};

use crate::progress::{Observed, is_suspended, phase};

/// Whether the current attempt was disturbed, as far as can be seen now or was seen before.
pub(crate) fn is_disturbed(observed: &Observed) -> bool {
    observed.attempts.disturbed
        || observed.pods.iter().any(was_disturbed)
        || lost_by_deletion(&observed.jobs, &observed.pods)
}

/// Whether somebody deletes the attempt's pods, or did. The Job controller deletes pods, too, but only once another has
/// failed, which stays; and we have it do so by suspending its Job.
fn lost_by_deletion(jobs: &[Job], pods: &[Pod]) -> bool {
    let is_deleted = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
    let has_failed_by_itself = pods.iter().any(|pod| phase(pod) == "Failed" && !is_deleted(pod));
    let is_lost = pods.iter().any(|pod| is_deleted(pod) && phase(pod) != "Succeeded");
    is_lost && !has_failed_by_itself && !jobs.iter().any(is_suspended)
}

/// Whether the pod was taken away or refused.
fn was_disturbed(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut conditions = conditions.into_iter();
    let is_taken = conditions.any(|told| told.type_ == "DisruptionTarget" && told.status == "True");
    (is_taken && phase(pod) != "Succeeded") || was_refused(pod)
}

/// Whether the kubelet refused the pod: its node had changed since it was placed. No fault of the job's.
fn was_refused(pod: &Pod) -> bool {
    let reason = pod.status.as_ref().and_then(|status| status.reason.as_deref()).unwrap_or_default();
    phase(pod) == "Failed"
        && (reason == "UnexpectedAdmissionError"
            || reason.starts_with("OutOf")
            || matches!(reason, "NodeAffinity" | "NodePorts" | "NodeShutdown" | "Terminated"))
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn pod(phase: &str, is_deleted: bool) -> Pod {
        let deleted = is_deleted.then_some("2026-01-01T00:00:00Z");
        from_value(json!({ "metadata": { "deletionTimestamp": deleted }, "status": { "phase": phase } }))
            .expect("a pod")
    }

    fn job(is_suspended: bool) -> Job {
        from_value(json!({ "spec": { "suspend": is_suspended, "template": {} } })).expect("a job")
    }

    fn disturbed(pods: &[Pod], is_suspended: bool) -> bool {
        let observed = Observed { jobs: vec![job(is_suspended)], pods: pods.to_vec(), ..Observed::default() };
        is_disturbed(&observed)
    }

    #[test]
    fn a_pod_that_somebody_deletes_is_lost_through_no_fault_of_the_jobs() {
        assert!(disturbed(&[pod("Running", true), pod("Running", false)], false));
        assert!(disturbed(&[pod("Pending", true)], false), "one that waits");
        assert!(disturbed(&[pod("Failed", true), pod("Running", true)], false), "it has ended meanwhile");
        assert!(!disturbed(&[pod("Succeeded", true), pod("Running", false)], false), "it had done its work");
        assert!(!disturbed(&[pod("Running", false)], false));
    }

    #[test]
    fn a_pod_that_is_deleted_since_another_failed_is_not_lost() {
        assert!(!disturbed(&[pod("Failed", false), pod("Running", true)], false), "by the Job controller");
        assert!(!disturbed(&[pod("Running", true)], true), "by us");
    }
}
