//! Pods that a Job should have made by now. What keeps it from making them, only its events say: a quota, a service account
//! or a priority class that isn't there, a rule of pod security.

use k8s_openapi::{api::batch::v1::Job, jiff::Timestamp};

use crate::progress::{has, is_suspended};

/// How long a Job may take before its missing pods are worth a word, in seconds.
const PATIENCE: i64 = 10;

/// A Job that hasn't made all of its pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    job: String,
    made: i32,
    wanted: i32,
    since: Option<Timestamp>,
}

impl Absent {
    /// The first such Job of an attempt.
    pub fn of(jobs: &[Job]) -> Option<Self> {
        let is_over = |job: &Job| has(job, "Complete") || has(job, "Failed") || is_suspended(job);
        jobs.iter().filter(|job| !is_over(job)).map(Self::from_job).find(|absent| absent.made < absent.wanted)
    }

    fn from_job(job: &Job) -> Self {
        let status = job.status.clone().unwrap_or_default();
        let made = [status.active, status.succeeded, status.failed, status.terminating];
        Self {
            job: job.metadata.name.clone().unwrap_or_default(),
            made: made.into_iter().flatten().sum(),
            wanted: job.spec.as_ref().and_then(|spec| spec.completions).unwrap_or(0),
            since: job.metadata.creation_timestamp.as_ref().map(|time| time.0),
        }
    }

    /// What to say of it, once it took too long.
    pub fn message(&self, now: Timestamp) -> Option<String> {
        let age = now.as_second().saturating_sub(self.since?.as_second());
        let Self { job, made, wanted, .. } = self;
        let there = match made {
            0 => format!("no pod of Job {job} exists yet"),
            _ => format!("{made} of {wanted} pods of Job {job} exist"),
        };
        (age >= PATIENCE).then(|| format!("{there}: see the events of Job {job}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn told(status: Value, second: i64) -> Option<String> {
        let created = "1970-01-01T00:01:40Z"; // second 100
        let job: Job =
            from_value(json!({ "metadata": { "name": "j-worker-0", "creationTimestamp": created },
            "spec": { "completions": 3, "template": {} }, "status": status }))
            .expect("a job");
        Absent::of(&[job])?.message(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn a_job_that_makes_no_pods_is_named_after_a_while() {
        assert_eq!(told(json!({}), 109), None, "it has only just begun");
        let none = "no pod of Job j-worker-0 exists yet: see the events of Job j-worker-0";
        assert_eq!(told(json!({}), 110).as_deref(), Some(none));
        let some = "2 of 3 pods of Job j-worker-0 exist: see the events of Job j-worker-0";
        assert_eq!(told(json!({ "active": 1, "terminating": 1 }), 110).as_deref(), Some(some));
        assert_eq!(told(json!({ "active": 1, "succeeded": 1, "failed": 1 }), 110), None);
        let failed = json!({ "conditions": [{ "type": "Failed", "status": "True" }] });
        assert_eq!(told(failed, 110), None, "it makes no more");
    }
}
