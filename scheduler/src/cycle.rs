//! The cycle: take in what the watches tell, plan, and have the plan carried out by tasks that tell how they ended. Nothing
//! that waits for the API server keeps the next plan waiting.

mod end;
mod pod_groups;
mod room;
mod telling;
mod under_way;

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::core::v1::ObjectReference,
    jiff::{SignedDuration, Timestamp},
};
use kube::{Client, Resource as _};
use plasma_runtime::{CancellationToken, Gate, Leadership};
use plasma_scheduler_core::{Aside, Decision, Placement, Victim, is_single, namespace_of};
use tokio::{sync::mpsc::Receiver, task::JoinSet, time::MissedTickBehavior};

use crate::{
    args::Args,
    commit::{Binder, Deadline},
    event,
    evict::{Eviction, Evictor, Uncleared},
    journal::Journals,
    metrics::Metrics,
    observe::Observed,
    outcome::{Outcome, Work, unless_it_panics},
    pauses::Pauses,
    report::Reporter,
    rests::Rests,
    said::Said,
    shares::{Turns, UnderWay},
    state::State,
    strays::Strays,
    undone::Undone,
    volumes::{Awaited, VolumeBinder},
    waits::Waits,
};

/// How many pods may be on their way to their nodes before no more are placed. A gang's are on their way while its plan is
/// journalled, its pods are bound and its status is written, one after the other: that takes several gangs at once to keep
/// the API server busy. In tests few: who keeps others waiting is seen at once.
const UNDER_WAY: usize = if cfg!(test) { 8 } else { 1024 };
/// With more pods than this on their way to their nodes, plans that are carried out wait to be written down as such: pods
/// that could run come first.
const MANY: usize = 128;
/// For how many volumes is asked at once.
const VOLUMES_AT_ONCE: usize = 32;
/// How many groups are told at once what they wait for.
const TOLD_AT_ONCE: usize = 16;
/// How many observations are taken in before the next plan.
const AT_ONCE: usize = 1024;
/// Watches come in bursts: this long is waited for the rest of one.
const BURST: Duration = Duration::from_millis(2);
/// How often is looked whether time alone has changed something.
const LOOK: Duration = Duration::from_millis(250);
/// How many of the groups that wait are explained anew each time.
const EXPLAINED: usize = 8;

/// Runs until the program is asked to end, and ends in order.
pub(crate) async fn run(
    scheduler: &mut Scheduler,
    mut observations: Receiver<Observed>,
    ready: Gate,
    shutdown: &CancellationToken,
    leadership: &Leadership,
) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            observed = observations.recv() => {
                let Some(observed) = observed else { break };
                scheduler.observe(observed);
                tokio::time::sleep(BURST).await;
            }
            Some(outcome) = scheduler.tasks.join_next() => scheduler.learn(outcome, Timestamp::now()),
            _ = look.tick() => scheduler.look(Timestamp::now()),
            () = tokio::task::yield_now(), if scheduler.goes_on() => {}
        }
        for _ in 0..AT_ONCE {
            let Ok(observed) = observations.try_recv() else { break };
            scheduler.observe(observed);
        }
        while let Some(outcome) = scheduler.tasks.try_join_next() {
            scheduler.learn(outcome, Timestamp::now());
        }
        if scheduler.state.is_complete() {
            ready.set(true);
            scheduler.cycle(Timestamp::now());
        }
    }
    scheduler.end(leadership).await;
}

/// What the cycles work with, and what they remember from one to the next.
pub(crate) struct Scheduler {
    args: Args,
    pub(crate) state: State,
    work: Work,
    metrics: Metrics,
    journals: Journals,
    /// The plans whose volumes are on their way.
    awaited: Awaited,
    said: Said,
    /// The groups that are being told something.
    being_told: HashSet<String>,
    pub(crate) tasks: JoinSet<Outcome>,
    under_way: UnderWay,
    pauses: Pauses,
    undone: Undone,
    strays: Strays,
    uncleared: Uncleared,
}

