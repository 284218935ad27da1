//! The kubelet's two sockets: its pods, and the devices that it gave them.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    pin::Pin,
    time::{Duration, Instant},
};

use plasma_device_plugin_core::{Listed, PodSeen};
use plasma_proto::{
    pod::{Container, ContainerState, ContainerStatus, Pod, Time},
    podresources::{ListPodResourcesRequest, pod_resources_lister_client::PodResourcesListerClient},
    pods::{
        EventType, GetPodRequest, ListPodsRequest, WatchPodsEvent, WatchPodsRequest, pods_client::PodsClient,
    },
};
use tokio::net::UnixStream;
use tonic::{Status, Streaming, transport::Channel};

use super::{
    pulse::Pulse,
    source::{self, Asked, News, Run, Source},
};
use crate::socket::dial;

/// How long the kubelet may take to answer a single question.
pub(super) const ANSWER: Duration = Duration::from_secs(10);
/// No node has pods of more than this.
const LONGEST_ANSWER: usize = 64 << 20;

/// A watch on the kubelet's Pods API.
pub(super) struct PodsApi {
    client: PodsClient<Channel>,
    stream: Streaming<WatchPodsEvent>,
    pulse: Pulse,
    /// While it is asked how one that is gone was in the end: its UID and that.
    asked: Option<LastWords>,
}

type LastWords = Pin<Box<dyn Future<Output = (String, Option<PodSeen>)> + Send>>;

impl PodsApi {
    pub(super) async fn open(socket: &Path) -> Result<Self, String> {
        let channel = dial(socket, None).await?;
        let mut client = PodsClient::new(channel).max_decoding_message_size(LONGEST_ANSWER);
        let open = tokio::time::timeout(ANSWER, client.watch_pods(WatchPodsRequest {})).await;
        let open = open.map_err(|_| format!("{} doesn't answer", socket.display()))?;
        let stream = open.map_err(|status| in_words(socket, &status))?.into_inner();
        let pulse = Pulse::new(client.clone());
        Ok(Self { client, stream, pulse, asked: None })
    }

    pub(super) async fn next(&mut self) -> Result<News, String> {
        loop {
            // Who waits for the next thing may give up meanwhile, and come again: the question goes on.
            if let Some(asked) = &mut self.asked {
                let (uid, last) = asked.await;
                self.asked = None;
                return Ok(News::Gone(uid, last));
            }
            let event = tokio::select! {
                event = self.stream.message() => event.map_err(|status| status.message().to_owned())?,
                fault = self.pulse.lost() => return Err(fault),
            };
            let event = event.ok_or("the kubelet ended the watch")?;
            self.pulse.felt();
            return Ok(match event.r#type() {
                EventType::Added | EventType::Modified => {
                    let pod = seen(read(&event.pod)?);
                    self.pulse.there_is(&pod.uid);
                    News::Pod(pod)
                }
                EventType::Deleted => {
                    let uid = read(&event.pod)?.metadata.unwrap_or_default().uid;
                    self.pulse.is_gone(&uid);
                    self.asked = Some(Box::pin(last_words(self.client.clone(), uid)));
                    continue;
                }
                EventType::InitialSyncComplete => News::All,
                // A kind of a later version: whatever it says, it is no change that this version knows.
                EventType::Unspecified => continue,
            });
        }
    }

    /// Whether it is still to be told how a pod ended.
    pub(super) fn is_behind(&self) -> bool {
        self.asked.is_some()
    }

    /// When the kubelet was last known to have told all that there was.
    pub(super) fn heard(&self) -> Instant {
        self.pulse.heard()
    }

    pub(super) async fn pods(&mut self) -> Result<Vec<PodSeen>, String> {
        let told = tokio::time::timeout(ANSWER, self.client.list_pods(ListPodsRequest {})).await;
        let told = told.map_err(|_| "the kubelet doesn't list its pods")?;
        let told = told.map_err(|status| status.message().to_owned())?.into_inner();
        told.pods.iter().map(|pod| Ok(seen(read(pod)?))).collect()
    }
}

/// The kubelet says that a pod is over without saying how it ended, but keeps it until its object goes.
async fn last_words(mut client: PodsClient<Channel>, uid: String) -> (String, Option<PodSeen>) {
    let request = GetPodRequest { pod_uid: uid.clone() };
    let told = tokio::time::timeout(ANSWER, client.get_pod(request)).await;
    let told = told.ok().and_then(Result::ok).and_then(|told| read(&told.into_inner().pod).ok());
    (uid, told.map(seen).filter(|pod| pod.over))
}

