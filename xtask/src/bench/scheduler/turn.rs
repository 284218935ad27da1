//! One turn: pods are made while nobody schedules them, then a scheduler starts, and from its first binding to its last
//! one it is watched through what the API server did for it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Stage,
    audit::{Kind as Wrote, Write},
    contender::Contender,
    daemon::Daemon,
    objects::{self, ARRIVALS, Pod},
    store::Kind,
};

/// No binding for so long, and it won't come.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the clocks of CPU time and the audit log are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Nothing written for so long, and all is written.
const QUIET: Duration = Duration::from_millis(1500);

/// What is to be scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) pods: usize,
    /// How many of them a gang has; none are pods of no gang.
    pub(super) gang: Option<usize>,
}

/// What a turn gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Turn {
    pub(super) scheduler: String,
    pub(super) pods: usize,
    /// Pods of a gang, where there were gangs.
    pub(super) gang: Option<usize>,
    /// Seconds from the start of the scheduler to its first binding.
    pub(super) first_bind_s: f64,
    /// Bindings a second, from the first to the last.
    pub(super) rate: f64,
    /// The scheduler's CPU time a pod, from the first binding to the last, in milliseconds.
    pub(super) cpu_ms_per_pod: f64,
    /// The same from its start until nothing more was written.
    pub(super) whole_cpu_ms_per_pod: f64,
    /// The CPU time a pod of the API server and etcd, from the first binding to the last, in milliseconds.
    pub(super) api_cpu_ms_per_pod: f64,
    /// Requests that change something, a pod.
    pub(super) writes_per_pod: f64,
    /// Of them events.
    pub(super) events: usize,
    /// Of them on gangs.
    pub(super) gang_writes: usize,
    /// Resident memory in the end, in MiB.
    pub(super) rss_mib: f64,
    /// The most that it was.
    pub(super) peak_mib: f64,
}

impl Load {
    pub(super) fn plain(pods: usize) -> Self {
        Self { pods, gang: None }
    }

    /// As many gangs of that size as there are pods for, and at least one.
    pub(super) fn gangs(pods: usize, size: usize) -> Self {
        Self { pods: (pods / size).max(1) * size, gang: Some(size) }
    }

    /// Makes the pods, and their gangs before them.
    pub(super) async fn create(self, stage: &Stage, who: Contender) -> Result<()> {
        if let Some(size) = self.gang {
            let gangs: Result<Vec<_>, _> =
                (0..self.pods / size).map(|number| objects::gang(&gang_name(number), size)).collect();
            stage.store.create_all(Kind::Gang, gangs.context("write gangs")?.into_iter()).await?;
        }
        let pods = (0..self.pods).map(|number| {
            let gang = self.gang.map(|size| gang_name(number / size));
            let name = format!("arrival-{number:05}");
            Pod { name, scheduler: who.scheduler_name(), gang, gpus: 1, node: None }.object(number)
        });
        stage.store.create_all(Kind::Pod, pods).await
    }
}

fn gang_name(number: usize) -> String {
    format!("gang-{number:04}")
}

/// Takes a turn, and leaves the API server as it was.
///
/// # Errors
/// The scheduler ends, or doesn't bind every pod.
pub(super) async fn take(stage: &mut Stage, who: Contender, load: Load) -> Result<Turn> {
    load.create(stage, who).await?;
    stage.plane.rest().await?;
    let scheduler = stage.start(who)?;
    let (turn, scheduler) = watch(stage, who, load, scheduler).await?;
    drop(scheduler);
    stage.store.delete_all(Kind::Pod, ARRIVALS).await?;
    stage.store.delete_all(Kind::Gang, "").await?;
    Ok(turn)
}

