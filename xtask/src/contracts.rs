//! The contracts' tool chain: pinned npm packages, of which the native programs are called.
//!
//! The wrappers in `node_modules/.bin` end with 0 even when a test fails, so they are never used; a canary that must
//! fail proves that failures are seen.

mod analysis;
pub(crate) mod check;
mod compiler;
mod mutants;
mod mutation;
pub(crate) mod storage;
mod workspace;

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::{command, paths, progress};

fn folder() -> PathBuf {
    paths::repository().join("contracts")
}

/// A program of the Foundry tool chain, installed first where it isn't.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let installed = folder().join(format!("node_modules/@foundry-rs/{name}-linux-amd64/bin/{name}"));
    if !installed.exists() {
        let log = paths::logs()?.join("npm.log");
        progress::step("install the contract tool chain", Some(&log), || {
            let mut npm = Command::new("npm");
            npm.current_dir(folder()).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
            command::logged(&mut npm, &log)
        })?;
    }
    if installed.exists() { Ok(installed) } else { bail!("npm installed no {}", installed.display()) }
}

fn forge(arguments: &[&str]) -> Result<Command> {
    let forge = program("forge")?;
    let mut command = Command::new(forge);
    command.current_dir(folder()).args(arguments);
    Ok(command)
}

/// What each change must pass: format, build without warnings, tests, gas and layout as checked in, and the canary.
pub(crate) fn quick() -> Result<()> {
    let log = paths::logs()?.join("contracts.log");
    progress::step("contracts: format, build, tests", Some(&log), || {
        let _ = fs::remove_file(&log);
        format_is_kept()?;
        command::logged(forge(&["test"])?.env("FORGE_SNAPSHOT_CHECK", "true"), &log)?;
        storage::check()
    })?;
    let passed = command::tail(&log)
        .lines()
        .rev()
        .find_map(|line| line.contains("tests passed").then(|| line.to_owned()));
    progress::say(passed.unwrap_or_default());
    progress::step("contracts: the canary must fail", None, the_canary_fails)
}

fn format_is_kept() -> Result<()> {
    command::output(&mut forge(&["fmt", "--check"])?).map(drop)
}

fn the_canary_fails() -> Result<()> {
    let mut canary = forge(&["test", "--match-path", "test/canary/*"])?;
    // The profile leaves the canary out; here it alone is asked for.
    canary.env("FOUNDRY_NO_MATCH_PATH", "test/none/*");
    let output = canary.output().context("start forge")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() || !text.contains("test_this_must_fail") {
        bail!("the canary did not fail: failures of contract tests aren't seen\n{text}");
    }
    Ok(())
}

/// The contracts that are deployed, in the order in which one account creates them.
pub(crate) const DEPLOYED: [&str; 3] = ["Providers", "Rental", "Faults"];

/// The file that the Rust side reads, from the repository's root.
pub(crate) fn abi_file(contract: &str) -> String {
    format!("chain/abi/{contract}.json")
}

/// The files that the Rust side reads, as the contracts' build writes them: ABI and bytecode.
fn built_abis() -> Result<Vec<(String, String)>> {
    command::output(&mut forge(&["build", "src"])?)?;
    let abi = |contract: &str| {
        let artifact = folder().join(format!("out/{contract}.sol/{contract}.json"));
        let artifact =
            fs::read_to_string(&artifact).with_context(|| format!("read {}", artifact.display()))?;
        let artifact: Value = serde_json::from_str(&artifact).context("understand forge's artifact")?;
        let chosen = json!({ "abi": artifact["abi"], "bytecode": artifact["bytecode"]["object"] });
        Ok((abi_file(contract), serde_json::to_string_pretty(&chosen).context("write the ABI")? + "\n"))
    };
    DEPLOYED.into_iter().map(abi).collect()
}

/// Which committed ABIs aren't what the contracts' build writes.
pub(crate) fn stale_abis() -> Result<Vec<String>> {
    let is_stale = |(file, built): &(String, String)| {
        fs::read_to_string(paths::repository().join(file)).unwrap_or_default() != *built
    };
    Ok(built_abis()?.into_iter().filter(is_stale).map(|(file, _)| file).collect())
}

/// Writes ABIs and bytecode for the Rust side.
pub(crate) fn export_abis() -> Result<()> {
    built_abis()?.into_iter().try_for_each(|(file, built)| {
        let path = paths::repository().join(file);
        fs::write(&path, built).with_context(|| format!("write {}", path.display()))
    })
}
