//! The kubelet: serve it every resource that this node has, one desk each.
//!
//! Which resources there are depends on how the GPUs are divided, and changes while we run. One that goes away is told to the
//! kubelet as empty before its socket goes; only when all that go are gone do new ones come, so that the kubelet never counts
//! the same silicon under two names.

mod classic;
mod desk;
mod watched;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use plasma_runtime::{CancellationToken, Gate};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    args::Args,
    inventory::{Observed, newer},
    metrics::KubeletMetrics,
    service::Granted,
    socket,
};
use desk::Desk;

/// How often we look for desks that ended, or that nobody opened yet.
const LOOK: Duration = Duration::from_secs(1);
/// The same while a desk is closing, and others wait for it.
const CLOSING: Duration = Duration::from_millis(20);

/// What serving the kubelet needs.
#[derive(Clone)]
pub(crate) struct Kubelet {
    pub(crate) args: Arc<Args>,
    pub(crate) observed: watch::Receiver<Observed>,
    pub(crate) metrics: KubeletMetrics,
    pub(crate) shutdown: CancellationToken,
    pub(crate) standing: Arc<Standing>,
    pub(crate) granted: Granted,
}

/// Which resources the kubelet has taken.
pub(crate) struct Standing {
    gate: Gate,
    metrics: KubeletMetrics,
    /// By resource: whether its registration holds.
    taken: Mutex<BTreeMap<String, bool>>,
}

impl Standing {
    /// Nothing is taken yet.
    pub(crate) fn new(gate: Gate, metrics: KubeletMetrics) -> Self {
        Self { gate, metrics, taken: Mutex::default() }
    }

    /// A registration holds, or it doesn't; we are ready when all do.
    fn set(&self, resource: &str, taken: bool) {
        self.change(|all| {
            all.insert(resource.to_owned(), taken);
        });
    }

    /// The node no longer has that resource.
    fn forget(&self, resource: &str) {
        self.change(|all| {
            all.remove(resource);
        });
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, bool>)) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut taken);
        let all = taken.values().all(|taken| *taken);
        self.gate.set(all);
        self.metrics.registered(all && !taken.is_empty());
    }
}

impl Kubelet {
    /// Serves the kubelet until the program is asked to end, on this thread alone: whatever the program does besides, a
    /// kubelet that asks doesn't wait for it.
    ///
    /// # Errors
    /// The system gives us no way to wait for sockets.
    pub(crate) fn run(self) -> io::Result<()> {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(self.serve_and_end());
        Ok(())
    }

    async fn serve_and_end(mut self) {
        let shutdown = self.shutdown.clone();
        let mut desks = BTreeMap::new();
        shutdown.run_until_cancelled(self.serve(&mut desks)).await;
        for (_, desk) in desks {
            // It ends by the same token; how it ended is told where it happened.
            let _ = desk.await;
        }
    }

    async fn serve(&mut self, desks: &mut BTreeMap<String, JoinHandle<()>>) {
        // An empty list would take away what the kubelet remembers: first know what there is.
        if self.observed.wait_for(Observed::can_be_offered).await.is_err() {
            return;
        }
        for folder in [&self.args.device_plugin_dir, &self.args.plugins_registry_dir] {
            if folder.exists()
                && let Err(fault) = socket::sweep(folder).await
            {
                tracing::warn!("{} can't be tidied: {fault}", folder.display());
            }
        }
        loop {
            let observed = self.observed.borrow_and_update().clone();
            let offers = observed.offers();
            desks.retain(|resource, desk| {
                let is_open = !desk.is_finished();
                if !is_open {
                    self.standing.forget(resource);
                }
                is_open
            });
            let closing = desks.keys().any(|resource| !offers.resources.contains_key(resource));
            if closing {
                newer(&mut self.observed, CLOSING).await;
                continue;
            }
            for (resource, devices) in offers.resources {
                // What has just come is told of when it is ready, and not as an empty list before.
                if !devices.is_empty() && devices.iter().all(|device| observed.is_coming(&device.device)) {
                    continue;
                }
                let open = || {
                    self.standing.set(&resource, false);
                    tokio::spawn(Desk::new(self.clone(), resource.clone()).run())
                };
                desks.entry(resource.clone()).or_insert_with(open);
            }
            // Nothing to register is nothing to wait for.
            self.standing.change(|_| {});
            newer(&mut self.observed, LOOK).await;
        }
    }
}
