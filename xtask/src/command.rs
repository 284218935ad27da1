//! Running other programs: quietly with a log, or for their output; a failure says which command and why.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// How much of a log a failure shows.
const TAIL_LINES: usize = 40;
/// How much of it where tests failed: all that they said, within reason.
const FAILURE_LINES: usize = 400;
/// The line from which on a test binary tells what failed and why.
const FAILURES: &str = "failures:";

/// Runs a command with its output appended to a log; on failure shows the log's end.
pub(crate) fn logged(command: &mut Command, log: &Path) -> Result<()> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let file = File::options().create(true).append(true).open(log);
    let file = file.with_context(|| format!("open the log {}", log.display()))?;
    let copy = file.try_clone().context("share the log")?;
    let status = command.stdin(Stdio::null()).stdout(file).stderr(copy).status();
    let status = status.with_context(|| format!("start {command:?}"))?;
    if status.success() {
        return Ok(());
    }
    bail!("{command:?} ended with {status}; the end of {}:\n{}", log.display(), tail(log))
}

/// Runs a command and returns what it printed; on failure its error output is in the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } = run(command)?;
    if !status.success() {
        bail!("{command:?} ended with {status}: {}", String::from_utf8_lossy(&stderr).trim());
    }
    String::from_utf8(stdout).with_context(|| format!("{command:?} printed what isn't text"))
}

/// Whether the command ended well; its output is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    run(command).is_ok_and(|output| output.status.success())
}

fn run(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| format!("start {command:?}"))
}

/// What an error message shows of a log: what the tests in it said of their failures, else its last lines.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    match lines.iter().position(|line| *line == FAILURES) {
        Some(first) => lines[first..lines.len().min(first + FAILURE_LINES)].join("\n"),
        None => lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"),
    }
}

/// cargo, without what it told this program of this program: a build script that looks at that would be run again each time.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    let ours = |name: &str| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(ours)) {
        cargo.env_remove(name);
    }
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_tests_own_words_are_shown_and_otherwise_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let noise = "noise\n".repeat(100);
        fs::write(&log, format!("{noise}failures:\n\n---- it stdout ----\nwhy\n{noise}")).expect("a log");
        assert!(tail(&log).starts_with("failures:\n\n---- it stdout ----\nwhy\nnoise"));
        fs::write(&log, format!("{noise}last")).expect("a log");
        assert_eq!(tail(&log).lines().count(), TAIL_LINES);
        assert!(tail(&log).ends_with("noise\nlast"));
    }
}
