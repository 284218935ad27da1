//! Where the pods are told of: the kubelet where it does so, else the API server.

use std::{
    collections::BTreeMap,
    fmt, fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use plasma_device_plugin_core::{ContainerSeen, PodSeen};
use plasma_runtime::ServiceAccount;

use super::{api_server::ApiServer, kubelet::PodsApi};

/// What a source tells.
#[derive(Debug)]
pub(super) enum News {
    /// All pods will be told of anew.
    Again,
    /// A pod that there is.
    Pod(PodSeen),
    /// The UID of one that is over or gone, and how it was in the end, where that can still be told.
    Gone(String, Option<PodSeen>),
    /// All pods have been told of.
    All,
}

/// One of the two.
pub(super) enum Source {
    PodsApi(Box<PodsApi>, PathBuf),
    /// With the socket that is there and doesn't answer, where there is one.
    ApiServer(Box<ApiServer>, Option<DeadSocket>),
}

/// So often a socket may not answer before the API server is asked instead: a kubelet that starts needs some seconds, and one
/// that lost its Pods API leaves its socket behind.
const TRIES: u32 = 5;
/// A socket that didn't answer is tried again after this long, though it is still the same.
const TRY_AGAIN: Duration = Duration::from_secs(300);

/// A socket that didn't answer.
pub(super) struct DeadSocket {
    file: Option<SocketId>,
    since: Instant,
}

/// Tells a socket from the one that was there before under the same name.
type SocketId = (u64, i64, i64);

fn socket_id(socket: &Path) -> Option<SocketId> {
    let file = fs::metadata(socket).ok()?;
    Some((file.ino(), file.ctime(), file.ctime_nsec()))
}

/// Opens the source that this node has.
pub(super) struct Opener {
    server: Box<dyn Fn() -> Result<ApiServer, String> + Send>,
    /// How often in a row the kubelet's socket was there and didn't answer.
    failed: u32,
}

impl Opener {
    pub(super) fn new(node: String, account: ServiceAccount) -> Self {
        Self { server: Box::new(move || ApiServer::open(&node, &account)), failed: 0 }
    }

    /// The kubelet's Pods API, or the API server where there is none, or none that answers.
    ///
    /// # Errors
    /// In words: it doesn't answer, and may yet.
    pub(super) async fn open(&mut self, socket: &Path) -> Result<Source, String> {
        let (without, dead) = match self.kubelet(socket).await {
            Ok(Some(source)) => return Ok(source),
            Ok(None) => (format!("{} isn't there", socket.display()), None),
            Err(fault) if self.failed < TRIES => return Err(fault),
            Err(fault) => (fault, Some(DeadSocket { file: socket_id(socket), since: Instant::now() })),
        };
        let server = (self.server)()
            .map_err(|fault| format!("the kubelet has no Pods API ({without}), and {fault}"))?;
        Ok(Source::ApiServer(Box::new(server), dead))
    }

    async fn kubelet(&mut self, socket: &Path) -> Result<Option<Source>, String> {
        if !socket.exists() {
            self.failed = 0;
            return Ok(None);
        }
        self.failed = self.failed.saturating_add(1);
        let kubelet = PodsApi::open(socket).await?;
        self.failed = 0;
        Ok(Some(Source::PodsApi(Box::new(kubelet), socket.to_owned())))
    }
}

impl Source {
    /// The next thing. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<News, String> {
        match self {
            Self::PodsApi(kubelet, _) => kubelet.next().await,
            Self::ApiServer(server, _) => server.next().await,
        }
    }

    /// All pods as they are now, asked for anew.
    pub(super) async fn pods(&mut self) -> Result<Vec<PodSeen>, String> {
        match self {
            Self::PodsApi(kubelet, _) => kubelet.pods().await,
            Self::ApiServer(server, _) => server.pods().await,
        }
    }

    /// Whether it isn't the kubelet itself.
    pub(super) fn is_api_server(&self) -> bool {
        matches!(self, Self::ApiServer(..))
    }

    /// Whether something has happened of which it isn't known yet what.
    pub(super) fn is_behind(&self) -> bool {
        matches!(self, Self::PodsApi(kubelet, _) if kubelet.is_behind())
    }

    /// When it was last known to have told all that there was. The API server's watch ends by itself when it is silent.
    pub(super) fn heard(&self) -> Instant {
        match self {
            Self::PodsApi(kubelet, _) => kubelet.heard(),
            Self::ApiServer(..) => Instant::now(),
        }
    }

    /// Whether there is a better one by now.
    pub(super) fn is_outdated(&self, socket: &Path) -> bool {
        match self {
            Self::PodsApi(..) => false,
            Self::ApiServer(_, None) => socket.exists(),
            Self::ApiServer(_, Some(dead)) => {
                socket.exists() && (socket_id(socket) != dead.file || dead.since.elapsed() >= TRY_AGAIN)
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PodsApi(_, socket) => write!(formatter, "the kubelet's Pods API ({})", socket.display()),
            Self::ApiServer(_, None) => write!(formatter, "the API server: the kubelet has no Pods API"),
            Self::ApiServer(_, Some(_)) => {
                write!(formatter, "the API server: the kubelet's Pods API doesn't answer")
            }
        }
    }
}

/// How many devices a container asks for, by resource.
pub(super) type Asks = BTreeMap<String, u64>;
/// The same of a pod's containers, by their names.
pub(super) type Asked = BTreeMap<String, Asks>;

/// What a container asks for of device plugins: their resources' names have a domain. A count that isn't understood is a
/// great many.
pub(super) fn asks(limits: impl Iterator<Item = (String, String)>) -> Asks {
    let of_plugins = limits.filter(|(resource, _)| resource.contains('/'));
    of_plugins.map(|(resource, count)| (resource, count.parse().unwrap_or(u64::MAX))).collect()
}

/// One run of a container; it runs where it has no end.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) started_ms: Option<u64>,
    pub(super) ended: Option<Option<u64>>,
}

