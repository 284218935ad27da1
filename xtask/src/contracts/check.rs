//! `cargo xtask contracts check`: everything that the contracts must keep, and each figure beside its bar.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{analysis, folder, forge, format_is_kept, mutation, storage, the_canary_fails};
use crate::{command, paths, progress};

/// What is checked, and how much of it.
#[derive(Args)]
pub(crate) struct Options {
    /// Print one line of JSON on standard output.
    #[arg(long)]
    json: bool,
    /// Only these steps.
    #[arg(long)]
    only: Vec<Step>,
    /// How many mutants to try, drawn by the seed; the default takes some twenty minutes on two cores.
    #[arg(long, default_value_t = 400)]
    mutants: usize,
    /// Draws the mutants.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// As `forge fmt` writes it.
    Format,
    /// It compiles without a warning.
    Build,
    /// Unit tests, fuzz tests and invariants.
    Test,
    /// The test that must fail fails.
    Canary,
    /// Storage layout and gas are as checked in.
    Snapshots,
    /// halmos proves the money rules.
    Prove,
    /// slither finds nothing of medium weight or above.
    Slither,
    /// The tests see mistakes.
    Mutate,
}

/// What of a hundred mutants must be killed.
const LEAST_SCORE: f64 = 95.0;
/// What a pod may cost, 200 in a batch.
const MOST_GAS: u64 = 4300;
const GAS_FILE: &str = "snapshots/GasTest.json";

/// What came out, and what must not have.
#[derive(Default)]
struct Report {
    figures: serde_json::Map<String, Value>,
    /// What, how much, and the bar.
    rows: Vec<[String; 3]>,
    faults: Vec<String>,
}

impl Report {
    fn row(&mut self, what: &str, figure: impl ToString, bar: &str) {
        self.rows.push([what, &figure.to_string(), bar].map(str::to_owned));
    }

    fn figure(&mut self, name: &str, figure: impl Into<Value>) {
        self.figures.insert(name.to_owned(), figure.into());
    }

    /// A step that gives no figure: it holds or doesn't.
    fn holds(&mut self, what: &str, bar: &str, outcome: Result<()>) {
        let word = if outcome.is_ok() { "yes" } else { "no" };
        self.row(what, word, bar);
        self.faults.extend(outcome.err().map(|fault| format!("{what}: {fault:#}")));
    }
}

/// Runs the steps to their end, whatever is found on the way; what breaks a bar is named, and is a failure.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut report = Report::default();
    for step in Step::value_variants() {
        if options.only.is_empty() || options.only.contains(step) {
            one(*step, options, &mut report)?;
        }
    }
    let kept = report.faults.is_empty();
    if options.json {
        println!("{}", Value::Object(report.figures));
    }
    for [what, figure, bar] in &report.rows {
        eprintln!("  {what:<28} {figure:>28}   {bar}");
    }
    if kept {
        Ok(())
    } else {
        bail!("the contracts don't keep their bars:\n  {}", report.faults.join("\n  "))
    }
}

fn one(step: Step, options: &Options, report: &mut Report) -> Result<()> {
    match step {
        Step::Format => {
            let outcome = progress::step("contracts: format", None, format_is_kept);
            report.holds("formatted", "as forge fmt writes it", outcome);
        }
        Step::Build => {
            let build = || command::output(&mut forge(&["build"])?).map(drop);
            let outcome = progress::step("contracts: build", None, build);
            report.holds("built", "without warnings", outcome);
        }
        Step::Test => tests(report)?,
        Step::Canary => {
            let outcome = progress::step("contracts: the canary must fail", None, the_canary_fails);
            report.holds("canary fails", "as it must", outcome);
        }
        Step::Snapshots => snapshots(report)?,
        Step::Prove => {
            let said = progress::step("contracts: proofs", None, analysis::prove)?;
            report.row("theorems proved", said.count - said.faults.len(), &format!("all {}", said.count));
            report.figure("proofs", said.count - said.faults.len());
            report.faults.extend(said.faults);
        }
        Step::Slither => {
            let said = progress::step("contracts: slither", None, analysis::slither)?;
            report.row("findings, medium or above", said.count, "none");
            report.figure("findings", said.count);
            report.faults.extend(said.faults);
        }
        Step::Mutate => mutate(options, report)?,
    }
    Ok(())
}

