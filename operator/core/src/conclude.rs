//! What a job's status says: phase, counts, conditions, and in one sentence what it waits for.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use plasma_api::{
    ComputeJob, ComputeJobSpec, ComputeJobStatus, Gang,
    compute_job::{Attempts, Phase},
    condition::{self, Holds, Statement},
};

use crate::{
    progress::{Progress, Step},
    refusal::Refusal,
    starting::Starting,
};

/// The status after a step. Everything but `cost`, which is settlement's.
///
/// `refused` is why an attempt could not start, or the current one's objects not be made; `gang` the current attempt's.
pub fn conclude(
    job: &ComputeJob,
    step: &Step,
    refused: Option<&Refusal>,
    gang: Option<&Gang>,
    progress: Progress,
    now: &Time,
) -> ComputeJobStatus {
    let mut status = job.status.clone().unwrap_or_default();
    let generation = job.metadata.generation;
    status.cost = None;
    status.observed_generation = generation;
    status.pods = Some(job.spec.roles.iter().map(|role| role.replicas).sum());
    (status.active, status.succeeded, status.failed) =
        (Some(progress.active), Some(progress.succeeded), Some(progress.failed));
    let running = running(&job.spec, step, gang, &progress.starting);
    let before = status.attempts.unwrap_or_default();
    let outcome = match (refused, step) {
        (Some(refusal), Step::Start(..) | Step::Watch(_)) => refused_outcome(refusal, step, before),
        _ => outcome(step, before, watched(&running, gang, &progress, now)),
    };
    let statements = [Some(admitted(refused)), placed(step, refused, gang), Some(running), outcome.ended];
    for statement in statements.into_iter().flatten() {
        condition::merge(&mut status.conditions, statement, generation, now);
    }
    status.attempts = Some(outcome.attempts);
    status.phase = Some(outcome.phase);
    status.message = outcome.message;
    if outcome.attempts.started > 0 && status.start_time.is_none() {
        status.start_time = Some(now.clone());
    }
    if matches!(outcome.phase, Phase::Succeeded | Phase::Failed) && status.completion_time.is_none() {
        status.completion_time = Some(now.clone());
    }
    status
}

/// What a step means for the job as a whole.
struct Outcome {
    phase: Phase,
    message: Option<String>,
    attempts: Attempts,
    /// How the job ended, where it has.
    ended: Option<Statement>,
}

impl Outcome {
    fn under_way(phase: Phase, message: Option<String>, attempts: Attempts) -> Self {
        Self { phase, message, attempts, ended: None }
    }

    fn waiting(message: String, attempts: Attempts) -> Self {
        Self::under_way(Phase::Waiting, Some(message), attempts)
    }

    fn failed(reason: &str, message: String, attempts: Attempts) -> Self {
        let ended = Some(statement("Failed", Holds::True, reason, &message));
        Self { phase: Phase::Failed, message: Some(message), attempts, ended }
    }
}

/// Of a step that nothing stands against; `watched` is where an attempt is that goes on.
fn outcome(step: &Step, before: Attempts, watched: (Phase, Option<String>)) -> Outcome {
    match step {
        // Another attempt's gang may still be there, which says nothing of this one.
        Step::Start(_, attempts) => Outcome::waiting(waits_for(None), *attempts),
        Step::Watch(_) => Outcome::under_way(watched.0, watched.1, before),
        Step::End(attempt, attempts) => {
            let how = if attempts.disturbed { "lost pods through no fault of the job's" } else { "failed" };
            Outcome::waiting(format!("attempt {attempt} {how}; its other pods are being ended"), *attempts)
        }
        Step::Pause(attempts, why) => Outcome::waiting(why.clone(), *attempts),
        Step::Succeed => {
            let ended = Some(statement("Complete", Holds::True, "Succeeded", "every pod succeeded"));
            Outcome { phase: Phase::Succeeded, message: None, attempts: before, ended }
        }
        Step::Fail(attempts, why) => Outcome::failed("BackoffLimitExceeded", why.clone(), *attempts),
    }
}

/// Phase of an attempt that goes on, and what it waits for.
fn watched(
    running: &Statement,
    gang: Option<&Gang>,
    progress: &Progress,
    now: &Time,
) -> (Phase, Option<String>) {
    if running.holds == Holds::True {
        return (Phase::Running, None);
    }
    if is_scheduled(gang) {
        return (Phase::Waiting, Some(running.message.clone()));
    }
    let absent = progress.absent.as_ref().and_then(|absent| absent.message(now.0));
    (Phase::Waiting, Some(absent.unwrap_or_else(|| waits_for(gang))))
}

fn refused_outcome(refusal: &Refusal, step: &Step, before: Attempts) -> Outcome {
    match step {
        _ if before.started == 0 => Outcome::under_way(Phase::Refused, Some(refusal.to_string()), before),
        Step::Start(_, after) => {
            let message = format!("no further attempt: {refusal}");
            Outcome::failed("NotAdmittedAgain", message, Attempts { failed: after.failed, ..before })
        }
        _ => Outcome::waiting(refusal.to_string(), before),
    }
}

