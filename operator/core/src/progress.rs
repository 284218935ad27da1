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
    names::{ROLE_LABEL, SETTLEMENT_FINALIZER},
};

use crate::{absent::Absent, disturbed::is_disturbed, refusal::Refusal, starting::Starting};

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
    /// Pods that don't even exist.
    pub absent: Option<Absent>,
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
    /// No attempt is under way, and one may follow later: why not yet.
    Pause(Attempts, String),
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
            absent: Absent::of(&observed.jobs),
        }
    }
}

/// What to do next, given what was observed and how many failed attempts are allowed.
pub fn next_step(observed: &Observed, backoff_limit: i32, now: Timestamp) -> Step {
    let attempts = observed.attempts;
    if attempts.started == 0 {
        // Whatever of it was made before a crash is made again, under the same names: the same objects.
        return Step::Start(0, Attempts { started: 1, ..Attempts::default() });
    }
    let current = attempts.started - 1;
    if observed.jobs.len() == observed.roles && observed.jobs.iter().all(|job| has(job, "Complete")) {
        return Step::Succeed;
    }
    let failed = observed.jobs.iter().find(|job| has(job, "Failed"));
    // A Job is suspended only to end its attempt: where none has failed, there was a disturbance.
    let suspended = failed.is_none() && observed.jobs.iter().any(is_suspended);
    let attempts = Attempts { disturbed: is_disturbed(observed) || suspended, ..attempts };
    if failed.is_none() && !attempts.disturbed {
        return Step::Watch(current);
    }
    if !observed.pods.iter().all(is_over) || observed.jobs.iter().any(|job| !is_still(job)) {
        return Step::End(current, attempts);
    }
    let counts = !attempts.disturbed;
    let failures = attempts.failed + i32::from(counts);
    let after = Attempts { started: attempts.started + 1, failed: failures, disturbed: false };
    if let Some(failed) = failed.filter(|_| after.failed > backoff_limit) {
        return Step::Fail(Attempts { failed: after.failed, ..attempts }, why(failed, observed));
    }
    let until = if counts { None } else { pause_until(observed, current - attempts.failed) };
    if let Some(until) = until.filter(|until| *until > now) {
        let why =
            format!("attempt {current} ended through no fault of the job's; the next may start at {until}");
        return Step::Pause(attempts, why);
    }
    Step::Start(current + 1, after)
}

/// What becomes of a step that was refused, when `before` were the attempts. A start waits for what passes by itself, and
/// a further attempt also for what others than the job's owner can mend.
pub fn hold(step: Step, refusal: &Refusal, before: Attempts) -> Step {
    let Step::Start(attempt, after) = step else { return step };
    if !refusal.passes() && (attempt == 0 || !refusal.can_be_lifted()) {
        return step;
    }
    // That the last attempt doesn't count is to be known still when its pods are gone.
    let disturbed = attempt > 0 && after.failed == before.failed;
    Step::Pause(Attempts { disturbed, ..before }, refusal.to_string())
}

pub(crate) fn has(job: &Job, kind: &str) -> bool {
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

/// How many of the pods of each role ran and have no receipt yet. A pod that isn't held gets none: its queue didn't bill,
/// or its payment was given up, or settlement let it go after it had told the cost.
pub fn unrecorded(pods: &[Pod], cost: Option<&Cost>) -> BTreeMap<String, u32> {
    let is_recorded = |pod: &Pod| {
        let uid = pod.metadata.uid.as_deref().and_then(|uid| uid.parse().ok());
        cost.is_some_and(|cost| cost.receipts.iter().any(|receipt| Some(receipt.pod_uid) == uid))
    };
    let mut counts = BTreeMap::new();
    for pod in pods.iter().filter(|pod| is_held(pod) && has_run(pod) && !is_recorded(pod)) {
        let role = pod.metadata.labels.as_ref().and_then(|labels| labels.get(ROLE_LABEL));
        *counts.entry(role.cloned().unwrap_or_default()).or_insert(0) += 1;
    }
    counts
}

/// Whether the pod waits for its receipt.
fn is_held(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == SETTLEMENT_FINALIZER)
}

/// Whether a container of the pod ever ran.
fn has_run(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let lists = [&status.container_statuses, &status.init_container_statuses];
    lists.into_iter().flatten().flatten().any(plasma_api::has_run)
}

pub(crate) fn is_suspended(job: &Job) -> bool {
    job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true))
}

