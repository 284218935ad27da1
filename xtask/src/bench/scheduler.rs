//! The scheduler's figures, beside kube-scheduler's: the same API server, the same nodes, in turns.

mod audit;
mod contender;
mod control_plane;
mod daemon;
mod full;
mod objects;
mod plot;
pub(crate) mod publish;
mod record;
mod store;
mod table;
mod turn;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::{programs, progress};
use audit::Audit;
use contender::{Contender, Schedulers};
use control_plane::{ControlPlane, Fsync, Programs};
use daemon::Daemon;
use record::{GANGS, Record};
use store::{Kind, Store};
use turn::{Load, Turn};

/// How often everything is measured: what a moment of the machine does to one turn isn't in the median of three.
const ROUNDS: usize = 3;

/// How the scheduler is measured.
#[derive(Args)]
pub(crate) struct Options {
    /// How many nodes, of eight GPUs each.
    #[arg(long, default_value_t = 1000)]
    nodes: usize,
    /// Print one line of JSON on standard output.
    #[arg(long)]
    json: bool,
    /// Measure this program instead of a release build of this checkout.
    #[arg(long)]
    scheduler: Option<PathBuf>,
    /// Have etcd wait for the disk at each write.
    #[arg(long)]
    fsync: bool,
    /// Keep what was measured in docs/benchmarks, and draw its plot and its page anew.
    #[arg(long)]
    publish: bool,
}

/// Measures everything.
///
/// # Errors
/// A bar isn't kept, or there is nothing to measure with.
pub(super) fn run(options: &Options) -> Result<()> {
    ensure!(
        options.nodes >= 100,
        "--nodes {}: fewer than 100 nodes have no room for the gangs",
        options.nodes
    );
    let programs = Programs::build()?;
    let ours = match &options.scheduler {
        Some(program) => program.canonicalize().with_context(|| format!("find {}", program.display()))?,
        None => programs::scheduler()?,
    };
    let schedulers = Schedulers { ours, theirs: programs.kubernetes.join("kube-scheduler") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let record = runtime.context("start the bench's own work")?.block_on(async {
        let mut interrupts = signal(SignalKind::interrupt()).context("catch Ctrl-C")?;
        let mut ends = signal(SignalKind::terminate()).context("catch the wish to end")?;
        tokio::select! {
            record = measure(options, &programs, schedulers) => record,
            _ = interrupts.recv() => bail!("interrupted; what it started is ended"),
            _ = ends.recv() => bail!("asked to end; what it started is ended"),
        }
    })?;
    if options.publish {
        publish::write(&record)?;
    }
    table::tell(&record, options.json)
}

/// What all of it happens on.
struct Stage {
    store: Store,
    audit: Audit,
    plane: ControlPlane,
    schedulers: Schedulers,
    nodes: usize,
}

impl Stage {
    async fn set(options: &Options, programs: &Programs, schedulers: Schedulers) -> Result<Self> {
        let plane = ControlPlane::start(programs, Fsync(options.fsync)).await?;
        let store = Store::new(plane.client().await?);
        store.prepare().await?;
        store.create_all(Kind::Node, (0..options.nodes).map(objects::node)).await?;
        let audit = Audit::open(&plane.audit_log())?;
        Ok(Self { store, audit, plane, schedulers, nodes: options.nodes })
    }

    fn start(&self, who: Contender) -> Result<Daemon> {
        who.start(&self.plane, &self.schedulers)
    }
}

async fn measure(options: &Options, programs: &Programs, schedulers: Schedulers) -> Result<Record> {
    use Contender::{Ours, Theirs};
    progress::say(format!("a control plane with {} nodes", options.nodes));
    let mut stage = Stage::set(options, programs, schedulers).await?;
    let pods = plain_pods(options.nodes);
    let mut turns = Vec::new();
    for _ in 0..ROUNDS {
        for who in [Ours, Theirs] {
            turns.push(take(&mut stage, who, Load::plain(pods)).await?);
        }
        for size in GANGS {
            turns.push(take(&mut stage, Ours, Load::gangs(pods, size)).await?);
        }
    }
    progress::say("a full cluster: ten pods on each node");
    full::fill(&stage).await?;
    let mut full = Vec::new();
    for who in [Ours, Theirs] {
        full.push(full::measure(&mut stage, who, pods).await?);
    }
    Ok(Record { nodes: options.nodes, fsync: options.fsync, turns, full })
}

async fn take(stage: &mut Stage, who: Contender, load: Load) -> Result<Turn> {
    let turn = turn::take(stage, who, load).await?;
    progress::say(table::line(&turn));
    Ok(turn)
}

/// Two pods a node of a small cluster, one a node of a large one: enough to see a rate, and room for all.
fn plain_pods(nodes: usize) -> usize {
    (nodes * 2).min(nodes.max(2000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_enough_pods_and_there_is_room_for_all() {
        assert_eq!([100, 1000, 1500, 5000].map(plain_pods), [200, 2000, 2000, 5000]);
    }
}
