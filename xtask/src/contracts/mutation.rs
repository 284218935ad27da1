//! How many mistakes the contracts' tests see: each mutant is compiled, put in the place of its contract, and tested.
//!
//! The tests are built once, and create the contracts from the bytecode that lies in forge's folder; so a mutant costs
//! one compilation of the contracts that its file is part of. It is tried with few random inputs first, and counts as
//! survived only where the tests pass with all of them.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    num::NonZero,
    path::Path,
    process::{Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    compiler::Compiler,
    mutants::{self, Mutant},
    workspace::Workspace,
};
use crate::{paths, progress};

/// What holds money, and the contracts that each file is part of.
const FILES: &[(&str, &[&str])] = &[
    ("Ledger.sol", &["Rental"]),
    ("Rental.sol", &["Rental"]),
    ("RentalState.sol", &["Rental"]),
    ("Batches.sol", &["Rental", "Faults"]),
    ("Leaf.sol", &["Rental", "Faults"]),
    ("Faults.sol", &["Faults"]),
    ("Providers.sol", &["Providers"]),
    ("Pause.sol", &["Providers"]),
];
/// The quick compiler, tests that create contracts from forge's folder, and nothing that mutants don't need.
const SETTINGS: &[(&str, &str)] = &[
    ("FOUNDRY_VIA_IR", "false"),
    ("FOUNDRY_OPTIMIZER_RUNS", "1"),
    ("FOUNDRY_DYNAMIC_TEST_LINKING", "true"),
    ("FOUNDRY_DENY", "never"),
    ("FOUNDRY_LINT_LINT_ON_BUILD", "false"),
    ("FOUNDRY_INVARIANT_SHRINK_RUN_LIMIT", "0"),
    ("FOUNDRY_NO_MATCH_PATH", "test/{canary/*,Gas.t.sol}"),
];
/// Few random inputs: enough for most mutants.
const QUICK: &[(&str, &str)] = &[("FOUNDRY_FUZZ_RUNS", "32"), ("FOUNDRY_INVARIANT_RUNS", "4")];
/// Tests that take longer than this loop for ever, which is seen as well.
const PATIENCE: Duration = Duration::from_secs(120);

/// A mutant that changes nothing that can be told from outside, and why; checked in.
#[derive(Deserialize)]
struct Equivalent {
    file: String,
    /// The whole line.
    line: String,
    before: String,
    after: String,
    #[expect(dead_code, reason = "for those who read the file")]
    why: String,
}

