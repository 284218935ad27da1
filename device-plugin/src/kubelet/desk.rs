//! One resource: serve its devices, be registered, and be registered again whenever the kubelet starts anew or stops listening.
//!
//! The kubelet's plugin watcher comes first: our socket lies in its registry folder, and a kubelet that starts finds it
//! there by itself. Where nobody looks into that folder, the kubelet's own socket is called, the classic way; a kubelet
//! that starts removes every socket from the classic folder and makes its own anew, so a new `kubelet.sock`, or our own
//! socket gone, means: serve on a fresh socket and register that. Sockets are looked at once a second; a directory watch
//! would save nothing and can miss what happened before it began.
//!
//! At the end our socket goes and its streams close, and no empty list is sent before: during an upgrade the next
//! plugin is registered by then, and a plugin that ends says nothing about the GPUs. Only a resource that the node no longer
//! has is told as empty.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use plasma_proto::deviceplugin::device_plugin_server::DevicePluginServer;
use plasma_runtime::CancellationToken;
use tokio::net::UnixListener;
use tokio_util::sync::DropGuard;

use super::{
    Kubelet,
    classic::Classic,
    watched::{Told, Watched},
};
use crate::{
    backoff::Backoff,
    inventory::newer,
    preference::Preferences,
    service::{Listeners, Service},
    socket::{self, SocketFile},
};

/// How often the sockets are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A registration that failed is tried again after this long at first, then twice as long each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(4);
/// How long the kubelet may take to answer; it dials us back meanwhile.
pub(super) const ANSWER: Duration = Duration::from_secs(10);
/// A kubelet that hasn't looked into its registry folder this long is tried the classic way.
const FOUND_WITHIN: Duration = Duration::from_secs(5);
/// A kubelet that hasn't asked for the list this long after it took us has given up on us, and won't try again.
const LISTENS_WITHIN: Duration = Duration::from_secs(15);

/// Why a registration ended: the kubelet is away, or has given up on us.
const UNHEARD: &str = "it no longer listens to us";

/// How long the kubelet may take to read that a resource is empty, before it is told by the end of the list.
const READS_WITHIN: Duration = Duration::from_secs(5);
/// How often we look whether it did.
const READ_LOOK: Duration = Duration::from_millis(20);

/// One resource, and its registration.
pub(super) struct Desk {
    pub(super) kubelet: Kubelet,
    pub(super) resource: String,
    registered: Option<Registered>,
}

/// A socket of ours on which the devices are served; both go when this does.
pub(super) struct Offer {
    pub(super) file: SocketFile,
    listeners: Listeners,
    /// When the kubelet last listened.
    heard: Instant,
    pub(super) stop: CancellationToken,
    _stop_when_dropped: DropGuard,
}

/// A registration that holds.
enum Registered {
    Watched(Watched),
    Classic(Classic),
}

impl Desk {
    pub(super) fn new(kubelet: Kubelet, resource: String) -> Self {
        Self { kubelet, resource, registered: None }
    }

