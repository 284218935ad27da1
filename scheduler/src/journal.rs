//! The journal in Gang.status: written before a gang's first binding, carried on after a crash, undone at its deadline.

use std::collections::{HashMap, HashSet};

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
    observe::Watched,
    report::Reporter,
    world::{self, Assumed},
};

/// How long is waited for the watch to show what was sent, before it is sent again.
pub(crate) const AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// Why a journal couldn't be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// The API server refused, or the gang was changed meanwhile.
    #[error(transparent)]
    Kube(#[from] Box<kube::Error>),
    /// A UID in a form that Kubernetes doesn't give.
    #[error("pod {0} has a UID that is no UUID")]
    Uid(String),
    /// What was begun is finished or undone first.
    #[error("an earlier plan is still being carried out")]
    Open,
}

/// Writes the plan into the gang's status; the gang as read just now is the precondition.
pub(crate) async fn write(
    client: &Client,
    (namespace, name): (&str, &str),
    placements: &[Placement],
    deadline: Timestamp,
) -> Result<(), JournalError> {
    let gangs: Api<Gang> = Api::namespaced(client.clone(), namespace);
    let mut gang = gangs.get(name).await.map_err(Box::new)?;
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
    gangs.replace_status(name, &PostParams::default(), &gang).await.map_err(Box::new)?;
    Ok(())
}

/// What unfinished plans hold: taken, though not bound yet.
pub(crate) fn reserved(watched: &Watched) -> Assumed {
    let gangs = watched.gangs.state();
    let journals = gangs.iter().filter_map(|gang| journal_of(gang.0.as_ref().ok()?));
    let placements = journals.flat_map(|journal| &journal.placements);
    placements.map(|place| (place.pod_uid.to_string(), place.node.clone())).collect()
}

fn journal_of(gang: &Gang) -> Option<&Journal> {
    gang.status.as_ref()?.journal.as_ref()
}

/// The plans that are journalled and not over, and when something was last done for each.
#[derive(Default)]
pub(crate) struct Journals {
    open: HashSet<String>,
    tried: HashMap<String, Tried>,
}

/// What was last done for a plan.
#[derive(Clone, Copy)]
struct Tried {
    at: Timestamp,
    /// Everything is done but for saying so, and that failed.
    wants_its_end_written: bool,
    /// It was given up: nothing more is bound.
    is_undoing: bool,
}

impl Journals {
    /// Gangs, by key, whose plan the watch shows and that isn't over. Nothing new is planned for them.
    pub(crate) fn open(&self) -> &HashSet<String> {
        &self.open
    }

    pub(crate) fn is_any_open(&self) -> bool {
        !self.open.is_empty() || !self.tried.is_empty()
    }

    /// The bindings of a new plan were sent: the watch needs a moment to show them.
    pub(crate) fn has_sent(&mut self, key: &str, now: Timestamp) {
        let tried = Tried { at: now, wants_its_end_written: false, is_undoing: false };
        self.tried.insert(key.to_owned(), tried);
    }

    /// Finishes or undoes every plan that is journalled; says how many were undone.
    pub(crate) async fn carry_on(
        &mut self,
        watched: &Watched,
        binder: &Binder,
        reporter: &mut Reporter,
        assumed: &mut Assumed,
        now: Timestamp,
    ) -> u64 {
        let gangs = watched.gangs.state();
        let gangs = gangs.iter().filter_map(|gang| gang.0.as_ref().ok());
        let open: Vec<(&Gang, &Journal)> = gangs
            .filter(|gang| !reporter.has_ended(gang))
            .filter_map(|gang| Some((gang, journal_of(gang)?)))
            .collect();
        self.open = open.iter().map(|(gang, _)| world::key(*gang)).collect();
        let is_recent = |tried: &Tried| (SignedDuration::ZERO..AGAIN).contains(&now.duration_since(tried.at));
        self.tried.retain(|key, tried| self.open.contains(key) || is_recent(tried));
        let mut undone = 0;
        for (gang, journal) in open {
            let plan = Plan::new(watched, gang, journal);
            let tried = self.tried.get(&plan.key).copied();
            let waits = |tried: Tried| !plan.is_shown_whole() || tried.wants_its_end_written;
            if tried.is_some_and(|tried| is_recent(&tried) && waits(tried)) {
                continue;
            }
            // What the plan holds is taken until the watch shows what became of it, bound or deleted.
            assumed.extend(plan.placements.iter().map(|place| (place.uid.clone(), place.node.clone())));
            let is_undoing = tried.is_some_and(|tried| tried.is_undoing);
            let seconds_late = now.duration_since(journal.deadline.0).as_secs();
            let (step, is_over) = plan.carry_on(binder, reporter, is_undoing, seconds_late).await;
            undone += u64::from(is_over && matches!(step, Next::Undo(_)));
            if is_over {
                self.open.remove(&plan.key);
                self.tried.remove(&plan.key);
            } else {
                let (wants_its_end_written, is_undoing) =
                    (step == Next::Finish, matches!(step, Next::Undo(_)));
                self.tried.insert(plan.key, Tried { at: now, wants_its_end_written, is_undoing });
            }
        }
        undone
    }
}

