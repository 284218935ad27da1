//! The processes on the host that hold the node or lead into it: found by the program that they run, and ended.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{layout::Layout, retry};

/// How long a node with many processes takes to end, at the very most.
const PATIENCE: Duration = Duration::from_secs(15);

/// Ends all of them, and with the node's first process every process of the node.
pub(crate) fn end_all(layout: &Layout) -> Result<()> {
    let ours = of(layout);
    for pid in &ours {
        let raw = Pid::from_raw(*pid).context("a process id")?;
        // Whoever ended meanwhile is no fault.
        let _ = kill_process(raw, Signal::KILL);
    }
    retry(PATIENCE, || {
        let left: Vec<_> = ours.iter().filter(|pid| !has_ended(**pid)).collect();
        if left.is_empty() {
            return Ok(());
        }
        bail!("processes {left:?} don't end: a process of the node may be stuck in the kernel")
    })
}

/// Also those that no file names, because whoever started them was interrupted.
fn of(layout: &Layout) -> Vec<i32> {
    let program = layout.program().display().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    pids.filter(|pid| runs(*pid, &program)).collect()
}

/// Whether the process is one of ours: `unshare` names our program among its arguments.
pub(crate) fn runs(pid: i32, program: &str) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = command.split(|byte| *byte == 0);
    words.any(|word| word == program.as_bytes()) && words.next() == Some(b"cluster")
}

/// A dying process lets its memory go first, and its name with it; the first process of a PID namespace becomes a zombie
/// only when everyone else in there has ended.
fn has_ended(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")) else {
        return true;
    };
    // The state follows the name, which is in brackets and may hold anything (proc_pid_stat(5)).
    let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
    matches!(state, Some("Z" | "X") | None)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_known_by_its_program_and_ended_when_nothing_of_it_runs() {
        let mut child = Command::new("sh")
            .args(["-c", "read wait", "sh", "/state/xtask", "cluster", "forward"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        let pid = i32::try_from(child.id()).expect("a process id");
        let mut found = false;
        for _ in 0..100 {
            found |= runs(pid, "/state/xtask");
            std::thread::sleep(Duration::from_millis(if found { 0 } else { 10 }));
        }
        assert!(found && !runs(pid, "/state") && !has_ended(pid));
        child.kill().expect("it ends");
        let ended = retry(PATIENCE, || has_ended(pid).then_some(()).context("it doesn't end"));
        child.wait().expect("it ended");
        ended.expect("a zombie has ended");
        assert!(has_ended(pid), "and so has a process that is gone");
    }
}
