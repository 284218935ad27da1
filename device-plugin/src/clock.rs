//! The meter's clock, which all looks and holdings are put by: it goes on whatever is done to the node's clock.
//!
//! It counts by `CLOCK_BOOTTIME`: nobody can set that, and a machine that sleeps is in it, as the pods on it hold their
//! GPUs meanwhile. A file beside the journal keeps it for the next process of this boot.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use plasma_device_plugin_core::{MeterClock, PodSeen, Reading};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::replace::replace;

const FILE: &str = "clock.json";

/// One for the whole process.
#[derive(Clone)]
pub(crate) struct Clock(Arc<Shared>);

struct Shared {
    /// Reads the machine's clocks.
    read: Box<dyn Fn() -> Reading + Send + Sync>,
    /// Names this boot; `None` where that can't be known.
    boot: Option<String>,
    file: PathBuf,
    state: Mutex<State>,
}

struct State {
    clock: MeterClock,
    /// What of it is in the file.
    kept: Option<MeterClock>,
    /// Whether the file holds something else than ours, which isn't written over.
    is_strange: bool,
    /// How the node's clock was set, in words, until somebody asks.
    news: Vec<String>,
}

/// The version of the file that this program writes, and the only one that it reads.
const VERSION: u32 = 1;

/// What the file says.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    boot: String,
    clock: MeterClock,
}

impl Clock {
    /// The one that an earlier process of this boot kept in that folder, or one that shows what the node's clock shows.
    pub(crate) fn open(folder: &Path) -> Self {
        Self::new(folder, boot(), read)
    }

    pub(crate) fn new(
        folder: &Path,
        boot: Option<String>,
        read: impl Fn() -> Reading + Send + Sync + 'static,
    ) -> Self {
        let state = State { clock: MeterClock::new(read()), kept: None, is_strange: false, news: Vec::new() };
        let shared = Shared { read: Box::new(read), boot, file: folder.join(FILE), state: Mutex::new(state) };
        let clock = Self(Arc::new(shared));
        clock.take_up();
        clock
    }

    /// Goes on with what is in the file, where that is of this boot: whoever has the journal wrote it.
    fn take_up(&self) {
        match self.read_kept() {
            Ok(Some(kept)) if Some(&kept.boot) == self.0.boot.as_ref() => {
                let mut state = self.state();
                (state.clock, state.kept) = (kept.clock.clone(), Some(kept.clock));
            }
            Ok(_) => {}
            Err(why) => {
                let file = self.0.file.display();
                tracing::warn!(
                    "{file} isn't understood ({why}): the meter's clock begins by the node's, and the file is put aside"
                );
                self.state().is_strange = true;
            }
        }
    }

    /// What the file says; `None` where there is none.
    ///
    /// # Errors
    /// In words: it isn't ours, or of another version.
    fn read_kept(&self) -> Result<Option<Kept>, String> {
        let Ok(bytes) = fs::read(&self.0.file) else { return Ok(None) };
        let kept: Kept = serde_json::from_slice(&bytes).map_err(|fault| fault.to_string())?;
        if kept.version != VERSION {
            return Err(format!("it is of version {}, and this program knows {VERSION}", kept.version));
        }
        Ok(Some(kept))
    }

    /// This process has the journal now, which ends at that moment.
    pub(crate) fn go_on_from(&self, ms: u64) {
        self.take_up();
        let now = (self.0.read)();
        self.state().clock.go_on_from(ms, now);
    }

    /// Milliseconds since 1970, by this clock.
    pub(crate) fn now_ms(&self) -> u64 {
        let now = (self.0.read)();
        let (at_ms, said) = {
            let mut state = self.state();
            let said = state.clock.observe(now).map(|by_ms| {
                let news = format!("the node's clock was set {}", words(by_ms));
                state.news.push(news.clone());
                (news, beside(state.clock.ahead_ms()))
            });
            (state.clock.at(now.boot_ms), said)
        };
        // Only now: a log that nobody reads must not hold up those who ask for the time.
        if let Some((news, beside)) = said {
            tracing::warn!("{news}: the meter's goes on as it did, {beside}");
        }
        at_ms
    }

    /// The pod with its times by this clock.
    pub(crate) fn pod(&self, pod: PodSeen) -> PodSeen {
        let now_ms = self.now_ms();
        self.state().clock.pod(pod, now_ms)
    }

    /// Forgets what was told of other pods: they are gone.
    pub(crate) fn forget_but(&self, is_there: impl Fn(&str) -> bool) {
        self.state().clock.forget_but(is_there);
    }

    /// How the node's clock was set since this was asked last.
    pub(crate) fn take_news(&self) -> Vec<String> {
        self.now_ms();
        std::mem::take(&mut self.state().news)
    }

    /// Writes it down, where it isn't. Only for who has the journal. Nobody who asks for the time waits for the disk.
    ///
    /// # Errors
    /// When the disk doesn't take it.
    pub(crate) fn keep(&self) -> io::Result<()> {
        let (clock, is_strange) = {
            let state = self.state();
            if state.kept.as_ref() == Some(&state.clock) {
                return Ok(());
            }
            (state.clock.clone(), state.is_strange)
        };
        let Some(boot) = self.0.boot.clone() else { return Ok(()) };
        let kept = Kept { version: VERSION, boot, clock };
        self.write(&kept, is_strange)
            .map_err(|fault| io::Error::new(fault.kind(), format!("{}: {fault}", self.0.file.display())))?;
        let mut state = self.state();
        (state.kept, state.is_strange) = (Some(kept.clock), false);
        Ok(())
    }

    fn write(&self, kept: &Kept, is_strange: bool) -> io::Result<()> {
        if is_strange {
            fs::rename(&self.0.file, self.0.file.with_extension("json.strange"))?;
        }
        replace(&self.0.file, &serde_json::to_vec(kept)?)
    }

    /// Each change of it is whole before anything could panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read() -> Reading {
    let boot = clock_gettime(ClockId::Boottime);
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = u64::try_from(boot.tv_sec).unwrap_or_default();
    let boot_ms = seconds.saturating_mul(1000) + u64::try_from(boot.tv_nsec / 1_000_000).unwrap_or_default();
    Reading { boot_ms, wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) }
}

/// Names this boot of the machine.
pub(crate) fn boot() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(boot.trim().to_owned())
}

/// In which direction, and by how much.
fn words(by_ms: i64) -> String {
    format!("{} by {}", if by_ms < 0 { "back" } else { "forward" }, seconds(by_ms))
}

/// How the node's clock is beside the meter's.
fn beside(ahead_ms: i64) -> String {
    match ahead_ms {
        0 => "and they agree".to_owned(),
        ..0 => format!("and the node's is {} behind", seconds(ahead_ms)),
        _ => format!("and the node's is {} ahead", seconds(ahead_ms)),
    }
}

fn seconds(ms: i64) -> String {
    let ms = ms.unsigned_abs();
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

#[cfg(test)]
mod tests;
