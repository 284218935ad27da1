//! What must go on as long as the program does. A part that ended alone would leave half a plugin that looks like a whole one.

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
    thread,
};

use plasma_runtime::CancellationToken;

/// Watches over the parts of the program: where one panics, or ends before the program is asked to, the program ends, and whoever
/// started it starts it anew, whole.
#[derive(Clone)]
pub(crate) struct Vital {
    shutdown: CancellationToken,
    /// Which part ended first, and how.
    fault: Arc<OnceLock<String>>,
}

impl Vital {
    /// `shutdown` is the wish that the program ends, whoever has it.
    pub(crate) fn new(shutdown: CancellationToken) -> Self {
        Self { shutdown, fault: Arc::default() }
    }

    /// Runs a task that never ends before the program.
    pub(crate) fn spawn(&self, part: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let vital = self.clone();
        tokio::spawn(async move {
            match tokio::spawn(task).await {
                Ok(()) => vital.has_ended(part, "it came to an end"),
                Err(fault) => match fault.try_into_panic() {
                    Ok(panic) => vital.has_ended(part, &of_panic(&*panic)),
                    Err(fault) => vital.has_ended(part, &fault.to_string()),
                },
            }
        });
    }

    /// Runs a thread that never ends before the program.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn thread(&self, name: &'static str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let vital = self.clone();
        let watched = move || match caught(run) {
            Ok(()) => vital.has_ended(name, "it came to an end"),
            Err(why) => vital.has_ended(name, &why),
        };
        thread::Builder::new().name(name.to_owned()).spawn(watched).map(drop)
    }

    /// How the program ends: an error where a part of it was the first.
    pub(crate) fn outcome(&self) -> Result<(), String> {
        self.fault.get().map_or(Ok(()), |fault| Err(fault.clone()))
    }

    fn has_ended(&self, part: &str, how: &str) {
        if self.shutdown.is_cancelled() {
            return;
        }
        // Only the first one is the cause.
        let _ = self
            .fault
            .set(format!("{part}: {how}; without it this is no device plugin, so it ends to begin anew"));
        self.shutdown.cancel();
    }
}

/// What it says, or in words that it panicked.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| of_panic(&*panic))
}

fn of_panic(panic: &(dyn Any + Send)) -> String {
    let literal = panic.downcast_ref::<&str>().copied();
    let said = literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked ({}), which is a bug", said.unwrap_or("it said nothing"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn fault_of(begin: impl FnOnce(&Vital)) -> String {
        let shutdown = CancellationToken::new();
        let vital = Vital::new(shutdown.clone());
        begin(&vital);
        let ended = tokio::time::timeout(Duration::from_secs(10), shutdown.cancelled()).await;
        assert!(ended.is_ok(), "the program goes on without a part of it");
        vital.outcome().unwrap_err()
    }

    #[tokio::test]
    async fn a_part_that_ends_however_it_does_ends_the_program_and_is_named() {
        let of_task = fault_of(|vital| vital.spawn("labels", async { panic!("no {}", 1) })).await;
        assert!(of_task.starts_with("labels: it panicked (no 1)"), "{of_task}");
        let of_task = fault_of(|vital| vital.spawn("labels", async {})).await;
        assert!(of_task.starts_with("labels: it came to an end"), "{of_task}");
        let of_thread = fault_of(|vital| vital.thread("nvml", || panic!("no")).unwrap()).await;
        assert!(of_thread.starts_with("nvml: it panicked (no)"), "{of_thread}");
        let of_thread = fault_of(|vital| vital.thread("nvml", || {}).unwrap()).await;
        assert!(of_thread.starts_with("nvml: it came to an end"), "{of_thread}");
    }

    #[tokio::test]
    async fn at_the_programs_own_end_its_parts_may_end() {
        let shutdown = CancellationToken::new();
        let vital = Vital::new(shutdown.clone());
        shutdown.cancel();
        let (ended, wait) = std::sync::mpsc::channel::<()>();
        vital.thread("nvml", move || drop(ended)).unwrap();
        assert!(wait.recv().is_err(), "the thread has ended");
        vital.spawn("labels", async {});
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(vital.outcome(), Ok(()));
    }
}