impl Equivalent {
    fn is(&self, mutant: &Mutant) -> bool {
        self.file == mutant.file
            && self.line == mutant.context
            && self.before == mutant.before
            && self.after == mutant.after
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It doesn't compile, or compiles to what was there before: no mutant.
    Stillborn,
    Killed,
    Survived,
}

/// What was tried and what survived.
pub(super) struct Outcome {
    /// All that could be made.
    pub(super) possible: usize,
    pub(super) mutants: usize,
    pub(super) killed: usize,
    pub(super) survivors: Vec<Mutant>,
}

impl Outcome {
    /// Of a hundred, to one decimal; nothing tried is nothing seen.
    pub(super) fn score(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let share = self.killed as f64 / self.mutants.max(1) as f64;
        (share * 1000.0).floor() / 10.0
    }
}

/// Tries that many mutants, drawn by the seed.
pub(super) fn run(most: usize, seed: u64, log: &Path) -> Result<Outcome> {
    let base = Workspace::with("mutation", &["src", "test"])?;
    let originals = prepare(&base)?;
    let mut drawn = all(&base.root)?;
    let possible = drawn.len();
    fastrand::Rng::with_seed(seed).shuffle(&mut drawn);
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let shared = Mutex::new(Progress { left: drawn, most, ..Progress::default() });
    thread::scope(|scope| {
        let work = |number: usize| {
            let (base, originals, shared) = (&base, &originals, &shared);
            scope.spawn(move || worker(&base.copy(&format!("mutation-{number}"))?, originals, shared, log))
        };
        let started: Vec<_> = (0..workers).map(work).collect();
        started.into_iter().try_for_each(|worker| match worker.join() {
            Ok(outcome) => outcome,
            Err(_) => bail!("a worker of the mutation run ended early"),
        })
    })?;
    let done = shared.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(Outcome {
        possible,
        mutants: done.tried,
        killed: done.tried - done.survivors.len(),
        survivors: done.survivors,
    })
}

#[derive(Default)]
struct Progress {
    left: Vec<Mutant>,
    /// How many to try.
    most: usize,
    /// Taken, of which some will turn out to be none.
    taken: usize,
    tried: usize,
    survivors: Vec<Mutant>,
}

/// Takes mutants until as many as asked for were tried.
fn worker(place: &Workspace, originals: &Bytecodes, shared: &Mutex<Progress>, log: &Path) -> Result<()> {
    let mut compiler = Compiler::start(&place.root)?;
    loop {
        let mutant = {
            let mut progress = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if progress.taken >= progress.most {
                return Ok(());
            }
            let Some(mutant) = progress.left.pop() else { return Ok(()) };
            progress.taken += 1;
            mutant
        };
        let verdict = verdict(&mut compiler, place, originals, &mutant)?;
        let mut progress = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        note(log, &format!("{verdict:?} {mutant}"))?;
        match verdict {
            Verdict::Stillborn => progress.taken -= 1,
            Verdict::Killed => progress.tried += 1,
            Verdict::Survived => {
                progress::say(format!("survived: {mutant}"));
                progress.tried += 1;
                progress.survivors.push(mutant);
            }
        }
    }
}

fn note(log: &Path, line: &str) -> Result<()> {
    let file = fs::File::options().create(true).append(true).open(log);
    writeln!(file.context("open the log")?, "{line}").context("write the log")
}

/// Mutants of all files, without those that are known to change nothing.
fn all(root: &Path) -> Result<Vec<Mutant>> {
    let file = root.join("test/equivalent-mutants.json");
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let equivalents: Vec<Equivalent> = serde_json::from_str(&text).context("understand the equivalents")?;
    let mut found = Vec::new();
    for (name, _) in FILES {
        let text = fs::read_to_string(root.join("src").join(name)).with_context(|| format!("read {name}"))?;
        found.extend(mutants::of(name, &text));
    }
    if let Some(stale) = equivalents.iter().find(|known| !found.iter().any(|mutant| known.is(mutant))) {
        bail!("{}: no mutant of {} is `{}` in `{}`", file.display(), stale.file, stale.after, stale.line);
    }
    found.retain(|mutant| !equivalents.iter().any(|known| known.is(mutant)));
    Ok(found)
}

type Bytecodes = BTreeMap<&'static str, String>;

/// Builds the tests, and proves that they pass with contracts that were put in their places.
fn prepare(base: &Workspace) -> Result<Bytecodes> {
    ensure!(passes(base, &[])?, "the tests fail without any mistake: run the step `test`");
    let originals =
        compile(&mut Compiler::start(&base.root)?, base, &["Providers", "Rental", "Faults"], None)?;
    let originals = originals.context("the contracts don't compile without any mistake")?;
    put(base, &originals)?;
    ensure!(passes(base, &[])?, "the tests fail with contracts that were put in their places");
    Ok(originals)
}

fn verdict(
    compiler: &mut Compiler,
    place: &Workspace,
    originals: &Bytecodes,
    mutant: &Mutant,
) -> Result<Verdict> {
    let contracts = FILES.iter().find(|(file, _)| *file == mutant.file).map_or(&[][..], |(_, names)| names);
    let Some(mutated) = compile(compiler, place, contracts, Some(mutant))? else {
        return Ok(Verdict::Stillborn);
    };
    if mutated.iter().all(|(contract, bytecode)| originals.get(contract) == Some(bytecode)) {
        return Ok(Verdict::Stillborn);
    }
    put(place, &mutated)?;
    let survives = passes(place, QUICK)? && passes(place, &[])?;
    put(place, originals)?;
    Ok(if survives { Verdict::Survived } else { Verdict::Killed })
}

/// The contracts' bytecode, with a mistake or without; none where that doesn't compile.
fn compile(
    compiler: &mut Compiler,
    place: &Workspace,
    contracts: &[&'static str],
    mutant: Option<&Mutant>,
) -> Result<Option<Bytecodes>> {
    let mut sources = serde_json::Map::new();
    let mut wanted = serde_json::Map::new();
    let files = contracts.iter().map(|contract| format!("{contract}.sol"));
    for file in files.chain(mutant.map(|mutant| mutant.file.clone())) {
        let path = place.root.join("src").join(&file);
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let text = match mutant {
            Some(mutant) if mutant.file == file => mutant.applied_to(&text),
            _ => text,
        };
        sources.insert(format!("src/{file}"), json!({ "content": text }));
    }
    for contract in contracts {
        wanted.insert(format!("src/{contract}.sol"), json!({ *contract: ["evm.bytecode.object"] }));
    }
    let settings = json!({
        "evmVersion": "cancun",
        "optimizer": { "enabled": true, "runs": 1 },
        "metadata": { "bytecodeHash": "none", "appendCBOR": false },
        "outputSelection": wanted,
    });
    let answer =
        compiler.ask(&json!({ "language": "Solidity", "sources": sources, "settings": settings }))?;
    let bytecode = |contract: &&'static str| {
        let object =
            &answer["contracts"][format!("src/{contract}.sol")][*contract]["evm"]["bytecode"]["object"];
        Some((*contract, object.as_str().filter(|object| !object.is_empty())?.to_owned()))
    };
    Ok(contracts.iter().map(bytecode).collect())
}

/// Puts bytecode where the tests take it from.
fn put(place: &Workspace, bytecodes: &Bytecodes) -> Result<()> {
    for (contract, bytecode) in bytecodes {
        let path = place.root.join(format!("out/{contract}.sol/{contract}.json"));
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let mut artifact: Value = serde_json::from_str(&text).context("understand forge's artifact")?;
        artifact["bytecode"]["object"] = json!(format!("0x{bytecode}"));
        fs::write(&path, artifact.to_string()).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// Whether all tests pass; a run that ends otherwise than by tests that fail is an error.
fn passes(place: &Workspace, settings: &[(&str, &str)]) -> Result<bool> {
    let log = place.root.join("forge.log");
    let file = fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
    let mut forge: Command = place.forge(&["test", "--fail-fast"])?;
    forge.envs(SETTINGS.iter().chain(settings).copied()).stdin(Stdio::null());
    forge.stdout(file).stderr(Stdio::null());
    let mut running = forge.spawn().context("start forge")?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = running.try_wait().context("wait for forge")? {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            running.kill().context("end forge")?;
            running.wait().context("wait for forge")?;
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(20));
    };
    let text = fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))?;
    ensure!(
        status.success() || text.contains("[FAIL"),
        "forge ended with {status}, but no test failed: {}",
        paths_hint(&log)
    );
    ensure!(!status.success() || text.contains("tests passed"), "forge ran no tests: {}", paths_hint(&log));
    Ok(status.success())
}

fn paths_hint(log: &Path) -> String {
    let shown = paths::cache().ok().and_then(|cache| log.strip_prefix(cache).ok().map(Path::to_path_buf));
    format!("its log is {} in the cache", shown.unwrap_or_else(|| log.to_owned()).display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_known_equivalent_is_a_mutant_of_the_contracts_as_they_are() {
        let mutants = all(&super::super::folder()).expect("the mutants");
        assert!(mutants.len() > 500, "{} mutants", mutants.len());
        assert!(FILES.iter().all(|(file, _)| mutants.iter().any(|mutant| mutant.file == *file)));
    }

    #[test]
    fn a_score_is_rounded_down() {
        let outcome = |mutants, killed| Outcome { possible: 0, mutants, killed, survivors: Vec::new() };
        assert!((outcome(1000, 949).score() - 94.9).abs() < 0.01);
        assert!((outcome(10_000, 9499).score() - 94.9).abs() < 0.01);
        assert!(outcome(0, 0).score() < 0.1);
    }
}
