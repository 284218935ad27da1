//! How an attempt goes, and what follows from it.

use k8s_openapi::api::{
    batch::v1::{Job, JobStatus},
    core::v1::Pod,
};
use plasma_api::compute_job::Attempts;

/// What was observed of the current attempt.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The attempts so far, as the status has them.
    pub attempts: Attempts,
    /// The current attempt's Jobs. Empty before the first.
    pub jobs: Vec<Job>,
    /// How many Jobs an attempt has.
    pub roles: usize,
    /// The current attempt's pods.
    pub pods: Vec<Pod>,
}

/// Counts of the current attempt's pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Running, or waiting to run.
    pub active: i32,
    /// Succeeded.
    pub succeeded: i32,
    /// Failed.
    pub failed: i32,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask for admission and start the attempt of this number.
    Start(i32, Attempts),
    /// The attempt of this number goes on.
    Watch(i32),
    /// The attempt of this number has failed; its other pods must end before anything follows.
    End(i32, Attempts),
    /// Every pod succeeded.
    Succeed,
    /// The last attempt that was allowed has failed: why.
    Fail(Attempts, String),
}

impl Progress {
    /// From the Jobs' own counts.
    pub fn of(observed: &Observed) -> Self {
        let sum = |count: fn(&JobStatus) -> Option<i32>| {
            observed.jobs.iter().filter_map(|job| count(job.status.as_ref()?)).sum()
        };
        Self {
            active: sum(|job| job.active),
            succeeded: sum(|job| job.succeeded),
            failed: sum(|job| job.failed),
        }
    }
}

/// What to do next, given what was observed and how many failed attempts are allowed.
pub fn next_step(observed: &Observed, backoff_limit: i32) -> Step {
    let attempts = observed.attempts;
    if attempts.started == 0 {
        // Whatever of it was made before a crash is made again, under the same names: the same objects.
        return Step::Start(0, Attempts { started: 1, failed: 0 });
    }
    let current = attempts.started - 1;
    if observed.jobs.len() == observed.roles && observed.jobs.iter().all(|job| has(job, "Complete")) {
        return Step::Succeed;
    }
    let Some(failed) = observed.jobs.iter().find(|job| has(job, "Failed")) else {
        return Step::Watch(current);
    };
    if !observed.pods.iter().all(is_over) || observed.jobs.iter().any(|job| !is_still(job)) {
        return Step::End(current, attempts);
    }
    let counts = !observed.pods.iter().any(was_refused);
    let after = Attempts { started: attempts.started + 1, failed: attempts.failed + i32::from(counts) };
    if after.failed > backoff_limit {
        let why = why(failed, observed);
        return Step::Fail(Attempts { failed: after.failed, ..attempts }, why);
    }
    Step::Start(current + 1, after)
}

fn has(job: &Job, kind: &str) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == kind && condition.status == "True")
}

/// Whether the Job starts no more pods.
fn is_still(job: &Job) -> bool {
    let suspended = job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true));
    let idle = job.status.as_ref().is_none_or(|status| status.active.unwrap_or(0) == 0);
    has(job, "Complete") || has(job, "Failed") || (suspended && idle)
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether the pod runs no more. One without a node that is being deleted never ran.
fn is_over(pod: &Pod) -> bool {
    let unplaced =
        pod.spec.as_ref().is_none_or(|spec| spec.node_name.as_deref().unwrap_or_default().is_empty());
    matches!(phase(pod), "Succeeded" | "Failed") || (unplaced && pod.metadata.deletion_timestamp.is_some())
}

/// Whether the kubelet refused the pod: its node had changed since it was placed. No fault of the job's.
fn was_refused(pod: &Pod) -> bool {
    let reason = pod.status.as_ref().and_then(|status| status.reason.as_deref()).unwrap_or_default();
    phase(pod) == "Failed"
        && (reason == "UnexpectedAdmissionError"
            || reason.starts_with("OutOf")
            || matches!(reason, "NodeAffinity" | "NodePorts" | "NodeShutdown" | "Terminated"))
}

