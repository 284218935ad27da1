//! What isn't NVML's to say is added to what it says here.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use plasma_device_plugin_core::HandOver;
use tokio::sync::watch;

use super::{Judged, Observed};

/// Adds what isn't NVML's to say.
#[derive(Clone)]
pub(crate) struct Publisher {
    pub(super) observed: Arc<watch::Sender<Observed>>,
    pub(super) look_soon: Arc<AtomicBool>,
}

impl Publisher {
    /// Says whether GPUs can be handed over. The same again wakes nobody.
    pub(crate) fn hand_over(&self, now: HandOver) {
        self.observed.send_if_modified(|observed| {
            let changes = observed.hand_over != now;
            observed.hand_over = now;
            changes
        });
    }

    /// Says which GPUs are dirty, and which aren't known to be clean yet.
    pub(crate) fn judged(&self, now: Judged) {
        self.observed.send_modify(|observed| observed.judged = Some(now));
    }

    /// Asks for a look as soon as one may be.
    pub(crate) fn look_soon(&self) {
        self.look_soon.store(true, Ordering::Relaxed);
    }
}