/// A container's status: its run now, and the one before, where there are such.
pub(super) struct Status {
    pub(super) name: String,
    pub(super) init: bool,
    pub(super) now: Option<Run>,
    pub(super) before: Option<Run>,
    pub(super) devices: Vec<String>,
    /// How many devices its spec asks for, by resource.
    pub(super) asks: Asks,
    /// The runtime's id of its run now, or of the last one.
    pub(super) id: Option<String>,
}

impl Status {
    fn runs(&self) -> bool {
        self.now.is_some_and(|run| run.ended.is_none())
    }

    fn seen(self) -> ContainerSeen {
        let started = [self.now, self.before].into_iter().flatten().filter_map(|run| run.started_ms);
        let running = self.id.clone().filter(|_| self.runs());
        // A container that waits ended with the run before.
        let last = self.now.or(self.before);
        ContainerSeen {
            name: self.name,
            init: self.init,
            started_ms: started.min(),
            run_started_ms: self.now.and_then(|run| run.started_ms),
            finished_ms: last.and_then(|run| run.ended.flatten()),
            devices: self.devices,
            asks: self.asks,
            running,
        }
    }
}

/// A pod by its name, namespace and UID, its phase and its containers.
pub(super) fn seen(
    [name, namespace, uid]: [String; 3],
    phase: &str,
    containers: impl Iterator<Item = Status>,
) -> PodSeen {
    let containers: Vec<Status> = containers.collect();
    // An evicted pod has failed before it has ended.
    let over = matches!(phase, "Succeeded" | "Failed") && !containers.iter().any(Status::runs);
    PodSeen { uid, namespace, name, over, containers: containers.into_iter().map(Status::seen).collect() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn a_socket_on_which_nobody_listens_is_given_up_for_the_api_server_until_there_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("kubelet.sock");
        let server = || Ok(super::super::api_server::tests::api_server(vec![]).0);
        let mut opener = Opener { server: Box::new(server), failed: 0 };
        assert!(matches!(opener.open(&socket).await, Ok(Source::ApiServer(_, None))), "there is none");
        drop(UnixListener::bind(&socket).unwrap());
        for _ in 1..TRIES {
            assert!(opener.open(&socket).await.is_err(), "a kubelet that starts is waited for");
        }
        let source = opener.open(&socket).await.unwrap();
        assert!(matches!(source, Source::ApiServer(_, Some(_))), "{source}");
        assert!(!source.is_outdated(&socket), "it is still the same");
        assert!(matches!(opener.open(&socket).await, Ok(Source::ApiServer(_, Some(_)))), "at once");
        fs::rename(&socket, folder.path().join("old")).unwrap();
        let _kubelet = UnixListener::bind(&socket).unwrap();
        assert!(source.is_outdated(&socket));
    }
}
