//! A process of the bench: it ends when its value goes, and when the bench itself is killed. What it costs is read from
//! the system.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::jiff::Timestamp;

use crate::{command, paths};

/// The unit of CPU times in /proc: Linux fixes it for all that programs see (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;
/// Of the fields of /proc/PID/stat after the name: CPU time in programs, and in the kernel for them.
const CPU_FIELDS: [usize; 2] = [11, 12];

/// A running process.
pub(super) struct Daemon {
    name: &'static str,
    child: Child,
    log: PathBuf,
    /// When it was started.
    pub(super) started: Timestamp,
}

/// Resident memory, in MiB.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Memory {
    /// Now.
    pub(super) now: f64,
    /// The most that it ever was.
    pub(super) peak: f64,
}

impl Daemon {
    /// Starts a program with arguments, the program first, and nothing in its environment but what is given.
    ///
    /// # Errors
    /// It can't be started.
    pub(super) fn start(
        name: &'static str,
        command: &[String],
        environment: &[(&str, &OsStr)],
    ) -> Result<Self> {
        let folder = paths::logs()?.join("bench-scheduler");
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        // It becomes the program itself, which the kernel then kills when we are gone, however that came.
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--pdeathsig", "KILL", "--"]).args(command);
        setpriv.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").envs(environment.iter().copied());
        setpriv.stdin(Stdio::null()).stdout(file.try_clone().context("share the log")?).stderr(file);
        // The bench alone decides when it ends: a terminal's Ctrl-C goes to the bench.
        std::os::unix::process::CommandExt::process_group(&mut setpriv, 0);
        let started = Timestamp::now();
        let child = setpriv.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { name, child, log, started })
    }

    /// # Errors
    /// It has ended; the error shows the end of its log.
    pub(super) fn is_running(&mut self) -> Result<()> {
        match self.child.try_wait().with_context(|| format!("ask after {}", self.name))? {
            None => Ok(()),
            Some(status) => {
                bail!(
                    "{} ended with {status}; the end of {}:\n{}",
                    self.name,
                    self.log.display(),
                    self.last_words()
                )
            }
        }
    }

    /// The end of its log.
    pub(super) fn last_words(&self) -> String {
        command::tail(&self.log)
    }

    /// Seconds of CPU time that it used so far.
    ///
    /// # Errors
    /// The system doesn't tell.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        let stat = self.of_system("stat")?;
        cpu_seconds(&stat).with_context(|| format!("the CPU time of {} in {stat:?}", self.name))
    }

    /// Its resident memory.
    ///
    /// # Errors
    /// The system doesn't tell.
    pub(super) fn memory(&self) -> Result<Memory> {
        let now = mebibytes(&self.of_system("smaps_rollup")?, "Rss:");
        let peak = mebibytes(&self.of_system("status")?, "VmHWM:");
        now.zip(peak)
            .map(|(now, peak)| Memory { now, peak })
            .with_context(|| format!("the system doesn't tell the memory of {}", self.name))
    }

    fn of_system(&self, file: &str) -> Result<String> {
        let file = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&file).with_context(|| format!("read {file} of {}", self.name))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The name, in brackets, may hold anything (proc_pid_stat(5)).
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = CPU_FIELDS.map(|at| fields.get(at).and_then(|field| field.parse::<u32>().ok()));
    Some((f64::from(ticks[0]?) + f64::from(ticks[1]?)) / TICKS_PER_SECOND)
}

/// A line `Name:   123 kB` of a file in /proc.
fn mebibytes(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u32 = rest.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(f64::from(kibibytes) / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_whatever_the_program_is_called() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 9 9 20 0 4 0 100 1000 10";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("7 (a) S 1"), None);
    }

    #[test]
    fn memory_is_told_in_mebibytes() {
        let text = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(mebibytes(text, "VmHWM:"), Some(2.0));
        assert_eq!(mebibytes(text, "Rss:"), None);
    }

    #[test]
    fn a_program_is_measured_while_it_runs_and_gone_with_its_value() {
        let command = ["sh", "-c", "echo last words; exec sleep 60"].map(str::to_owned);
        let mut daemon = Daemon::start("test-of-daemon", &command, &[]).expect("it starts");
        let pid = daemon.child.id();
        daemon.is_running().expect("it runs");
        assert!(daemon.memory().expect("its memory").peak > 0.0);
        assert!(daemon.cpu_seconds().expect("its CPU time") < 5.0);
        drop(daemon);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
        let failing = ["sh", "-c", "echo last words; exit 3"].map(str::to_owned);
        let mut daemon = Daemon::start("test-of-daemon-2", &failing, &[]).expect("it starts");
        let _ = daemon.child.wait();
        let fault = daemon.is_running().expect_err("it has ended").to_string();
        assert!(fault.contains("last words") && fault.contains('3'), "{fault}");
    }
}
