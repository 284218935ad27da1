//! A journalled plan: what the watch shows of its pods, and what is done for it next.

use std::{collections::HashMap, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use plasma_api::{
    Gang,
    gang::{Journal, Placement as ApiPlacement},
};
use plasma_scheduler_core::{Bound, Cluster, Next, Outdated, Placement, Stand, next};
use tokio::time::Instant;

use super::{Stage, Tried};
use crate::{
    commit::{Answers, Binder, Obstacle},
    report::{Reporter, Whose, Written},
    state::State,
};

/// A journalled plan, and what the watch shows of it.
pub(crate) struct Plan {
    pub(crate) key: String,
    namespace: String,
    name: String,
    /// The gang's UID: one made anew under its name knows nothing of this plan.
    uid: String,
    /// The gang as it was seen last, unless its end couldn't be written into that.
    gang: Option<Gang>,
    placements: Vec<Placement>,
    /// In the placements' order: what the watch shows of a pod.
    shown: Vec<Shown>,
    /// How many other pods of the gang are bound.
    beside: usize,
    /// How many of the plan's pods must be bound beside these for the gang to have as many as must run together.
    enough: usize,
    is_undoing: bool,
    /// Whether bindings that were sent before may still be carried out.
    may_arrive: bool,
    /// Why pods that aren't bound can't go now where they were planned.
    outdated: Option<Outdated>,
    /// What kept it from being finished before.
    why: Option<String>,
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
    /// Whether the API server doesn't let its end be written.
    pub(crate) is_refused: bool,
    /// The gang as it is now, where that is known.
    pub(crate) gang: Option<Box<Gang>>,
    /// The pods, by UID, that are lost to the plan and weren't deleted with the others.
    pub(crate) lost: Vec<String>,
    /// Whether it sent bindings that may be carried out later.
    pub(crate) may_arrive: bool,
    /// Why a pod isn't bound that was to be, or the end of the plan isn't written.
    pub(crate) obstacle: Option<Obstacle>,
    /// What keeps the plan from being finished, as far as is known: the first of it once it is undone.
    pub(crate) why: Option<String>,
}

impl Step {
    /// Nobody knows what became of it.
    pub(crate) fn unknown() -> Self {
        let lost = Vec::new();
        Self {
            next: Next::Wait,
            is_over: false,
            is_refused: false,
            gang: None,
            lost,
            may_arrive: true,
            obstacle: None,
            why: None,
        }
    }

    /// Whether pods that were bound were undone by it.
    pub(crate) fn undoes(&self) -> bool {
        matches!(&self.next, Next::Undo { pods, .. } if !pods.is_empty())
    }
}

impl Plan {
    pub(super) fn new(
        state: &State,
        (key, gang, journal): (&str, &Gang, &Journal),
        tried: &Tried,
        now: Timestamp,
    ) -> Self {
        let placements: Vec<Placement> = journal.placements.iter().map(core_placement).collect();
        let members = state.cluster.bound_members(key).into_iter();
        let members: HashMap<String, (String, bool)> =
            members.map(|(uid, node, has_started)| (uid, (node, has_started))).collect();
        let is_known_bound = matches!(tried.stage, Stage::Bound | Stage::Untold);
        let shown =
            |place: &Placement| match (members.get(&place.uid), state.cluster.belongs(key, &place.uid)) {
                _ if is_known_bound => Shown::Is(Bound::Yes),
                (_, Some(false)) => Shown::Stranger,
                (Some((node, has_started)), _) if *node == place.node => {
                    Shown::Is(if *has_started { Bound::Started } else { Bound::Yes })
                }
                (Some(_), _) => Shown::Is(Bound::Never),
                // A node that vanished before the pod was bound takes it no more.
                (None, _) if !state.cluster.has_node(&place.node) => Shown::Is(Bound::Never),
                (_, None) => Shown::Nothing,
                _ => Shown::Waits,
            };
        let shown = placements.iter().map(shown).collect();
        let planned = placements.iter().filter(|place| members.contains_key(&place.uid)).count();
        let beside = members.len().saturating_sub(planned);
        Self {
            key: key.to_owned(),
            namespace: gang.namespace().unwrap_or_default(),
            name: gang.name_any(),
            uid: gang.uid().unwrap_or_default(),
            gang: (tried.stage == Stage::Bound).then(|| gang.clone()),
            shown,
            beside,
            enough: state.cluster.needed_of(key).saturating_sub(beside),
            placements,
            is_undoing: tried.stage == Stage::Undoing,
            may_arrive: tried.may_arrive(now),
            outdated: None,
            why: tried.why.clone(),
            seconds_late: now.duration_since(journal.deadline.0).as_secs(),
        }
    }

    pub(super) fn is_shown_whole(&self) -> bool {
        self.shown.iter().all(|shown| matches!(shown, Shown::Is(_) | Shown::Stranger))
    }

    /// The pods that the journal names, and that aren't the gang's; once it is being undone, nobody need hear of them again.
    pub(crate) fn strangers(&self) -> Vec<&str> {
        if self.is_undoing {
            return Vec::new();
        }
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

    /// Whether the plan can still be finished, as far as the watch shows: no pod of it is lost.
    fn is_open(&self) -> bool {
        let is_lost = |shown: &Shown| matches!(shown, Shown::Is(Bound::Never) | Shown::Stranger);
        !self.is_undoing && !self.shown.iter().any(is_lost)
    }

    /// Whether pods that aren't bound are to be. Where one may not go now where it was planned, none of the others is bound.
    fn binds(&self) -> bool {
        self.seconds_late <= 0 && self.is_open() && self.outdated.is_none()
    }

    /// Finds out whether pods that aren't bound may go now where they were planned.
    pub(crate) fn check(&mut self, cluster: &mut Cluster) {
        if self.is_open() && self.shown.contains(&Shown::Waits) {
            self.outdated = cluster.outdated(&self.key, &self.placements);
        }
    }

    /// Does what is to be done next.
    pub(crate) async fn carry_on(&self, binder: &Binder, reporter: &Reporter) -> Step {
        let (Answers { outcomes, obstacle }, may_arrive) = self.bind(binder).await;
        let next = next(Stand {
            bindings: &outcomes,
            enough: self.enough,
            seconds_late: self.seconds_late,
            is_open: !self.is_undoing,
            holds: self.outdated.is_none(),
            may_arrive: self.may_arrive || may_arrive,
        });
        let why = self.why(&outcomes, obstacle.as_ref());
        let written = match &next {
            Next::Wait => Written::No(None),
            Next::Finish => {
                let bound = self.beside + self.placements.len();
                reporter.scheduled(self.whose(), self.gang.clone(), bound).await
            }
            Next::Keep { is_all: true } => {
                let bound = self.beside + outcomes.iter().filter(|bound| bound.is_done()).count();
                reporter.scheduled(self.whose(), None, bound).await
            }
            // What may still arrive needs its room: the journal keeps it.
            Next::Keep { is_all: false } => Written::No(None),
            Next::Undo { pods, is_all } => {
                let why = why.as_deref().unwrap_or("its time is over");
                self.undo((binder, reporter), &outcomes, (pods, *is_all, why)).await
            }
        };
        let is_lost = |(place, _): &(usize, &Bound)| {
            let is_given_up = match &next {
                Next::Undo { pods, .. } => !pods.contains(place),
                Next::Keep { .. } => true,
                Next::Wait | Next::Finish => false,
            };
            is_given_up && self.shown[*place] != Shown::Stranger
        };
        let lost = outcomes.iter().enumerate().filter(is_lost).filter(|(_, bound)| !bound.is_done());
        let lost = lost.map(|(place, _)| self.placements[place].uid.clone()).collect();
        let (is_over, gang, unwritten) = match written {
            Written::Yes(gang) => (true, gang, None),
            Written::No(unwritten) => (false, None, unwritten),
        };
        let is_refused = unwritten.as_ref().is_some_and(|unwritten| unwritten.is_refusal);
        let obstacle = obstacle.or(unwritten);
        Step { next, is_over, is_refused, gang, lost, may_arrive, obstacle, why }
    }

    /// What keeps the plan from being finished. Once it is undone, it is what it was before: its pods go because of that.
    fn why(&self, outcomes: &[Bound], obstacle: Option<&Obstacle>) -> Option<String> {
        if self.is_undoing {
            return self.why.clone();
        }
        let lost = outcomes.iter().zip(&self.placements).find(|(bound, _)| **bound == Bound::Never);
        let lost = lost.map(|(_, Placement { pod, node, .. })| {
            format!("pod {pod} is gone, or can't be on node {node} any more")
        });
        let outdated = || self.outdated.as_ref().map(ToString::to_string);
        let refused = || obstacle.map(|obstacle| obstacle.words.clone());
        lost.or_else(outdated).or_else(refused).or_else(|| self.why.clone())
    }

    fn whose(&self) -> Whose<'_> {
        Whose { namespace: &self.namespace, name: &self.name, uid: &self.uid }
    }

    /// Binds what the watch shows without a node, or only looks at it. Answers how all stand, and whether something was
    /// sent of which nobody knows how it ended.
    async fn bind(&self, binder: &Binder) -> (Answers, bool) {
        let (waiting, unseen) = (self.shown_as(Shown::Waits), self.shown_as(Shown::Nothing));
        let (mut may_arrive, mut obstacle, namespace) = (false, None, &self.namespace);
        let unseen = binder.look_up_all(namespace, &unseen).await;
        let waiting = if self.binds() && !unseen.contains(&Bound::Never) {
            // The last second is whole: it was cut off.
            let left = Duration::from_secs(self.seconds_late.min(0).unsigned_abs() + 1);
            let sent = binder.bind_all(namespace, &waiting, Instant::now() + left).await;
            may_arrive = sent.outcomes.iter().any(|bound| bound.may_arrive());
            obstacle = sent.obstacle;
            sent.outcomes
        } else if self.may_arrive {
            // What arrives is shown by the watch; what doesn't is read when nothing can any more.
            vec![Bound::NotYet; waiting.len()]
        } else {
            binder.look_up_all(namespace, &waiting).await
        };
        let (mut waiting, mut unseen) = (waiting.into_iter(), unseen.into_iter());
        let outcome = |shown: &Shown| match shown {
            Shown::Is(bound) => *bound,
            Shown::Waits => waiting.next().unwrap_or(Bound::Unknown),
            // Whose it is isn't known, and so not what becomes of it either.
            Shown::Nothing => unseen.next().filter(|bound| *bound != Bound::NotYet).unwrap_or(Bound::Unknown),
            Shown::Stranger => Bound::Never,
        };
        let outcomes = self.shown.iter().map(outcome).collect();
        (Answers { outcomes, obstacle }, may_arrive)
    }

    /// Undoes the bindings of these pods. The plan is over with them, or others may still come to be bound.
    async fn undo(
        &self,
        (binder, reporter): (&Binder, &Reporter),
        outcomes: &[Bound],
        (pods, is_all, why): (&[usize], bool, &str),
    ) -> Written {
        if !self.is_undoing {
            tracing::warn!("gang {}: its plan can't be finished; undoing it: {why}", self.key);
        }
        let (unseen, ours): (Vec<usize>, Vec<usize>) =
            pods.iter().partition(|place| self.shown[**place] == Shown::Nothing);
        let ours = ours.iter().map(|place| &self.placements[*place]);
        if !binder.undo_all(&self.namespace, ours).await || !unseen.is_empty() || !is_all {
            // While one of them is left, so is the journal: the next round, or a successor, goes on from it.
            return Written::No(None);
        }
        let stays = |(place, bound): &(usize, &Bound)| bound.is_done() && !pods.contains(place);
        let bound = self.beside + outcomes.iter().enumerate().filter(stays).count();
        reporter.rolled_back(self.whose(), bound, why).await
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
