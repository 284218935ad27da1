//! halmos, which proves the money rules, and slither, which looks for known kinds of faults.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{folder, program, workspace::Workspace};
use crate::{command, paths, progress};

/// Findings of these weights must not be.
const GRAVE: [&str; 2] = ["High", "Medium"];

/// The programs of both, in an environment of their own; installed first where these versions aren't there.
fn environment() -> Result<PathBuf> {
    let pinned = folder().join("requirements.txt");
    let text = fs::read(&pinned).with_context(|| format!("read {}", pinned.display()))?;
    let version = hex::encode(&Sha256::digest(&text)[..6]);
    let root = paths::cache()?.join(format!("tools/contracts-python-{version}"));
    let finished = root.join("finished");
    if finished.exists() {
        return Ok(root.join("bin"));
    }
    let log = paths::logs()?.join("contracts-python.log");
    progress::step("install halmos and slither", Some(&log), || {
        // Its programs name their folder, so it is made in its place, and says itself when it is whole.
        let _ = fs::remove_dir_all(&root);
        command::logged(Command::new("python3").args(["-m", "venv"]).arg(&root), &log)?;
        let mut pip = Command::new(root.join("bin/pip"));
        pip.args(["install", "--disable-pip-version-check", "--no-deps", "--requirement"]).arg(&pinned);
        command::logged(&mut pip, &log)?;
        fs::write(&finished, "").with_context(|| format!("write {}", finished.display()))
    })?;
    Ok(root.join("bin"))
}

/// A program of the environment, which finds forge and the environment's other programs.
fn tool(name: &str, place: &Workspace) -> Result<Command> {
    let bin = environment()?;
    let forge = program("forge")?;
    let own = [bin.as_path(), forge.parent().unwrap_or(&forge)].map(PathBuf::from);
    let known = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&known)));
    let mut command = Command::new(bin.join(name));
    command.current_dir(&place.root).env("PATH", path.context("join the search path")?);
    Ok(command)
}

/// What an analysis says: how many things were looked at or found, and those that must not be.
pub(super) struct Said {
    pub(super) count: usize,
    pub(super) faults: Vec<String>,
}

/// Proves the theorems of `LedgerProof`, which is compiled with the ledger alone.
pub(super) fn prove() -> Result<Said> {
    let place = Workspace::with("proofs", &["src/Ledger.sol", "test/LedgerProof.t.sol"])?;
    let file = place.root.join("proofs.json");
    let _ = fs::remove_file(&file);
    let log = paths::logs()?.join("contracts-proofs.log");
    let _ = fs::remove_file(&log);
    let mut halmos = tool("halmos", &place)?;
    halmos.args(["--contract", "LedgerProof", "--json-output"]).arg(&file);
    let ended = command::logged(&mut halmos, &log);
    let Ok(text) = fs::read_to_string(&file) else {
        ended?;
        bail!("halmos proved nothing, and said nothing");
    };
    let answer: Value = serde_json::from_str(&text).context("understand halmos")?;
    let suites = answer["test_results"].as_object().into_iter().flatten();
    let theorems: Vec<&Value> =
        suites.flat_map(|(_, theorems)| theorems.as_array().into_iter().flatten()).collect();
    if theorems.is_empty() {
        bail!("halmos found no theorem");
    }
    let disproved = theorems.iter().filter(|theorem| theorem["exitcode"] != 0);
    let name = |theorem: &&Value| {
        let signature = theorem["name"].as_str().unwrap_or_default();
        format!("not proved: {} (log: {})", signature.split('(').next().unwrap_or_default(), log.display())
    };
    Ok(Said { count: theorems.len(), faults: disproved.map(name).collect() })
}

/// Findings in our own code; the packages have their own auditors.
pub(super) fn slither() -> Result<Said> {
    let place = Workspace::with("slither", &["src"])?;
    let file = place.root.join("slither.json");
    let _ = fs::remove_file(&file);
    let log = paths::logs()?.join("contracts-slither.log");
    let _ = fs::remove_file(&log);
    let mut slither = tool("slither", &place)?;
    slither.args([".", "--filter-paths", "node_modules", "--fail-none", "--json"]).arg(&file);
    command::logged(&mut slither, &log)?;
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let answer: Value = serde_json::from_str(&text).context("understand slither")?;
    if answer["success"] != true {
        bail!("slither didn't come to its end: {}", answer["error"]);
    }
    let found = answer["results"]["detectors"].as_array().into_iter().flatten();
    let grave: Vec<String> = found
        .filter(|finding| GRAVE.iter().any(|weight| finding["impact"] == *weight))
        .map(|finding| {
            let words = finding["description"].as_str().unwrap_or_default();
            let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
            format!(
                "slither: {} ({}): {words}",
                finding["check"].as_str().unwrap_or_default(),
                finding["impact"]
            )
        })
        .collect();
    Ok(Said { count: grave.len(), faults: grave })
}