fn read(pod: &[u8]) -> Result<Pod, String> {
    Pod::read(pod).map_err(|fault| format!("the kubelet told of a pod that isn't understood: {fault}"))
}

fn in_words(socket: &Path, status: &Status) -> String {
    format!("{}: {}", socket.display(), status.message())
}

fn seen(pod: Pod) -> PodSeen {
    let (metadata, spec) = (pod.metadata.unwrap_or_default(), pod.spec.unwrap_or_default());
    let (main, init) = (asked(spec.containers), asked(spec.init_containers));
    let status = pod.status.unwrap_or_default();
    let main = status.container_statuses.into_iter().map(|one| container(one, false, &main));
    let init = status.init_container_statuses.into_iter().map(|one| container(one, true, &init));
    source::seen([metadata.name, metadata.namespace, metadata.uid], &status.phase, main.chain(init))
}

fn asked(containers: Vec<Container>) -> Asked {
    let limits = |one: Container| one.resources.unwrap_or_default().limits.into_iter();
    let asks = |one: Container| source::asks(limits(one).map(|(resource, count)| (resource, count.string)));
    containers.into_iter().map(|one| (one.name.clone(), asks(one))).collect()
}

fn container(status: ContainerStatus, init: bool, asked: &Asked) -> source::Status {
    let devices = status.allocated_resources_status.into_iter().flat_map(|resource| resource.resources);
    source::Status {
        asks: asked.get(&status.name).cloned().unwrap_or_default(),
        name: status.name,
        init,
        now: status.state.and_then(run),
        before: status.last_state.and_then(run),
        devices: devices.map(|device| device.resource_id).collect(),
        id: Some(status.container_id).filter(|id| !id.is_empty()),
    }
}

fn run(state: ContainerState) -> Option<Run> {
    let running = state.running.map(|run| Run { started_ms: ms(run.started_at), ended: None });
    let terminated =
        state.terminated.map(|run| Run { started_ms: ms(run.started_at), ended: Some(ms(run.finished_at)) });
    running.or(terminated)
}

/// A time that isn't known is written as none, or as one before 1970.
fn ms(time: Option<Time>) -> Option<u64> {
    let seconds = u64::try_from(time?.seconds).ok().filter(|seconds| *seconds > 0)?;
    seconds.checked_mul(1000)
}

/// The kubelet's list of the devices that it gave to pods.
pub(super) struct Lister {
    socket: PathBuf,
    client: Option<PodResourcesListerClient<Channel>>,
}

