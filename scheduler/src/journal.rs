//! The journal in Gang.status: written before a gang's first binding, carried on after a crash, undone at its deadline.

mod plan;

use std::collections::HashMap;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::{SignedDuration, Timestamp},
};
use kube::{Api, Client, ResourceExt as _, api::PostParams};
use plasma_api::{
    Gang,
    gang::{GangPhase, Journal, Placement as ApiPlacement},
};
use plasma_runtime::is_conflict;
use plasma_scheduler_core::{Next, Placement};

use crate::{
    commit::{Obstacle, was_refused},
    pod_groups::group_of,
    state::{self, State},
    strays::LAST_WORD,
};

pub(crate) use plan::{Plan, Step};

/// How long is waited for the watch to show what was sent, before it is sent again.
pub(crate) const AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// How long is waited before the end of a plan is written again that the API server refused.
const SELDOM: SignedDuration = SignedDuration::from_secs(30);

/// For how long plans that are carried out wait at most to be written down as such, while many pods are on their way.
const LATER: SignedDuration = SignedDuration::from_secs(5);

/// How often is asked whether a plan was written. After that its pods count as left on their way: their room is kept until
/// nothing can arrive any more, and nobody else waits for that.
const TRIES: usize = 5;

/// Why a journal couldn't be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// A UID in a form that Kubernetes doesn't give.
    #[error("pod {0} has a UID that is no UUID")]
    Uid(String),
    /// What was begun is finished or undone first.
    #[error("an earlier plan is still being carried out")]
    Open,
}

/// Whether a plan stands in the gang's status.
pub(crate) enum Journalled {
    /// It does: the gang as it was written.
    Yes(Box<Gang>),
    /// It doesn't, and won't any more. Nothing is said where somebody was merely faster.
    No(Option<Obstacle>),
    /// Nobody knows, and nothing more is tried.
    Unknown(Obstacle),
}

/// Writes the plan into the gang's status, and finds out whether it stands there.
pub(crate) async fn write_for_sure(
    client: &Client,
    gang: Gang,
    placements: &[Placement],
    deadline: Timestamp,
) -> Journalled {
    let key = group_of(&gang);
    let gangs: Api<Gang> = Api::namespaced(client.clone(), &gang.namespace().unwrap_or_default());
    let planned = match planned(gang, placements, deadline) {
        Ok(planned) => planned,
        Err(fault) => {
            tracing::debug!("gang {key}: the plan can't be journalled: {fault}");
            let is_begun = matches!(fault, JournalError::Open);
            let obstacle = Obstacle { words: fault.to_string(), is_refusal: true };
            return Journalled::No((!is_begun).then_some(obstacle));
        }
    };
    let obstacle =
        |fault: &kube::Error| Obstacle::new(&format!("the plan of Gang {key} isn't written"), fault);
    let written = gangs.replace_status(&planned.name_any(), &PostParams::default(), &planned).await;
    let fault = match written {
        Ok(written) => return Journalled::Yes(Box::new(written)),
        // At a conflict it may be ours that stands there already.
        Err(fault) if was_refused(&fault) && !is_conflict(&fault) => {
            tracing::warn!("gang {key}: the API server refuses its plan: {fault}");
            return Journalled::No(Some(obstacle(&fault)));
        }
        Err(fault) => fault,
    };
    tracing::debug!("gang {key}: whether the plan is journalled isn't known: {fault}");
    for _ in 0..TRIES {
        match settle(&gangs, &planned).await {
            Ok(Some(gang)) => return Journalled::Yes(Box::new(gang)),
            Ok(None) => return Journalled::No((!is_conflict(&fault)).then(|| obstacle(&fault))),
            Err(fault) => tracing::debug!("gang {key}: {fault}"),
        }
        tokio::time::sleep(AGAIN.unsigned_abs()).await;
    }
    Journalled::Unknown(obstacle(&fault))
}

