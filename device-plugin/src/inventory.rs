//! The thread that owns NVML: looks at the GPUs again and again, and publishes plain values.
//!
//! Nobody else waits for NVML. When it hangs, the last values grow old, and [`Observed::is_fresh`] says so.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use plasma_device_plugin_core::{Inventory, Scan};
use tokio::sync::watch;

use crate::{
    args::Args,
    nvml::{Figures, Library},
};

/// After this many missed looks NVML counts as hanging.
const MISSED_LOOKS: u32 = 5;
/// A library that couldn't be used is tried again after this long at first, then twice as long each time.
const RELOAD_FIRST: Duration = Duration::from_secs(1);
const RELOAD_LAST: Duration = Duration::from_secs(30);

/// What the last look saw.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    pub(crate) inventory: Inventory,
    pub(crate) figures: Vec<Figures>,
    /// Whether a substitute of NVML said all this.
    pub(crate) simulated: bool,
    looked_at: Instant,
    period: Duration,
}

impl Observed {
    /// Whether NVML answered lately; if not, nobody knows how the GPUs are.
    pub(crate) fn is_fresh(&self) -> bool {
        self.looked_at.elapsed() < self.period * MISSED_LOOKS
    }

    /// The inventory as it should be believed now.
    pub(crate) fn believed(&self) -> Inventory {
        let mut inventory = self.inventory.clone();
        if !self.is_fresh() {
            inventory
                .observe(Scan::Failed(format!("NVML has not answered for {:?}", self.looked_at.elapsed())));
        }
        inventory
    }
}

/// Starts the thread; the receiver always has the newest values.
pub(crate) fn start(args: &Args) -> watch::Receiver<Observed> {
    let period = Duration::from_secs(args.scan_seconds);
    // Until a library has been loaded, only its path tells whether it will be a substitute.
    let simulated = args.nvml_library != Path::new(crate::nvml::DRIVER_LIBRARY);
    let (publish, receive) = watch::channel(Observed {
        inventory: Inventory::default(),
        figures: Vec::new(),
        simulated,
        looked_at: Instant::now(),
        period,
    });
    let library = args.nvml_library.clone();
    thread::spawn(move || look_forever(&library, period, &publish));
    receive
}

fn look_forever(path: &Path, period: Duration, publish: &watch::Sender<Observed>) {
    let mut reload = RELOAD_FIRST;
    while !publish.is_closed() {
        match Library::load(path) {
            Ok(library) => {
                reload = RELOAD_FIRST;
                look_until_it_fails(&library, period, publish);
            }
            Err(fault) => {
                tracing::warn!("{fault}; trying again in {reload:?}");
                observe(publish, Scan::Failed(fault), Vec::new(), None);
                thread::sleep(reload);
                reload = (reload * 2).min(RELOAD_LAST);
            }
        }
    }
}

/// Returns when the library itself fails, so that it is loaded anew: a driver that was reloaded needs that.
fn look_until_it_fails(library: &Library, period: Duration, publish: &watch::Sender<Observed>) {
    while !publish.is_closed() {
        let (scan, figures) = library.scan();
        let failed = matches!(scan, Scan::Failed(_));
        observe(publish, scan, figures, Some(library.is_substitute()));
        if failed {
            return;
        }
        thread::sleep(period);
    }
}

fn observe(publish: &watch::Sender<Observed>, scan: Scan, figures: Vec<Figures>, simulated: Option<bool>) {
    publish.send_modify(|observed| {
        observed.inventory.observe(scan);
        observed.figures = figures;
        observed.simulated = simulated.unwrap_or(observed.simulated);
        observed.looked_at = Instant::now();
    });
}
