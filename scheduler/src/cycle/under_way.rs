//! What a cycle does for plans that are under way: those that are journalled are carried on, and pods that a plan left behind
//! are found again.

use k8s_openapi::jiff::Timestamp;
use kube::Resource as _;
use plasma_scheduler_core::{Next, Placement, is_single};

use super::{Scheduler, uids};
use crate::{
    commit::Obstacle,
    journal::{Plan, Step},
    kept::Kind,
    outcome::Outcome,
    waits::Waits,
};

impl Scheduler {
    /// Finishes or undoes the plans that are journalled. Nothing else is planned for their groups meanwhile, whatever becomes
    /// of the journal.
    pub(crate) fn carry_on(&mut self, now: Timestamp) {
        for mut plan in self.journals.due(&self.state, self.under_way.swift() > super::MANY, now) {
            self.complain_of_strangers(&plan);
            plan.check(&mut self.state.cluster);
            self.pauses.interrupt(&plan.key);
            self.state.cluster.set_busy(&plan.key, true);
            let (group, placements) = (plan.key.clone(), plan.ours());
            self.strays.take(&placements);
            let otherwise = Outcome::CarriedOn { group, placements, step: Step::unknown() };
            self.spawn(otherwise, |work| work.carry_on(plan));
        }
    }

    /// Says on a gang that its journal names pods that aren't its own.
    fn complain_of_strangers(&mut self, plan: &Plan) {
        let strangers = plan.strangers();
        let Some(gang) = self.state.find_gang(&plan.key).filter(|_| !strangers.is_empty()) else { return };
        let why = format!(
            "status.journal names pods that aren't the gang's, by their labels: {}; these are neither bound nor deleted for \
             it, and the plan is undone",
            strangers.join(", ")
        );
        let about = gang.object_ref(&());
        self.state.faults.set(Kind::Gang, &plan.key, Some((about, why)));
    }

    /// A journalled plan was carried on, and may be over.
    pub(super) fn carried_on(&mut self, group: String, placements: &[Placement], step: Step, now: Timestamp) {
        self.strays.let_go(placements.iter().map(|placement| &*placement.uid));
        self.state.cluster.set_busy(&group, false);
        if let Some(obstacle) = step.obstacle.clone() {
            self.tell_obstacle(&group, obstacle, now);
        }
        if !step.is_over {
            return self.journals.has_tried(&group, &step, now);
        }
        let has_undone = step.undoes() || self.journals.has_undone(&group);
        if let Some(gang) = step.gang.clone() {
            self.journals.ends(&group);
            self.state.wrote(&group, *gang);
        } else {
            // The gang is gone, or another one; the watch still shows its plan.
            self.journals.has_tried(&group, &step, now);
        }
        match step.next {
            Next::Wait => {}
            Next::Finish => {
                self.pauses.forget(&group);
                self.undone.stands(&group);
            }
            Next::Keep { .. } => {
                self.undone.stands(&group);
                self.give_up(group, &step.lost, now);
            }
            Next::Undo { .. } => {
                self.metrics.rollbacks.inc();
                // Those that were deleted hold what they hold until the watch shows them gone.
                self.give_up(group.clone(), &step.lost, now);
                if has_undone {
                    let why = step.why.unwrap_or_else(|| "its time was over".to_owned());
                    let until = self.undone.again(&group, (&self.state, &step.lost), why, now);
                    self.pauses.begin_until(&group, until);
                }
            }
        }
    }

    /// Says of gangs that were undone when they are planned again; at once where their owner has changed something.
    pub(super) fn look_at_undone(&mut self, now: Timestamp) {
        for group in self.undone.changed(&self.state) {
            if self.pauses.interrupt(&group) {
                self.state.cluster.set_busy(&group, false);
            }
        }
        for paused in self.undone.paused(now) {
            let waits = Waits::for_undone(&paused, self.state.cluster.bound_of(&paused.key));
            self.tell(paused.key, waits, now);
        }
    }

    /// The task that sent these pods on their way has ended.
    pub(super) fn are_sent(&mut self, placements: &[Placement]) {
        self.strays.let_go(placements.iter().map(|placement| &*placement.uid));
    }

    /// Nobody knows how far a plan's task came. What it wrote and bound is seen by the watches; what it left is found again.
    pub(super) fn lost_sight(
        &mut self,
        group: String,
        (placements, obstacle): (&[Placement], Option<Obstacle>),
        now: Timestamp,
    ) {
        self.are_sent(placements);
        if !is_single(&group) {
            self.journals.has_tried(&group, &Step::unknown(), now);
        }
        self.state.cluster.set_busy(&group, true);
        self.pauses.begin(&group, now);
        if let Some(obstacle) = obstacle {
            self.tell_obstacle(&group, obstacle, now);
        }
    }

    /// Says what keeps a group's pods from being bound that have their places.
    fn tell_obstacle(&mut self, group: &str, obstacle: Obstacle, now: Timestamp) {
        let waits = Waits::for_obstacle(obstacle, self.state.cluster.bound_of(group));
        self.tell(group.to_owned(), waits, now);
    }

    /// Reads the pods that were left on their way.
    pub(super) fn look_for_strays(&mut self, now: Timestamp) {
        let strays = self.strays.due(&self.state.cluster, now);
        if !strays.is_empty() {
            let otherwise = Outcome::StraysRead { unbound: Vec::new() };
            self.spawn(otherwise, |work| work.read_strays(strays));
        }
    }

    /// These pods, by UID, were left on their way and aren't bound: they wait again.
    pub(super) fn release_strays(&mut self, unbound: &[String]) {
        for uid in unbound.iter().filter(|uid| self.strays.is_left(uid)) {
            tracing::warn!("pod {uid} was left on its way to a node, and isn't bound: it waits again");
            self.state.cluster.release(uid);
        }
    }

    /// A plan isn't carried out: these pods, by UID, weren't bound and won't be. The group waits a while before the next one.
    pub(super) fn give_up(&mut self, group: String, unbound: &[String], now: Timestamp) {
        self.strays.let_go(unbound.iter().map(String::as_str));
        self.state.cluster.give_up(&group, unbound.iter().map(String::as_str));
        self.state.cluster.set_busy(&group, true);
        self.pauses.begin(&group, now);
    }

    /// Binds pods whose plan waited a while, unless they can't go to their nodes any more.
    pub(super) fn bind_if_it_holds(&mut self, group: String, placements: Vec<Placement>, now: Timestamp) {
        match self.state.cluster.outdated(&group, &placements) {
            None => self.bind(group, placements, now),
            Some(outdated) => {
                tracing::info!("{group}: it is planned anew: {outdated}");
                self.give_up(group, &uids(&placements), now);
            }
        }
    }

    /// Nothing was bound for a plan, and nothing will be.
    pub(super) fn refused(
        &mut self,
        group: String,
        (placements, obstacle): (&[Placement], Option<Obstacle>),
        now: Timestamp,
    ) {
        self.journals.ends(&group);
        self.give_up(group.clone(), &uids(placements), now);
        if let Some(obstacle) = obstacle {
            self.tell_obstacle(&group, obstacle, now);
        }
    }
}
