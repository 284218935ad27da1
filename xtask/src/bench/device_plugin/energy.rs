//! The meter's journal against the boards' own counters: what pods used and what nobody used is all that was counted.

use std::{collections::BTreeMap, fs, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Bench, Figure, GPUS};
use crate::harness::{Node, Pod, Programs, eventually};

/// How often the counters move on: with a pod that comes or goes each time, and once the plugin is killed.
const STEPS: u64 = 24;
/// So many pods at once hold a GPU at most; then the oldest goes.
const AT_ONCE: usize = 5;
const STEP: Duration = Duration::from_millis(700);
/// A record is written at the latest after a minute.
const WRITTEN_WITHIN: Duration = Duration::from_secs(150);

/// Of one board: where its records begin, what they add up to, and where they end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    start: u64,
    used: u64,
    end: u64,
}

pub(super) fn measure(programs: &Programs) -> Result<Figure> {
    let mut bench = Bench::new(programs)?;
    let first = counters(&bench.node)?;
    let mut pods: Vec<Pod> = Vec::new();
    for step in 0..STEPS {
        thread::sleep(STEP);
        use_energy(&bench.node, step)?;
        if pods.len() == AT_ONCE {
            let pod = pods.remove(0);
            bench.kubelet.ask::<()>(&serde_json::json!({ "op": "finish", "uid": pod.uid }))?;
        } else {
            let pod = Pod::with_gpu(&format!("pod-{step}"));
            bench.kubelet.admit(&pod)?;
            bench.kubelet.gpu_of(&pod)?;
            pods.push(pod);
        }
        if step == STEPS / 2 {
            bench = bench.with_a_killed_plugin()?;
        }
    }
    let last = counters(&bench.node)?;
    every_board_changes_hands(&bench, &pods)?;
    let told = eventually(WRITTEN_WITHIN, || {
        let told = journal(&bench.node)?;
        let all =
            last.iter().all(|(board, counter)| told.get(board).is_some_and(|told| told.end == *counter));
        ensure!(all, "the records end at {told:?}, the counters at {last:?}");
        Ok(told)
    })?;
    let error = |(board, told): (&String, &Told)| {
        let counted = last.get(board)?.checked_sub(first.get(board)?.max(&told.start).to_owned())?;
        Some(counted.abs_diff(told.used) + told.start.saturating_sub(*first.get(board)?))
    };
    let errors: Option<Vec<u64>> = told.iter().map(error).collect();
    let error: u64 = errors.context("a counter that nobody knows")?.iter().sum();
    let boards = u32::try_from(told.len()).context("boards")?;
    ensure!(i64::from(boards) == GPUS, "{boards} boards have records");
    let what = format!(
        "millijoules by which records and counters of {GPUS} boards differ, over {STEPS} changes and a kill"
    );
    Ok(Figure { name: "energy_error", value: f64::from(u32::try_from(error)?), bar: Some(0.0), what })
}

/// What a board used while nobody held it is recorded when somebody does.
fn every_board_changes_hands(bench: &Bench, pods: &[Pod]) -> Result<()> {
    for pod in pods {
        bench.kubelet.ask::<()>(&serde_json::json!({ "op": "finish", "uid": pod.uid }))?;
    }
    // The ends of these pods must lie before the starts of the next, by whole seconds.
    thread::sleep(Duration::from_secs(2));
    for number in 0..GPUS {
        let pod = Pod::with_gpu(&format!("last-{number}"));
        bench.kubelet.admit(&pod)?;
        bench.kubelet.gpu_of(&pod)?;
    }
    Ok(())
}

/// Every board uses something else.
fn use_energy(node: &Node, step: u64) -> Result<()> {
    node.change(|state| {
        for (gpu, number) in state["gpus"].as_array_mut().into_iter().flatten().zip(1..) {
            let counter = gpu["energyMillijoules"].as_u64().unwrap_or_default();
            gpu["energyMillijoules"] = Value::from(counter + number * 1000 + step * 7 + number);
        }
    })
}

fn counters(node: &Node) -> Result<BTreeMap<String, u64>> {
    let text = fs::read_to_string(node.state()).context("read what NVML says")?;
    let state: Value = serde_json::from_str(&text).context("understand what NVML says")?;
    let gpus = state["gpus"].as_array().context("GPUs")?;
    let counter = |gpu: &Value| Some((gpu["uuid"].as_str()?.to_owned(), gpu["energyMillijoules"].as_u64()?));
    gpus.iter().map(|gpu| counter(gpu).context("a GPU's counter")).collect()
}

/// What the journal's records say of each board, which must follow each other.
fn journal(node: &Node) -> Result<BTreeMap<String, Told>> {
    let file = node.meter().join("journal.jsonl");
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let mut boards: BTreeMap<String, Told> = BTreeMap::new();
    // A line is a checksum, a blank and JSON; the last one may be half written.
    for line in text.lines().filter_map(|line| line.split_once(' ')) {
        let Ok(line) = serde_json::from_str::<Value>(line.1) else { continue };
        for record in line["commit"]["records"].as_array().into_iter().flatten() {
            let board = record["gpuUuid"].as_str().context("a record's board")?;
            let energy = |end: &str| record["energy"][end].as_u64().context("a record's energy");
            let (start, end) = (energy("startMj")?, energy("endMj")?);
            let told = boards.entry(board.to_owned()).or_insert(Told { start, used: 0, end: start });
            ensure!(
                told.end == start,
                "{board}: a record begins at {start}, the one before ended at {}",
                told.end
            );
            (told.used, told.end) = (told.used + end.saturating_sub(start), end);
        }
    }
    Ok(boards)
}
