//! The reconcile of one ComputeJob: observe, decide, apply, report. And what wakes it.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{Pod, Service},
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::ListParams,
    core::{DeserializeGuard, error_boundary::InvalidObject},
    runtime::{Controller, controller::Action, reflector::ObjectRef, watcher::Config},
};
use plasma_api::{ComputeJob, ComputeQueue, Gang, compute_job::Phase, names::JOB_NAME_LABEL};
use plasma_operator_core::{
    Children, Key, Parent, Progress, Refusal, Step, Ungrouped, admit, conclude, desire, hold, next_step,
    tell_group,
};
use plasma_runtime::{Gate, Runtime};

use crate::{
    apply::{Rehearsal, apply, rehearse},
    args::Args,
    metrics::{Jobs, Metrics},
    observe::{World, current, observe},
    report::{report, reproach},
};

/// A job that waits is looked at this often though nothing seemed to change.
const LOOK: Duration = Duration::from_secs(60);
/// A job between two attempts, or whose pods are being made, is looked at this often.
const PAUSED: Duration = Duration::from_secs(5);
/// How long to wait after a failure that may pass.
const RETRY: Duration = Duration::from_secs(3);

/// What went wrong in a reconcile, with the object that it went wrong with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Something couldn't be read.
    #[error("reading {0}: {1}")]
    Read(&'static str, Box<kube::Error>),
    /// Something couldn't be written.
    #[error("writing {0} {1}: {2}")]
    Write(String, String, Box<kube::Error>),
    /// An object can't be made, though it could a moment ago.
    #[error("{0}")]
    Refused(Refusal),
    /// The stored object isn't a ComputeJob that we understand.
    #[error("the object is not understood: {0}")]
    Malformed(Box<InvalidObject>),
    /// The API server gave an object without a name, a namespace or a UID.
    #[error("the object has no {0}")]
    Nameless(&'static str),
}

impl Failure {
    fn class(&self) -> &'static str {
        match self {
            Self::Read(..) => "read",
            Self::Write(_, _, fault) if plasma_runtime::is_conflict(fault) => "conflict",
            Self::Write(..) => "write",
            Self::Refused(_) => "refused",
            Self::Malformed(_) => "malformed",
            Self::Nameless(_) => "nameless",
        }
    }
}

fn key_of(job: &ComputeJob) -> Result<Key, Failure> {
    Ok(Key {
        namespace: job.namespace().ok_or(Failure::Nameless("namespace"))?,
        name: job.metadata.name.clone().ok_or(Failure::Nameless("name"))?,
        uid: job.uid().ok_or(Failure::Nameless("UID"))?,
    })
}

struct Context {
    client: Client,
    metrics: Metrics,
    args: Args,
}

/// One object that isn't understood must not blind us to the others.
type Guarded = DeserializeGuard<ComputeJob>;

/// Reconciles until the program is asked to end.
pub(crate) async fn run(client: Client, runtime: &Runtime, args: Args) {
    let (metrics, ready) = (Metrics::register(&runtime.registry), runtime.health.gate("computejobs"));
    let context = Arc::new(Context { client: client.clone(), metrics, args });
    let jobs: Api<Guarded> = Api::all(client.clone());
    let controller = Controller::new(jobs, Config::default());
    let known = controller.store();
    Jobs::register(&runtime.registry, controller.store());
    let waiting_in = move |queue: DeserializeGuard<ComputeQueue>| {
        let serves =
            move |job: &Arc<Guarded>| job.0.as_ref().is_ok_and(|job| job.spec.queue == queue.name_any());
        known.state().into_iter().filter(serves).map(|job| ObjectRef::from_obj(&*job)).collect::<Vec<_>>()
    };
    tokio::spawn(open_once_answered(Api::all(client.clone()), ready));
    controller
        .owns(Api::<Job>::all(client.clone()), Config::default())
        .owns(Api::<DeserializeGuard<Gang>>::all(client.clone()), Config::default())
        .owns(Api::<Service>::all(client.clone()), Config::default())
        .watches(Api::<DeserializeGuard<ComputeQueue>>::all(client.clone()), Config::default(), waiting_in)
        .watches(Api::<Pod>::all(client), Config::default().labels(JOB_NAME_LABEL), job_of)
        .graceful_shutdown_on(runtime.shutdown.clone().cancelled_owned())
        .run(reconcile, retry, context)
        .for_each(async |outcome| {
            if let Err(fault) = outcome {
                tracing::debug!("{fault}");
            }
        })
        .await;
}

