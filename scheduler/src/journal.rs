//! The journal in Gang.status: written before a gang's first binding, carried on after a crash, undone at its deadline.

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
use plasma_scheduler_core::{Bound, Next, Placement, next};

use crate::{
    commit::Binder,
    report::{Reporter, Written},
    state::{self, Ended, State},
};

/// How long is waited for the watch to show what was sent, before it is sent again.
pub(crate) const AGAIN: SignedDuration = SignedDuration::from_secs(1);

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

/// Writes the plan into the gang's status, and knows in the end whether it stands there: the gang as it was written, or
/// nothing where the plan isn't written and won't be any more.
pub(crate) async fn write_for_sure(
    client: &Client,
    gang: Gang,
    placements: &[Placement],
    deadline: Timestamp,
) -> Option<Gang> {
    let key = state::key(&gang);
    let gangs: Api<Gang> = Api::namespaced(client.clone(), &gang.namespace().unwrap_or_default());
    let planned = match planned(gang, placements, deadline) {
        Ok(planned) => planned,
        Err(fault) => {
            tracing::debug!("gang {key}: the plan can't be journalled: {fault}");
            return None;
        }
    };
    let written = gangs.replace_status(&planned.name_any(), &PostParams::default(), &planned).await;
    let fault = match written {
        Ok(written) => return Some(written),
        Err(fault) => fault,
    };
    tracing::debug!("gang {key}: whether the plan is journalled isn't known: {fault}");
    loop {
        match settle(&gangs, &planned).await {
            Ok(settled) => return settled,
            Err(fault) => tracing::debug!("gang {key}: {fault}"),
        }
        tokio::time::sleep(AGAIN.unsigned_abs()).await;
    }
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
    status.journal = Some(Journal { deadline: Time(deadline), placements });
    Ok(gang)
}

/// When something was last done for each plan that is journalled and not over.
#[derive(Default)]
pub(crate) struct Journals(HashMap<String, Tried>);

/// What was last done for a plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tried {
    at: Timestamp,
    /// It is being done now.
    is_under_way: bool,
    /// Everything is done but for saying so, and that failed.
    wants_its_end_written: bool,
    /// It was given up: nothing more is bound.
    is_undoing: bool,
}

impl Tried {
    /// Whether it was done just now, and the watch may not show it yet.
    fn is_recent(&self, now: Timestamp) -> bool {
        (SignedDuration::ZERO..AGAIN).contains(&now.duration_since(self.at))
    }
}

impl Journals {
    /// The bindings of a new plan are sent, or sending them has ended without an end of the plan.
    pub(crate) fn sends(&mut self, key: &str, now: Timestamp, is_under_way: bool) {
        let tried = Tried { at: now, is_under_way, wants_its_end_written: false, is_undoing: false };
        self.0.insert(key.to_owned(), tried);
    }

    /// The plan is over.
    pub(crate) fn ends(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// What was done for a plan led to this.
    pub(crate) fn has_tried(&mut self, key: &str, step: &Next, now: Timestamp) {
        let tried = Tried {
            at: now,
            is_under_way: false,
            wants_its_end_written: *step == Next::Finish,
            is_undoing: matches!(step, Next::Undo(_)),
        };
        self.0.insert(key.to_owned(), tried);
    }

    /// The plans for which something is to be done now.
    pub(crate) fn due(&mut self, state: &State, now: Timestamp) -> Vec<Plan> {
        self.0.retain(|key, tried| tried.is_under_way || tried.is_recent(now) || state.is_journalled(key));
        let mut due = Vec::new();
        for (key, gang, journal) in state.journalled() {
            let tried = self.0.get(key).copied();
            if tried.is_some_and(|tried| tried.is_under_way) {
                continue;
            }
            let is_undoing = tried.is_some_and(|tried| tried.is_undoing);
            let seconds_late = now.duration_since(journal.deadline.0).as_secs();
            let plan = Plan::new(state, (key, gang, journal), is_undoing, seconds_late);
            let waits = |tried: Tried| !plan.is_shown_whole() || tried.wants_its_end_written;
            if tried.is_some_and(|tried| tried.is_recent(now) && waits(tried)) {
                continue;
            }
            due.push(plan);
        }
        for plan in &due {
            let tried = Tried {
                at: now,
                is_under_way: true,
                wants_its_end_written: false,
                is_undoing: plan.is_undoing,
            };
            self.0.insert(plan.key.clone(), tried);
        }
        due
    }
}

/// A journalled plan, and what the watch shows of it.
pub(crate) struct Plan {
    pub(crate) key: String,
    namespace: String,
    name: String,
    pub(crate) placements: Vec<Placement>,
    /// In the placements' order: how a binding stands where the watch shows it done.
    shown: Vec<Option<Bound>>,
    /// How many other pods of the gang are bound.
    beside: usize,
    is_undoing: bool,
    seconds_late: i64,
}

/// What became of a plan.
pub(crate) struct Step {
    pub(crate) next: Next,
    pub(crate) is_over: bool,
    pub(crate) ended: Option<Ended>,
    /// The pods, by UID, that are lost to the plan and weren't deleted with the others.
    pub(crate) lost: Vec<String>,
}

impl Plan {
    fn new(
        state: &State,
        (key, gang, journal): (&str, &Gang, &Journal),
        is_undoing: bool,
        seconds_late: i64,
    ) -> Self {
        let placements: Vec<Placement> = journal.placements.iter().map(core_placement).collect();
        let members = state.cluster.bound_members(key).into_iter();
        let members: HashMap<String, (String, bool)> =
            members.map(|(uid, node, has_started)| (uid, (node, has_started))).collect();
        let shown = placements.iter().map(|place| match members.get(&place.uid) {
            Some((node, has_started)) if *node == place.node => {
                Some(if *has_started { Bound::Started } else { Bound::Yes })
            }
            // A node that vanished before the pod was bound takes it no more.
            None if !state.cluster.has_node(&place.node) => Some(Bound::Never),
            _ => None,
        });
        let shown = shown.collect();
        let planned = placements.iter().filter(|place| members.contains_key(&place.uid)).count();
        Self {
            key: key.to_owned(),
            namespace: gang.namespace().unwrap_or_default(),
            name: gang.name_any(),
            shown,
            beside: members.len() - planned,
            placements,
            is_undoing,
            seconds_late,
        }
    }