/// Counts tests by kind; each that fails is named.
fn tests(report: &mut Report) -> Result<()> {
    let output = progress::step("contracts: tests", None, || {
        let mut test = forge(&["test", "--json"])?;
        test.env("FORGE_SNAPSHOT_CHECK", "true").output().context("start forge")
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let begin = text.find('{').unwrap_or(0);
    let answer: Value = serde_json::Deserializer::from_str(&text[begin..])
        .into_iter()
        .next()
        .transpose()
        .ok()
        .flatten()
        .with_context(|| format!("understand forge: {text}{}", String::from_utf8_lossy(&output.stderr)))?;
    let suites = answer.as_object().into_iter().flatten();
    let results = suites.flat_map(|(suite, said)| {
        said["test_results"].as_object().into_iter().flatten().map(move |(name, said)| (suite, name, said))
    });
    let (mut counts, mut failed) = ([0_u64; 3], 0);
    for (suite, name, said) in results {
        let kinds = ["Unit", "Fuzz", "Invariant"];
        let kind = kinds.iter().position(|kind| !said["kind"][kind].is_null()).unwrap_or(0);
        counts[kind] += 1;
        if said["status"] != "Success" {
            failed += 1;
            report.faults.push(format!("test: {suite} {name}: {}", said["reason"]));
        }
    }
    let total: u64 = counts.iter().sum();
    if total == 0 || (failed == 0 && !output.status.success()) {
        report.faults.push(format!("test: forge ended with {}, {total} tests ran", output.status));
    }
    for (what, count) in ["unit tests", "fuzz tests", "invariants"].iter().zip(counts) {
        report.row(what, count, "");
    }
    report.row("tests that failed", failed, "none");
    report.figure("tests", total - failed);
    Ok(())
}

/// The layout, and the gas: measured anew, and compared with what is checked in.
fn snapshots(report: &mut Report) -> Result<()> {
    let layout = progress::step("contracts: storage layout", None, storage::check);
    report.holds("storage layout", "as checked in", layout);
    let gas = progress::step("contracts: gas", None, || {
        let mut test = forge(&["test", "--match-path", "test/Gas.t.sol"])?;
        command::output(test.env("FORGE_SNAPSHOT_CHECK", "true")).map(drop)
    });
    report.holds("gas", "as checked in", gas);
    let file = folder().join(GAS_FILE);
    let kept = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let kept: Value = serde_json::from_str(&kept).context("understand the gas snapshot")?;
    let gas = kept["gas a pod, 200 pods a batch"].as_str().and_then(|gas| gas.parse::<u64>().ok());
    let gas = gas.context("the snapshot doesn't say the gas of a pod")?;
    report.row("gas a pod, 200 a batch", gas, &format!("at most {MOST_GAS}"));
    report.figure("gas_per_pod_200", gas);
    if gas > MOST_GAS {
        report.faults.push(format!("gas: {gas} a pod, more than {MOST_GAS}"));
    }
    Ok(())
}

fn mutate(options: &Options, report: &mut Report) -> Result<()> {
    let log = paths::logs()?.join("contracts-mutants.log");
    let _ = fs::remove_file(&log);
    let run = |log: &Path| mutation::run(options.mutants, options.seed, log);
    let outcome = progress::step("contracts: mutants", Some(&log), || run(&log))?;
    let score = outcome.score();
    report.row("mutants tried", format!("{} of {}", outcome.mutants, outcome.possible), "");
    report.row("killed", outcome.killed, "");
    report.row("mutation score", format!("{score} %"), &format!("at least {LEAST_SCORE} %"));
    report.figure("mutants", outcome.mutants);
    report.figure("killed", outcome.killed);
    report.figure("score", json!(score));
    if score < LEAST_SCORE {
        report.faults.extend(outcome.survivors.iter().map(|mutant| format!("survived: {mutant}")));
    }
    Ok(())
}
