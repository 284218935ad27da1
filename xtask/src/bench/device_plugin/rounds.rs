//! A hundred rolling upgrades and a hundred kubelet restarts: what the device manager counts meanwhile.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Bench, Figure, GPUS, PATIENCE, Samples};
use crate::harness::{Count, Kubelet, Programs, Start, now};

/// The new plugin is ready before the old one is asked to end, as a DaemonSet with `maxSurge: 1` has it.
pub(super) fn upgrades(programs: &Programs, rounds: u32) -> Result<Figure> {
    let Bench { kubelet, mut plugin, node } = Bench::new(programs)?;
    let so_far = kubelet.changes().len();
    for _ in 0..rounds {
        let new = node.plugin(&[])?;
        new.is_ready()?;
        std::mem::replace(&mut plugin, new).terminate()?;
    }
    let changes: Vec<Count> =
        kubelet.changes()[so_far..].iter().filter_map(|change| change.count()).collect();
    let full = |count: &&Count| count.allocatable == GPUS && count.capacity == GPUS;
    let dips: Vec<&Count> = changes.iter().filter(|count| !full(count)).collect();
    let mut what = format!(
        "times that fewer than {GPUS} were counted in {rounds} rolling upgrades, looked at each millisecond"
    );
    if !dips.is_empty() {
        what += &format!("; {dips:?}");
    }
    let value = f64::from(u32::try_from(dips.len()).context("dips")?);
    Ok(Figure { name: "dips", value, bar: Some(0.0), what })
}

/// The kubelet is killed and starts anew; counted from the start of its process, which is before its first call.
pub(super) fn restarts(programs: &Programs, rounds: u32) -> Result<Figure> {
    let Bench { mut kubelet, plugin: _plugin, node } = Bench::new(programs)?;
    let mut samples = Samples::default();
    for _ in 0..rounds {
        drop(kubelet);
        let started = now();
        kubelet = Kubelet::start(&node, &Start::default())?;
        kubelet.heard()?;
        kubelet.counts(GPUS, GPUS, PATIENCE)?;
        let full =
            kubelet.changes().iter().rev().find(|change| change.count().is_some()).map(|change| change.at);
        let full = full.context("the count that was waited for")?.saturating_sub(started);
        samples.push(Duration::from_nanos(full).as_secs_f64());
    }
    let what = format!(
        "seconds from the start of a kubelet's new process to full again, the worst of {rounds}; median {:.2} s",
        samples.median()
    );
    Ok(Figure { name: "kubelet_restart_s", value: samples.worst(), bar: Some(2.0), what })
}