    fn is_shown_whole(&self) -> bool {
        self.shown.iter().all(Option::is_some)
    }

    /// Does what is to be done next.
    pub(crate) async fn carry_on(&self, binder: &Binder, reporter: &Reporter) -> Step {
        let outcomes = self.bind(binder).await;
        let next = next(&outcomes, self.seconds_late);
        let written = match &next {
            Next::Wait => Written::No,
            Next::Finish => {
                let bound = self.beside + self.placements.len();
                reporter.scheduled((&self.namespace, &self.name), None, bound).await
            }
            Next::Undo(places) => self.undo((binder, reporter), &outcomes, places).await,
        };
        let is_lost =
            |(place, _): &(usize, &Bound)| matches!(&next, Next::Undo(places) if !places.contains(place));
        let lost = outcomes.iter().enumerate().filter(is_lost).filter(|(_, bound)| !bound.is_done());
        let lost = lost.map(|(place, _)| self.placements[place].uid.clone()).collect();
        match written {
            Written::Yes(ended) => Step { next, is_over: true, ended, lost },
            Written::No => Step { next, is_over: false, ended: None, lost },
        }
    }

    /// Binds what the watch doesn't show as bound. A plan that was given up is only looked at.
    async fn bind(&self, binder: &Binder) -> Vec<Bound> {
        let missing = self.placements.iter().zip(&self.shown).filter(|(_, shown)| shown.is_none());
        let missing: Vec<Placement> = missing.map(|(place, _)| place.clone()).collect();
        // Where one pod is lost already, none of the others is bound either.
        let is_lost = self.shown.contains(&Some(Bound::Never));
        let outcomes = if self.is_undoing || is_lost {
            binder.look_up_all(&self.namespace, &missing).await
        } else {
            binder.bind_all(&self.namespace, &missing).await
        };
        let mut outcomes = outcomes.into_iter();
        self.shown.iter().map(|shown| shown.or_else(|| outcomes.next()).unwrap_or(Bound::NotYet)).collect()
    }

    /// Undoes the bindings at these places.
    async fn undo(
        &self,
        (binder, reporter): (&Binder, &Reporter),
        outcomes: &[Bound],
        places: &[usize],
    ) -> Written {
        tracing::warn!("gang {}: its plan can't be finished; undoing it", self.key);
        let mut is_undone = true;
        for place in places {
            is_undone &= binder.undo(&self.namespace, &self.placements[*place]).await;
        }
        if !is_undone {
            // While one of them is left, so is the journal: the next round, or a successor, goes on from it.
            return Written::No;
        }
        let stays = |(place, bound): &(usize, &Bound)| bound.is_done() && !places.contains(place);
        let bound = self.beside + outcomes.iter().enumerate().filter(stays).count();
        reporter.rolled_back((&self.namespace, &self.name), bound).await
    }
}

fn core_placement(placement: &ApiPlacement) -> Placement {
    Placement {
        pod: placement.pod.clone(),
        uid: placement.pod_uid.to_string(),
        node: placement.node.clone(),
        volumes: Vec::new(),
    }
}
