//! The meter's journal against the boards' own counters: each pod's energy is what its GPU used while it had it, and what
//! pods used and what nobody used is all that was counted.

use std::{collections::BTreeMap, fs, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Bench, Figure, GPUS};
use crate::harness::{Node, Pod, Programs, eventually};

/// So many times pods come and go, and then the counters move on; once the plugin is killed as well.
const ROUNDS: u64 = 8;
/// So many pods come in a round, each to a GPU of its own.
const COME: u64 = 2;
/// So many pods at once hold a GPU at most; then the oldest go.
const AT_ONCE: usize = 5;
/// No pod comes or goes for so long after the counters moved: the kubelet tells whole seconds, rounded down, and the plugin
/// looks every two seconds, so that who used what is beyond doubt.
const BEFORE_A_CHANGE: Duration = Duration::from_millis(4_000);
/// Nor do the counters move for so long after a pod came or went.
const AFTER_A_CHANGE: Duration = Duration::from_millis(2_500);
/// A record is written at the latest after a minute.
const WRITTEN_WITHIN: Duration = Duration::from_secs(150);

/// Of one board: where its records begin, what they add up to, and where they end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    start: u64,
    used: u64,
    end: u64,
}

/// Millijoules by board, and by the pod that held it; by nobody, where none did.
type Used = BTreeMap<(String, Option<String>), u64>;

/// A pod, and the GPU that it has.
struct Held {
    pod: Pod,
    board: String,
}

pub(super) fn measure(programs: &Programs) -> Result<Figure> {
    let mut bench = Bench::new(programs)?;
    let first = counters(&bench.node)?;
    let (mut used, mut held) = (Used::new(), Vec::new());
    for round in 0..ROUNDS {
        thread::sleep(BEFORE_A_CHANGE);
        come_and_go(&bench, &mut held, round)?;
        thread::sleep(AFTER_A_CHANGE);
        use_energy(&bench.node, round)?;
        count(&counters(&bench.node)?, &first, &held, &mut used);
        if round == ROUNDS / 2 {
            bench = bench.with_a_killed_plugin()?;
        }
    }
    let last = counters(&bench.node)?;
    thread::sleep(BEFORE_A_CHANGE);
    every_board_changes_hands(&bench, &held)?;
    let (told, told_used) = eventually(WRITTEN_WITHIN, || {
        let (told, used) = journal(&bench.node)?;
        let all =
            last.iter().all(|(board, counter)| told.get(board).is_some_and(|told| told.end == *counter));
        ensure!(all, "the records end at {told:?}, the counters at {last:?}");
        Ok((told, used))
    })?;
    let error = |(board, told): (&String, &Told)| {
        let counted = last.get(board)?.checked_sub(first.get(board)?.max(&told.start).to_owned())?;
        Some(counted.abs_diff(told.used) + told.start.saturating_sub(*first.get(board)?))
    };
    let errors: Option<Vec<u64>> = told.iter().map(error).collect();
    let of_boards: u64 = errors.context("a counter that nobody knows")?.iter().sum();
    let boards = u32::try_from(told.len()).context("boards")?;
    ensure!(i64::from(boards) == GPUS, "{boards} boards have records");
    let pods = used.keys().filter(|(_, pod)| pod.is_some()).count();
    let value = f64::from(u32::try_from(of_boards.max(largest_error(&used, &told_used)))?);
    let what = format!(
        "millijoules by which records and counters of {GPUS} boards differ, in all or for one of {pods} pods or nobody, over \
         {ROUNDS} rounds and a kill"
    );
    Ok(Figure { name: "energy_error", value, bar: Some(0.0), what })
}

/// Pods come, and where there are too many by then, the oldest go.
fn come_and_go(bench: &Bench, held: &mut Vec<Held>, round: u64) -> Result<()> {
    for number in 0..COME {
        let pod = Pod::with_gpu(&format!("pod-{round}-{number}"));
        bench.kubelet.admit(&pod)?;
        let board = bench.kubelet.gpu_of(&pod)?;
        held.push(Held { pod, board });
    }
    while held.len() > AT_ONCE {
        finish(bench, &held.remove(0))?;
    }
    Ok(())
}

fn finish(bench: &Bench, held: &Held) -> Result<()> {
    bench.kubelet.ask(&serde_json::json!({ "op": "finish", "uid": held.pod.uid }))
}

/// What the counters moved on by since all that is counted belongs to those who hold the boards, and to nobody else.
fn count(now: &BTreeMap<String, u64>, first: &BTreeMap<String, u64>, held: &[Held], used: &mut Used) {
    for (board, counter) in now {
        let counted: u64 = used.iter().filter(|((of, _), _)| of == board).map(|(_, used)| used).sum();
        let news =
            counter.saturating_sub(counted).saturating_sub(first.get(board).copied().unwrap_or_default());
        let holder = held.iter().find(|held| held.board == *board).map(|held| held.pod.uid.clone());
        *used.entry((board.clone(), holder)).or_default() += news;
    }
}

/// The most by which what was used and what was told differ, of any holder and of what nobody held.
fn largest_error(used: &Used, told: &Used) -> u64 {
    let of = |all: &Used, key| all.get(key).copied().unwrap_or_default();
    used.keys().chain(told.keys()).map(|key| of(used, key).abs_diff(of(told, key))).max().unwrap_or_default()
}

/// What a board used while nobody held it is recorded when somebody does.
fn every_board_changes_hands(bench: &Bench, held: &[Held]) -> Result<()> {
    held.iter().try_for_each(|held| finish(bench, held))?;
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

/// What the journal's records say of each board, which must follow each other, and of who used it.
fn journal(node: &Node) -> Result<(BTreeMap<String, Told>, Used)> {
    let file = node.meter().join("journal.jsonl");
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let (mut boards, mut by_holder): (BTreeMap<String, Told>, _) = (BTreeMap::new(), Used::new());
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
            let used = end.saturating_sub(start);
            (told.used, told.end) = (told.used + used, end);
            let holder = record["holder"]["podUid"].as_str().map(str::to_owned);
            *by_holder.entry((board.to_owned(), holder)).or_default() += used;
        }
    }
    Ok((boards, by_holder))
}
