//! What a reconcile reads: the queue, and the current attempt's Jobs, Gang and pods. Read from the API server itself:
//! what a watch shows may be older than what we wrote.

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use plasma_api::{
    ComputeJob, ComputeQueue, Gang,
    names::{ATTEMPT_LABEL, JOB_UID_LABEL},
};
use plasma_operator_core::{Claim, Key, Observed, Spent, attempt_name, claim, own_jobs, unrecorded};
use plasma_types::Xpl;

use crate::controller::Failure;

/// What there is of a job.
pub(crate) struct World {
    /// Its queue, where that exists.
    pub(crate) queue: Option<ComputeQueue>,
    /// Its current attempt.
    pub(crate) attempt: Observed,
    /// The current attempt's Gang.
    pub(crate) gang: Option<Gang>,
    /// What the pods of earlier attempts cost.
    pub(crate) spent: Spent,
}

impl World {
    /// Whether Jobs of the current attempt aren't there.
    pub(crate) fn lacks_jobs(&self) -> bool {
        self.attempt.jobs.len() < self.attempt.roles
    }
}

/// Reads it all.
pub(crate) async fn observe(client: &Client, job: &ComputeJob, key: &Key) -> Result<World, Failure> {
    let attempts = job.status.as_ref().and_then(|status| status.attempts).unwrap_or_default();
    let current = attempts.started.max(1) - 1;
    let selector = format!("{JOB_UID_LABEL}={},{ATTEMPT_LABEL}={current}", key.uid);
    let of_attempt = ListParams::default().labels(&selector);
    let read = |what: &'static str| move |fault| Failure::Read(what, Box::new(fault));
    let jobs: Api<Job> = Api::namespaced(client.clone(), &key.namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), &key.namespace);
    let gangs: Api<Gang> = Api::namespaced(client.clone(), &key.namespace);
    let queues: Api<ComputeQueue> = Api::all(client.clone());
    let queue = queues.get_opt(&job.spec.queue).await.map_err(read("ComputeQueue"))?;
    let jobs = jobs.list(&of_attempt).await.map_err(read("Jobs"))?.items;
    let roles: Vec<&str> = job.spec.roles.iter().map(|role| role.name.as_str()).collect();
    let jobs = own_jobs(jobs, key, &roles, current);
    let of_job = ListParams::default().labels(&format!("{JOB_UID_LABEL}={}", key.uid));
    let mut pods = pods.list(&of_job).await.map_err(read("Pods"))?.items;
    let attempt_of =
        |pod: &Pod| pod.labels().get(ATTEMPT_LABEL).and_then(|number| number.parse::<i32>().ok());
    let is_earlier = |pod: &&Pod| attempt_of(pod).is_none_or(|number| number < attempts.started);
    let earlier: Vec<Pod> = pods.iter().filter(is_earlier).cloned().collect();
    let cost = job.status.as_ref().and_then(|status| status.cost.as_ref());
    let spent =
        Spent { recorded: cost.map_or(Xpl::ZERO, |cost| cost.total), unrecorded: unrecorded(&earlier, cost) };
    pods.retain(|pod| attempt_of(pod) == Some(current));
    let gang = gangs.get_opt(&attempt_name(&key.name, current)).await.map_err(read("Gang"))?;
    let gang = gang.filter(|gang| claim(&gang.metadata, key) == Claim::Ours);
    Ok(World { queue, attempt: Observed { attempts, roles: roles.len(), jobs, pods }, gang, spent })
}

/// The job as it is now, not as a watch last showed it; nothing where it is gone, or was made anew.
pub(crate) async fn current(client: &Client, key: &Key) -> Result<Option<ComputeJob>, Failure> {
    let jobs: Api<ComputeJob> = Api::namespaced(client.clone(), &key.namespace);
    let job = jobs.get_opt(&key.name).await.map_err(|fault| Failure::Read("ComputeJob", Box::new(fault)))?;
    Ok(job.filter(|job| job.metadata.uid.as_ref() == Some(&key.uid)))
}