    /// Serves until the program is asked to end, or the node no longer has the resource.
    pub(super) async fn run(mut self) {
        let (shutdown, mut observed) = (self.kubelet.shutdown.clone(), self.kubelet.observed.clone());
        let resource = self.resource.clone();
        let gone = async {
            while observed.borrow_and_update().offers().resources.contains_key(&resource) {
                newer(&mut observed, LOOK).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = self.serve() => return,
            () = gone => {}
        }
        shutdown.run_until_cancelled(self.close()).await;
    }

    async fn serve(&mut self) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
        loop {
            self.give_way().await;
            let Self { kubelet, registered, .. } = self;
            if let Some(why) = registered.as_mut().map_or(Some("starting"), |now| now.ended(kubelet)) {
                tracing::info!("registering {} with the kubelet: {why}", self.resource);
                // Where nobody listens nothing can dip, and a kubelet that comes back must not find two sockets of ours.
                if why == UNHEARD {
                    *registered = None;
                }
                self.kubelet.standing.set(&self.resource, false);
                match self.register().await {
                    Ok(new) => {
                        self.kubelet.metrics.registration(new.way());
                        // What was served before ends only now, so that nothing dips.
                        self.registered = Some(new);
                        backoff.reset();
                    }
                    Err(fault) => {
                        let (resource, pause) = (&self.resource, backoff.pause());
                        tracing::warn!(
                            "{resource} is not registered with the kubelet: {fault}; trying again in {pause:?}"
                        );
                        tokio::time::sleep(pause).await;
                        continue;
                    }
                }
                self.kubelet.standing.set(&self.resource, true);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The node no longer has the resource: its list is empty by now. The kubelet reads that before the list ends, since what
    /// it makes of an end alone depends on its version.
    async fn close(&mut self) {
        tracing::info!("{} is gone from this node", self.resource);
        let Some(registered) = &self.registered else { return };
        let (listeners, since) = (&registered.offer().listeners, Instant::now());
        while listeners.count_on_devices() && since.elapsed() < READS_WITHIN {
            tokio::time::sleep(READ_LOOK).await;
        }
    }

    /// Another plugin may come at any time; what we offered ends then, and is offered again when that one is gone.
    async fn give_way(&mut self) {
        if self.registered.is_some()
            && let Err(why) = self.must_be_alone().await
        {
            tracing::warn!("{} is withdrawn from the kubelet: {why}", self.resource);
            self.registered = None;
        }
    }

    /// Whatever each calls them, two plugins would offer the same GPUs.
    async fn must_be_alone(&self) -> Result<(), String> {
        let Some(other) = socket::other_plugin(&self.kubelet.args.device_plugin_dir).await else {
            return Ok(());
        };
        Err(format!(
            "{} belongs to another plugin that offers this node's GPUs, and the kubelet would give each GPU away twice: \
             remove that plugin, or run this one with --observe",
            other.display()
        ))
    }

    /// Offers a fresh socket where the kubelet's watcher looks; calls the kubelet where it doesn't look.
    async fn register(&self) -> Result<Registered, String> {
        let args = &self.kubelet.args;
        self.must_be_alone().await?;
        if !args.plugins_registry_dir.is_dir() {
            return Classic::register(self).await.map(Registered::Classic);
        }
        let mut watched = Watched::offer(self)?;
        loop {
            let told = watched.told.wait_for(|told| *told != Told::Nothing);
            let told =
                tokio::time::timeout(FOUND_WITHIN, told).await.map(|told| told.map(|told| told.clone()));
            match told {
                Ok(Ok(Told::Refused(why))) => return Err(format!("the kubelet refused us: {why}")),
                Ok(Ok(_)) => return Ok(Registered::Watched(watched)),
                Ok(Err(_)) => return Err("the registration service ended".to_owned()),
                // Nobody looked. Either there is no kubelet, or it is one that must be called.
                Err(_) => match Classic::register(self).await {
                    Ok(classic) => return Ok(Registered::Classic(classic)),
                    Err(fault) => tracing::debug!("waiting to be found by the kubelet; calling it: {fault}"),
                },
            }
        }
    }

    /// The service on a socket of ours, and the offer that it is part of.
    pub(super) fn service(&self, file: SocketFile) -> (DevicePluginServer<Service>, Offer) {
        let (stop, listeners) = (self.kubelet.shutdown.child_token(), Listeners::default());
        let service = DevicePluginServer::new(Service {
            resource: self.resource.clone(),
            observed: self.kubelet.observed.clone(),
            metrics: self.kubelet.metrics.clone(),
            strategy: self.kubelet.args.hand_over.device_list_strategy,
            preferences: Preferences::default(),
            listeners: listeners.clone(),
            granted: self.kubelet.granted.clone(),
            stop: stop.clone(),
        });
        let _stop_when_dropped = stop.clone().drop_guard();
        (service, Offer { file, listeners, heard: Instant::now(), stop, _stop_when_dropped })
    }
}

pub(super) fn bind(folder: &Path) -> Result<(UnixListener, SocketFile), String> {
    socket::bind(folder).map_err(|fault| format!("no socket in {}: {fault}", folder.display()))
}

/// Serves beside everything else, until the offer goes.
pub(super) fn run(serve: impl Future<Output = Result<(), tonic::transport::Error>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(fault) = serve.await {
            tracing::error!("the device-plugin service ended: {fault}");
        }
    });
}

impl Offer {
    /// Why it is no longer good, if so.
    fn ended(&mut self) -> Option<&'static str> {
        if self.listeners.any() {
            self.heard = Instant::now();
        }
        if !self.file.exists() {
            Some("our socket was removed")
        } else if self.heard.elapsed() > LISTENS_WITHIN {
            Some(UNHEARD)
        } else {
            None
        }
    }
}

impl Registered {
    fn offer(&self) -> &Offer {
        match self {
            Self::Watched(watched) => &watched.offer,
            Self::Classic(classic) => &classic.offer,
        }
    }

    /// As metrics name it.
    fn way(&self) -> &'static str {
        match self {
            Self::Watched(_) => "watched",
            Self::Classic(_) => "classic",
        }
    }

    /// Why it no longer holds, if so.
    fn ended(&mut self, kubelet: &Kubelet) -> Option<&'static str> {
        match self {
            Self::Watched(watched) => {
                if watched.told.has_changed().unwrap_or(false)
                    && let Told::Taken(times) = *watched.told.borrow_and_update()
                    && times > 1
                {
                    tracing::info!("the kubelet found us again");
                    kubelet.metrics.registration("watched");
                }
                match &*watched.told.borrow() {
                    Told::Refused(_) => Some("it refused us"),
                    Told::Nothing | Told::Taken(_) => watched.offer.ended(),
                }
            }
            Self::Classic(classic) if !classic.is_with_the_same_kubelet(kubelet) => {
                Some("its socket is another one: it was restarted")
            }
            Self::Classic(classic) => classic.offer.ended(),
        }
    }
}
