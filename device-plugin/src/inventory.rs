//! What is known of the GPUs, as plain values: a thread of its own looks at them, and everybody reads what it publishes.
//!
//! Nobody else waits for NVML. When it hangs, the last values grow old, and [`Observed::believed`] says so.

mod log;
mod looker;
mod pending;
mod publisher;

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use looker::Looker;
use pending::Pending;
use plasma_device_plugin_core::{
    HandOver, HealthRules, Inventory, Needs, Occupancy, Offers, Policy, Scan, offers,
};
use tokio::sync::watch;

use crate::{
    args::Args,
    clock::Clock,
    limits::{Limiter, Limits},
    metrics::LookMetrics,
    nvml::Figures,
    vital::Vital,
};

pub(crate) use pending::PREPARED_WITHIN;
pub(crate) use publisher::{Judged, Publisher};

/// After this many missed looks NVML counts as hanging.
const MISSED_LOOKS: u32 = 5;

/// What the last look saw.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    inventory: Inventory,
    /// How the GPUs are offered.
    pub(crate) policy: Arc<Policy>,
    pub(crate) figures: Vec<Figures>,
    /// The last look in which NVML answered; the figures are of it.
    pub(crate) looked: Option<Looked>,
    /// Whether a substitute of NVML said all this.
    pub(crate) simulated: bool,
    /// When something newer should have come at the latest.
    good_until: Instant,
    patience: Duration,
    period: Duration,
    /// Whether GPUs can be handed to containers: said by whoever makes them ready.
    hand_over: HandOver,
    /// The devices that aren't made ready as they are now.
    pending: Pending,
    /// When the last look began, and who uses the GPUs that answered in it.
    occupancies: Option<(Instant, BTreeMap<String, Occupancy>)>,
    /// Which GPUs are dirty: said by whoever knows which pods hold them; `None` until then.
    judged: Option<Judged>,
    /// What containers may take of the memory of GPUs that they share, and whether the driver sees to it.
    pub(crate) limits: Limits,
}

/// When a look was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Looked {
    /// Counts the looks of this process.
    pub(crate) number: u64,
    /// Counts how often the library was loaded.
    pub(crate) session: u64,
    /// Milliseconds since 1970, by the meter's clock.
    pub(crate) at_ms: u64,
}

impl Observed {
    /// As if the thread had just published it.
    #[cfg(test)]
    pub(crate) fn for_tests(inventory: Inventory) -> Self {
        let patience = Duration::from_secs(60);
        let good_until = Instant::now() + patience;
        let policy = Policy { resource: plasma_api::names::GPU_RESOURCE.to_owned(), ..Policy::default() };
        let (policy, figures, simulated) = (Arc::new(policy), Vec::new(), true);
        let (period, hand_over) = (patience, HandOver::NeedsNothing);
        Self {
            inventory,
            policy,
            figures,
            looked: None,
            simulated,
            good_until,
            patience,
            period,
            hand_over,
            pending: Pending::default(),
            occupancies: None,
            judged: Some(Judged::default()),
            limits: Limits::unknown(),
        }
    }

    /// The inventory as it should be believed now: when NVML is silent for too long, nobody knows how the GPUs are; and one
    /// that can't be handed over isn't offered, however well it is.
    pub(crate) fn believed(&self) -> Inventory {
        let mut inventory = self.inventory.clone();
        if self.good_until < Instant::now() {
            let fault = format!("NVML has not answered for {:?}", self.patience);
            inventory.observe(Scan::Failed(fault));
        }
        let dirty = |gpu: &str| self.judged.as_ref()?.dirty.get(gpu).cloned();
        let unprepared =
            |gpu: &str| self.hand_over.obstacle().map(str::to_owned).or_else(|| self.pending.why_late(gpu));
        inventory.hold_back(|gpu| unprepared(gpu).or_else(|| dirty(gpu)));
        inventory
    }

    /// The inventory as the last look found it, whether or not it can be handed over.
    pub(crate) fn seen(&self) -> &Inventory {
        &self.inventory
    }

