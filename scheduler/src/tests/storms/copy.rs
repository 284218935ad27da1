//! One copy of the scheduler: it leads or waits, watches, plans, carries out, and never waits for one to do the other.

use std::time::Duration;

use clap::Parser as _;
use plasma_runtime::{CancellationToken, Leadership, prometheus::Registry};

use super::{network::Connection, watches::Watches};
use crate::{args::Args, cycle::Scheduler, metrics::Metrics, tests::cluster::Shown};

/// What the program does, again and again when it has ended, until it is killed.
pub(super) async fn run(connection: Connection) {
    let identity = format!("copy-{}", connection.copy);
    let flags = ["plasma-scheduler", "--nomination-seconds", "60", "--leader-elect-identity", &identity];
    let args = Args::parse_from(flags);
    loop {
        let (shutdown, lost) = (CancellationToken::new(), CancellationToken::new());
        let tokens = (&shutdown, &lost);
        let client = connection.client();
        let ready = plasma_runtime::Health::default().gate("watches");
        let leading = plasma_runtime::lead(&client, "plasma-scheduler", &args.leader, tokens, &ready).await;
        lead(&connection, &args, &leading.unwrap(), &lost).await;
        connection.world.note(&format!("{identity} has lost the lease"));
    }
}

/// Works until the lease is lost, and a little longer: that this is so isn't seen at once.
async fn lead(connection: &Connection, args: &Args, leadership: &Leadership, lost: &CancellationToken) {
    let (world, copy) = (&connection.world, connection.copy);
    world.note(&format!("copy {copy} leads"));
    let client = leadership.guard(connection.client(), &args.leader);
    // Four are a namespace's, so that what hangs for one gang leaves one for others of it.
    let turns = world.throw(|dice| dice.pick(&[8, 128]));
    let scheduler = Scheduler::new(args.clone(), client, Metrics::register(&Registry::new()));
    let mut scheduler = scheduler.with_few_turns(turns);
    let mut watches = Watches::new();
    world.state().closed.begins(copy);
    Shown::default().tell_what_stays(&mut scheduler);
    let mut looked = tokio::time::Instant::now();
    let (late, mut until) = (world.throw(|dice| dice.millis(20_000)), None);
    while until.is_none_or(|until| tokio::time::Instant::now() < until) {
        if lost.is_cancelled() {
            until.get_or_insert_with(|| tokio::time::Instant::now() + late);
        }
        tokio::time::sleep(world.step()).await;
        world.until_resumed(copy).await;
        watches.go_on(connection, &mut scheduler);
        while let Some(outcome) = scheduler.tasks.try_join_next() {
            scheduler.learn(outcome, world.now());
        }
        if looked.elapsed() >= Duration::from_millis(250) {
            looked = tokio::time::Instant::now();
            scheduler.look(world.now());
        }
        if scheduler.state.is_complete() {
            world.state().closed.completes(copy);
            scheduler.cycle(world.now());
            if !lost.is_cancelled() {
                world.remember_plans(&scheduler, watches.known());
            }
        }
    }
}
