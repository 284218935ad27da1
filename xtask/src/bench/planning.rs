//! What planning costs on large clusters where much waits, in the core alone: no API server, no clock but the CPU's.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::json;

use super::figures::rounded;
use crate::{command, programs, progress};

/// What is measured, each in a process of its own.
const SITUATIONS: [&str; 6] = ["kinds", "misfits", "anti-affinity", "victims", "daemons", "residents"];

#[derive(Debug, Deserialize)]
struct Figure {
    name: String,
    value: f64,
    unit: String,
}

/// Measures everything.
///
/// # Errors
/// The bench can't be compiled, or what it plans isn't what it should be.
pub(super) fn run(json: bool) -> Result<()> {
    let program = programs::planning_bench()?;
    for situation in SITUATIONS {
        let mut measure = Command::new(&program);
        let text = command::output(measure.arg(situation)).with_context(|| format!("measure {situation}"))?;
        let figures = text.lines().map(serde_json::from_str).collect::<serde_json::Result<Vec<Figure>>>();
        let figures = figures.with_context(|| format!("read the figures of {situation}"))?;
        ensure!(!figures.is_empty(), "{situation}: nothing was measured");
        for Figure { name, value, unit } in figures {
            ensure!(value.is_finite(), "{situation}: {name} is {value}");
            progress::say(format!("{name:64} {:>10} {unit}", rounded(value)));
            if json {
                let value = rounded(value);
                println!(
                    "{}",
                    json!({ "situation": situation, "name": name.trim(), "value": value, "unit": unit })
                );
            }
        }
    }
    Ok(())
}
