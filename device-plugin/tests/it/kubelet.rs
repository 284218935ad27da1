//! The kubelet's side of the protocol: takes registrations, and asks as a kubelet does.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use plasma_proto::deviceplugin::{
    AllocateRequest, AllocateResponse, Device, DevicePluginOptions, Empty, HEALTHY, ListAndWatchResponse,
    PreferredAllocationRequest, PreferredAllocationResponse, RegisterRequest,
    device_plugin_client::DevicePluginClient,
    registration_server::{Registration, RegistrationServer},
};
use plasma_proto::pluginregistration::{
    InfoRequest, PluginInfo, RegistrationStatus,
    registration_client::RegistrationClient as RegistrationPluginClient,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server, Uri},
};

use crate::plugin::{gpu, names};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A list as it should be: by a GPU's number, whether it is healthy.
pub(crate) fn list(gpus: &[(usize, bool)]) -> Vec<(String, bool)> {
    gpus.iter().map(|(index, healthy)| (gpu(*index).uuid, *healthy)).collect()
}

/// A kubelet, as far as device plugins can tell.
pub(crate) struct Kubelet {
    folder: PathBuf,
    registrations: mpsc::UnboundedReceiver<RegisterRequest>,
    server: JoinHandle<()>,
}

struct Register(mpsc::UnboundedSender<RegisterRequest>);

#[tonic::async_trait]
impl Registration for Register {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        self.0.send(request.into_inner()).map_err(|_| Status::internal("the test is over"))?;
        Ok(Response::new(Empty {}))
    }
}

impl Kubelet {
    /// Removes every socket in the folder, as a starting kubelet does, and takes registrations.
    pub(crate) fn start(folder: PathBuf) -> Self {
        for file in fs::read_dir(&folder).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        Self::start_without_tidying(folder)
    }

    /// Takes registrations on a new socket, and leaves what others have put there.
    pub(crate) fn start_without_tidying(folder: PathBuf) -> Self {
        let listener = UnixListener::bind(folder.join("kubelet.sock")).unwrap();
        let (send, registrations) = mpsc::unbounded_channel();
        let serve = Server::builder()
            .add_service(RegistrationServer::new(Register(send)))
            .serve_with_incoming(UnixListenerStream::new(listener));
        let server = tokio::spawn(async move { serve.await.unwrap() });
        Self { folder, registrations, server }
    }

    /// The next plugin that registers.
    pub(crate) async fn registered(&mut self) -> Registered {
        let request = tokio::time::timeout(PATIENCE, self.registrations.recv()).await;
        let request = request.expect("a plugin registers").unwrap();
        let client = DevicePluginClient::new(dial(&self.folder.join(&request.endpoint)).await);
        Registered { request, client, stream: None }
    }

    /// Ends; its socket goes.
    pub(crate) async fn stop(self) {
        self.server.abort();
        let _ = self.server.await;
        fs::remove_file(self.folder.join("kubelet.sock")).unwrap();
    }
}

async fn dial(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    let connect = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connect).await.unwrap()
}

/// A kubelet that looks into its registry folder, as the plugin watcher does.
pub(crate) struct Watcher {
    folder: PathBuf,
    known: BTreeSet<String>,
}

impl Watcher {
    /// Begins to look, as a kubelet that starts.
    pub(crate) fn start(folder: PathBuf) -> Self {
        Self { folder, known: BTreeSet::new() }
    }

    /// The next plugin that it finds, before it is told that it was taken.
    pub(crate) async fn found(&mut self) -> Found {
        let look = async {
            loop {
                let found = names(&self.folder).into_iter().find(|name| !self.known.contains(name));
                if let Some(found) = found {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let socket = tokio::time::timeout(PATIENCE, look).await.expect("a plugin is found");
        self.known.insert(socket.clone());
        let channel = dial(&self.folder.join(&socket)).await;
        let mut registration = RegistrationPluginClient::new(channel.clone());
        let info = registration.get_info(InfoRequest {}).await.unwrap().into_inner();
        assert_eq!(info.endpoint, "", "the same socket serves the devices");
        let (client, request) = (DevicePluginClient::new(channel), request_of(&info, &socket));
        Found { info, registration, device_plugin: Registered { request, client, stream: None } }
    }

    /// The next plugin that it finds and takes.
    pub(crate) async fn registered(&mut self) -> Registered {
        let found = self.found().await;
        found.tell(true, "").await
    }
}

fn request_of(info: &PluginInfo, socket: &str) -> RegisterRequest {
    RegisterRequest {
        version: info.supported_versions[0].clone(),
        endpoint: socket.to_owned(),
        resource_name: info.name.clone(),
        options: None,
    }
}

/// A plugin that was found, and waits to be told whether it is taken.
pub(crate) struct Found {
    pub(crate) info: PluginInfo,
    registration: RegistrationPluginClient<Channel>,
    device_plugin: Registered,
}

impl Found {
    /// Tells it.
    pub(crate) async fn tell(mut self, plugin_registered: bool, error: &str) -> Registered {
        let status = RegistrationStatus { plugin_registered, error: error.to_owned() };
        self.registration.notify_registration_status(status).await.unwrap();
        self.device_plugin
    }
}

/// A plugin that registered, and what the kubelet asks it.
pub(crate) struct Registered {
    pub(crate) request: RegisterRequest,
    client: DevicePluginClient<Channel>,
    stream: Option<Streaming<ListAndWatchResponse>>,
}

impl Registered {
    pub(crate) async fn options(&mut self) -> DevicePluginOptions {
        self.client.get_device_plugin_options(Empty {}).await.unwrap().into_inner()
    }

    async fn next(&mut self) -> Option<Result<ListAndWatchResponse, Status>> {
        if self.stream.is_none() {
            self.stream = Some(self.client.list_and_watch(Empty {}).await.unwrap().into_inner());
        }
        let next = self.stream.as_mut().unwrap().message();
        let next = tokio::time::timeout(PATIENCE, next).await.expect("the list is told");
        next.transpose()
    }

    /// The next full list.
    pub(crate) async fn devices(&mut self) -> Vec<Device> {
        self.next().await.expect("the stream goes on").unwrap().devices
    }

    /// The next full list: id, and whether it is healthy.
    pub(crate) async fn next_list(&mut self) -> Vec<(String, bool)> {
        self.devices().await.into_iter().map(|device| (device.id, device.health == HEALTHY)).collect()
    }

    /// Waits until the list is this one: GPUs that come at once may be told of one after the other.
    pub(crate) async fn becomes_list(&mut self, expected: Vec<(String, bool)>) {
        while self.next_list().await != expected {}
    }

    /// Whether the next thing that comes is the end.
    pub(crate) async fn list_ends(&mut self) -> bool {
        !matches!(self.next().await, Some(Ok(_)))
    }

    pub(crate) async fn allocate(&mut self, request: AllocateRequest) -> Result<AllocateResponse, Status> {
        self.client.allocate(request).await.map(Response::into_inner)
    }

    pub(crate) async fn prefer(
        &mut self,
        request: PreferredAllocationRequest,
    ) -> PreferredAllocationResponse {
        self.client.get_preferred_allocation(request).await.unwrap().into_inner()
    }
}
