//! The Solidity compiler, loaded once and asked many times.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// A compiler at work in a folder with `tools/` and `node_modules/`; it ends when this is dropped.
pub(super) struct Compiler {
    running: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Compiler {
    pub(super) fn start(root: &Path) -> Result<Self> {
        super::program("forge")?;
        let mut solc = Command::new(root.join("tools/solc"));
        solc.current_dir(root).args(["--lines", "--include-path", "node_modules"]);
        let mut running =
            solc.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start the compiler")?;
        let questions = running.stdin.take().context("the compiler has no input")?;
        let answers = running.stdout.take().context("the compiler has no output")?;
        Ok(Self { running, questions, answers: BufReader::new(answers) })
    }

    /// What it answers to its standard JSON.
    pub(super) fn ask(&mut self, question: &Value) -> Result<Value> {
        writeln!(self.questions, "{question}").context("ask the compiler")?;
        let mut answer = String::new();
        let length = self.answers.read_line(&mut answer).context("hear the compiler")?;
        ensure!(length != 0, "the compiler ended without an answer");
        serde_json::from_str(&answer).context("understand the compiler")
    }
}

impl Drop for Compiler {
    fn drop(&mut self) {
        // It keeps nothing, and has nobody to answer to any more; that it may have ended already is no matter.
        let _ = self.running.kill();
        let _ = self.running.wait();
    }
}
