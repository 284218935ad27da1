//! What planning costs on large clusters where much waits: CPU time and memory of the core alone, as lines of JSON. Run by
//! `cargo xtask bench planning`, each situation in a process of its own.

mod objects;
mod situations;

use std::{error::Error, fs};

use rustix::time::{ClockId, clock_gettime};

/// What was measured.
struct Figure {
    name: &'static str,
    value: f64,
    unit: &'static str,
}

fn main() -> Result<(), Box<dyn Error>> {
    let asked = std::env::args().nth(1);
    let Some((_, measure)) = situations::ALL.iter().find(|(name, _)| asked.as_deref() == Some(*name)) else {
        let names: Vec<&str> = situations::ALL.iter().map(|(name, _)| *name).collect();
        return Err(format!("name a situation: {}", names.join(", ")).into());
    };
    for Figure { name, value, unit } in measure()? {
        println!("{}", serde_json::json!({ "name": name, "value": value, "unit": unit }));
    }
    Ok(())
}

/// For how long this process has used a CPU, in milliseconds.
#[expect(clippy::cast_precision_loss, reason = "a few hours in nanoseconds")]
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

/// What of memory is this process's own, in MiB.
fn memory() -> Result<f64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
