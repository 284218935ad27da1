//! The cycle: finish what was begun, read, plan, commit, report. Woken by the watches, at most every few milliseconds.

use std::time::{Duration, Instant};

use kube::Client;
use plasma_runtime::CancellationToken;
use plasma_scheduler_core::{Decision, plan};

use crate::{
    args::Args, commit::Binder, journal, metrics::Metrics, observe::Watched, report::Reporter, world,
};

/// Watches come in bursts: this long is waited for the rest of one.
const BURST: Duration = Duration::from_millis(20);
/// Without any news, look again all the same: deadlines pass without one.
const LOOK: Duration = Duration::from_secs(5);

/// Runs cycles until the program is asked to end.
pub(crate) async fn run(
    args: &Args,
    client: Client,
    watched: Watched,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    if shutdown.run_until_cancelled(watched.wait_until_complete()).await.is_none() {
        return;
    }
    let binder = Binder::new(client.clone(), metrics.clone());
    let mut reporter = Reporter::new(client.clone());
    // Plans that an earlier process began are carried on before anything new is planned.
    let mut assumed = journal::reserved(&watched);
    while !shutdown.is_cancelled() {
        let begun = Instant::now();
        journal::carry_on(&watched, &binder, &mut reporter, &mut assumed).await;
        let world = world::read(&watched, &args.scheduler_name, &mut assumed);
        let plan = plan(&world.snapshot);
        for decision in plan.decisions {
            match decision {
                Decision::Place { gang, placements } => {
                    binder.place(args, &gang, &placements, &mut reporter, &mut assumed).await;
                }
                Decision::Hold { gang, message, blockers } => {
                    reporter.held(&watched, &gang, &message, &blockers).await
                }
            }
        }
        reporter.rest(&watched, &world).await;
        let held = world.snapshot.waiting.iter().filter(|gang| reporter.is_held(&gang.key)).count();
        metrics.waiting_gangs.set(i64::try_from(held).unwrap_or(i64::MAX));
        metrics.refused_gangs.set(i64::try_from(world.refused.len()).unwrap_or(i64::MAX));
        metrics.cycle_seconds.observe(begun.elapsed().as_secs_f64());
        let news = async {
            let _ = tokio::time::timeout(LOOK, watched.changed.notified()).await;
            tokio::time::sleep(BURST).await;
        };
        let _ = shutdown.run_until_cancelled(news).await;
    }
}
