//! What a reconcile reads: the queue, and the current attempt's Jobs, Gang and pods. Read from the API server itself:
//! what a watch shows may be older than what we wrote.

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{Api, Client, api::ListParams};
use plasma_api::{
    ComputeJob, ComputeQueue, Gang,
    names::{ATTEMPT_LABEL, JOB_UID_LABEL},
};
use plasma_operator_core::{Observed, attempt_name};

use crate::controller::{Failure, Key};

/// What there is of a job.
pub(crate) struct World {
    /// Its queue, where that exists.
    pub(crate) queue: Option<ComputeQueue>,
    /// Its current attempt.
    pub(crate) attempt: Observed,
    /// The current attempt's Gang.
    pub(crate) gang: Option<Gang>,
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
    let pods = pods.list(&of_attempt).await.map_err(read("Pods"))?.items;
    let gang = gangs.get_opt(&attempt_name(&key.name, current)).await.map_err(read("Gang"))?;
    Ok(World { queue, attempt: Observed { attempts, roles: job.spec.roles.len(), jobs, pods }, gang })
}
