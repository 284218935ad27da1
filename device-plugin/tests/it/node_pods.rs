//! The kubelet's sockets that tell of pods: what they hold is said here, and the real services say it.

use std::{
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use plasma_proto::{
    pod::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus,
        ObjectMeta, Pod, PodSpec, PodStatus, Quantity, ResourceHealth, ResourceRequirements, ResourceStatus,
        Time,
    },
    podresources::{
        ContainerDevices, ContainerResources, ListPodResourcesRequest, ListPodResourcesResponse,
        PodResources,
        pod_resources_lister_server::{PodResourcesLister, PodResourcesListerServer},
    },
    pods::{
        EventType, GetPodRequest, GetPodResponse, ListPodsRequest, ListPodsResponse, WatchPodsEvent,
        WatchPodsRequest,
        pods_server::{Pods, PodsServer},
    },
};
use tokio::{
    net::UnixListener,
    runtime::{Builder, Runtime},
    sync::broadcast,
};
use tokio_stream::{
    Stream, StreamExt as _,
    wrappers::{BroadcastStream, UnixListenerStream},
};
use tonic::{Request, Response, Status, transport::Server};

use crate::plugin::Node;

/// A pod of one container on the made-up kubelet.
#[derive(Clone)]
pub(crate) struct NodePod {
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) devices: Vec<String>,
    /// Seconds since 1970; the container's id at the runtime is made of it.
    pub(crate) started: Option<u64>,
    pub(crate) finished: Option<u64>,
}

impl NodePod {
    fn pod(&self, names_devices: bool) -> Pod {
        let time =
            |seconds: Option<u64>| seconds.map(|seconds| Time { seconds: seconds.try_into().unwrap() });
        let running = (self.started.is_some() && self.finished.is_none())
            .then(|| ContainerStateRunning { started_at: time(self.started) });
        let terminated = self.finished.map(|at| ContainerStateTerminated {
            started_at: time(self.started),
            finished_at: time(Some(at)),
        });
        let resources = self.devices.iter().map(|id| ResourceHealth { resource_id: id.clone() }).collect();
        let named = ResourceStatus { name: "nvidia.com/gpu".to_owned(), resources };
        let container = ContainerStatus {
            name: "main".to_owned(),
            state: Some(ContainerState { running, terminated }),
            last_state: None,
            container_id: self.started.map(|at| format!("containerd://c{at}")).unwrap_or_default(),
            allocated_resources_status: if names_devices { vec![named] } else { vec![] },
        };
        let phase = match (self.started, self.finished) {
            (_, Some(_)) => "Succeeded",
            (Some(_), None) => "Running",
            (None, None) => "Pending",
        };
        Pod {
            metadata: Some(ObjectMeta {
                name: self.name.clone(),
                namespace: "team".to_owned(),
                uid: self.uid.clone(),
            }),
            spec: None,
            status: Some(PodStatus {
                phase: phase.to_owned(),
                container_statuses: vec![container],
                init_container_statuses: vec![],
            }),
        }
    }
}

fn with_init(uid: &str, runs: bool) -> Pod {
    let at = Some(Time { seconds: 1_000 });
    let running = runs.then_some(ContainerStateRunning { started_at: at });
    let terminated = (!runs).then_some(ContainerStateTerminated { started_at: at, finished_at: at });
    let init = ContainerStatus {
        name: "init".to_owned(),
        state: Some(ContainerState { running, terminated }),
        container_id: "containerd://init".to_owned(),
        ..ContainerStatus::default()
    };
    let main = ContainerStatus { name: "main".to_owned(), ..ContainerStatus::default() };
    let limits = [("nvidia.com/gpu".to_owned(), Quantity { string: "1".to_owned() })].into();
    let asks = Container { name: "init".to_owned(), resources: Some(ResourceRequirements { limits }) };
    Pod {
        metadata: Some(ObjectMeta {
            name: "i".to_owned(),
            namespace: "team".to_owned(),
            uid: uid.to_owned(),
        }),
        spec: Some(PodSpec { containers: vec![], init_containers: vec![asks] }),
        status: Some(PodStatus {
            phase: if runs { "Pending" } else { "Failed" }.to_owned(),
            container_statuses: vec![main],
            init_container_statuses: vec![init],
        }),
    }
}

