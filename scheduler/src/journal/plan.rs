//! A journalled plan: what the watch shows of its pods, and what is done for it next.

use std::collections::HashMap;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use plasma_api::{
    Gang,
    gang::{Journal, Placement as ApiPlacement},
};
use plasma_scheduler_core::{Bound, Next, Placement, next};

use super::Stage;
use crate::{
    commit::Binder,
    report::{Reporter, Written},
    state::State,
};

/// A journalled plan, and what the watch shows of it.
pub(crate) struct Plan {
    pub(crate) key: String,
    namespace: String,
    name: String,
    /// The gang as it was seen last, unless its end couldn't be written into that.
    gang: Option<Gang>,
    placements: Vec<Placement>,
    /// In the placements' order: what the watch shows of a pod.
    shown: Vec<Shown>,
    /// How many other pods of the gang are bound.
    beside: usize,
    is_undoing: bool,
    seconds_late: i64,
}

/// What the watch shows of a journalled pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// How its binding stands.
    Is(Bound),
    /// That it has no node.
    Waits,
    /// Nothing (yet): whose it is isn't known, so it is neither bound nor deleted.
    Nothing,
    /// That it isn't the gang's, whatever the journal says.
    Stranger,
}

/// What became of a plan.
pub(crate) struct Step {
    pub(crate) next: Next,
    pub(crate) is_over: bool,
    /// The gang as it is now, where that is known.
    pub(crate) gang: Option<Box<Gang>>,
    /// The pods, by UID, that are lost to the plan and weren't deleted with the others.
    pub(crate) lost: Vec<String>,
}

impl Step {
    /// Nobody knows what became of it.
    pub(crate) fn unknown() -> Self {
        Self { next: Next::Wait, is_over: false, gang: None, lost: Vec::new() }
    }
}

impl Plan {
    pub(super) fn new(
        state: &State,
        (key, gang, journal): (&str, &Gang, &Journal),
        stage: Option<Stage>,
        now: Timestamp,
    ) -> Self {
        let placements: Vec<Placement> = journal.placements.iter().map(core_placement).collect();
        let members = state.cluster.bound_members(key).into_iter();
        let members: HashMap<String, (String, bool)> =
            members.map(|(uid, node, has_started)| (uid, (node, has_started))).collect();
        let is_known_bound = matches!(stage, Some(Stage::Bound | Stage::Untold));
        let shown =
            |place: &Placement| match (members.get(&place.uid), state.cluster.belongs(key, &place.uid)) {
                _ if is_known_bound => Shown::Is(Bound::Yes),
                (_, Some(false)) => Shown::Stranger,
                (Some((node, has_started)), _) if *node == place.node => {
                    Shown::Is(if *has_started { Bound::Started } else { Bound::Yes })
                }
                // A node that vanished before the pod was bound takes it no more.
                (None, _) if !state.cluster.has_node(&place.node) => Shown::Is(Bound::Never),
                (_, None) => Shown::Nothing,
                _ => Shown::Waits,
            };
        let shown = placements.iter().map(shown).collect();
        let planned = placements.iter().filter(|place| members.contains_key(&place.uid)).count();
        Self {
            key: key.to_owned(),
            namespace: gang.namespace().unwrap_or_default(),
            name: gang.name_any(),
            gang: (stage == Some(Stage::Bound)).then(|| gang.clone()),
            shown,
            beside: members.len().saturating_sub(planned),
            placements,
            is_undoing: stage == Some(Stage::Undoing),
            seconds_late: now.duration_since(journal.deadline.0).as_secs(),
        }
    }

    pub(super) fn is_shown_whole(&self) -> bool {
        self.shown.iter().all(|shown| matches!(shown, Shown::Is(_) | Shown::Stranger))
    }

    /// The pods that the journal names, and that aren't the gang's.
    pub(crate) fn strangers(&self) -> Vec<&str> {
        let all = self.placements.iter().zip(&self.shown);
        all.filter(|(_, shown)| **shown == Shown::Stranger).map(|(place, _)| &*place.pod).collect()
    }

    /// The placements of the gang's own pods, as far as the watch shows whose they are.
    pub(crate) fn ours(&self) -> Vec<Placement> {
        let all = self.placements.iter().zip(&self.shown);
        let ours = all.filter(|(_, shown)| !matches!(shown, Shown::Nothing | Shown::Stranger));
        ours.map(|(place, _)| place.clone()).collect()
    }

    /// The placements of the pods of which the watch shows this.
    fn shown_as(&self, what: Shown) -> Vec<Placement> {
        let all = self.placements.iter().zip(&self.shown);
        all.filter(|(_, shown)| **shown == what).map(|(place, _)| place.clone()).collect()
    }

    /// Does what is to be done next.
    pub(crate) async fn carry_on(&self, binder: &Binder, reporter: &Reporter) -> Step {
        let outcomes = self.bind(binder).await;
        let next = next(&outcomes, self.seconds_late);
        let written = match &next {
            Next::Wait => Written::No,
            Next::Finish => {
                let bound = self.beside + self.placements.len();
                reporter.scheduled((&self.namespace, &self.name), self.gang.clone(), bound).await
            }
            Next::Undo(places) => self.undo((binder, reporter), &outcomes, places).await,
        };
        let is_lost = |(place, _): &(usize, &Bound)| {
            matches!(&next, Next::Undo(places) if !places.contains(place))
                && self.shown[*place] != Shown::Stranger
        };
        let lost = outcomes.iter().enumerate().filter(is_lost).filter(|(_, bound)| !bound.is_done());
        let lost = lost.map(|(place, _)| self.placements[place].uid.clone()).collect();
        match written {
            Written::Yes(gang) => Step { next, is_over: true, gang, lost },
            Written::No => Step { next, is_over: false, gang: None, lost },
        }
    }

    /// Binds what the watch shows without a node. A plan that was given up is only looked at.
    async fn bind(&self, binder: &Binder) -> Vec<Bound> {
        let (waiting, unseen) = (self.shown_as(Shown::Waits), self.shown_as(Shown::Nothing));
        // Where one pod is lost already, none of the others is bound either.
        let is_lost =
            self.shown.iter().any(|shown| matches!(shown, Shown::Is(Bound::Never) | Shown::Stranger));
        let waiting = if self.is_undoing || is_lost {
            binder.look_up_all(&self.namespace, &waiting).await
        } else {
            binder.bind_all(&self.namespace, &waiting).await
        };
        let unseen = binder.look_up_all(&self.namespace, &unseen).await;
        let (mut waiting, mut unseen) = (waiting.into_iter(), unseen.into_iter());
        let outcome = |shown: &Shown| match shown {
            Shown::Is(bound) => *bound,
            Shown::Waits => waiting.next().unwrap_or(Bound::NotYet),
            Shown::Nothing => unseen.next().unwrap_or(Bound::NotYet),
            Shown::Stranger => Bound::Never,
        };
        self.shown.iter().map(outcome).collect()
    }

    /// Undoes the bindings at these places.
    async fn undo(
        &self,
        (binder, reporter): (&Binder, &Reporter),
        outcomes: &[Bound],
        places: &[usize],
    ) -> Written {
        tracing::warn!("gang {}: its plan can't be finished; undoing it", self.key);
        let (unseen, ours): (Vec<usize>, Vec<usize>) =
            places.iter().partition(|place| self.shown[**place] == Shown::Nothing);
        let ours = ours.iter().map(|place| &self.placements[*place]);
        if !binder.undo_all(&self.namespace, ours).await || !unseen.is_empty() {
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