/// A journalled plan, and what the watch shows of it.
struct Plan {
    key: String,
    namespace: String,
    name: String,
    placements: Vec<Placement>,
    /// In the placements' order: how a binding stands where the watch shows it done.
    shown: Vec<Option<Bound>>,
    /// How many other pods of the gang are bound.
    beside: usize,
}

impl Plan {
    fn new(watched: &Watched, gang: &Gang, journal: &Journal) -> Self {
        let placements: Vec<Placement> = journal.placements.iter().map(core_placement).collect();
        let members = world::bound_members(watched, gang);
        let shown = placements.iter().map(|place| {
            let (node, bound) = members.get(&place.uid)?;
            (*node == place.node).then_some(*bound)
        });
        let shown = shown.collect();
        let planned = placements.iter().filter(|place| members.contains_key(&place.uid)).count();
        Self {
            key: world::key(gang),
            namespace: gang.namespace().unwrap_or_default(),
            name: gang.name_any(),
            shown,
            beside: members.len() - planned,
            placements,
        }
    }

    fn is_shown_whole(&self) -> bool {
        self.shown.iter().all(Option::is_some)
    }

    /// Does what is to be done next; says what that was, and whether the plan is over.
    async fn carry_on(
        &self,
        binder: &Binder,
        reporter: &mut Reporter,
        is_undoing: bool,
        seconds_late: i64,
    ) -> (Next, bool) {
        let outcomes = self.bind(binder, is_undoing).await;
        let step = next(&outcomes, seconds_late);
        let is_over = match &step {
            Next::Wait => false,
            Next::Finish => self.finish(reporter).await,
            Next::Undo(places) => self.undo(binder, reporter, &outcomes, places).await,
        };
        (step, is_over)
    }

    /// Binds what the watch doesn't show as bound. A plan that was given up is only looked at.
    async fn bind(&self, binder: &Binder, is_undoing: bool) -> Vec<Bound> {
        let missing = self.placements.iter().zip(&self.shown).filter(|(_, shown)| shown.is_none());
        let missing: Vec<Placement> = missing.map(|(place, _)| place.clone()).collect();
        let outcomes = if is_undoing {
            binder.look_up_all(&self.namespace, &missing).await
        } else {
            binder.bind_all(&self.namespace, &missing).await
        };
        let mut outcomes = outcomes.into_iter();
        self.shown.iter().map(|shown| shown.or_else(|| outcomes.next()).unwrap_or(Bound::NotYet)).collect()
    }

    async fn finish(&self, reporter: &mut Reporter) -> bool {
        reporter.scheduled(&self.namespace, &self.name, self.beside + self.placements.len()).await
    }

    /// Undoes the bindings at these places; whether that is over.
    async fn undo(
        &self,
        binder: &Binder,
        reporter: &mut Reporter,
        outcomes: &[Bound],
        places: &[usize],
    ) -> bool {
        tracing::warn!("gang {}: its plan can't be finished; undoing it", self.key);
        let mut is_undone = true;
        for place in places {
            is_undone &= binder.undo(&self.namespace, &self.placements[*place]).await;
        }
        let stays = |(place, bound): &(usize, &Bound)| bound.is_done() && !places.contains(place);
        let bound = self.beside + outcomes.iter().enumerate().filter(stays).count();
        // While one of them is left, so is the journal: the next round, or a successor, goes on from it.
        is_undone && reporter.rolled_back(&self.namespace, &self.name, bound).await
    }
}

fn core_placement(placement: &ApiPlacement) -> Placement {
    Placement { pod: placement.pod.clone(), uid: placement.pod_uid.to_string(), node: placement.node.clone() }
}