impl Lister {
    pub(super) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), client: None }
    }

    /// The list, and the pods just before and just after it was made.
    pub(super) async fn list_between(
        &mut self,
        source: &mut Source,
    ) -> Result<(Vec<PodSeen>, Vec<Listed>, Vec<PodSeen>), String> {
        let before = source.pods().await?;
        let listed = self.list().await?;
        Ok((before, listed, source.pods().await?))
    }

    /// Fails where the kubelet left its socket behind and nobody listens on it: then it is away.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn listens(&self) -> Result<(), String> {
        let dialled = UnixStream::connect(&self.socket).await;
        match dialled.err().filter(|fault| fault.kind() == ErrorKind::ConnectionRefused) {
            None => Ok(()),
            Some(fault) => Err(format!("the kubelet is away: {}: {fault}", self.socket.display())),
        }
    }

    async fn list(&mut self) -> Result<Vec<Listed>, String> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => PodResourcesListerClient::new(dial(&self.socket, Some(ANSWER)).await?)
                .max_decoding_message_size(LONGEST_ANSWER),
        };
        let told = client.list(ListPodResourcesRequest {}).await;
        let told = told.map_err(|status| in_words(&self.socket, &status))?.into_inner();
        // Only a connection that works is kept: a kubelet that restarted has another socket under the same name.
        self.client = Some(client);
        let mut listed = Vec::new();
        for pod in told.pod_resources {
            for container in pod.containers {
                listed.push(Listed {
                    namespace: pod.namespace.clone(),
                    pod: pod.name.clone(),
                    container: container.name,
                    devices: container.devices.into_iter().flat_map(|devices| devices.device_ids).collect(),
                });
            }
        }
        Ok(listed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use plasma_proto::pod::{
        ContainerStateRunning, ContainerStateTerminated, ObjectMeta, PodSpec, PodStatus, Quantity,
        ResourceHealth, ResourceRequirements, ResourceStatus,
    };

    use super::*;

    fn time(seconds: i64) -> Option<Time> {
        Some(Time { seconds })
    }

    fn ran(from: i64, to: i64) -> Option<ContainerState> {
        let terminated = ContainerStateTerminated { started_at: time(from), finished_at: time(to) };
        Some(ContainerState { terminated: Some(terminated), running: None })
    }

    fn runs(from: i64) -> Option<ContainerState> {
        Some(ContainerState {
            running: Some(ContainerStateRunning { started_at: time(from) }),
            terminated: None,
        })
    }

    fn pod(phase: &str, containers: Vec<ContainerStatus>) -> Pod {
        let metadata = ObjectMeta { name: "p".to_owned(), namespace: "n".to_owned(), uid: "u".to_owned() };
        let limits = HashMap::from([
            ("nvidia.com/gpu".to_owned(), Quantity { string: "2".to_owned() }),
            ("memory".to_owned(), Quantity { string: "1Gi".to_owned() }),
            ("example.com/much".to_owned(), Quantity { string: "1k".to_owned() }),
        ]);
        let resources = Some(ResourceRequirements { limits });
        let asking = |name: &str| Container { name: name.to_owned(), resources: resources.clone() };
        let spec = PodSpec { containers: vec![asking("c")], init_containers: vec![asking("i")] };
        let status = PodStatus {
            phase: phase.to_owned(),
            container_statuses: containers,
            init_container_statuses: vec![],
        };
        Pod { metadata: Some(metadata), spec: Some(spec), status: Some(status) }
    }

    #[test]
    fn a_container_that_was_started_again_began_when_it_first_started() {
        let status = ContainerStatus {
            name: "c".to_owned(),
            state: runs(20),
            last_state: ran(5, 9),
            container_id: "containerd://2".to_owned(),
            allocated_resources_status: vec![ResourceStatus {
                name: "nvidia.com/gpu".to_owned(),
                resources: vec![ResourceHealth { resource_id: "GPU-0".to_owned() }],
            }],
        };
        let seen = seen(pod("Running", vec![status]));
        let [container] = &seen.containers[..] else { panic!("one container") };
        assert_eq!((container.started_ms, container.finished_ms), (Some(5000), None));
        assert_eq!(container.running.as_deref(), Some("containerd://2"));
        assert_eq!((container.devices.as_slice(), seen.over), (&["GPU-0".to_owned()][..], false));
    }

    #[test]
    fn what_a_container_asks_for_of_device_plugins_is_told() {
        let named = |name: &str| ContainerStatus { name: name.to_owned(), ..ContainerStatus::default() };
        let mut told = pod("Running", vec![named("c"), named("other")]);
        told.status.as_mut().unwrap().init_container_statuses = vec![named("i")];
        let asks = seen(told).containers.into_iter().map(|one| (one.name, one.init, one.asks));
        let two =
            BTreeMap::from([("example.com/much".to_owned(), u64::MAX), ("nvidia.com/gpu".to_owned(), 2)]);
        let expected = [("c", false, two.clone()), ("other", false, BTreeMap::new()), ("i", true, two)]
            .map(|(name, init, asks)| (name.to_owned(), init, asks));
        assert_eq!(asks.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_pod_is_over_only_when_nothing_of_it_runs() {
        let status = |state| ContainerStatus { name: "c".to_owned(), state, ..ContainerStatus::default() };
        assert!(
            !seen(pod("Failed", vec![status(ran(1, 2)), status(runs(1))])).over,
            "evicted, and not ended yet"
        );
        assert!(!seen(pod("Running", vec![status(ran(1, 2))])).over, "it may be started again");
        let ended = ContainerStatus { container_id: "containerd://1".to_owned(), ..status(ran(1, 2)) };
        let over = seen(pod("Failed", vec![ended]));
        assert_eq!(over.containers[0].running, None, "its id is that of a run that ended");
        assert_eq!((over.over, over.containers[0].finished_ms), (true, Some(2000)));
    }

    #[test]
    fn what_is_not_a_time_is_none() {
        assert_eq!(ms(time(-62_135_596_800)), None, "Go's zero");
        assert_eq!((ms(None), ms(time(0)), ms(time(i64::MAX))), (None, None, None));
    }

    #[test]
    fn a_pod_that_is_no_protobuf_is_an_error() {
        assert!(read(&[0xff; 9]).unwrap_err().contains("isn't understood"));
    }
}
