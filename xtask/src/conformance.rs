//! `cargo xtask device-conformance`: Kubernetes' own node tests for device plugins, case by case, on our plugin.
//!
//! The cases are those of `test/e2e_node`, run at the kubelet's own managers instead of a node: what a container would
//! see is what the device manager hands to the container runtime, and a kubelet's restart is a new process.

mod cases;
mod page;
mod stage;

use std::{
    collections::VecDeque,
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use cases::{CASES, Case};
use serde_json::{Value, json};
use stage::Stage;

use crate::{
    command, harness,
    harness::{Programs, Way},
    paths, programs, progress,
};

/// How many cases run beside each other: most of their time they wait.
const WORKERS: usize = 8;

/// A case and how it went.
#[derive(Clone, Debug)]
struct Row {
    case: &'static Case,
    /// In which ways it was run, and why it failed where it did.
    ways: Vec<(Way, Option<String>)>,
    seconds: f64,
}

impl Row {
    fn passed(&self) -> bool {
        !self.ways.is_empty() && self.ways.iter().all(|(_, fault)| fault.is_none())
    }

    fn json(&self) -> Value {
        let ways: Vec<&str> = self.ways.iter().map(|(way, _)| way.name()).collect();
        json!({
            "file": self.case.file, "case": self.case.name, "here": self.case.here, "ways": ways,
            "result": if self.passed() { "pass" } else { "fail" }, "why": self.why(),
            "seconds": (self.seconds * 10.0).round() / 10.0,
        })
    }

    fn why(&self) -> Option<String> {
        let faults: Vec<String> = self
            .ways
            .iter()
            .filter_map(|(way, fault)| fault.as_ref().map(|fault| format!("{}: {fault}", way.name())))
            .collect();
        (!faults.is_empty()).then(|| faults.join("; "))
    }
}

/// Runs the cases whose names have one of these parts, or all; then writes the page too, if it shall be published.
pub(crate) fn run(names: &[String], json: bool, publish: bool) -> Result<()> {
    ensure!(!publish || names.is_empty(), "only a run of all cases can be published");
    let programs = Programs::build(programs::Profile::Development)?;
    nothing_is_left_out()?;
    let chosen: Vec<&'static Case> = CASES
        .iter()
        .filter(|case| names.is_empty() || names.iter().any(|name| case.name.contains(name.as_str())))
        .collect();
    ensure!(!chosen.is_empty(), "no case has one of {names:?} in its name");
    let rows =
        progress::step("device plugins' node tests of Kubernetes", None, || Ok(all(&programs, &chosen)))?;
    if publish {
        fs::write(page::file(), page::of(&rows)).context("write the page")?;
    }
    tell(&rows, json)
}

fn tell(rows: &[Row], json: bool) -> Result<()> {
    let failed = rows.iter().filter(|row| !row.passed()).count();
    if json {
        let told: Vec<Value> = rows.iter().map(Row::json).collect();
        let summary = json!({
            "passed": rows.len() - failed, "failed": failed, "kubernetes": harness::KUBERNETES, "rows": told,
        });
        println!("{summary}");
    } else {
        for row in rows {
            println!("{:4}  {:6.1}s  {}: {}", row.verdict(), row.seconds, row.case.file, row.case.name);
            if let Some(why) = row.why() {
                println!("      {why}");
            }
        }
        println!("{} passed, {failed} failed", rows.len() - failed);
    }
    if failed > 0 { bail!("{failed} of {} cases failed", rows.len()) } else { Ok(()) }
}

impl Row {
    fn verdict(&self) -> &'static str {
        if self.passed() { "pass" } else { "FAIL" }
    }
}