fn why(job: &Job, observed: &Observed) -> String {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let message = conditions
        .into_iter()
        .find(|condition| condition.type_ == "Failed")
        .and_then(|failed| failed.message.clone());
    let pod =
        observed.pods.iter().find(|pod| phase(pod) == "Failed").and_then(|pod| pod.metadata.name.clone());
    let pod = pod.map(|pod| format!("pod {pod} failed: ")).unwrap_or_default();
    format!("{pod}{}", message.unwrap_or_else(|| "the Job controller gave no reason".to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn job(condition: Option<&str>, suspended: bool) -> Job {
        let conditions =
            condition.map(|kind| json!([{ "type": kind, "status": "True" }])).unwrap_or(json!([]));
        from_value(json!({ "spec": { "suspend": suspended, "template": {} }, "status": { "conditions": conditions } }))
            .expect("a job")
    }

    fn pod(phase: &str, reason: &str) -> Pod {
        from_value(json!({ "spec": { "nodeName": "n", "containers": [] }, "status": { "phase": phase, "reason": reason } }))
            .expect("a pod")
    }

    fn observed(started: i32, failed: i32, jobs: Vec<Job>, pods: Vec<Pod>) -> Observed {
        Observed { attempts: Attempts { started, failed }, roles: 2, jobs, pods }
    }

    #[test]
    fn the_first_attempt_starts_and_goes_on_until_every_role_is_complete() {
        let start = Step::Start(0, Attempts { started: 1, failed: 0 });
        assert_eq!(next_step(&observed(0, 0, vec![], vec![]), 0), start);
        let half = vec![job(Some("Complete"), false), job(None, false)];
        assert_eq!(next_step(&observed(1, 0, half, vec![]), 0), Step::Watch(0));
        let all = vec![job(Some("Complete"), false), job(Some("Complete"), false)];
        assert_eq!(next_step(&observed(1, 0, all, vec![]), 0), Step::Succeed);
    }

    #[test]
    fn nothing_follows_a_failed_attempt_while_a_pod_of_it_runs() {
        let jobs = vec![job(Some("Failed"), false), job(None, true)];
        let world = observed(1, 0, jobs, vec![pod("Failed", ""), pod("Running", "")]);
        assert_eq!(next_step(&world, 3), Step::End(0, Attempts { started: 1, failed: 0 }));
        let jobs = vec![job(Some("Failed"), false), job(None, false)];
        let world = observed(1, 0, jobs, vec![pod("Failed", "")]);
        assert_eq!(
            next_step(&world, 3),
            Step::End(0, Attempts { started: 1, failed: 0 }),
            "a Job that may still start pods"
        );
    }

    #[test]
    fn a_failed_attempt_is_followed_by_another_while_the_limit_allows() {
        let jobs = || vec![job(Some("Failed"), false), job(None, true)];
        let world = observed(1, 0, jobs(), vec![pod("Failed", "Error")]);
        assert_eq!(next_step(&world, 1), Step::Start(1, Attempts { started: 2, failed: 1 }));
        let world = observed(2, 1, jobs(), vec![pod("Failed", "Error")]);
        assert!(matches!(next_step(&world, 1), Step::Fail(Attempts { started: 2, failed: 2 }, _)));
    }

    #[test]
    fn a_kubelets_refusal_does_not_count() {
        for reason in ["UnexpectedAdmissionError", "OutOfnvidia.com/gpu", "OutOfcpu"] {
            let jobs = vec![job(Some("Failed"), false), job(None, true)];
            let world = observed(1, 0, jobs, vec![pod("Failed", reason)]);
            assert_eq!(next_step(&world, 0), Step::Start(1, Attempts { started: 2, failed: 0 }), "{reason}");
        }
    }
}
