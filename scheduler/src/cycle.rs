//! The cycle: finish what was begun, read, plan, commit, report. Woken by the watches, at most every few milliseconds.

use std::time::{Duration, Instant};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;
use plasma_runtime::CancellationToken;
use plasma_scheduler_core::{Bound, Decision, Placement, plan};

use crate::{
    args::Args,
    commit::Binder,
    journal::{self, AGAIN, Journals},
    metrics::Metrics,
    observe::Watched,
    report::Reporter,
    world::{self, Assumed, World},
};

/// Watches come in bursts: this long is waited for the rest of one.
const BURST: Duration = Duration::from_millis(20);
/// Without any news, look again all the same: deadlines pass without one.
const LOOK: Duration = Duration::from_secs(5);

/// Runs cycles until the program is asked to end.
pub(crate) async fn run(mut scheduler: Scheduler, shutdown: CancellationToken) {
    if shutdown.run_until_cancelled(scheduler.watched.wait_until_complete()).await.is_none() {
        return;
    }
    scheduler.begin();
    while !shutdown.is_cancelled() {
        scheduler.cycle(Timestamp::now()).await;
        let look = if scheduler.journals.is_any_open() { AGAIN.unsigned_abs() } else { LOOK };
        let news = async {
            let _ = tokio::time::timeout(look, scheduler.watched.changed.notified()).await;
            tokio::time::sleep(BURST).await;
        };
        let _ = shutdown.run_until_cancelled(news).await;
    }
}

/// What the cycles work with, and what they remember from one to the next.
pub(crate) struct Scheduler {
    args: Args,
    client: Client,
    watched: Watched,
    metrics: Metrics,
    binder: Binder,
    reporter: Reporter,
    journals: Journals,
    assumed: Assumed,
}

impl Scheduler {
    pub(crate) fn new(args: Args, client: Client, watched: Watched, metrics: Metrics) -> Self {
        Self {
            binder: Binder::new(client.clone(), metrics.clone()),
            reporter: Reporter::new(client.clone()),
            journals: Journals::default(),
            assumed: Assumed::new(),
            args,
            client,
            watched,
            metrics,
        }
    }

    /// Plans that an earlier process began hold what they name before anything new is planned.
    pub(crate) fn begin(&mut self) {
        self.assumed = journal::reserved(&self.watched);
    }

    pub(crate) async fn cycle(&mut self, now: Timestamp) {
        let begun = Instant::now();
        self.reporter.forget_shown(&self.watched);
        self.carry_on(now).await;
        let world =
            world::read(&self.watched, &self.args.scheduler_name, &mut self.assumed, self.journals.open());
        for decision in plan(&world.snapshot).decisions {
            match decision {
                Decision::Place { gang, placements } => self.place(&world, &gang, &placements, now).await,
                Decision::Hold { gang, message, blockers } => {
                    self.reporter.held(&self.watched, &world, (&gang, message), &blockers).await;
                }
            }
        }
        self.reporter.rest(&self.watched, &world).await;
        self.measure(&world, begun);
    }

    /// Finishes or undoes the plans that are journalled.
    async fn carry_on(&mut self, now: Timestamp) {
        let Self { watched, binder, reporter, journals, assumed, metrics, .. } = self;
        let undone = journals.carry_on(watched, binder, reporter, assumed, now).await;
        metrics.rollbacks.inc_by(undone);
    }

    /// Carries out the decision to place a gang, or a pod of no gang.
    async fn place(&mut self, world: &World, group: &str, placements: &[Placement], now: Timestamp) {
        let (namespace, name) = group.split_once('/').unwrap_or_default();
        let is_gang = !name.starts_with("pod:");
        if is_gang {
            // The plan is durable before its first binding: a successor finishes or undoes what we began.
            let deadline = now + SignedDuration::from_secs(i64::from(self.args.gang_deadline_seconds));
            let written = journal::write(&self.client, (namespace, name), placements, deadline).await;
            if let Err(fault) = written {
                tracing::warn!("gang {group}: the plan can't be journalled: {fault}; planning it anew");
                return;
            }
            self.journals.has_sent(group, now);
        }
        self.assumed.extend(placements.iter().map(|place| (place.uid.clone(), place.node.clone())));
        let outcomes = self.binder.bind_all(namespace, placements).await;
        if outcomes.iter().all(|outcome| outcome.is_done()) {
            tracing::info!("{group}: bound {} pods", placements.len());
            self.reporter.scheduled(namespace, name, world.bound_of(group) + placements.len()).await;
        } else if !is_gang {
            placements.iter().for_each(|place| drop(self.assumed.remove(&place.uid)));
        } else if outcomes.contains(&Bound::Never) {
            tracing::warn!("{group}: not every pod can be bound as planned");
        }
    }

    fn measure(&self, world: &World, begun: Instant) {
        let held = world.snapshot.waiting.iter().filter(|gang| self.reporter.is_held(&gang.key)).count();
        self.metrics.waiting_gangs.set(i64::try_from(held).unwrap_or(i64::MAX));
        self.metrics.refused_gangs.set(i64::try_from(world.refused()).unwrap_or(i64::MAX));
        self.metrics.cycle_seconds.observe(begun.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
impl Scheduler {
    /// How many journals are remembered as ended.
    pub(crate) fn remembers(&self) -> usize {
        self.reporter.remembers()
    }
}