fn admitted(refused: Option<&Refusal>) -> Statement {
    match refused {
        Some(refusal) => statement("Admitted", Holds::False, refusal.reason(), &refusal.to_string()),
        None => statement(
            "Admitted",
            Holds::True,
            "Admitted",
            "the queue takes the job, and the budget covers it",
        ),
    }
}

/// Where the current attempt's pods stand with the scheduler. While it has said nothing of this attempt, what it said of
/// another holds no more.
fn placed(step: &Step, refused: Option<&Refusal>, gang: Option<&Gang>) -> Option<Statement> {
    let silent = || {
        statement("Scheduled", Holds::Unknown, "NotToldYet", "the scheduler has said nothing of this attempt")
    };
    match step {
        Step::Start(..) => refused.is_none().then(silent),
        Step::Watch(_) => Some(gang.and_then(scheduled).unwrap_or_else(silent)),
        Step::End(..) | Step::Pause(..) | Step::Succeed | Step::Fail(..) => gang.and_then(scheduled),
    }
}

fn scheduled(gang: &Gang) -> Option<Statement> {
    let copied = condition::find(&gang.status.as_ref()?.conditions, "Scheduled")?;
    let holds = match copied.status.as_str() {
        "True" => Holds::True,
        "False" => Holds::False,
        _ => Holds::Unknown,
    };
    Some(statement("Scheduled", holds, &copied.reason, &copied.message))
}

/// Whether every pod of the attempt runs, or ran already.
fn running(spec: &ComputeJobSpec, step: &Step, gang: Option<&Gang>, starting: &Starting) -> Statement {
    let no = |reason: &str, message: &str| statement("Running", Holds::False, reason, message);
    let pods: i32 = spec.roles.iter().map(|role| role.replicas).sum();
    match step {
        Step::Succeed | Step::Fail(..) => no("Ended", "the job is over"),
        Step::End(..) | Step::Pause(..) | Step::Start(..) => no("BetweenAttempts", "no attempt is under way"),
        Step::Watch(_) if !is_scheduled(gang) => no("NotScheduled", "its pods are not placed"),
        Step::Watch(_) if starting.started < pods => {
            let kept_by = starting.kept_by.as_ref().map(|why| format!("; {why}")).unwrap_or_default();
            no("PodsStarting", &format!("{} of {pods} pods have started{kept_by}", starting.started))
        }
        Step::Watch(_) => statement("Running", Holds::True, "PodsStarted", "every pod has started"),
    }
}

fn is_scheduled(gang: Option<&Gang>) -> bool {
    gang.and_then(scheduled).is_some_and(|statement| statement.holds == Holds::True)
}

fn waits_for(gang: Option<&Gang>) -> String {
    let told = gang.and_then(|gang| gang.status.as_ref()?.message.clone());
    told.unwrap_or_else(|| "waiting for the scheduler".to_owned())
}

