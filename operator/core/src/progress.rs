//! How an attempt goes, and what follows from it.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobStatus},
        core::v1::Pod,
    },
    jiff::Timestamp,
};
use plasma_api::{
    compute_job::{Attempts, Cost},
    names::ROLE_LABEL,
};

use crate::starting::Starting;

/// How long the second attempt in a row that doesn't count waits, in seconds; each further one twice as long.
const FIRST_PAUSE: i64 = 5;
/// The longest pause between attempts, in seconds.
const LONGEST_PAUSE: i64 = 300;

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Running, or waiting to run.
    pub active: i32,
    /// Succeeded.
    pub succeeded: i32,
    /// Failed.
    pub failed: i32,
    /// How far those that wait to run are.
    pub starting: Starting,
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
    /// The attempt of this number has ended, and another may follow later: why not yet.
    Pause(i32, String),
    /// Every pod succeeded.
    Succeed,
    /// The last attempt that was allowed has failed: why.
    Fail(Attempts, String),
}

impl Progress {
    /// From the Jobs' own counts, and what the kubelets say of the pods.
    pub fn of(observed: &Observed) -> Self {
        let sum = |count: fn(&JobStatus) -> Option<i32>| {
            observed.jobs.iter().filter_map(|job| count(job.status.as_ref()?)).sum()
        };
        Self {
            active: sum(|job| job.active),
            succeeded: sum(|job| job.succeeded),
            failed: sum(|job| job.failed),
            starting: Starting::of(&observed.pods),
        }
    }
}

/// What to do next, given what was observed and how many failed attempts are allowed.
pub fn next_step(observed: &Observed, backoff_limit: i32, now: Timestamp) -> Step {
    let attempts = observed.attempts;
    if attempts.started == 0 {
        // Whatever of it was made before a crash is made again, under the same names: the same objects.
        return Step::Start(0, Attempts { started: 1, failed: 0 });
    }
    let current = attempts.started - 1;
    if observed.jobs.len() == observed.roles && observed.jobs.iter().all(|job| has(job, "Complete")) {
        return Step::Succeed;
    }
    let failed = observed.jobs.iter().find(|job| has(job, "Failed"));
    let is_disturbed = observed.pods.iter().any(was_disturbed);
    // A Job is suspended only to end its attempt: it tells of a disturbance whose pod is gone by now.
    if failed.is_none() && !is_disturbed && !observed.jobs.iter().any(is_suspended) {
        return Step::Watch(current);
    }
    if !observed.pods.iter().all(is_over) || observed.jobs.iter().any(|job| !is_still(job)) {
        return Step::End(current, attempts);
    }
    let counts = failed.is_some() && !is_disturbed;
    let after = Attempts { started: attempts.started + 1, failed: attempts.failed + i32::from(counts) };
    if let Some(failed) = failed.filter(|_| after.failed > backoff_limit) {
        return Step::Fail(Attempts { failed: after.failed, ..attempts }, why(failed, observed));
    }
    let until = if counts { None } else { pause_until(observed, current - attempts.failed) };
    if let Some(until) = until.filter(|until| *until > now) {
        let why =
            format!("attempt {current} ended through no fault of the job's; the next may start at {until}");
        return Step::Pause(current, why);
    }
    Step::Start(current + 1, after)
}

fn has(job: &Job, kind: &str) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == kind && condition.status == "True")
}

/// When the next attempt may start, if the current one doesn't count and `before` others didn't either.
fn pause_until(observed: &Observed, before: i32) -> Option<Timestamp> {
    let doublings = u32::try_from(before).ok()?.checked_sub(1)?.min(16);
    let pause = (FIRST_PAUSE << doublings).min(LONGEST_PAUSE);
    let conditions =
        observed.jobs.iter().filter_map(|job| job.status.as_ref()?.conditions.as_ref()).flatten();
    let ended = conditions.filter(|condition| matches!(condition.type_.as_str(), "Failed" | "Suspended"));
    let last = ended.filter_map(|condition| Some(condition.last_transition_time.as_ref()?.0)).max()?;
    Timestamp::from_second(last.as_second().saturating_add(pause)).ok()
}

/// How many of the pods of each role ran and have no receipt.
pub fn unrecorded(pods: &[Pod], cost: Option<&Cost>) -> BTreeMap<String, u32> {
    let is_recorded = |pod: &Pod| {
        let uid = pod.metadata.uid.as_deref().and_then(|uid| uid.parse().ok());
        cost.is_some_and(|cost| cost.receipts.iter().any(|receipt| Some(receipt.pod_uid) == uid))
    };
    let mut counts = BTreeMap::new();
    for pod in pods.iter().filter(|pod| has_run(pod) && !is_recorded(pod)) {
        let role = pod.metadata.labels.as_ref().and_then(|labels| labels.get(ROLE_LABEL));
        *counts.entry(role.cloned().unwrap_or_default()).or_insert(0) += 1;
    }
    counts
}

/// Whether a container of the pod ever ran.
fn has_run(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let lists = [&status.container_statuses, &status.init_container_statuses];
    lists.into_iter().flatten().flatten().filter_map(|container| container.state.as_ref()).any(|state| {
        let has_ended = state.terminated.as_ref().is_some_and(|end| end.started_at.is_some());
        state.running.is_some() || has_ended
    })
}

fn is_suspended(job: &Job) -> bool {
    job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true))
}

