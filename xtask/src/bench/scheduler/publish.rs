//! `docs/benchmarks/scheduler.*`: what was measured, one line a number of nodes; its plot; its page.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    contender::Contender::{Ours, Theirs},
    plot::{self, Bar, Group, Panel},
    record::{GANGS, Record},
    table,
};
use crate::{harness::KUBERNETES, paths, progress};

/// Who stands for what in the plot, in the order of the bars.
const LEGEND: [&str; 5] =
    ["kube-scheduler, plain pods", "plain pods", "gangs of 10", "gangs of 100", "gangs of 512"];

/// Where they are, without what tells one from another.
const FILES: &str = "docs/benchmarks/scheduler";

/// Keeps the record in the place of the last one of so many nodes, and draws plot and page from all that are kept.
///
/// # Errors
/// A file can't be read, understood or written.
pub(super) fn write(record: &Record) -> Result<()> {
    let mut records = read(&data())?;
    records.retain(|kept| kept.nodes != record.nodes);
    records.push(record.clone());
    records.sort_by_key(|record| record.nodes);
    let mut lines = String::new();
    for record in &records {
        lines += &serde_json::to_string(record).context("write what was measured")?;
        lines.push('\n');
    }
    fs::write(data(), lines).with_context(|| format!("write {}", data().display()))?;
    for (file, text) in drawn()? {
        fs::write(paths::repository().join(&file), text).with_context(|| format!("write {file}"))?;
        progress::say(format!("written: {file}"));
    }
    Ok(())
}

/// The page and the plot of what is kept: where they are in the repository, and their text.
///
/// # Errors
/// What is kept can't be read.
pub(crate) fn drawn() -> Result<[(String, String); 2]> {
    let records = read(&data())?;
    let plot = plot::draw(&panels(&records), &LEGEND);
    Ok([(format!("{FILES}.md"), page(&records)), (format!("{FILES}.svg"), plot)])
}

fn data() -> PathBuf {
    paths::repository().join(FILES).with_extension("jsonl")
}

fn read(data: &Path) -> Result<Vec<Record>> {
    let text = fs::read_to_string(data).with_context(|| format!("read {}", data.display()))?;
    let records = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
    records.with_context(|| {
        format!("understand {}: empty it, and measure each number of nodes anew", data.display())
    })
}

fn panels(records: &[Record]) -> [Panel; 2] {
    let group = |record: &Record, bars| Group { name: format!("{} nodes", record.nodes), bars };
    let rates = |record: &Record| {
        let plain = [Theirs, Ours].map(|who| record.plain_rate(who));
        let all = plain.into_iter().chain(GANGS.map(|size| record.gang_rate(size)));
        group(
            record,
            all.enumerate().filter_map(|(colour, height)| Some(Bar { colour, height: height? })).collect(),
        )
    };
    let cpu = |record: &Record| {
        let of = |who| record.plain_mean(who, |turn| turn.cpu_ms_per_pod);
        let bars = [Theirs, Ours].into_iter().enumerate();
        group(record, bars.map(|(colour, who)| Bar { colour, height: of(who) }).collect())
    };
    [
        Panel { title: "pods bound a second", groups: records.iter().map(rates).collect() },
        Panel { title: "CPU a pod, milliseconds", groups: records.iter().map(cpu).collect() },
    ]
}

fn page(records: &[Record]) -> String {
    let mut page = format!(
        "# Scheduler: figures

```sh
cargo xtask bench scheduler [--nodes 1000] [--json] [--fsync] [--publish]
```

This page, [its data](scheduler.jsonl) and the plot are written by that command with `--publish`, once for each number of \
nodes: `cargo xtask bench scheduler --nodes 5000 --publish`.

![pods bound a second, and CPU a pod, by the number of nodes](scheduler.svg)

It makes a control plane of its own, etcd and kube-apiserver {KUBERNETES}, and nodes of eight GPUs that are objects and \
nothing more. Both schedulers meet the same API server, nodes and pods, in turns: ours, kube-scheduler, our gangs, and all \
of it again; of the rates the medians count. Both are without limits of their client's, and kube-scheduler packs GPUs \
(`MostAllocated`). A turn's pods are made while nobody schedules them: workers of training jobs with their environment and \
volumes, one GPU each. The API server collects its garbage, and once it and etcd are at rest the scheduler starts; rate and \
CPU time are those from its first binding to its last one, by the API server's own audit log, which costs it the same \
whoever binds. Where pods are gangs, the rate is ours; kube-scheduler's default plugins know none. A gang costs three \
requests beside its bindings (its plan, the end of that, an event). To write a custom resource's status the API server \
allocates four to five times as much as for a binding, and its memory is what its time goes into: a gang of ten costs it \
up to twice what ten pods do, and one of a hundred little more than its pods. That is what keeps the slowest gangs below \
plain pods. The full cluster has ten running pods on each node, four of them with a GPU.

`cargo xtask bench scheduler` fails where a bar isn't kept. All that runs shares the machine's cores: the API server, etcd, \
the scheduler.
"
    );
    for record in records {
        let _ = write!(
            page,
            "\n## {} nodes\n\netcd {}.\n\n| figure | ours | bar | kube-scheduler | what it is |\n| --- | --- | --- | --- | --- |\n",
            record.nodes,
            if record.fsync {
                "waits for the disk at each write"
            } else {
                "doesn't wait for the disk (`--unsafe-no-fsync`)"
            },
        );
        for row in table::rows(record) {
            let [name, value, bar, theirs, what] = row.cells();
            let _ = writeln!(page, "| `{name}` | {value} | {bar} | {theirs} | {what} |");
        }
        page += "\n```text\n";
        let full = record.full.iter().map(|full| &full.turn);
        for turn in record.turns.iter().chain(full) {
            let _ = writeln!(page, "{}", table::line(turn));
        }
        let _ = writeln!(page, "```\n\nThe last {} turns are those of the full cluster.", record.full.len());
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::scheduler::record::tests::record;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let line = serde_json::to_string(&record(5000)).expect("a line");
        fs::write(&data, format!("{line}\n")).expect("written");
        assert_eq!(read(&data).expect("read"), [record(5000)]);
    }

    #[test]
    fn the_page_has_a_part_for_each_number_of_nodes() {
        let page = page(&[record(1000), record(5000)]);
        assert!(page.contains("## 1000 nodes") && page.contains("## 5000 nodes"));
        assert!(page.contains("| `plain_ratio` | 4.5 | at least 2 | 1 |"), "{page}");
        let plot = plot::draw(&panels(&[record(1000), record(5000)]), &LEGEND);
        assert_eq!(plot.matches("nodes</text>").count(), 4, "two panels of two groups");
    }
}