/// Watches a scheduler that was just started until it has bound everything and is quiet; it goes on running.
///
/// # Errors
/// It ends, or doesn't bind every pod.
pub(super) async fn watch(
    stage: &mut Stage,
    who: Contender,
    load: Load,
    mut scheduler: Daemon,
) -> Result<(Turn, Daemon)> {
    let mut seen = Seen::default();
    let mut news = Instant::now();
    loop {
        scheduler.is_running()?;
        stage.plane.is_running()?;
        seen.samples.push(Sample::take(stage, &scheduler)?);
        let written = stage.audit.news()?;
        let of_it = written.into_iter().filter(|write| write.user == who.name());
        let before = seen.writes.len();
        seen.writes.extend(of_it);
        if seen.writes.len() > before {
            news = Instant::now();
        }
        let is_all = seen.bound().count() >= load.pods;
        if is_all && news.elapsed() > QUIET {
            break;
        }
        if news.elapsed() > PATIENCE {
            let bound = seen.bound().count();
            bail!(
                "{} bound {bound} of {} pods, and none since {PATIENCE:?}; the end of its log:\n{}",
                who.name(),
                load.pods,
                scheduler.last_words()
            );
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok((seen.sum_up(who, load, &scheduler)?, scheduler))
}

/// What was seen of a turn.
#[derive(Default)]
struct Seen {
    samples: Vec<Sample>,
    writes: Vec<Write>,
}

/// Seconds of CPU time that were used by then.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Timestamp,
    scheduler: f64,
    /// The API server and etcd.
    api: f64,
}

impl Sample {
    fn take(stage: &Stage, scheduler: &Daemon) -> Result<Self> {
        let (at, api) = (Timestamp::now(), stage.plane.cpu_seconds()?);
        Ok(Self { at, scheduler: scheduler.cpu_seconds()?, api })
    }
}

impl Seen {
    fn bound(&self) -> impl Iterator<Item = Timestamp> {
        self.writes.iter().filter(|write| write.kind == Wrote::Bound).map(|write| write.at)
    }

    fn count(&self, kind: Wrote) -> usize {
        self.writes.iter().filter(|write| write.kind == kind).count()
    }

    fn sum_up(&self, who: Contender, load: Load, scheduler: &Daemon) -> Result<Turn> {
        let (first, last) = self.bound().min().zip(self.bound().max()).context("no binding")?;
        let seconds = seconds(first, last);
        ensure!(seconds > 0.0, "one binding has no rate");
        let pods = float(load.pods);
        let memory = scheduler.memory()?;
        let milliseconds = |of: fn(&Sample) -> f64| {
            let used = at(&self.samples, last, of) - at(&self.samples, first, of);
            used * 1000.0 / pods
        };
        let whole = self.samples.last().context("no sample")?.scheduler;
        Ok(Turn {
            scheduler: who.name().to_owned(),
            pods: load.pods,
            gang: load.gang,
            first_bind_s: self::seconds(scheduler.started, first),
            rate: (pods - 1.0) / seconds,
            cpu_ms_per_pod: milliseconds(|sample| sample.scheduler),
            whole_cpu_ms_per_pod: whole * 1000.0 / pods,
            api_cpu_ms_per_pod: milliseconds(|sample| sample.api),
            writes_per_pod: float(self.writes.len()) / pods,
            events: self.count(Wrote::Event),
            gang_writes: self.count(Wrote::Gang),
            rss_mib: memory.now,
            peak_mib: memory.peak,
        })
    }
}

/// Between two samples it grows evenly.
fn at(samples: &[Sample], moment: Timestamp, of: fn(&Sample) -> f64) -> f64 {
    let after = samples.partition_point(|sample| sample.at < moment);
    match (after.checked_sub(1).and_then(|before| samples.get(before)), samples.get(after)) {
        (Some(before), Some(after)) => {
            let share = seconds(before.at, moment) / seconds(before.at, after.at);
            of(before) + (of(after) - of(before)) * share
        }
        (Some(only), None) | (None, Some(only)) => of(only),
        (None, None) => 0.0,
    }
}

/// From one moment to another.
pub(super) fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// For ratios.
pub(super) fn float(count: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "some ten thousands")]
    let float = count as f64;
    float
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(millisecond: i64) -> Timestamp {
        Timestamp::from_millisecond(1_000_000 + millisecond).expect("a moment")
    }

    #[test]
    fn cpu_time_between_two_samples_grows_evenly() {
        let sample = |millisecond: u32, scheduler: f64| Sample {
            at: moment(i64::from(millisecond)),
            scheduler,
            api: 0.0,
        };
        let samples = [sample(0, 1.0), sample(20, 2.0), sample(40, 2.5)];
        let told = [-5, 0, 5, 20, 30, 90].map(|when| at(&samples, moment(when), |sample| sample.scheduler));
        assert_eq!(told.map(|cpu| format!("{cpu:.2}")), ["1.00", "1.00", "1.25", "2.00", "2.25", "2.50"]);
    }

    #[test]
    fn gangs_are_whole_and_there_is_at_least_one() {
        assert_eq!(Load::gangs(2000, 512), Load { pods: 1536, gang: Some(512) });
        assert_eq!(Load::gangs(100, 512), Load { pods: 512, gang: Some(512) });
    }
}