/// Finds out whether the plan stands in the gang's status. Where it doesn't, and might still arrive, the gang is written in
/// another version first: what is on its way then comes too late.
async fn settle(gangs: &Api<Gang>, planned: &Gang) -> Result<Option<Gang>, kube::Error> {
    let Some(mut found) =
        gangs.get_opt(&planned.name_any()).await?.filter(|found| found.uid() == planned.uid())
    else {
        return Ok(None);
    };
    if state::journal_of(&found) == state::journal_of(planned) {
        return Ok(Some(found));
    }
    if found.resource_version() == planned.resource_version() {
        let deadline = state::journal_of(planned).map(|journal| journal.deadline.0.to_string());
        let message = format!(
            "a plan is given up of which nobody knew whether it stood here (until {})",
            deadline.unwrap_or_default()
        );
        found.status.get_or_insert_default().message = Some(message);
        gangs.replace_status(&planned.name_any(), &PostParams::default(), &found).await?;
    }
    Ok(None)
}

/// The gang with the plan in its status.
fn planned(mut gang: Gang, placements: &[Placement], deadline: Timestamp) -> Result<Gang, JournalError> {
    let entry = |place: &Placement| {
        let pod_uid = place.uid.parse().map_err(|_| JournalError::Uid(place.pod.clone()))?;
        Ok(ApiPlacement { pod: place.pod.clone(), pod_uid, node: place.node.clone() })
    };
    let placements = placements.iter().map(entry).collect::<Result<Vec<_>, JournalError>>()?;
    let status = gang.status.get_or_insert_default();
    if status.journal.is_some() {
        return Err(JournalError::Open);
    }
    status.phase = Some(GangPhase::Binding);
    // It doesn't wait any more.
    (status.message, status.blockers) = (None, Vec::new());
    // What is read again must be what was written: times are written in whole seconds.
    let deadline = Timestamp::from_second(deadline.as_second()).unwrap_or(deadline);
    status.journal = Some(Journal { deadline: Time(deadline), placements });
    Ok(gang)
}

/// How far the plans are that are journalled and not over.
#[derive(Default)]
pub(crate) struct Journals(HashMap<String, Tried>);

/// How the bindings of a plan were sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// Every pod is bound.
    pub(crate) is_bound: bool,
    /// Nobody knows of every pod whether it is, or will be.
    pub(crate) may_arrive: bool,
}

/// What was last done for a plan.
#[derive(Clone, Debug)]
struct Tried {
    at: Timestamp,
    /// Something is being done now.
    is_under_way: bool,
    stage: Stage,
    /// Until when bindings that were sent may still be carried out, by the API server.
    arrive_until: Option<Timestamp>,
    /// The API server doesn't let its end be written.
    is_refused: bool,
    /// Whether pods of it were undone.
    has_undone: bool,
    /// What keeps it from being finished, or kept it.
    why: Option<String>,
}

/// How far a plan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its bindings were sent, and aren't all known to stand.
    Binding,
    /// Every pod is bound; what is left is to say so.
    Bound,
    /// To say so failed.
    Untold,
    /// It was given up: nothing more is bound.
    Undoing,
}

impl Tried {
    /// A plan that begins now.
    fn begun(now: Timestamp) -> Self {
        Self {
            at: now,
            is_under_way: true,
            stage: Stage::Binding,
            arrive_until: None,
            is_refused: false,
            has_undone: false,
            why: None,
        }
    }

    /// A plan that somebody else has begun: what he sent he may have sent just now.
    fn found(now: Timestamp) -> Self {
        Self { is_under_way: false, arrive_until: Some(now + LAST_WORD), ..Self::begun(now) }
    }

    /// Whether something that was sent may still be carried out.
    fn may_arrive(&self, now: Timestamp) -> bool {
        self.arrive_until.is_some_and(|until| now < until)
    }

    /// Whether what was done was done so short a time ago.
    fn is_within(&self, time: SignedDuration, now: Timestamp) -> bool {
        (SignedDuration::ZERO..time).contains(&now.duration_since(self.at))
    }

    /// Whether nothing is done for the plan now, whatever the watch shows of it.
    fn rests(&self, is_crowded: bool, now: Timestamp) -> bool {
        self.is_under_way
            || match self.stage {
                Stage::Bound => is_crowded && self.is_within(LATER, now),
                Stage::Untold | Stage::Undoing => {
                    self.is_within(if self.is_refused { SELDOM } else { AGAIN }, now)
                }
                Stage::Binding => false,
            }
    }
}

