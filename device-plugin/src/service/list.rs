//! The list of one resource's devices, told to the kubelet at first and at each change.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use plasma_device_plugin_core::Offered;
use plasma_proto::deviceplugin::{Device, HEALTHY, ListAndWatchResponse, NumaNode, TopologyInfo, UNHEALTHY};
use tokio::sync::{mpsc, watch};
use tonic::Status;

use crate::inventory::{Observed, newer};

/// How often the list is looked at again though nothing was published: a hanging NVML publishes nothing.
const FRESHNESS_CHECK: Duration = Duration::from_secs(1);

/// How many streams of the list are open on a socket: with none, the kubelet has given up on us. And how many of them were
/// told of devices, and not yet that there are none any more.
#[derive(Clone, Default)]
pub(crate) struct Listeners(Arc<Counts>);

#[derive(Default)]
struct Counts {
    open: AtomicUsize,
    told_of_devices: AtomicUsize,
}

impl Listeners {
    pub(crate) fn any(&self) -> bool {
        self.0.open.load(Ordering::Relaxed) > 0
    }

    /// Whether the kubelet may still count devices that we told it of.
    pub(crate) fn count_on_devices(&self) -> bool {
        self.0.told_of_devices.load(Ordering::Relaxed) > 0
    }

    pub(super) fn join(&self) -> Listening {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        Listening { listeners: self.clone(), counts_on_devices: false }
    }
}

/// One open stream.
pub(super) struct Listening {
    listeners: Listeners,
    counts_on_devices: bool,
}

impl Listening {
    fn told(&mut self, any_device: bool) {
        let told_of_devices = &self.listeners.0.told_of_devices;
        match (self.counts_on_devices, any_device) {
            (false, true) => drop(told_of_devices.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(told_of_devices.fetch_sub(1, Ordering::Relaxed)),
            (true, true) | (false, false) => {}
        }
        self.counts_on_devices = any_device;
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.told(false);
        self.listeners.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one stream tells the kubelet of one resource.
pub(super) struct List {
    resource: String,
    observed: watch::Receiver<Observed>,
    listening: Listening,
}

impl List {
    pub(super) fn new(resource: String, observed: watch::Receiver<Observed>, listening: Listening) -> Self {
        Self { resource, observed, listening }
    }

    /// Sends the full list at first and at each change, until the kubelet hangs up. A resource that is gone is an empty list.
    pub(super) async fn send_changes(mut self, send: mpsc::Sender<Result<ListAndWatchResponse, Status>>) {
        let mut told: Option<Vec<Device>> = None;
        loop {
            let now = self.observed.borrow_and_update().clone();
            let (offers, before) = (now.offers(), told.as_deref().unwrap_or_default());
            // One that has just come is told of when it is ready, not as one that is ill until then.
            let is_ready = |new: &&Offered| {
                !now.is_coming(&new.device) || before.iter().any(|known: &Device| known.id == new.id)
            };
            let offered = offers.of(&self.resource).iter().filter(is_ready);
            let devices: Vec<Device> =
                offered.map(|offered| device(offered, now.rests(&offered.device))).collect();
            if told.as_ref() != Some(&devices) {
                let healthy = devices.iter().filter(|device| device.health == HEALTHY).count();
                let inventory = now.believed();
                let why = inventory.fault().map(|fault| format!(": {fault}")).unwrap_or_default();
                tracing::info!("offering {healthy} of {} {}{why}", devices.len(), self.resource);
                if send.send(Ok(ListAndWatchResponse { devices: devices.clone() })).await.is_err() {
                    return;
                }
                self.listening.told(!devices.is_empty());
                told = Some(devices);
            }
            tokio::select! {
                () = send.closed() => return,
                () = newer(&mut self.observed, FRESHNESS_CHECK) => {}
            }
        }
    }
}

/// One that rests is kept from the next pod. Who was faster isn't refused, or waits a moment: a refusal fails a pod for good, and
/// almost always for nothing.
fn device(offered: &Offered, rests: bool) -> Device {
    let node = offered.numa_node.map(|node| NumaNode { id: i64::from(node) });
    let topology = node.map(|node| TopologyInfo { nodes: vec![node] });
    let health = if offered.state.is_offered() && !rests { HEALTHY } else { UNHEALTHY };
    Device { id: offered.id.clone(), health: health.to_owned(), topology }
}
