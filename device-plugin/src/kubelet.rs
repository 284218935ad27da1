//! The kubelet: serve it, register, and register again whenever it starts anew or stops listening.
//!
//! A starting kubelet removes every socket in its folder and makes its own anew. So a new `kubelet.sock`, or our own
//! socket gone, means: serve on a fresh socket and register that. Both are looked at once a second; a directory watch
//! would save nothing and can miss what happened before it began.
//!
//! At the end our socket goes and its streams close, and no empty list is sent before: during an upgrade the next
//! plugin is registered by then, and a plugin that ends says nothing about the GPUs.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hyper_util::rt::TokioIo;
use plasma_proto::deviceplugin::{
    RegisterRequest, VERSION, device_plugin_server::DevicePluginServer,
    registration_client::RegistrationClient,
};
use plasma_runtime::{CancellationToken, Gate};
use tokio::{net::UnixStream, sync::watch};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::DropGuard;
use tonic::transport::{Endpoint, Server, Uri};

use crate::{
    args::Args,
    inventory::Observed,
    metrics::KubeletMetrics,
    service::{Listeners, Service, options},
    socket::{self, SocketFile},
};

/// How often the sockets are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A registration that failed is tried again after this long at first, then twice as long each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(4);
/// How long the kubelet may take to answer; it dials us back meanwhile.
const ANSWER: Duration = Duration::from_secs(10);
/// A kubelet that hasn't asked for the list this long after we registered has given up on us, and won't try again.
const LISTENS_WITHIN: Duration = Duration::from_secs(15);

/// What serving the kubelet needs.
pub(crate) struct Kubelet {
    pub(crate) args: Args,
    pub(crate) observed: watch::Receiver<Observed>,
    pub(crate) gate: Gate,
    pub(crate) metrics: KubeletMetrics,
    pub(crate) shutdown: CancellationToken,
}

impl Kubelet {
    /// Serves the kubelet until the program is asked to end.
    pub(crate) async fn run(mut self) {
        let shutdown = self.shutdown.clone();
        shutdown.run_until_cancelled(self.serve()).await;
    }

    async fn serve(&mut self) {
        // An empty list would take away what the kubelet remembers: first know what there is.
        if self.observed.wait_for(Observed::is_known).await.is_err() {
            return;
        }
        if let Err(fault) = socket::sweep(&self.args.device_plugin_dir).await {
            tracing::warn!("{} can't be tidied: {fault}", self.args.device_plugin_dir.display());
        }
        let mut serving: Option<Serving> = None;
        let mut retry = RETRY_FIRST;
        loop {
            if let Some(why) = serving.as_mut().map_or(Some("starting"), Serving::ended) {
                tracing::info!("registering {} with the kubelet: {why}", self.args.resource_name);
                self.registered(false);
                match self.serve_anew().await {
                    // What was served before ends only now, so that nothing dips.
                    Ok(new) => (serving, retry) = (Some(new), RETRY_FIRST),
                    Err(fault) => {
                        tracing::warn!("not registered with the kubelet: {fault}; trying again in {retry:?}");
                        tokio::time::sleep(retry).await;
                        retry = (retry * 2).min(RETRY_LAST);
                        continue;
                    }
                }
                self.registered(true);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn registered(&self, registered: bool) {
        self.gate.set(registered);
        self.metrics.registered(registered);
    }

    /// Serves on a fresh socket and registers it.
    async fn serve_anew(&self) -> Result<Serving, String> {
        let kubelet = self.args.device_plugin_dir.join("kubelet.sock");
        let kubelet_was =
            socket::identity(&kubelet).map_err(|fault| format!("{}: {fault}", kubelet.display()))?;
        let folder = &self.args.device_plugin_dir;
        let (listener, file) =
            socket::bind(folder).map_err(|fault| format!("no socket in {}: {fault}", folder.display()))?;
        let stop = self.shutdown.child_token();
        let listeners = Listeners::default();
        let service = DevicePluginServer::new(Service {
            observed: self.observed.clone(),
            metrics: self.metrics.clone(),
            listeners: listeners.clone(),
            stop: stop.clone(),
        });
        let serve = Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.clone().cancelled_owned());
        tokio::spawn(async move {
            if let Err(fault) = serve.await {
                tracing::error!("the device-plugin service ended: {fault}");
            }
        });
        let serving = Serving {
            kubelet,
            kubelet_was,
            file,
            listeners,
            heard: Instant::now(),
            _stop_when_dropped: stop.drop_guard(),
        };
        register(&serving.kubelet, &serving.file.name(), &self.args.resource_name).await?;
        Ok(serving)
    }
}

/// One registration, good as long as the kubelet that took it.
struct Serving {
    kubelet: PathBuf,
    kubelet_was: (u64, i64, i64),
    file: SocketFile,
    listeners: Listeners,
    /// When the kubelet last listened.
    heard: Instant,
    _stop_when_dropped: DropGuard,
}

impl Serving {
    /// Why it is no longer good, if so.
    fn ended(&mut self) -> Option<&'static str> {
        if self.listeners.any() {
            self.heard = Instant::now();
        }
        let same = socket::identity(&self.kubelet).is_ok_and(|now| now == self.kubelet_was);
        if !same {
            Some("its socket is another one: it was restarted")
        } else if !self.file.exists() {
            Some("our socket was removed")
        } else if self.heard.elapsed() > LISTENS_WITHIN {
            Some("it no longer listens to us")
        } else {
            None
        }
    }
}

async fn register(kubelet: &Path, socket: &str, resource: &str) -> Result<(), String> {
    let path = kubelet.to_owned();
    let connect = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    // The address is never dialled: the connector knows where the kubelet is.
    let endpoint = Endpoint::from_static("http://localhost").connect_timeout(ANSWER).timeout(ANSWER);
    let channel = endpoint.connect_with_connector(connect).await;
    let channel = channel.map_err(|fault| format!("{}: {}", kubelet.display(), innermost(&fault)))?;
    let request = RegisterRequest {
        version: VERSION.to_owned(),
        endpoint: socket.to_owned(),
        resource_name: resource.to_owned(),
        options: Some(options()),
    };
    let answer = RegistrationClient::new(channel).register(request).await;
    answer.map(drop).map_err(|status| format!("the kubelet refused {resource}: {}", status.message()))
}

/// The transport's own words are "transport error"; what lies beneath says more.
fn innermost(fault: &dyn std::error::Error) -> String {
    let mut fault = fault;
    while let Some(source) = fault.source() {
        fault = source;
    }
    fault.to_string()
}
