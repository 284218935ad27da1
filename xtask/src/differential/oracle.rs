//! kube-scheduler's own filters: the program of `e2e/scheduler-oracle`, asked case by case.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::{
    case::Case,
    verdicts::{Refused, Verdicts},
};
use crate::tools;

/// The program, running.
pub(super) struct Oracle {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// The filters of kube-scheduler's default profile, in its order.
    pub(super) filters: Vec<String>,
}

#[derive(Deserialize)]
struct Greeting {
    filters: Vec<String>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    incoming: Option<Vec<OfPod>>,
    fault: Option<String>,
    #[serde(default)]
    invalid: Vec<String>,
}

#[derive(Deserialize)]
struct OfPod {
    refusals: Vec<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    node: String,
    filter: String,
    message: String,
}

impl Oracle {
    /// Builds it where this version of it isn't in the cache, and starts it.
    pub(super) fn start() -> Result<Self> {
        let program = tools::build(&tools::SCHEDULER_ORACLE)?.join("scheduler-oracle");
        let mut process = Command::new(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let questions = process.stdin.take().context("the oracle has no input")?;
        let mut answers = BufReader::new(process.stdout.take().context("the oracle has no output")?);
        let mut line = String::new();
        answers.read_line(&mut line).context("hear of the oracle's filters")?;
        let greeting: Greeting =
            serde_json::from_str(&line).with_context(|| format!("the oracle says {line:?}"))?;
        Ok(Self { process, questions, answers, filters: greeting.filters })
    }

    /// What kube-scheduler says of a case.
    ///
    /// # Errors
    /// The case holds what no API server would store or what the program doesn't understand, or the program is gone.
    pub(super) fn ask(&mut self, case: &Case) -> Result<Verdicts> {
        let mut line = serde_json::to_vec(case).context("write a case")?;
        line.push(b'\n');
        self.questions.write_all(&line).context("ask the oracle")?;
        let mut line = String::new();
        self.answers.read_line(&mut line).context("hear the oracle")?;
        let answer: Answer =
            serde_json::from_str(&line).with_context(|| format!("the oracle says {line:?}"))?;
        if let Some(fault) = answer.fault {
            bail!("the oracle has no answer: {fault}");
        }
        ensure!(answer.invalid.is_empty(), "no API server stores that: {}", answer.invalid.join("; "));
        let of_pod = |pod: OfPod| {
            let one =
                |refusal: Refusal| (Refused { node: refusal.node, filter: refusal.filter }, refusal.message);
            pod.refusals.into_iter().map(one).collect()
        };
        Ok(answer.incoming.unwrap_or_default().into_iter().map(of_pod).collect())
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // It is asked nothing any more; that it has gone already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
