//! The thread that owns NVML: it looks at the GPUs again and again, loads the library anew when that fails, and publishes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use plasma_device_plugin_core::{Gpu, GpuState, Occupancy, Scan, Seen, offers};
use tokio::sync::watch;

use super::{
    Looked, Observed,
    log::{log_changes, log_offers},
};
use crate::{
    backoff::Backoff,
    clock::Clock,
    limits::Limiter,
    metrics::LookMetrics,
    nvml::{Figures, Library, Session, Source},
    vital,
};

/// How often the GPUs' events are taken in.
const HEAR: Duration = Duration::from_millis(200);
/// Where a GPU isn't healthy the next look comes this soon.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// A library that couldn't be used is tried again after this long at first, then twice as long each time.
const RELOAD_FIRST: Duration = Duration::from_secs(1);
const RELOAD_LAST: Duration = Duration::from_secs(30);

/// Looks again and again, and publishes what it sees.
pub(super) struct Looker {
    pub(super) publish: Arc<watch::Sender<Observed>>,
    pub(super) look_soon: Arc<AtomicBool>,
    pub(super) period: Duration,
    pub(super) metrics: LookMetrics,
    pub(super) clock: Clock,
    /// `None` where no GPU is shared, or another plugin shares them.
    pub(super) limiter: Option<Limiter>,
}

impl Looker {
    /// Until nobody asks any more, which is the end of the program. What a look says is whether any succeeded, or why there was
    /// none; one that panics is said, and the next one begins with a library that is loaded anew.
    pub(super) fn look_forever(&mut self, mut look: impl FnMut(&mut Self, u64) -> Result<bool, String>) {
        let mut backoff = Backoff::new(RELOAD_FIRST, RELOAD_LAST);
        for session in 0.. {
            if self.publish.is_closed() {
                return;
            }
            let looked = vital::caught(|| look(self, session))
                .unwrap_or_else(|why| Err(format!("the GPUs can't be looked at: {why}; it begins again")));
            if looked == Ok(true) {
                backoff.reset();
            }
            // The library is gone by the time of the pause: a driver is only reloaded when nobody has it open.
            let pause = backoff.pause();
            if let Err(fault) = looked {
                tracing::debug!("trying again in {pause:?}");
                self.tell(Scan::Failed(fault), Vec::new(), None, pause);
            }
            thread::sleep(pause);
        }
    }

    /// Whether any look succeeded before the library failed.
    ///
    /// # Errors
    /// In words: it can't be loaded.
    pub(super) fn look_while_it_answers(&mut self, source: &Source, session: u64) -> Result<bool, String> {
        let library = Library::load(source).inspect_err(|_| self.metrics.not_loaded())?;
        let substitute = library.is_substitute();
        tracing::info!(substitute, "NVML is loaded from {}", library.file().display());
        Ok(self.look_until_it_fails(&library, session))
    }

    /// Returns when the library itself fails, so that it is loaded anew: a driver that was reloaded needs that.
    /// Says whether there was any look that succeeded.
    fn look_until_it_fails(&mut self, library: &Library, number: u64) -> bool {
        let mut session = Session::new(library, number);
        if let Some(limiter) = &mut self.limiter {
            limiter.begin();
        }
        let mut succeeded = false;
        while !self.publish.is_closed() {
            let begun = Instant::now();
            let (scan, figures) = session.look();
            self.metrics.looked(!matches!(scan, Scan::Failed(_)), begun.elapsed());
            self.metrics.heard(session.news());
            if matches!(scan, Scan::Failed(_)) {
                self.tell(scan, figures, Some(library.is_substitute()), RELOAD_LAST);
                return succeeded;
            }
            succeeded = true;
            self.note_occupancies(begun, session.occupancies(answered(&scan)));
            self.tell(scan, figures, Some(library.is_substitute()), self.period);
            self.keep_limits(&session);
            self.wait_for_next_look(&mut session);
        }
        succeeded
    }

    /// Until the next look is due, or an event or somebody else asks for one.
    fn wait_for_next_look(&mut self, session: &mut Session<'_>) {
        let pause = if self.all_healthy() { self.period } else { self.period.min(LOOK_AGAIN) };
        let due = Instant::now() + pause;
        loop {
            // A container takes memory from its first moment: its limit can't wait for a look.
            if self.limiter.as_ref().is_some_and(Limiter::is_due) {
                self.keep_limits(session);
            }
            // Before anything is heard: a storm of events, or whatever else asks for looks, has no more than five a second.
            thread::sleep(HEAR.min(due.saturating_duration_since(Instant::now())));
            let is_asked_for = self.look_soon.swap(false, Ordering::Relaxed) | session.hear();
            if is_asked_for || Instant::now() >= due || self.publish.is_closed() {
                return;
            }
        }
    }

    /// Sees to the limits of those who share GPUs. Whoever asks is told; nobody is woken but for what changes.
    fn keep_limits(&mut self, session: &Session<'_>) {
        let Some(limiter) = &mut self.limiter else { return };
        let (inventory, policy) = {
            let observed = self.publish.borrow();
            (observed.inventory.clone(), observed.policy.clone())
        };
        let limits = limiter.keep(session, &inventory, &policy);
        self.publish.send_if_modified(|observed| {
            let is_other = observed.limits.obstacle != limits.obstacle;
            observed.limits = limits;
            is_other
        });
    }

    /// Who uses the GPUs. Nobody is woken: what the look saw is published next.
    fn note_occupancies(&self, begun: Instant, occupancies: BTreeMap<String, Occupancy>) {
        self.publish.send_if_modified(|observed| {
            observed.occupancies = Some((begun, occupancies));
            false
        });
    }

    fn all_healthy(&self) -> bool {
        let believed = self.publish.borrow().believed();
        believed.gpus().iter().all(|(_, state)| **state == GpuState::Healthy)
    }

    /// Publishes what was seen; `next` is how long it will take until there is an attempt to see more.
    fn tell(&self, scan: Scan, figures: Vec<Figures>, simulated: Option<bool>, next: Duration) {
        let session = match &scan {
            Scan::Looked(look) => Some(look.session),
            Scan::Failed(_) => None,
        };
        let before = self.publish.borrow().inventory.clone();
        let at_ms = self.clock.now_ms();
        self.publish.send_modify(|observed| {
            if let Some(session) = session {
                let number = observed.looked.map_or(1, |last| last.number + 1);
                observed.looked = Some(Looked { number, session, at_ms });
            }
            observed.inventory.observe(scan);
            observed.note_pending();
            observed.figures = figures;
            observed.simulated = simulated.unwrap_or(observed.simulated);
            observed.good_until = Instant::now() + next + observed.patience;
        });
        // Only now: a log that nobody reads must not hold up those who ask for a GPU.
        let (now, policy) = {
            let observed = self.publish.borrow();
            (observed.inventory.clone(), observed.policy.clone())
        };
        log_changes(&before, &now);
        log_offers(&offers(&before, &policy), &offers(&now, &policy));
    }
}

/// The GPUs that answered, and their parts.
fn answered(scan: &Scan) -> impl Iterator<Item = &str> {
    let gpus = match scan {
        Scan::Looked(look) => look.gpus.as_slice(),
        Scan::Failed(_) => &[],
    };
    let answered = gpus.iter().filter_map(|seen| match seen {
        Seen::Answered { gpu, .. } => Some(gpu),
        Seen::Silent(_) => None,
    });
    answered.flat_map(Gpu::uuids)
}

#[cfg(test)]
mod tests;
