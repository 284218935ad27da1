//! Where the pods are told of: the kubelet where it does so, else the API server.

use std::{
    fmt,
    path::{Path, PathBuf},
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
    ApiServer(Box<ApiServer>),
}

/// The source that this node has.
///
/// # Errors
/// In words: it doesn't answer.
pub(super) async fn open(socket: &Path, node: &str, account: &ServiceAccount) -> Result<Source, String> {
    if socket.exists() {
        return Ok(Source::PodsApi(Box::new(PodsApi::open(socket).await?), socket.to_owned()));
    }
    let server = ApiServer::open(node, account).map_err(|fault| {
        format!("the kubelet has no Pods API ({} isn't there), and {fault}", socket.display())
    })?;
    Ok(Source::ApiServer(Box::new(server)))
}

impl Source {
    /// The next thing. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<News, String> {
        match self {
            Self::PodsApi(kubelet, _) => kubelet.next().await,
            Self::ApiServer(server) => server.next().await,
        }
    }

    /// All pods as they are now, asked for anew.
    pub(super) async fn pods(&mut self) -> Result<Vec<PodSeen>, String> {
        match self {
            Self::PodsApi(kubelet, _) => kubelet.pods().await,
            Self::ApiServer(server) => server.pods().await,
        }
    }

    /// Whether there is a better one by now.
    pub(super) fn is_outdated(&self, socket: &Path) -> bool {
        matches!(self, Self::ApiServer(_)) && socket.exists()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PodsApi(_, socket) => write!(formatter, "the kubelet's Pods API ({})", socket.display()),
            Self::ApiServer(_) => write!(formatter, "the API server: the kubelet has no Pods API"),
        }
    }
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
            finished_ms: last.and_then(|run| run.ended.flatten()),
            devices: self.devices,
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