    /// Whether containers don't get the device as it is now, because that is still being written.
    pub(crate) fn is_pending(&self, device: &str) -> bool {
        self.pending.has(device)
    }

    /// Whether the device has just come, and is about to be ready: so long it is no device that is ill.
    pub(crate) fn is_coming(&self, device: &str) -> bool {
        self.pending.has(device) && self.pending.why_late(device).is_none()
    }

    /// How many devices are pending.
    pub(crate) fn pending(&self) -> usize {
        self.pending.count()
    }

    /// The devices that have been pending for longer than it takes.
    pub(crate) fn late(&self) -> Vec<String> {
        self.pending.late()
    }

    /// How long it is from one look to the next.
    pub(crate) fn period(&self) -> Duration {
        self.period
    }

    /// When the last look began, and who uses the GPUs that answered in it.
    pub(crate) fn occupancies(&self) -> Option<(Instant, &BTreeMap<String, Occupancy>)> {
        self.occupancies.as_ref().map(|(looked, occupancies)| (*looked, occupancies))
    }

    /// Whether the device is kept from the next pod for a moment, which is no fault of it: nobody has looked at it since its
    /// last pod ended, or what containers get with it is being written anew.
    pub(crate) fn rests(&self, device: &str) -> bool {
        self.is_pending(device) || self.judged.as_ref().is_some_and(|judged| judged.unsure.contains(device))
    }

    /// Whether the kubelet can be told: what this node has is known, whether it can be handed over, and what of it is dirty.
    pub(crate) fn can_be_offered(&self) -> bool {
        self.is_known() && self.hand_over != HandOver::Unknown && self.judged.is_some()
    }

    /// What the kubelet is offered of what should be believed now.
    pub(crate) fn offers(&self) -> Offers {
        let offers = offers(&self.believed(), &self.policy);
        match &self.judged {
            Some(judged) => offers.without(&judged.otherwise),
            None => offers,
        }
    }

    /// Works out anew which devices aren't made ready as they are now.
    fn note_pending(&mut self) {
        self.pending.note(self.hand_over.pending(&Needs::of(&self.inventory)));
    }

    /// Whether NVML ever said what this node has.
    pub(crate) fn is_known(&self) -> bool {
        self.inventory.is_known()
    }
}

/// Waits for something newer, but only so long: values also change by growing old.
pub(crate) async fn newer(observed: &mut watch::Receiver<Observed>, at_most: Duration) {
    // The thread never ends before the program; if it does, what is left is to let the values grow old.
    if let Ok(Err(_)) = tokio::time::timeout(at_most, observed.changed()).await {
        tokio::time::sleep(at_most).await;
    }
}

/// Starts the thread; the receiver always has the newest values.
///
/// # Errors
/// When the system has no thread to give.
pub(crate) fn start(
    args: &Args,
    rules: HealthRules,
    (metrics, policy, clock): (LookMetrics, Policy, Clock),
    limiter: Option<Limiter>,
    vital: &Vital,
) -> io::Result<(watch::Receiver<Observed>, Publisher)> {
    let period = Duration::from_secs(args.scan_seconds);
    let patience = period * MISSED_LOOKS;
    let (publish, receive) = watch::channel(Observed {
        inventory: Inventory::new(rules),
        policy: Arc::new(policy),
        figures: Vec::new(),
        looked: None,
        // Until a library has been loaded, only its path tells whether it will be a substitute.
        simulated: args.nvml_library != Path::new(crate::nvml::DRIVER_LIBRARY),
        good_until: Instant::now() + patience,
        patience,
        period,
        hand_over: HandOver::Unknown,
        pending: Pending::default(),
        occupancies: None,
        judged: None,
        limits: Limits::unknown(),
    });
    let publish = Arc::new(publish);
    let source = args.nvml();
    let look_soon = Arc::new(AtomicBool::new(false));
    let mut looker =
        Looker { publish: publish.clone(), look_soon: look_soon.clone(), period, metrics, clock, limiter };
    vital.thread("nvml", move || {
        looker.look_forever(|looker, session| looker.look_while_it_answers(&source, session));
    })?;
    Ok((receive, Publisher { observed: publish, look_soon }))
}