/// Every case in each of its ways, the long ones first.
fn all(programs: &Programs, chosen: &[&'static Case]) -> Vec<Row> {
    let mut order: Vec<(usize, Way)> =
        (0..chosen.len()).flat_map(|index| chosen[index].ways.iter().map(move |way| (index, *way))).collect();
    order.sort_by_key(|(index, _)| !chosen[*index].is_long);
    let (left, rows) = (Mutex::new(VecDeque::from(order)), Mutex::new(Vec::<Row>::new()));
    let empty = chosen.iter().map(|case| Row { case, ways: Vec::new(), seconds: 0.0 });
    rows.lock().unwrap_or_else(PoisonError::into_inner).extend(empty);
    thread::scope(|scope| {
        for _ in 0..WORKERS.min(chosen.len() * 2) {
            scope.spawn(|| {
                loop {
                    let next = left.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some((index, way)) = next else { return };
                    let begun = Instant::now();
                    let fault = one(programs, chosen[index], way).err().map(|fault| format!("{fault:#}"));
                    let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
                    rows[index].ways.push((way, fault));
                    rows[index].seconds = rows[index].seconds.max(begun.elapsed().as_secs_f64());
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    for row in &mut rows {
        row.ways.sort_by_key(|(way, _)| way.name());
    }
    rows
}

fn one(programs: &Programs, case: &Case, way: Way) -> Result<()> {
    let mut stage = Stage::new(programs, way)?;
    let outcome = (case.run)(&mut stage);
    if outcome.is_err() {
        let log = paths::logs()?.join(format!("conformance-{}-{}.log", case.slug(), way.name()));
        fs::write(&log, stage.node.logs()).with_context(|| format!("write {}", log.display()))?;
        return outcome.with_context(|| format!("log: {}", log.display()));
    }
    Ok(())
}

/// Kubernetes' sources are here once its managers are built: no case of theirs may be missing from the table.
fn nothing_is_left_out() -> Result<()> {
    let mut ask = std::process::Command::new("go");
    ask.current_dir(paths::repository().join("e2e/kubelet-harness"));
    let folder = command::output(ask.args(["list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"]))?;
    let folder = Path::new(folder.trim()).join("test/e2e_node");
    let mut found = 0;
    for file in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let path = file.context("list Kubernetes' node tests")?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        if !(file.starts_with("device_plugin") && file.ends_with("_test.go")) {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        for name in cases_in(&text) {
            found += 1;
            let known = CASES.iter().any(|case| case.file == file && case.name == name);
            ensure!(known, "{file} has a case that the table lacks: {name}");
        }
    }
    let ours = CASES.iter().filter(|case| case.file.starts_with("device_plugin")).count();
    ensure!(found == ours, "{} has {found} cases, and the table {ours}", folder.display());
    Ok(())
}

/// The names of the cases in a file of Ginkgo tests.
fn cases_in(text: &str) -> Vec<&str> {
    let line_of = |line: &'_ str| {
        ["ginkgo.It(\"", "f.It(\"", "framework.It(\""].iter().any(|it| line.trim_start().starts_with(it))
    };
    text.lines().filter(|line| line_of(line)).filter_map(|line| line.split('"').nth(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_of_a_file_is_found() {
        let text = "\tginkgo.It(\"one\", func() {\n\t\tf.It(\"two\", x, func() {\n framework.It(\"three\", f)\n// ginkgo.It(\"no\"";
        assert_eq!(cases_in(text), ["one", "two", "three"]);
    }

    #[test]
    fn a_row_passes_where_every_way_did_and_there_was_one() {
        let row = |ways: Vec<(Way, Option<String>)>| Row { case: &CASES[0], ways, seconds: 1.0 };
        assert!(row(vec![(Way::Classic, None), (Way::Watched, None)]).passed());
        assert!(!row(vec![(Way::Classic, None), (Way::Watched, Some("why".to_owned()))]).passed());
        assert!(!row(vec![]).passed(), "what was not run did not pass");
    }

    #[test]
    fn there_are_23_cases_of_device_plugins() {
        let count = CASES.iter().filter(|case| case.file.starts_with("device_plugin")).count();
        assert_eq!(count, 23);
    }
}
