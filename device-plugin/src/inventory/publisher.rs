//! Who else has a word in what is published of the GPUs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use plasma_device_plugin_core::HandOver;
use tokio::sync::watch;

use super::Observed;

/// Which GPUs aren't given to pods because of who uses them, or may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Those that somebody uses although no pod holds them, and how.
    pub(crate) dirty: BTreeMap<String, String>,
    /// Those whose pod has just ended, which no look has found clean since; and those that an init container may be using, of
    /// which nobody tells. It is no fault.
    pub(crate) unsure: BTreeSet<String>,
    /// Those that a pod holds in another way than they are offered, and how. They are well, and the pod's time on them counts.
    pub(crate) otherwise: BTreeMap<String, String>,
}

/// Adds what isn't NVML's to say.
#[derive(Clone)]
pub(crate) struct Publisher {
    pub(super) observed: Arc<watch::Sender<Observed>>,
    pub(super) look_soon: Arc<AtomicBool>,
}

impl Publisher {
    /// As if a look had just been published.
    #[cfg(test)]
    pub(crate) fn for_tests(observed: Observed) -> (Self, watch::Receiver<Observed>) {
        let (observed, receive) = watch::channel(observed);
        (Self { observed: Arc::new(observed), look_soon: Arc::default() }, receive)
    }

    /// As if a look had seen this.
    #[cfg(test)]
    pub(crate) fn look(&self, scan: plasma_device_plugin_core::Scan) {
        self.observed.send_modify(|observed| {
            observed.inventory.observe(scan);
            observed.note_pending();
        });
    }

    /// As if what is pending had been so for long.
    #[cfg(test)]
    pub(crate) fn long_pending(&self) {
        self.observed.send_modify(|observed| observed.pending.grow_old());
    }

    /// Says whether GPUs can be handed over. The same again wakes nobody.
    pub(crate) fn hand_over(&self, now: HandOver) {
        self.observed.send_if_modified(|observed| {
            let changes = observed.hand_over != now;
            observed.hand_over = now;
            observed.note_pending();
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
