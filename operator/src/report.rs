//! Telling: the job's status where it changed, and an event when its phase did.

use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use plasma_api::{ComputeJob, ComputeJobStatus, compute_job::Phase, names::field_manager::OPERATOR};
use plasma_operator_core::Key;
use serde_json::json;

use crate::controller::Failure;

/// How long an event's note may be, in bytes: the API server takes 1024.
const MOST_NOTE: usize = 1000;

/// Writes the status under our own field manager; `cost` is settlement's and isn't touched.
pub(crate) async fn report(
    client: &Client,
    job: &ComputeJob,
    key: &Key,
    status: ComputeJobStatus,
) -> Result<(), Failure> {
    let before = job.status.clone().map(|before| ComputeJobStatus { cost: None, ..before });
    if before.as_ref() == Some(&status) {
        return Ok(());
    }
    let jobs: Api<ComputeJob> = Api::namespaced(client.clone(), &key.namespace);
    // Both are preconditions: nothing is said of a job that was made anew, or on grounds that no longer hold.
    let metadata = ObjectMeta {
        name: Some(key.name.clone()),
        uid: Some(key.uid.clone()),
        resource_version: job.metadata.resource_version.clone(),
        ..ObjectMeta::default()
    };
    let object = json!({
        "apiVersion": ComputeJob::api_version(&()), "kind": ComputeJob::kind(&()), "metadata": metadata, "status": status,
    });
    let written =
        jobs.patch_status(&key.name, &PatchParams::apply(OPERATOR).force(), &Patch::Apply(&object)).await;
    written.map_err(|fault| {
        Failure::Write("status of ComputeJob".to_owned(), key.name.clone(), Box::new(fault))
    })?;
    if before.and_then(|before| before.phase) != status.phase {
        announce(client, job, &status).await;
    }
    Ok(())
}

/// Tells the owner of an object that isn't understood; its status is left alone, since what it says may still hold.
pub(crate) async fn reproach(client: &Client, object: &impl Resource<DynamicType = ()>, fault: &str) {
    let note = format!(
        "the job isn't understood, and nothing of it starts: {fault}. Make a new ComputeJob without it"
    );
    publish(client, &object.object_ref(&()), (EventType::Warning, "Malformed"), Some(note)).await;
}

async fn announce(client: &Client, job: &ComputeJob, status: &ComputeJobStatus) {
    let Some(phase) = status.phase else { return };
    let kind = match phase {
        Phase::Refused => (EventType::Warning, "Refused"),
        Phase::Waiting => (EventType::Normal, "Waiting"),
        Phase::Running => (EventType::Normal, "Running"),
        Phase::Succeeded => (EventType::Normal, "Completed"),
        Phase::Failed => (EventType::Warning, "Failed"),
    };
    publish(client, &job.object_ref(&()), kind, status.message.clone()).await;
}

async fn publish(
    client: &Client,
    about: &ObjectReference,
    (type_, reason): (EventType, &str),
    note: Option<String>,
) {
    let recorder =
        Recorder::new(client.clone(), Reporter { controller: OPERATOR.to_owned(), instance: None });
    let note = note.map(|note| note[..note.floor_char_boundary(MOST_NOTE)].to_owned());
    let event =
        Event { type_, reason: reason.to_owned(), note, action: "Reconciling".to_owned(), secondary: None };
    if let Err(fault) = recorder.publish(&event, about).await {
        tracing::warn!("an event can't be written: {fault}");
    }
}