/// Whether the Job starts no more pods.
fn is_still(job: &Job) -> bool {
    let suspended = is_suspended(job);
    let idle = job.status.as_ref().is_none_or(|status| status.active.unwrap_or(0) == 0);
    has(job, "Complete") || has(job, "Failed") || (suspended && idle)
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether the pod runs no more. One without a node that is being deleted never ran.
fn is_over(pod: &Pod) -> bool {
    let unplaced =
        pod.spec.as_ref().is_none_or(|spec| spec.node_name.as_deref().unwrap_or_default().is_empty());
    matches!(phase(pod), "Succeeded" | "Failed") || (unplaced && pod.metadata.deletion_timestamp.is_some())
}

fn why(job: &Job, observed: &Observed) -> String {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let message = conditions
        .into_iter()
        .find(|condition| condition.type_ == "Failed")
        .and_then(|failed| failed.message.clone());
    let failed = || observed.pods.iter().filter(|pod| phase(pod) == "Failed");
    // The others were deleted because of it.
    let culprit = failed().find(|pod| pod.metadata.deletion_timestamp.is_none()).or_else(|| failed().next());
    let pod = culprit.and_then(|pod| pod.metadata.name.clone());
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
        Observed { attempts: Attempts { started, failed, disturbed: false }, roles: 2, jobs, pods }
    }

    fn attempts(started: i32, failed: i32) -> Attempts {
        Attempts { started, failed, disturbed: false }
    }

    fn step(observed: &Observed, backoff_limit: i32) -> Step {
        next_step(observed, backoff_limit, Timestamp::from_second(1_000_000).unwrap())
    }

    #[test]
    fn the_first_attempt_starts_and_goes_on_until_every_role_is_complete() {
        let start = Step::Start(0, attempts(1, 0));
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
        assert_eq!(step(&world, 3), Step::End(0, attempts(1, 0)));
        let jobs = vec![job(Some("Failed"), false), job(None, false)];
        let world = observed(1, 0, jobs, vec![pod("Failed", "")]);
        assert_eq!(step(&world, 3), Step::End(0, attempts(1, 0)), "a Job that may still start pods");
    }

    #[test]
    fn a_failed_attempt_is_followed_by_another_while_the_limit_allows() {
        let jobs = || vec![job(Some("Failed"), false), job(None, true)];
        let world = observed(1, 0, jobs(), vec![pod("Failed", "Error")]);
        assert_eq!(step(&world, 1), Step::Start(1, attempts(2, 1)));
        let world = observed(2, 1, jobs(), vec![pod("Failed", "Error")]);
        assert!(matches!(step(&world, 1), Step::Fail(Attempts { started: 2, failed: 2, .. }, _)));
    }

    #[test]
    fn a_failed_job_names_the_pod_that_failed_and_none_that_was_deleted_for_it() {
        let named = |name: &str, deleted: Option<&str>| {
            let mut pod = pod("Failed", "");
            pod.metadata = from_value(json!({ "name": name, "deletionTimestamp": deleted })).unwrap();
            pod
        };
        let pods = vec![named("j-worker-0-0", Some("2026-01-01T00:00:00Z")), named("j-worker-0-1", None)];
        let world = observed(1, 0, vec![job(Some("Failed"), false), job(None, true)], pods);
        let Step::Fail(_, why) = step(&world, 0) else { panic!("it fails") };
        assert!(why.starts_with("pod j-worker-0-1 failed: "), "{why}");
    }

    #[test]
    fn a_kubelets_refusal_does_not_count() {
        for reason in ["UnexpectedAdmissionError", "OutOfnvidia.com/gpu", "OutOfcpu"] {
            let jobs = vec![job(Some("Failed"), false), job(None, true)];
            let world = observed(1, 0, jobs, vec![pod("Failed", reason)]);
            assert_eq!(step(&world, 0), Step::Start(1, attempts(2, 0)), "{reason}");
        }
    }

    #[test]
    fn a_pod_that_was_taken_away_ends_the_attempt_which_does_not_count() {
        let mut taken = pod("Running", "");
        let told = json!([{ "type": "DisruptionTarget", "status": "True" }]);
        taken.status.as_mut().unwrap().conditions = from_value(told).unwrap();
        let running = || vec![job(None, false), job(None, false)];
        let world = observed(1, 0, running(), vec![taken, pod("Running", "")]);
        assert_eq!(step(&world, 0), Step::End(0, Attempts { disturbed: true, ..attempts(1, 0) }));
        // The pod is gone by now; that the Jobs are suspended still tells of it.
        let world = observed(1, 0, vec![job(None, true), job(None, true)], vec![]);
        assert_eq!(step(&world, 0), Step::Start(1, attempts(2, 0)));
    }

    #[test]
    fn an_attempt_that_was_seen_disturbed_does_not_count_when_its_pods_are_gone() {
        let after_it = |backoff_limit| {
            let mut world = observed(1, 0, vec![job(Some("Failed"), true), job(None, true)], vec![]);
            world.attempts.disturbed = true;
            step(&world, backoff_limit)
        };
        assert_eq!(after_it(0), Step::Start(1, attempts(2, 0)));
        let (refusal, before) = (Refusal::ReceiptsPending(1), Attempts { disturbed: true, ..attempts(1, 0) });
        assert_eq!(hold(after_it(0), &refusal, before), Step::Pause(before, refusal.to_string()));
        // Seen for the first time just now, and nobody can tell any more once the pod is gone.
        let told = Step::Pause(before, refusal.to_string());
        assert_eq!(hold(after_it(0), &refusal, attempts(1, 0)), told);
    }

    #[test]
    fn a_start_waits_for_what_passes_and_a_further_one_for_what_an_admin_can_mend() {
        let (first, further) = (Step::Start(0, attempts(1, 0)), Step::Start(1, attempts(2, 1)));
        let is_held =
            |step: &Step, before, refusal| matches!(hold(step.clone(), &refusal, before), Step::Pause(..));
        let leaving = || Refusal::NameNotFreeYet { kind: "Gang".to_owned(), name: "j-0".to_owned() };
        assert!(is_held(&first, attempts(0, 0), leaving()) && is_held(&further, attempts(1, 0), leaving()));
        let missing = || Refusal::QueueNotFound("q".to_owned());
        assert!(!is_held(&first, attempts(0, 0), missing()), "it is refused, and says so");
        assert!(is_held(&further, attempts(1, 0), missing()), "its queue may be made anew in a moment");
        let dear = Refusal::BudgetTooSmall { worst: "2".parse().unwrap(), left: "1".parse().unwrap() };
        assert!(!is_held(&further, attempts(1, 0), dear), "nothing will change");
        let held = hold(further, &missing(), attempts(1, 0));
        assert!(
            matches!(held, Step::Pause(before, _) if before == attempts(1, 0)),
            "the attempt counts once it starts"
        );
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
        assert!(matches!(at(2, 104), Step::Pause(..)));
        assert!(matches!(at(2, 105), Step::Start(2, _)));
        assert!(matches!(at(3, 109), Step::Pause(..)));
        assert!(matches!(at(90, 399), Step::Pause(..)));
        assert!(matches!(at(90, 400), Step::Start(90, _)), "never longer than the longest pause");
    }

    fn held(started: &str) -> Pod {
        from_value(json!({
            "metadata": { "uid": "123e4567-e89b-12d3-a456-426614174001", "labels": { ROLE_LABEL: "worker" },
                "finalizers": [SETTLEMENT_FINALIZER] },
            "status": { "phase": "Failed", "containerStatuses": [{
                "name": "c", "ready": false, "restartCount": 0, "image": "x", "imageID": "x",
                "state": { "terminated": { "exitCode": 1, "startedAt": started } },
            }] },
        }))
        .expect("a pod")
    }

    #[test]
    fn only_pods_that_ran_and_wait_for_their_receipt_are_unrecorded() {
        let ran = held("2026-01-01T00:00:00Z");
        // What containerd says of a container that it couldn't start.
        let never = held("1970-01-01T00:00:00Z");
        let released = Pod { metadata: Default::default(), ..ran.clone() };
        let pods = [ran, never, released, pod("Failed", "OutOfcpu")];
        assert_eq!(unrecorded(&pods, None), BTreeMap::from([("worker".to_owned(), 1)]));
        let cost: Cost = from_value(json!({ "total": "1", "recorded": 1, "settled": 0, "receipts": [{
            "pod": "p", "podUid": "123e4567-e89b-12d3-a456-426614174001", "amount": "1", "batch": "b", "state": "Recorded",
        }] }))
        .unwrap();
        assert!(unrecorded(&pods, Some(&cost)).is_empty());
    }
}