fn statement(kind: &'static str, holds: Holds, reason: &str, message: &str) -> Statement {
    Statement { kind, holds, reason: reason.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::{fixtures::job, progress::hold};

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    fn started_job() -> ComputeJob {
        let mut job = job();
        let start = Step::Start(0, Attempts { started: 1, ..Attempts::default() });
        job.status = Some(conclude(&job, &start, None, None, Progress::default(), &at(1)));
        job
    }

    fn gang(status: &str, message: &str) -> Gang {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "compute.plasma.dev/v1alpha1", "kind": "Gang", "metadata": {}, "spec": { "minMember": 2 },
            "status": { "message": message, "conditions": [{
                "type": "Scheduled", "status": status, "reason": "R", "message": message,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }] },
        }))
        .expect("a gang")
    }

    #[test]
    fn a_refused_job_says_why_and_has_no_attempt() {
        let refusal = Refusal::QueueNotFound("q".to_owned());
        let start = Step::Start(0, Attempts { started: 1, ..Attempts::default() });
        let status = conclude(&job(), &start, Some(&refusal), None, Progress::default(), &at(1));
        assert_eq!(status.phase, Some(Phase::Refused));
        assert_eq!(status.attempts, Some(Attempts::default()));
        assert_eq!(condition::find(&status.conditions, "Admitted").unwrap().reason, "QueueNotFound");
    }

    #[test]
    fn a_waiting_job_repeats_what_the_scheduler_says() {
        let gang = gang("False", "needs 6 GPUs, 4 free");
        let status =
            conclude(&started_job(), &Step::Watch(0), None, Some(&gang), Progress::default(), &at(2));
        assert_eq!(
            (status.phase, status.message.as_deref()),
            (Some(Phase::Waiting), Some("needs 6 GPUs, 4 free"))
        );
    }

    #[test]
    fn a_placed_job_runs_once_every_pod_has_started_and_says_until_then_what_keeps_it() {
        let gang = gang("True", "2 pods are bound");
        let after = |started, kept_by: Option<&str>| {
            let starting = Starting { started, kept_by: kept_by.map(str::to_owned) };
            let progress = Progress { starting, ..Progress::default() };
            conclude(&started_job(), &Step::Watch(0), None, Some(&gang), progress, &at(2))
        };
        let pulling = after(1, Some("pod b: ErrImagePull"));
        let message = "1 of 2 pods have started; pod b: ErrImagePull";
        assert_eq!((pulling.phase, pulling.message.as_deref()), (Some(Phase::Waiting), Some(message)));
        let running = condition::find(&pulling.conditions, "Running").unwrap();
        assert_eq!((running.status.as_str(), running.reason.as_str()), ("False", "PodsStarting"));
        let all = after(2, None);
        assert_eq!((all.phase, all.message.as_deref()), (Some(Phase::Running), None));
        assert_eq!(condition::find(&all.conditions, "Running").unwrap().status, "True");
    }

    #[test]
    fn a_further_attempt_is_not_said_to_be_placed_before_the_scheduler_placed_it() {
        let placed = gang("True", "2 pods are bound");
        let mut job = started_job();
        job.status = Some(conclude(&job, &Step::Watch(0), None, Some(&placed), Progress::default(), &at(2)));
        let after = Attempts { started: 2, failed: 1, disturbed: false };
        // What is observed with the start of an attempt is the one before.
        let started =
            conclude(&job, &Step::Start(1, after), None, Some(&placed), Progress::default(), &at(3));
        let told = |status: &ComputeJobStatus| {
            condition::find(&status.conditions, "Scheduled").unwrap().status.clone()
        };
        assert_eq!(
            (told(&started).as_str(), started.message.as_deref()),
            ("Unknown", Some("waiting for the scheduler"))
        );
        job.status = Some(started);
        let watched = conclude(&job, &Step::Watch(1), None, None, Progress::default(), &at(4));
        assert_eq!(told(&watched), "Unknown", "its gang has no status yet");
    }

    #[test]
    fn a_further_attempt_waits_for_what_others_can_mend_and_fails_for_what_nobody_will() {
        let (job, before) = (started_job(), Attempts { started: 1, ..Attempts::default() });
        let start = || Step::Start(1, Attempts { started: 2, failed: 1, disturbed: false });
        let after = |refusal: &Refusal| {
            let step = hold(start(), refusal, before);
            conclude(&job, &step, Some(refusal), None, Progress::default(), &at(2))
        };
        let waits = after(&Refusal::QueueNotFound("q".to_owned()));
        assert_eq!((waits.phase, waits.attempts), (Some(Phase::Waiting), Some(before)));
        let admitted = condition::find(&waits.conditions, "Admitted").unwrap();
        assert_eq!((admitted.status.as_str(), admitted.reason.as_str()), ("False", "QueueNotFound"));
        let fails = after(&Refusal::LimitsMissing("spec.budget"));
        assert_eq!((fails.phase, fails.attempts.unwrap().failed), (Some(Phase::Failed), 1));
    }

    #[test]
    fn an_attempt_whose_objects_cannot_be_made_waits_and_says_why() {
        let rejected = Refusal::rejected("Job", "ddp-worker-0", 403, "exceeded quota").unwrap();
        let status =
            conclude(&started_job(), &Step::Watch(0), Some(&rejected), None, Progress::default(), &at(2));
        assert_eq!(status.phase, Some(Phase::Waiting));
        assert!(status.message.unwrap().contains("exceeded quota"));
    }

    #[test]
    fn pods_that_do_not_exist_are_told_of_before_a_scheduler_that_waits_for_them() {
        let job: k8s_openapi::api::batch::v1::Job = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "ddp-worker-0", "creationTimestamp": "1970-01-01T00:00:02Z" },
            "spec": { "completions": 2, "template": {} },
        }))
        .expect("a job");
        let progress =
            || Progress { absent: crate::Absent::of(std::slice::from_ref(&job)), ..Progress::default() };
        let gang = gang("False", "0 of 2 pods exist");
        let message = |second| {
            let status =
                conclude(&started_job(), &Step::Watch(0), None, Some(&gang), progress(), &at(second));
            status.message.unwrap()
        };
        assert_eq!(message(3), "0 of 2 pods exist");
        assert!(message(12).contains("see the events of Job ddp-worker-0"));
    }

    #[test]
    fn concluding_the_same_again_changes_nothing() {
        let mut job = started_job();
        let gang = gang("True", "2 pods are bound");
        job.status = Some(conclude(&job, &Step::Watch(0), None, Some(&gang), Progress::default(), &at(2)));
        let again = conclude(&job, &Step::Watch(0), None, Some(&gang), Progress::default(), &at(9));
        assert_eq!(job.status, Some(again));
    }

    #[test]
    fn the_end_is_timed_once() {
        let mut job = started_job();
        job.status = Some(conclude(&job, &Step::Succeed, None, None, Progress::default(), &at(5)));
        let again = conclude(&job, &Step::Succeed, None, None, Progress::default(), &at(9));
        assert_eq!(again.completion_time, Some(at(5)));
        assert_eq!(again.phase, Some(Phase::Succeeded));
    }
}