impl Journals {
    /// A new plan is to be written down and its bindings sent. Not while something is being done for another one of the
    /// group: what becomes of that is still to be learned.
    #[must_use]
    pub(crate) fn begins(&mut self, key: &str, now: Timestamp) -> bool {
        if self.0.get(key).is_some_and(|tried| tried.is_under_way) {
            return false;
        }
        self.0.insert(key.to_owned(), Tried::begun(now));
        true
    }

    /// They were sent.
    pub(crate) fn has_begun(&mut self, key: &str, sent: Sent, now: Timestamp) {
        let stage = if sent.is_bound { Stage::Bound } else { Stage::Binding };
        self.set(key, (stage, now), sent.may_arrive);
    }

    /// The plan is over.
    pub(crate) fn ends(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// What was done for a plan led to this.
    pub(crate) fn has_tried(&mut self, key: &str, step: &Step, now: Timestamp) {
        let stage = match step.next {
            Next::Wait => Stage::Binding,
            Next::Finish => Stage::Untold,
            Next::Keep { .. } | Next::Undo { .. } => Stage::Undoing,
        };
        let tried = self.set(key, (stage, now), step.may_arrive);
        tried.is_refused = step.is_refused;
        tried.has_undone |= step.undoes();
        tried.why = step.why.clone().or(tried.why.take());
    }

    /// Whether pods were undone for a plan.
    pub(crate) fn has_undone(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|tried| tried.has_undone)
    }

    fn set(&mut self, key: &str, (stage, at): (Stage, Timestamp), may_arrive: bool) -> &mut Tried {
        let tried = self.0.entry(key.to_owned()).or_insert_with(|| Tried::begun(at));
        (tried.at, tried.is_under_way, tried.stage) = (at, false, stage);
        if may_arrive {
            tried.arrive_until = Some(at + LAST_WORD);
        }
        tried
    }

    /// The plans for which something is to be done now. Where many pods are on their way, that isn't yet to say which
    /// others are bound.
    pub(crate) fn due(&mut self, state: &State, is_crowded: bool, now: Timestamp) -> Vec<Plan> {
        self.0.retain(|key, tried| {
            tried.is_under_way || tried.is_within(AGAIN, now) || state.is_journalled(key)
        });
        let mut due = Vec::new();
        for (key, gang, journal) in state.journalled() {
            let tried = self.0.get(key);
            if tried.is_some_and(|tried| tried.rests(is_crowded, now)) {
                continue;
            }
            let is_recent = tried.is_some_and(|tried| tried.is_within(AGAIN, now));
            let known = tried.cloned().unwrap_or_else(|| Tried::found(now));
            let plan = Plan::new(state, (key, gang, journal), &known, now);
            // The watch may not show yet what was done just now.
            if is_recent && !plan.is_shown_whole() {
                continue;
            }
            self.0.insert(key.clone(), Tried { at: now, is_under_way: true, ..known });
            due.push(plan);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_plan_begins_while_another_one_of_the_group_is_in_hand() {
        let (mut journals, now) = (Journals::default(), Timestamp::now());
        assert!(journals.begins("g", now));
        assert!(!journals.begins("g", now));
        journals.ends("g");
        assert!(journals.begins("g", now), "it is over");
    }

    #[test]
    fn what_is_bound_is_written_down_when_few_are_on_their_way_and_not_too_late() {
        let at = Timestamp::now();
        let rests = |stage: Stage, is_crowded: bool, seconds: i64| {
            let tried = Tried { is_under_way: false, stage, ..Tried::begun(at) };
            tried.rests(is_crowded, at + SignedDuration::from_secs(seconds))
        };
        assert!(!rests(Stage::Bound, false, 0), "at once");
        assert!(rests(Stage::Bound, true, 4), "others come first");
        assert!(!rests(Stage::Bound, true, 5), "but not for ever");
        for stage in [Stage::Untold, Stage::Undoing] {
            assert!(
                rests(stage, false, 0) && !rests(stage, true, 1),
                "what failed is tried again, not at once"
            );
        }
        assert!(!rests(Stage::Binding, true, 0), "what isn't bound can't wait");
    }
}