/// Ready is who was given ComputeJobs once: the API server answers, their definition is there, and we may read them.
async fn open_once_answered(jobs: Api<Guarded>, ready: Gate) {
    while let Err(fault) = jobs.list_metadata(&ListParams::default().limit(1)).await {
        tracing::warn!("ComputeJobs can't be listed: {fault}; is the chart plasma-crds installed?");
        tokio::time::sleep(RETRY).await;
    }
    ready.set(true);
}

fn job_of(pod: Pod) -> Option<ObjectRef<Guarded>> {
    let name = pod.labels().get(JOB_NAME_LABEL)?;
    Some(ObjectRef::new(name).within(&pod.namespace()?))
}

/// Brings one job a step closer to what its owner asked for.
async fn reconcile(seen: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Failure> {
    context.metrics.reconciles.inc();
    let client = &context.client;
    let key = key_of(understood(client, &seen).await?)?; // client
    let Some(job) = current(client, &key).await? else { return Ok(Action::await_change()) }; // client
    if job.metadata.deletion_timestamp.is_some() || is_over(&job) {
        return Ok(Action::await_change());
    }
    let world = observe(client, &job, &key).await?; // client
    let now = Timestamp::now();
    let step = next_step(&world.attempt, job.spec.backoff_limit, now); // pure
    let asked = ask(&job, &key, (&world, context.args.settlement), &step); // pure
    let children = if asked.is_none() {
        missing(&job, (&key, &context.args.scheduler_name), &world, &step)
    } else {
        None
    }; // pure
    let ((children, refused), ungrouped) = match children {
        Some(children) => try_out(&context, &key, children).await?, // client
        None => ((None, asked), None),
    };
    let step = match &refused {
        Some(refusal) => hold(step, refusal, world.attempt.attempts), // pure
        None => step,
    };
    let progress = Progress::of(&world.attempt);
    let look = look_again(&step, refused.as_ref(), &progress);
    let now = Time(now);
    let mut status = conclude(&job, &step, refused.as_ref(), world.gang.as_ref(), progress, &now); // pure
    if let Some(children) = &children {
        tell_group(&mut status, (children.group.as_ref(), ungrouped.as_ref()), &now); // pure
    }
    // Before anything is made or ended: an attempt of which the status doesn't know would be nobody's, and on what grounds
    // an attempt was ended can't be seen any more once its pods are gone.
    report(client, &job, &key, status).await?; // client
    match (step, children) {
        (Step::End(attempt, _), _) => end(client, &key, &world.attempt.jobs, attempt).await?, // client
        (_, Some(children)) => apply(client, &key, &children).await?,                         // client
        _ => {}
    }
    Ok(Action::requeue(look))
}

/// The job, where it can be read at all; where it can't, its owner is told.
async fn understood<'a>(client: &Client, seen: &'a Guarded) -> Result<&'a ComputeJob, Failure> {
    match &seen.0 {
        Ok(job) => Ok(job),
        Err(fault) => {
            reproach(client, seen, &fault.error).await;
            Err(Failure::Malformed(Box::new(fault.clone())))
        }
    }
}

/// Why the step may not be taken: a start needs to be admitted, and what is missing of an attempt, its queue.
fn ask(job: &ComputeJob, key: &Key, (world, settles): (&World, bool), step: &Step) -> Option<Refusal> {
    match step {
        Step::Start(..) => {
            admit(&job.spec, &key.namespace, world.queue.as_ref(), &world.spent, settles).err()
        }
        // Without its queue nobody knows who pays for them.
        Step::Watch(_) if world.lacks_jobs() && world.queue.is_none() => {
            Some(Refusal::QueueNotFound(job.spec.queue.clone()))
        }
        _ => None,
    }
}

