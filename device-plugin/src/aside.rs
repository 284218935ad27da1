//! Questions to a driver that may never answer: they are asked on a thread that is left behind when it is late.

use std::{sync::mpsc, thread, time::Duration};

use clap::Args;

use crate::vital;

/// How long the driver is waited for.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct PatienceArgs {
    /// A driver that hasn't answered within so many seconds is one that hangs, 1 to 50.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=50))]
    patience_seconds: u64,
}

impl PatienceArgs {
    pub(crate) fn patience(self) -> Duration {
        Duration::from_secs(self.patience_seconds)
    }
}

/// Why there is nothing to show, or not everything.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// In words.
    Refused(String),
    /// The driver didn't answer in time, in words.
    Hangs(String),
}

impl From<String> for Fault {
    fn from(why: String) -> Self {
        Self::Refused(why)
    }
}

/// What comes of the work, if it comes in time.
///
/// # Errors
/// When it is late: its thread is left behind, and ends with the program. When it panics.
pub(crate) fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    let (say, hear) = mpsc::channel();
    // Whoever listens may have given up: nobody is left to be told.
    thread::spawn(move || drop(say.send(vital::caught(work))));
    match hear.recv_timeout(patience) {
        Ok(done) => done.map_err(Fault::Refused),
        Err(_) => Err(Fault::Hangs(format!(
            "the driver has not answered for {patience:?}, so it hangs; plasma-device-plugin check says at which question"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_is_left_behind_and_what_panics_is_said() {
        let second = Duration::from_secs(1);
        assert_eq!(within(10 * second, || 7), Ok(7));
        let (end, ended) = mpsc::channel::<()>();
        let Err(Fault::Hangs(why)) = within(second / 20, move || ended.recv()) else { panic!("it waits") };
        assert!(why.contains("has not answered for 50ms"), "{why}");
        drop(end);
        let Err(Fault::Refused(why)) = within(10 * second, || panic!("no")) else { panic!("it is done") };
        assert!(why.contains("it panicked (no)"), "{why}");
    }
}