impl Scheduler {
    pub(crate) fn new(args: Args, client: Client, metrics: Metrics) -> Self {
        let (binder, reporter) =
            (Binder::new(client.clone(), metrics.clone()), Reporter::new(client.clone()));
        let mut state = State::new(&args.scheduler_name);
        state.rests = Rests::of(Duration::from_millis(args.device_rest_milliseconds.into()));
        Self {
            state,
            work: Work {
                volumes: VolumeBinder::new(client.clone(), Turns::new(VOLUMES_AT_ONCE)),
                evictor: Evictor::new(client.clone(), binder.away.clone()),
                telling: Turns::new(TOLD_AT_ONCE),
                client,
                binder,
                reporter,
            },
            args,
            metrics,
            journals: Journals::default(),
            awaited: Awaited::default(),
            said: Said::default(),
            being_told: HashSet::new(),
            tasks: JoinSet::new(),
            under_way: UnderWay::default(),
            pauses: Pauses::default(),
            undone: Undone::default(),
            strays: Strays::default(),
            uncleared: Uncleared::default(),
        }
    }

    /// Begins a task. One that panics ends as is said here beforehand, so that nothing waits for it in vain.
    fn spawn<T>(&mut self, otherwise: Outcome, task: impl FnOnce(Work) -> T)
    where
        T: Future<Output = Outcome> + Send + 'static,
    {
        self.tasks.spawn(unless_it_panics(task(self.work.clone()), otherwise));
    }

    pub(crate) fn observe(&mut self, observed: Observed) {
        self.state.observe(observed);
    }

    /// So that who waits for his turn is seen soon: so few requests at once.
    #[cfg(test)]
    pub(crate) fn with_few_turns(mut self, turns: usize) -> Self {
        (self.work.binder.wire, self.work.binder.away) = (Turns::new(turns), Turns::new(turns));
        self.work.evictor = Evictor::new(self.work.client.clone(), self.work.binder.away.clone());
        self
    }

