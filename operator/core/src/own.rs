//! Whose an object is: labels can be copied, a controlling owner says more, and names are given only once.

use k8s_openapi::{api::batch::v1::Job, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use plasma_api::names::GROUP;

use crate::desire::role_job_name;

/// What names a ComputeJob for certain: its name may be used again, its UID never is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// What an object that has the name of a child is to the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The job's own.
    Ours,
    /// It goes soon: it is being deleted, or was a job's that had this name before and is gone.
    Leaving,
    /// Somebody else's.
    Foreign,
}

/// Whose the object is.
pub fn claim(object: &ObjectMeta, job: &Key) -> Claim {
    let was_of_the_name = object.owner_references.iter().flatten().any(|owner| {
        let is_job = owner.kind == "ComputeJob" && owner.api_version.starts_with(&format!("{GROUP}/"));
        is_job && owner.name == job.name && owner.uid != job.uid
    });
    if object.deletion_timestamp.is_some() || was_of_the_name {
        return Claim::Leaving;
    }
    if is_controlled(object, &job.uid) { Claim::Ours } else { Claim::Foreign }
}

/// Those of the Jobs that are the attempt's own. A copy under another name carries the same labels.
pub fn own_jobs(jobs: Vec<Job>, job: &Key, roles: &[&str], attempt: i32) -> Vec<Job> {
    let names: Vec<String> = roles.iter().map(|role| role_job_name(&job.name, role, attempt)).collect();
    let is_own = |made: &Job| {
        let is_named = made.metadata.name.as_ref().is_some_and(|name| names.contains(name));
        is_named && is_controlled(&made.metadata, &job.uid)
    };
    jobs.into_iter().filter(is_own).collect()
}

fn is_controlled(object: &ObjectMeta, uid: &str) -> bool {
    let mut owners = object.owner_references.iter().flatten();
    owners.any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

    use super::*;
    use crate::{desire::desire, fixtures};

    fn key() -> Key {
        fixtures::parent(true).key
    }

    fn child() -> Job {
        desire(&fixtures::parent(true), &fixtures::job().spec, 0).jobs.remove(0)
    }

    #[test]
    fn what_goes_soon_is_waited_for_and_what_is_somebody_elses_is_not() {
        assert_eq!(claim(&child().metadata, &key()), Claim::Ours);
        let anew = Key { uid: "another".to_owned(), ..key() };
        assert_eq!(claim(&child().metadata, &anew), Claim::Leaving, "of the job that had this name before");
        let other = Key { name: "other".to_owned(), ..anew };
        assert_eq!(claim(&child().metadata, &other), Claim::Foreign);
        assert_eq!(claim(&ObjectMeta::default(), &key()), Claim::Foreign);
        let gone = Some(Time(Timestamp::from_second(1).unwrap()));
        let going = ObjectMeta { deletion_timestamp: gone, ..ObjectMeta::default() };
        assert_eq!(claim(&going, &key()), Claim::Leaving);
    }

    #[test]
    fn a_copy_of_a_job_is_not_the_attempts() {
        let mut renamed = child();
        renamed.metadata.name = Some("copy".to_owned());
        let mut taken = child();
        taken.metadata.owner_references = None;
        let own = own_jobs(vec![child(), renamed, taken], &key(), &["worker"], 0);
        assert_eq!(own, [child()]);
        assert!(own_jobs(vec![child()], &key(), &["worker"], 1).is_empty(), "of another attempt");
    }
}
