//! The journal in Gang.status: written before a gang's first binding, carried on after a crash, undone at its deadline.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::{SignedDuration, Timestamp},
};
use kube::{Api, Client, ResourceExt as _, api::PostParams};
use plasma_api::{
    Gang,
    gang::{GangPhase, Journal, Placement as ApiPlacement},
};
use plasma_scheduler_core::Placement;

use crate::{
    commit::{Binder, Bound},
    observe::Watched,
    report::Reporter,
    world::Assumed,
};

/// Why a journal couldn't be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// The API server refused, or the gang was changed meanwhile.
    #[error(transparent)]
    Kube(#[from] Box<kube::Error>),
    /// A UID in a form that Kubernetes doesn't give.
    #[error("pod {0} has a UID that is no UUID")]
    Uid(String),
}

/// Writes the plan into the gang's status; the gang as read just now is the precondition.
pub(crate) async fn write(
    client: &Client,
    namespace: &str,
    name: &str,
    placements: &[Placement],
    deadline_seconds: u32,
) -> Result<(), JournalError> {
    let gangs: Api<Gang> = Api::namespaced(client.clone(), namespace);
    let mut gang = gangs.get(name).await.map_err(Box::new)?;
    let entry = |place: &Placement| {
        let pod_uid = place.uid.parse().map_err(|_| JournalError::Uid(place.pod.clone()))?;
        Ok(ApiPlacement { pod: place.pod.clone(), pod_uid, node: place.node.clone() })
    };
    let placements = placements.iter().map(entry).collect::<Result<Vec<_>, JournalError>>()?;
    let deadline = Time(Timestamp::now() + SignedDuration::from_secs(i64::from(deadline_seconds)));
    let status = gang.status.get_or_insert_default();
    status.phase = Some(GangPhase::Binding);
    status.journal = Some(Journal { deadline, placements });
    gangs.replace_status(name, &PostParams::default(), &gang).await.map_err(Box::new)?;
    Ok(())
}

/// What unfinished plans hold: taken, though not bound yet.
pub(crate) fn reserved(watched: &Watched) -> Assumed {
    let journals = watched.gangs.state();
    let placements = journals.iter().filter_map(|gang| gang.status.as_ref()?.journal.as_ref());
    let placements = placements.flat_map(|journal| &journal.placements);
    placements.map(|place| (place.pod_uid.to_string(), place.node.clone())).collect()
}

/// Finishes or undoes every plan that is journalled.
pub(crate) async fn carry_on(
    watched: &Watched,
    binder: &Binder,
    reporter: &mut Reporter,
    assumed: &mut Assumed,
) {
    for gang in watched.gangs.state() {
        let Some(journal) = gang.status.as_ref().and_then(|status| status.journal.as_ref()) else { continue };
        let (namespace, name) = (gang.namespace().unwrap_or_default(), gang.name_any());
        if reporter.has_finished(&namespace, &name, gang.metadata.resource_version.as_deref()) {
            continue;
        }
        let placements: Vec<Placement> = journal.placements.iter().map(core_placement).collect();
        let outcomes = binder.bind_all(&namespace, &placements).await;
        if outcomes.iter().all(|outcome| *outcome == Bound::Yes) {
            reporter.scheduled(&namespace, &name, placements.len()).await;
        } else if outcomes.contains(&Bound::Never) || journal.deadline.0 < Timestamp::now() {
            tracing::warn!("gang {namespace}/{name}: its plan can't be finished; undoing it");
            for (placement, outcome) in placements.iter().zip(&outcomes) {
                if *outcome != Bound::Never {
                    binder.undo(&namespace, placement).await;
                }
                assumed.remove(&placement.uid);
            }
            reporter.rolled_back(&namespace, &name).await;
        }
    }
}

fn core_placement(placement: &ApiPlacement) -> Placement {
    Placement { pod: placement.pod.clone(), uid: placement.pod_uid.to_string(), node: placement.node.clone() }
}
