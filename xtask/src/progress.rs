//! Long steps say what they do, how far they are, how long they have taken, and where their log is.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

/// How often a step that is still at work says so.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// How much of a log's line is shown, in characters.
const LINE: usize = 90;

/// Says something that isn't a step.
pub(crate) fn say(text: impl Display) {
    eprintln!("  {text}");
}

/// Says which part of the whole begins.
pub(crate) fn part(at: usize, of: usize, what: impl Display) {
    eprintln!("— {at} of {of}: {what}");
}

/// Runs a step, saying when it begins, that it is still at work, and how it ended.
pub(crate) fn step<T>(what: &str, log: Option<&Path>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let place = log.map(|log| format!(" (log: {})", log.display())).unwrap_or_default();
    eprintln!("▸ {what}{place}");
    let begun = Instant::now();
    let (done, wait) = mpsc::channel::<()>();
    let (name, log) = (what.to_owned(), log.map(Path::to_path_buf));
    let heartbeat = thread::spawn(move || {
        while wait.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
            eprintln!("  … {name}: {} so far{}", elapsed(begun), how_far(log.as_ref()));
        }
    });
    let outcome = work();
    drop(done);
    // The thread only prints; that it might have panicked changes nothing about the outcome.
    let _ = heartbeat.join();
    match &outcome {
        Ok(_) => eprintln!("✓ {what}, {}", elapsed(begun)),
        Err(_) => eprintln!("✗ {what}, {}{place}", elapsed(begun)),
    }
    outcome
}

/// What a step is at: the last line of its log, and how many there are.
fn how_far(log: Option<&PathBuf>) -> String {
    let text = log.and_then(|log| std::fs::read(log).ok()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let Some(last) = text.lines().rfind(|line| !line.trim().is_empty()) else { return String::new() };
    let last: String = last.trim().chars().take(LINE).collect();
    format!(", {} lines of log, now: {last}", text.lines().count())
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
    fn how_far_a_step_is_shows_in_its_log() {
        assert_eq!(how_far(None), "");
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("step.log");
        assert_eq!(how_far(Some(&log)), "", "nothing yet");
        std::fs::write(&log, "Compiling one\n  Compiling two\n\n").expect("a log");
        assert_eq!(how_far(Some(&log)), ", 3 lines of log, now: Compiling two");
    }

    #[test]
    fn a_minute_has_sixty_seconds() {
        for (millis, text) in
            [(0, "0.0s"), (12_340, "12.3s"), (59_990, "59.9s"), (60_000, "1m00s"), (119_900, "1m59s")]
        {
            assert_eq!(words(Duration::from_millis(millis)), text);
        }
    }
}