    /// How many pods are on their way to their nodes.
    #[cfg(test)]
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.all()
    }

    /// Carries plans on, makes new ones, and sends both on their way.
    pub(crate) fn cycle(&mut self, now: Timestamp) {
        let begun = Instant::now();
        self.state.cluster.pass_time(now.as_second());
        self.state.end_rests();
        self.state.cluster.tidy();
        self.carry_on(now);
        self.go_on_with_volumes(now);
        let room = UNDER_WAY.saturating_sub(self.under_way.swift());
        self.state.cluster.set_crowded(self.under_way.crowded(UNDER_WAY));
        if room > 0 {
            for decision in self.state.cluster.plan(room) {
                self.carry_out(decision, now);
            }
        }
        self.metrics.cycle_seconds.observe(begun.elapsed().as_secs_f64());
    }

    /// Whether the last plan has left groups for the next one, which can be made at once.
    pub(crate) fn goes_on(&self) -> bool {
        self.under_way.swift() < UNDER_WAY && self.state.cluster.has_more()
    }

    /// What time alone changes: pauses end, and groups that wait are explained anew, some each time.
    pub(crate) fn look(&mut self, now: Timestamp) {
        for key in self.pauses.over(now) {
            self.state.cluster.set_busy(&key, false);
        }
        if !self.state.is_complete() {
            return;
        }
        self.look_at_undone(now);
        self.end_reservations(now);
        self.look_for_strays(now);
        self.confirm_pod_groups(now);
        for (about, why) in self.state.faults.take(now) {
            let otherwise = Outcome::Complained { untold: Some((about.clone(), why.clone())) };
            self.spawn(otherwise, |work| work.complain(about, why));
        }
        for decision in self.state.cluster.explain(EXPLAINED) {
            self.carry_out(decision, now);
        }
        for (group, claim) in self.awaited.pending(&self.state.cluster, now) {
            let waits = Waits::for_claim(&claim, self.state.cluster.bound_of(&group));
            self.tell(group, waits, now);
        }
        for (group, waits) in self.said.lasting(now) {
            self.tell(group, waits, now);
        }
        let cluster = &self.state.cluster;
        self.said.retain(|key| cluster.knows(key));
        self.pauses.retain(|key| cluster.knows(key));
        let (held, refused) = self.said.counts(|key| cluster.waits(key));
        self.metrics.waiting_gangs.set(i64::try_from(held).unwrap_or(i64::MAX));
        self.metrics.refused_gangs.set(i64::try_from(refused).unwrap_or(i64::MAX));
    }

    fn carry_out(&mut self, decision: Decision, now: Timestamp) {
        match decision {
            Decision::Place { group, placements } => self.place(group, placements, now),
            Decision::Hold { group, message, blockers } => {
                let waits = Waits::for_room(message, &blockers, self.state.cluster.bound_of(&group));
                self.tell(group, waits, now);
            }
            Decision::Preempt { group, priority, victims, nominations, message } => {
                self.said.forget(&group);
                self.pauses.interrupt(&group);
                tracing::info!("{group}: {message}");
                let Some(about) = self.reference(&group, &nominations) else {
                    return self.make_no_room(group, victims.iter().map(|victim| victim.uid.as_str()), now);
                };
                let gangs = self.gangs_of(&victims);
                let eviction = Eviction { group, priority, victims, nominations, message, about, gangs };
                let (group, evicted) = (eviction.group.clone(), eviction.of_nobody());
                self.spawn(Outcome::Evicted { group, evicted }, |work| work.evict(eviction));
            }
            Decision::Aside { group, why: Aside::NoGang { uid, min_count, priority } } => {
                self.make_gang(group, (uid, min_count, priority));
            }
            Decision::Aside { group, why } => {
                let waits = Waits::aside(&why, self.state.cluster.bound_of(&group));
                let waits = waits.about(&group, &self.state);
                self.tell(group, waits, now);
            }
        }
    }

    /// Sends pods on their way to their nodes; their volumes first, which can take long and keep nobody else waiting.
    fn place(&mut self, group: String, placements: Vec<Placement>, now: Timestamp) {
        self.strays.take(&placements);
        self.pauses.interrupt(&group);
        if placements.iter().all(|placement| placement.volumes.is_empty()) {
            return self.bind(group, placements, now);
        }
        let patience = SignedDuration::from_secs(i64::from(self.args.gang_deadline_seconds));
        self.awaited.begin(&group, placements.clone(), (now, patience));
        let why_not = Some("asking for their volumes failed".to_owned());
        let otherwise = Outcome::Asked { group: group.clone(), why_not };
        self.spawn(otherwise, |work| work.ask_for_volumes(group, placements));
    }

    /// Binds the pods whose volumes are all bound, and gives up the plans whose volumes can't be had.
    fn go_on_with_volumes(&mut self, now: Timestamp) {
        for (group, ended) in self.awaited.over(&self.state.cluster, now) {
            match ended {
                Ok(placements) => self.bind_if_it_holds(group, placements, now),
                Err(why) => self.give_volumes_up(group, &why, now),
            }
        }
    }

    fn give_volumes_up(&mut self, group: String, why: &str, now: Timestamp) {
        tracing::debug!("{group}: {why}");
        let placements = self.awaited.forget(&group);
        self.give_up(group.clone(), &uids(&placements), now);
        let waits = Waits::for_volumes(why, self.state.cluster.bound_of(&group));
        self.tell(group, waits, now);
    }

    fn bind(&mut self, group: String, placements: Vec<Placement>, now: Timestamp) {
        let gang = self.state.find_gang(&group).cloned();
        if gang.is_none() && !is_single(&group) {
            return self.give_up(group, &uids(&placements), now);
        }
        if gang.is_some() && !self.journals.begins(&group, now) {
            return self.give_up(group, &uids(&placements), now);
        }
        let on_the_way = self.under_way.begin(namespace_of(&group), placements.len());
        let (whose, sent) = (group.clone(), placements.clone());
        let otherwise = Outcome::Unknown { group: whose, placements: sent, obstacle: None };
        let Some(gang) = gang else {
            return self.spawn(otherwise, |work| on_the_way.during(work.bind_single(group, placements)));
        };
        let patience = Duration::from_secs(u64::from(self.args.gang_deadline_seconds));
        let deadline = Deadline {
            said: now + SignedDuration::from_secs(i64::from(self.args.gang_deadline_seconds)),
            ours: tokio::time::Instant::now() + patience,
        };
        self.spawn(otherwise, |work| on_the_way.during(work.bind_gang(gang, placements, deadline)));
    }

    /// What events about a group are about: its gang, or its only pod.
    fn reference(&self, group: &str, pods: &[Placement]) -> Option<ObjectReference> {
        match group.split_once("/pod:") {
            Some((namespace, name)) => Some(event::pod_reference(namespace, name, &pods.first()?.uid)),
            None => Some(self.state.find_gang(group)?.object_ref(&())),
        }
    }

    fn gangs_of(&self, victims: &[Victim]) -> BTreeMap<String, ObjectReference> {
        let gang = |victim: &Victim| {
            let gang = self.state.find_gang(&victim.group)?;
            Some((victim.group.clone(), gang.object_ref(&())))
        };
        victims.iter().filter_map(gang).collect()
    }

    /// Takes in how a task ended.
    pub(crate) fn learn(&mut self, outcome: Result<Outcome, tokio::task::JoinError>, now: Timestamp) {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(fault) => return tracing::error!("a task ended without an outcome: {fault}"),
        };
        match outcome {
            Outcome::Bound { group, placements } => {
                self.are_sent(&placements);
                self.pauses.forget(&group);
                self.said.forget(&group);
                self.state.cluster.set_busy(&group, false);
            }
            Outcome::Asked { group, why_not: None } => self.awaited.asked(&group, now),
            Outcome::Asked { group, why_not: Some(why) } => self.give_volumes_up(group, &why, now),
            Outcome::Refused { group, placements, obstacle } => {
                self.refused(group, (&placements, obstacle), now);
            }
            Outcome::Unknown { group, placements, obstacle } => {
                self.lost_sight(group, (&placements, obstacle), now);
            }
            Outcome::StraysRead { unbound } => self.release_strays(&unbound),
            Outcome::Begun { group, placements, gang, sent } => {
                self.are_sent(&placements);
                self.state.wrote(&group, *gang);
                self.said.forget(&group);
                self.journals.has_begun(&group, sent, now);
                self.state.cluster.set_busy(&group, false);
            }
            Outcome::CarriedOn { group, placements, step } => {
                self.carried_on(group, &placements, step, now);
            }
            Outcome::Evicted { group, evicted } => {
                self.metrics.evictions.inc_by(evicted.count);
                if evicted.is_nominated && evicted.spared.is_empty() {
                    self.pauses.forget(&group);
                    return self.state.cluster.set_busy(&group, false);
                }
                self.make_no_room(group, evicted.spared.iter().map(String::as_str), now);
            }
            Outcome::Cleared { failed } => self.uncleared.owes(failed, now),
            Outcome::Complained { untold } => {
                untold.into_iter().for_each(|(about, why)| self.state.faults.owes(about, why, now));
            }
            Outcome::Confirmed => {}
            Outcome::GangMade { group, made } => self.gang_made(group, made, now),
            Outcome::Told { group, is_told, has_alarmed, gang } => {
                self.being_told.remove(&group);
                if let Some(gang) = gang {
                    self.state.wrote(&group, *gang);
                }
                if !is_told {
                    self.said.owes(&group, has_alarmed);
                }
            }
        }
    }
}

fn uids(placements: &[Placement]) -> Vec<String> {
    placements.iter().map(|placement| placement.uid.clone()).collect()
}