/// What the sockets say.
struct Said {
    pods: Mutex<Vec<NodePod>>,
    /// Whether statuses name devices, as they do since Kubernetes 1.36.
    names_devices: bool,
    events: broadcast::Sender<WatchPodsEvent>,
    /// How long it takes to tell of one pod.
    answers_after: Mutex<Duration>,
    /// Whether nothing is answered and told.
    hangs: AtomicBool,
    /// Pods of which nothing is listed.
    others: Mutex<Vec<Pod>>,
}

impl Said {
    fn bytes(&self, pod: &NodePod) -> Vec<u8> {
        pod.pod(self.names_devices).to_bytes()
    }

    fn all(&self) -> Vec<Vec<u8>> {
        let pods: Vec<_> = self.pods.lock().unwrap().iter().map(|pod| self.bytes(pod)).collect();
        pods.into_iter().chain(self.others.lock().unwrap().iter().map(Pod::to_bytes)).collect()
    }

    fn tell(&self, r#type: EventType, pod: Vec<u8>) {
        if !self.hangs.load(Ordering::Relaxed) {
            // Nobody may be listening.
            let _ = self.events.send(WatchPodsEvent { r#type: r#type.into(), pod });
        }
    }

    async fn once_it_answers(&self) {
        while self.hangs.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A kubelet as far as it tells of pods. Its sockets go with it.
pub(crate) struct NodePods {
    said: Arc<Said>,
    /// Of its own, so that it also takes its connections along when it ends.
    runtime: Option<Runtime>,
}

impl NodePods {
    pub(crate) fn start(node: &Node, names_devices: bool) -> Self {
        Self::start_with(node, names_devices, Vec::new())
    }

    /// As a kubelet that starts and finds its pods.
    pub(crate) fn start_with(node: &Node, names_devices: bool, pods: Vec<NodePod>) -> Self {
        let said = Arc::new(Said {
            pods: Mutex::new(pods),
            names_devices,
            events: broadcast::channel(1000).0,
            answers_after: Mutex::default(),
            hangs: AtomicBool::default(),
            others: Mutex::default(),
        });
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _inside = runtime.enter();
        let listen = |socket: &Path| {
            // A kubelet that starts removes the socket of the one before.
            let _ = std::fs::remove_file(socket);
            UnixListenerStream::new(UnixListener::bind(socket).unwrap())
        };
        let pods = Server::builder()
            .add_service(PodsServer::new(Service(said.clone())))
            .serve_with_incoming(listen(&node.pods_api()));
        let resources = Server::builder()
            .add_service(PodResourcesListerServer::new(Service(said.clone())))
            .serve_with_incoming(listen(&node.pod_resources()));
        runtime.spawn(pods);
        runtime.spawn(resources);
        Self { said, runtime: Some(runtime) }
    }

    /// It takes so long to tell of one pod, from now on.
    pub(crate) fn answer_after(&self, pause: Duration) {
        *self.said.answers_after.lock().unwrap() = pause;
    }

    /// It answers nothing and tells nothing, with its sockets open; or it does again.
    pub(crate) fn hang(&self, does: bool) {
        self.said.hangs.store(does, Ordering::Relaxed);
    }

    /// A pod with one init container, which has a GPU that nobody tells of, and runs or has ended, and the pod with it.
    pub(crate) fn set_init(&self, uid: &str, runs: bool) {
        let pod = with_init(uid, runs);
        let bytes = pod.to_bytes();
        *self.said.others.lock().unwrap() = vec![pod];
        self.said.tell(EventType::Modified, bytes);
    }

    /// A pod comes, or is another than before.
    pub(crate) fn set(&self, pod: NodePod) {
        let bytes = self.said.bytes(&pod);
        let mut pods = self.said.pods.lock().unwrap();
        pods.retain(|before| before.uid != pod.uid);
        pods.push(pod);
        drop(pods);
        self.said.tell(EventType::Modified, bytes);
    }

    /// A pod is over, and the kubelet says no more than that it is gone, as it does.
    pub(crate) fn end_silently(&self, uid: &str, finished: u64) {
        let mut pods = self.said.pods.lock().unwrap();
        let pod = pods.iter_mut().find(|pod| pod.uid == uid).unwrap();
        pod.finished = Some(finished);
        let bytes = self.said.bytes(pod);
        drop(pods);
        self.said.tell(EventType::Deleted, bytes);
    }

    /// A pod's object goes.
    pub(crate) fn remove(&self, uid: &str) {
        let mut pods = self.said.pods.lock().unwrap();
        let gone = pods.iter().position(|pod| pod.uid == uid).unwrap();
        let gone = pods.remove(gone);
        drop(pods);
        self.said.tell(EventType::Deleted, self.said.bytes(&gone));
    }

    pub(crate) fn pods(&self) -> Vec<NodePod> {
        self.said.pods.lock().unwrap().clone()
    }
}

impl Drop for NodePods {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

struct Service(Arc<Said>);

type Events = Pin<Box<dyn Stream<Item = Result<WatchPodsEvent, Status>> + Send>>;

#[tonic::async_trait]
impl Pods for Service {
    type WatchPodsStream = Events;

    async fn watch_pods(&self, _: Request<WatchPodsRequest>) -> Result<Response<Events>, Status> {
        self.0.once_it_answers().await;
        // Listen first, so that nothing is missed.
        let later = BroadcastStream::new(self.0.events.subscribe());
        let now = self.0.all().into_iter();
        let now = now.map(|pod| WatchPodsEvent { r#type: EventType::Added.into(), pod });
        let all = WatchPodsEvent { r#type: EventType::InitialSyncComplete.into(), pod: vec![] };
        let now: Vec<_> = now.chain([all]).map(Ok).collect();
        let later = later.map(|event| event.map_err(|_| Status::resource_exhausted("too slow")));
        Ok(Response::new(Box::pin(tokio_stream::iter(now).chain(later))))
    }

    async fn list_pods(&self, _: Request<ListPodsRequest>) -> Result<Response<ListPodsResponse>, Status> {
        self.0.once_it_answers().await;
        Ok(Response::new(ListPodsResponse { pods: self.0.all() }))
    }

    async fn get_pod(&self, request: Request<GetPodRequest>) -> Result<Response<GetPodResponse>, Status> {
        self.0.once_it_answers().await;
        let uid = request.into_inner().pod_uid;
        let pause = *self.0.answers_after.lock().unwrap();
        tokio::time::sleep(pause).await;
        let pods = self.0.pods.lock().unwrap();
        let pod = pods.iter().find(|pod| pod.uid == uid).ok_or_else(|| Status::not_found("no such pod"))?;
        Ok(Response::new(GetPodResponse { pod: self.0.bytes(pod) }))
    }
}

#[tonic::async_trait]
impl PodResourcesLister for Service {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        self.0.once_it_answers().await;
        let pods = self.0.pods.lock().unwrap();
        let active = pods.iter().filter(|pod| pod.finished.is_none());
        let resources = |pod: &NodePod| PodResources {
            name: pod.name.clone(),
            namespace: "team".to_owned(),
            containers: vec![ContainerResources {
                name: "main".to_owned(),
                devices: vec![ContainerDevices {
                    resource_name: "nvidia.com/gpu".to_owned(),
                    device_ids: pod.devices.clone(),
                }],
            }],
        };
        Ok(Response::new(ListPodResourcesResponse { pod_resources: active.map(resources).collect() }))
    }
}
