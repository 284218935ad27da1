//! Our socket, and the kubelet's: serve, register, and register again whenever the kubelet starts anew.
//!
//! A starting kubelet removes every socket in the folder and makes its own anew. So a new `kubelet.sock`, or our own
//! socket gone, means: serve on a fresh socket and register it.

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use plasma_proto::deviceplugin::{
    RegisterRequest, VERSION, device_plugin_server::DevicePluginServer,
    registration_client::RegistrationClient,
};
use plasma_runtime::{CancellationToken, Gate};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Endpoint, Server, Uri};

use crate::{
    args::Args,
    inventory::Observed,
    service::{Service, options},
};

/// How often the kubelet's socket is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long the kubelet may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// A fresh number for each socket of this process.
static INCARNATION: AtomicU64 = AtomicU64::new(0);

/// Serves the kubelet until the program is asked to end.
pub(crate) async fn run(
    args: &Args,
    observed: watch::Receiver<Observed>,
    gate: Gate,
    shutdown: CancellationToken,
) {
    while !shutdown.is_cancelled() {
        let ended = serve_one_kubelet(args, &observed, &gate, &shutdown).await;
        gate.set(false);
        if let Err(fault) = ended {
            tracing::warn!("not registered with the kubelet: {fault}; trying again in {LOOK:?}");
            let _ = shutdown.run_until_cancelled(tokio::time::sleep(LOOK)).await;
        }
    }
}

/// Serves and registers; returns when the kubelet was restarted or the program is asked to end.
async fn serve_one_kubelet(
    args: &Args,
    observed: &watch::Receiver<Observed>,
    gate: &Gate,
    shutdown: &CancellationToken,
) -> Result<(), String> {
    let kubelet = args.device_plugin_dir.join("kubelet.sock");
    let kubelet_was = identity(&kubelet).map_err(|fault| format!("{}: {fault}", kubelet.display()))?;
    let socket = Socket::bind(&args.device_plugin_dir).map_err(|fault| format!("our socket: {fault}"))?;
    let stop = shutdown.child_token();
    let _stop_when_done = stop.clone().drop_guard();
    let service = DevicePluginServer::new(Service::new(observed.clone()));
    let incoming = UnixListenerStream::new(socket.listener);
    tokio::spawn(
        Server::builder().add_service(service).serve_with_incoming_shutdown(incoming, stop.cancelled_owned()),
    );
    register(args, &kubelet, &socket.file.path).await?;
    tracing::info!("registered {} with the kubelet", args.resource_name);
    gate.set(true);
    loop {
        if shutdown.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
            return Ok(());
        }
        let same = identity(&kubelet).is_ok_and(|now| now == kubelet_was);
        if !same || !socket.file.path.exists() {
            tracing::info!("the kubelet was restarted");
            return Ok(());
        }
    }
}

async fn register(args: &Args, kubelet: &Path, ours: &Path) -> Result<(), String> {
    let path = kubelet.to_owned();
    let connect = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { Ok::<_, io::Error>(hyper_io(UnixStream::connect(path).await?)) }
    });
    // The address is never dialled: the connector knows where the kubelet is.
    let endpoint = Endpoint::from_static("http://localhost").connect_timeout(ANSWER).timeout(ANSWER);
    let channel =
        endpoint.connect_with_connector(connect).await.map_err(|fault| format!("the kubelet: {fault:?}"))?;
    let request = RegisterRequest {
        version: VERSION.to_owned(),
        endpoint: ours.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        resource_name: args.resource_name.clone(),
        options: Some(options()),
    };
    let answer = RegistrationClient::new(channel).register(request).await;
    answer
        .map(drop)
        .map_err(|status| format!("the kubelet refused {}: {}", args.resource_name, status.message()))
}

fn hyper_io(stream: UnixStream) -> hyper_util::rt::TokioIo<UnixStream> {
    hyper_util::rt::TokioIo::new(stream)
}

/// What tells one kubelet's socket from the next one's.
fn identity(socket: &Path) -> io::Result<(u64, i64, i64)> {
    let metadata = std::fs::metadata(socket)?;
    Ok((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}

/// A listening socket under a name that no process used before: two plugins beside each other, as during an
/// upgrade, are two endpoints to the kubelet, and capacity doesn't dip.
struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

impl Socket {
    fn bind(folder: &Path) -> io::Result<Self> {
        let incarnation = INCARNATION.fetch_add(1, Ordering::Relaxed);
        let started =
            std::time::SystemTime::UNIX_EPOCH.elapsed().map(|time| time.as_millis()).unwrap_or_default();
        let path = folder.join(format!("plasma-gpu-{}-{started}-{incarnation}.sock", process::id()));
        let listener = UnixListener::bind(&path)?;
        Ok(Self { listener, file: SocketFile { path } })
    }
}

/// Removes the socket's file when we no longer serve it.
struct SocketFile {
    path: PathBuf,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The kubelet may have removed it first.
        let _ = std::fs::remove_file(&self.path);
    }
}
