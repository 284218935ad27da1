//! From an XID to the lower count, and from the recovery to the higher one: at the device manager, and in the GpuNode.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{Bench, Figure, GPUS, PATIENCE, Samples};
use crate::harness::{Change, eventually, now};

/// How often a GPU falls ill.
const TIMES: usize = 20;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let (mut lower, mut higher, mut told) = (Samples::default(), Samples::default(), Samples::default());
    for (time, wait) in (0..TIMES).zip((700..).step_by(137)) {
        // Looks come every two seconds: no fixed distance to them.
        thread::sleep(Duration::from_millis(wait % 2000));
        let gpu = time % usize::try_from(GPUS).context("GPUs")?;
        let xid = at_once(bench, |gpus| {
            gpus[gpu]["recoveryAction"] = json!(1);
            let xids = gpus[gpu]["xids"].as_array().cloned().unwrap_or_default();
            gpus[gpu]["xids"] = json!([xids, vec![json!(79)]].concat());
        })?;
        lower.push(milliseconds(xid, counted(bench, xid, GPUS - 1)?));
        told.push(milliseconds(xid, gpu_node_says(bench, xid, gpu, "Unhealthy")?));
        let well = at_once(bench, |gpus| gpus[gpu]["recoveryAction"] = json!(0))?;
        let back = counted(bench, well, GPUS)?;
        higher.push(milliseconds(well, back));
        told.push(milliseconds(back, gpu_node_says(bench, well, gpu, "Healthy")?));
    }
    Ok(vec![
        figure("xid_to_capacity_ms", &lower, 1000.0, "from an XID to the kubelet's lower count"),
        figure("recovery_to_capacity_ms", &higher, 2000.0, "from the recovery to the kubelet's higher count"),
        figure(
            "gpunode_ms",
            &told,
            1000.0,
            "to the GpuNode, from an XID, or from the kubelet's higher count",
        ),
    ])
}

fn figure(name: &'static str, samples: &Samples, bar: f64, what: &str) -> Figure {
    let what = format!("{what}: the worst of {}; median {:.0} ms", samples.count(), samples.median());
    Figure { name, value: samples.worst(), bar: Some(bar), what }
}

/// Changes the GPUs, and says when.
fn at_once(bench: &Bench, change: impl FnOnce(&mut Value)) -> Result<u64> {
    let at = now();
    bench.node.change(|state| change(&mut state["gpus"]))?;
    Ok(at)
}

/// When that many GPUs were allocatable for the first time since.
fn counted(bench: &Bench, since: u64, allocatable: i64) -> Result<u64> {
    first(bench, since, |change| change.count().is_some_and(|count| count.allocatable == allocatable))
        .with_context(|| format!("{allocatable} GPUs are never allocatable"))
}

/// When the GpuNode said so of that GPU for the first time since.
fn gpu_node_says(bench: &Bench, since: u64, gpu: usize, health: &str) -> Result<u64> {
    first(bench, since, |change| {
        let status = &change.value["object"]["status"];
        change.event == "written" && status["gpus"][gpu]["health"] == health
    })
    .with_context(|| format!("the GpuNode never says that GPU {gpu} is {health}"))
}

fn first(bench: &Bench, since: u64, is_it: impl Fn(&Change) -> bool) -> Result<u64> {
    eventually(PATIENCE, || {
        let changes = bench.kubelet.changes();
        let found = changes.iter().find(|change| change.at >= since && is_it(change));
        found.map(|change| change.at).context("not yet")
    })
}

/// None, where the second came first.
fn milliseconds(from: u64, to: u64) -> f64 {
    Duration::from_nanos(to.saturating_sub(from)).as_secs_f64() * 1000.0
}
