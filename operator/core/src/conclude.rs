//! What a job's status says: phase, counts, conditions, and in one sentence what it waits for.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use plasma_api::{
    ComputeJob, ComputeJobSpec, ComputeJobStatus, Gang,
    compute_job::{Attempts, Phase},
    condition::{self, Holds, Statement},
};

use crate::{
    admit::Refusal,
    progress::{Progress, Step},
    starting::Starting,
};

/// The status after a step. Everything but `cost`, which is settlement's.
///
/// `refused` is why an attempt could not start, `gang` the current attempt's.
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
    let mut say = |statement| condition::merge(&mut status.conditions, statement, generation, now);
    say(admitted(refused));
    if let Some(scheduled) = gang.and_then(scheduled) {
        say(scheduled);
    }
    let running = running(&job.spec, step, gang, &progress.starting);
    let (all_run, held_up) = (running.holds == Holds::True, running.message.clone());
    say(running);
    let attempts = status.attempts.unwrap_or_default();
    let (phase, message, attempts) = match (refused, step) {
        (_, Step::Pause(_, why)) => (Phase::Waiting, Some(why.clone()), attempts),
        (Some(refusal), _) if attempts.started == 0 => (Phase::Refused, Some(refusal.to_string()), attempts),
        (Some(refusal), Step::Start(_, after)) => {
            let message = format!("no further attempt: {refusal}");
            say(ended("Failed", "NotAdmittedAgain", &message));
            (Phase::Failed, Some(message), Attempts { failed: after.failed, ..attempts })
        }
        (_, Step::Succeed) => {
            say(ended("Complete", "Succeeded", "every pod succeeded"));
            (Phase::Succeeded, None, attempts)
        }
        (_, Step::Fail(attempts, why)) => {
            say(ended("Failed", "BackoffLimitExceeded", why));
            (Phase::Failed, Some(why.clone()), *attempts)
        }
        (_, Step::Start(_, attempts)) => (Phase::Waiting, waits_for(gang), *attempts),
        (_, Step::End(attempt, attempts)) => (
            Phase::Waiting,
            Some(format!("attempt {attempt} failed; its other pods are being ended")),
            *attempts,
        ),
        (_, Step::Watch(_)) if all_run => (Phase::Running, None, attempts),
        (_, Step::Watch(_)) if is_scheduled(gang) => (Phase::Waiting, Some(held_up), attempts),
        (_, Step::Watch(_)) => (Phase::Waiting, waits_for(gang), attempts),
    };
    status.attempts = Some(attempts);
    status.phase = Some(phase);
    status.message = message;
    if attempts.started > 0 && status.start_time.is_none() {
        status.start_time = Some(now.clone());
    }
    if matches!(phase, Phase::Succeeded | Phase::Failed) && status.completion_time.is_none() {
        status.completion_time = Some(now.clone());
    }
    status
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

fn waits_for(gang: Option<&Gang>) -> Option<String> {
    let told = gang.and_then(|gang| gang.status.as_ref()?.message.clone());
    Some(told.unwrap_or_else(|| "waiting for the scheduler".to_owned()))
}

fn ended(kind: &'static str, reason: &str, message: &str) -> Statement {
    statement(kind, Holds::True, reason, message)
}

fn statement(kind: &'static str, holds: Holds, reason: &str, message: &str) -> Statement {
    Statement { kind, holds, reason: reason.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::fixtures::job;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    fn started_job() -> ComputeJob {
        let mut job = job();
        let start = Step::Start(0, Attempts { started: 1, failed: 0 });
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
        let start = Step::Start(0, Attempts { started: 1, failed: 0 });
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
