//! Long steps say what they do, how long they have taken, and where their log is.

use std::{
    fmt::Display,
    path::Path,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

/// How often a step that is still at work says so.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Says something that isn't a step.
pub(crate) fn say(text: impl Display) {
    eprintln!("  {text}");
}

/// Runs a step, saying when it begins, that it is still at work, and how it ended.
pub(crate) fn step<T>(what: &str, log: Option<&Path>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let log = log.map(|log| format!(" (log: {})", log.display())).unwrap_or_default();
    eprintln!("▸ {what}{log}");
    let begun = Instant::now();
    let (done, wait) = mpsc::channel::<()>();
    let name = what.to_owned();
    let heartbeat = thread::spawn(move || {
        while wait.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
            eprintln!("  … {name}: {} so far", elapsed(begun));
        }
    });
    let outcome = work();
    drop(done);
    // The thread only prints; that it might have panicked changes nothing about the outcome.
    let _ = heartbeat.join();
    match &outcome {
        Ok(_) => eprintln!("✓ {what}, {}", elapsed(begun)),
        Err(_) => eprintln!("✗ {what}, {}{log}", elapsed(begun)),
    }
    outcome
}

/// Minutes and seconds, or seconds with one decimal where it was short.
pub(crate) fn elapsed(since: Instant) -> String {
    words(since.elapsed())
}

fn words(time: Duration) -> String {
    let whole = time.as_secs();
    if whole < 60 {
        format!("{:.1}s", time.as_secs_f64().min(59.9))
    } else {
        format!("{}m{:02}s", whole / 60, whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_sixty_seconds() {
        for (millis, text) in
            [(0, "0.0s"), (12_340, "12.3s"), (59_990, "59.9s"), (60_000, "1m00s"), (119_900, "1m59s")]
        {
            assert_eq!(words(Duration::from_millis(millis)), text);
        }
    }
}