/// What is to be made: all of an attempt that starts, and what is missing of one that goes on. Either it was never made,
/// or it was deleted by hand: a job that isn't over has its children.
fn missing(job: &ComputeJob, (key, scheduler): (&Key, &str), world: &World, step: &Step) -> Option<Children> {
    let attempt = match step {
        Step::Start(attempt, _) => attempt,
        Step::Watch(attempt) if world.lacks_jobs() => attempt,
        _ => return None,
    };
    let billed = world.queue.as_ref().is_some_and(|queue| queue.spec.billing.is_some());
    let parent = Parent { key: key.clone(), billed, scheduler: scheduler.to_owned() };
    Some(desire(&parent, &job.spec, *attempt))
}

/// What can be made, or why nothing can.
type Tried = (Option<Children>, Option<Refusal>);

/// The children as the API server would take them, or nothing, and why it is refused; and why they are in no PodGroup, though
/// such are served.
async fn try_out(
    context: &Context,
    key: &Key,
    children: Children,
) -> Result<(Tried, Option<Ungrouped>), Failure> {
    let Rehearsal { children, ungrouped } = rehearse(&context.client, key, children).await?;
    if let Some(why) = &ungrouped {
        tracing::warn!("ComputeJob {}/{}: its gang has no PodGroup: {why}", key.namespace, key.name);
    }
    let tried = match children {
        Ok(children) => {
            context.metrics.pod_groups.set(children.group.is_some().into());
            (Some(children), None)
        }
        Err(refusal) => (None, Some(refusal)),
    };
    Ok((tried, ungrouped))
}

/// When to look again, though nothing seems to change.
fn look_again(step: &Step, refused: Option<&Refusal>, progress: &Progress) -> Duration {
    match (refused, step) {
        (Some(refusal), _) if !refusal.passes() => LOOK,
        (_, Step::Pause(..) | Step::Start(..)) => PAUSED,
        // Nobody wakes us for pods that aren't made.
        (_, Step::Watch(_)) if progress.absent.is_some() => PAUSED,
        _ => LOOK,
    }
}

/// Suspends the Jobs of a failed attempt that still have pods.
async fn end(client: &Client, key: &Key, jobs: &[Job], attempt: i32) -> Result<(), Failure> {
    use kube::api::{Patch, PatchParams};
    let api: Api<Job> = Api::namespaced(client.clone(), &key.namespace);
    let is_running = |job: &&Job| job.spec.as_ref().is_some_and(|spec| spec.suspend != Some(true));
    for job in jobs.iter().filter(is_running) {
        let name = job.name_any();
        tracing::info!("{}/{}: ending the pods of attempt {attempt}: Job {name}", key.namespace, key.name);
        let suspend = serde_json::json!({ "metadata": { "uid": job.uid() }, "spec": { "suspend": true } });
        let patched = api.patch(&name, &PatchParams::default(), &Patch::Merge(&suspend)).await;
        patched.map_err(|fault| Failure::Write("Job".to_owned(), name, Box::new(fault)))?;
    }
    Ok(())
}

fn is_over(job: &ComputeJob) -> bool {
    let phase = job.status.as_ref().and_then(|status| status.phase);
    matches!(phase, Some(Phase::Succeeded | Phase::Failed))
}

fn retry(job: Arc<Guarded>, failure: &Failure, context: Arc<Context>) -> Action {
    context.metrics.failures.with_label_values(&[failure.class()]).inc();
    tracing::warn!("ComputeJob {}/{}: {failure}", job.namespace().unwrap_or_default(), job.name_any());
    match failure {
        // Only its owner can mend these; a change wakes us.
        Failure::Malformed(_) | Failure::Nameless(_) => Action::await_change(),
        Failure::Read(..) | Failure::Write(..) | Failure::Refused(_) => Action::requeue(RETRY),
    }
}

#[cfg(test)]
mod tests;