/// Whether the Job starts no more pods.
fn is_still(job: &Job) -> bool {
    let suspended = is_suspended(job);
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

/// Whether the pod was taken away or refused: an attempt that lost it doesn't count.
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

    fn step(observed: &Observed, backoff_limit: i32) -> Step {
        next_step(observed, backoff_limit, Timestamp::from_second(1_000_000).unwrap())
    }

    #[test]
    fn the_first_attempt_starts_and_goes_on_until_every_role_is_complete() {
        let start = Step::Start(0, Attempts { started: 1, failed: 0 });
        assert_eq!(step(&observed(0, 0, vec![], vec![]), 0), start);
        let half = vec![job(Some("Complete"), false), job(None, false)];
        assert_eq!(step(&observed(1, 0, half, vec![]), 0), Step::Watch(0));
        let all = vec![job(Some("Complete"), false), job(Some("Complete"), false)];
        assert_eq!(step(&observed(1, 0, all, vec![]), 0), Step::Succeed);
    }

    #[test]
    fn nothing_follows_a_failed_attempt_while_a_pod_of_it_runs() {
        let jobs = vec![job(Some("Failed"), false), job(None, true)];
        let world = observed(1, 0, jobs, vec![pod("Failed", ""), pod("Running", "")]);
        assert_eq!(step(&world, 3), Step::End(0, Attempts { started: 1, failed: 0 }));
        let jobs = vec![job(Some("Failed"), false), job(None, false)];
        let world = observed(1, 0, jobs, vec![pod("Failed", "")]);
        assert_eq!(
            step(&world, 3),
            Step::End(0, Attempts { started: 1, failed: 0 }),
            "a Job that may still start pods"
        );
    }

    #[test]
    fn a_failed_attempt_is_followed_by_another_while_the_limit_allows() {
        let jobs = || vec![job(Some("Failed"), false), job(None, true)];
        let world = observed(1, 0, jobs(), vec![pod("Failed", "Error")]);
        assert_eq!(step(&world, 1), Step::Start(1, Attempts { started: 2, failed: 1 }));
        let world = observed(2, 1, jobs(), vec![pod("Failed", "Error")]);
        assert!(matches!(step(&world, 1), Step::Fail(Attempts { started: 2, failed: 2 }, _)));
    }

    #[test]
    fn a_kubelets_refusal_does_not_count() {
        for reason in ["UnexpectedAdmissionError", "OutOfnvidia.com/gpu", "OutOfcpu"] {
            let jobs = vec![job(Some("Failed"), false), job(None, true)];
            let world = observed(1, 0, jobs, vec![pod("Failed", reason)]);
            assert_eq!(step(&world, 0), Step::Start(1, Attempts { started: 2, failed: 0 }), "{reason}");
        }
    }

    #[test]
    fn a_pod_that_was_taken_away_ends_the_attempt_which_does_not_count() {
        let mut taken = pod("Running", "");
        let told = json!([{ "type": "DisruptionTarget", "status": "True" }]);
        taken.status.as_mut().unwrap().conditions = from_value(told).unwrap();
        let running = || vec![job(None, false), job(None, false)];
        let world = observed(1, 0, running(), vec![taken, pod("Running", "")]);
        assert!(matches!(step(&world, 0), Step::End(0, _)));
        // The pod is gone by now; that the Jobs are suspended still tells of it.
        let world = observed(1, 0, vec![job(None, true), job(None, true)], vec![]);
        assert_eq!(step(&world, 0), Step::Start(1, Attempts { started: 2, failed: 0 }));
    }

    #[test]
    fn attempts_that_do_not_count_follow_each_other_ever_slower() {
        let refused = |started| {
            let mut failed = job(Some("Failed"), false);
            let condition = &mut failed.status.as_mut().unwrap().conditions.as_mut().unwrap()[0];
            condition.last_transition_time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                Timestamp::from_second(100).unwrap(),
            ));
            observed(started, 0, vec![failed, job(None, true)], vec![pod("Failed", "OutOfcpu")])
        };
        let at = |started, second| next_step(&refused(started), 0, Timestamp::from_second(second).unwrap());
        assert!(matches!(at(1, 100), Step::Start(1, _)), "the first at once");
        assert!(matches!(at(2, 104), Step::Pause(1, _)));
        assert!(matches!(at(2, 105), Step::Start(2, _)));
        assert!(matches!(at(3, 109), Step::Pause(2, _)));
        assert!(matches!(at(90, 399), Step::Pause(89, _)));
        assert!(matches!(at(90, 400), Step::Start(90, _)), "never longer than the longest pause");
    }

    #[test]
    fn only_pods_that_ran_and_have_no_receipt_are_unrecorded() {
        let mut ran = pod("Failed", "");
        ran.metadata.labels = Some([(ROLE_LABEL.to_owned(), "worker".to_owned())].into());
        ran.metadata.uid = Some("123e4567-e89b-12d3-a456-426614174001".to_owned());
        let told = json!([{ "name": "c", "ready": false, "restartCount": 0, "image": "x", "imageID": "x",
            "state": { "terminated": { "exitCode": 1, "startedAt": "2026-01-01T00:00:00Z" } } }]);
        ran.status.as_mut().unwrap().container_statuses = from_value(told).unwrap();
        let pods = [ran, pod("Failed", "OutOfcpu")];
        assert_eq!(unrecorded(&pods, None), BTreeMap::from([("worker".to_owned(), 1)]));
        let cost: Cost = from_value(json!({ "total": "1", "recorded": 1, "settled": 0, "receipts": [{
            "pod": "p", "podUid": "123e4567-e89b-12d3-a456-426614174001", "amount": "1", "batch": "b", "state": "Recorded",
        }] }))
        .unwrap();
        assert!(unrecorded(&pods, Some(&cost)).is_empty());
    }
}
