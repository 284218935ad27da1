//! The device-plugin service: translates, asks the core, answers from memory. NVML is never asked here.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use plasma_api::names::SIMULATED_LABEL;
use plasma_device_plugin_core::{Advertised, allocate, qualified};
use plasma_proto::deviceplugin::{
    AllocateRequest, AllocateResponse, CdiDevice, ContainerAllocateRequest, ContainerAllocateResponse,
    ContainerPreferredAllocationResponse, Device, DevicePluginOptions, DeviceSpec, Empty, HEALTHY,
    ListAndWatchResponse, NumaNode, PreStartContainerRequest, PreStartContainerResponse,
    PreferredAllocationRequest, PreferredAllocationResponse, TopologyInfo, UNHEALTHY,
    device_plugin_server::DevicePlugin,
};
use plasma_runtime::CancellationToken;
use tokio::sync::{mpsc, watch};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use crate::{
    handover::Strategy,
    inventory::{Observed, newer},
    metrics::KubeletMetrics,
    preference::{Preferences, Question},
};

/// How often the list is looked at again though nothing was published: a hanging NVML publishes nothing.
const FRESHNESS_CHECK: Duration = Duration::from_secs(1);

/// How NVIDIA's container runtime is told which GPUs a container gets.
const VISIBLE_DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";

/// The service on one of our sockets.
pub(crate) struct Service {
    pub(crate) observed: watch::Receiver<Observed>,
    pub(crate) metrics: KubeletMetrics,
    pub(crate) strategy: Strategy,
    pub(crate) preferences: Preferences,
    pub(crate) listeners: Listeners,
    /// Ends the streams.
    pub(crate) stop: CancellationToken,
}

/// How many streams of the list are open on a socket: with none, the kubelet has given up on us.
#[derive(Clone, Default)]
pub(crate) struct Listeners(Arc<AtomicUsize>);

impl Listeners {
    pub(crate) fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    fn join(&self) -> Listening {
        self.0.fetch_add(1, Ordering::Relaxed);
        Listening(self.clone())
    }
}

/// One open stream.
struct Listening(Listeners);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What we offer the kubelet: it asks for preferences, and not before each start.
pub(crate) fn options() -> DevicePluginOptions {
    DevicePluginOptions { pre_start_required: false, get_preferred_allocation_available: true }
}

#[tonic::async_trait]
impl DevicePlugin for Service {
    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(options()))
    }

    type ListAndWatchStream = Pin<Box<dyn Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

    async fn list_and_watch(&self, _: Request<Empty>) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let (send, receive) = mpsc::channel(1);
        let (stop, observed, listening) = (self.stop.clone(), self.observed.clone(), self.listeners.join());
        tokio::spawn(async move {
            stop.run_until_cancelled(send_changes(observed, send)).await;
            drop(listening);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let inventory = Arc::new(self.observed.borrow().believed());
        let mut container_responses = Vec::new();
        for request in request.into_inner().container_requests {
            let question = Question {
                available: request.available_device_i_ds,
                required: request.must_include_device_i_ds,
                size: usize::try_from(request.allocation_size).unwrap_or(0),
            };
            let device_i_ds = self.preferences.answer(&inventory, question).await;
            container_responses.push(ContainerPreferredAllocationResponse { device_i_ds });
        }
        Ok(Response::new(PreferredAllocationResponse { container_responses }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let observed = self.observed.borrow().clone();
        let requests = request.into_inner().container_requests;
        let responses: Result<Vec<_>, Status> =
            requests.iter().map(|request| allocate_one(request, &observed, self.strategy)).collect();
        self.metrics.allocated(responses.is_ok());
        if let Err(refusal) = &responses {
            tracing::warn!("refused: {}", refusal.message());
        }
        Ok(Response::new(AllocateResponse { container_responses: responses? }))
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        Ok(Response::new(PreStartContainerResponse {}))
    }
}

fn allocate_one(
    request: &ContainerAllocateRequest,
    observed: &Observed,
    strategy: Strategy,
) -> Result<ContainerAllocateResponse, Status> {
    let inventory = observed.believed();
    let granted = allocate(&inventory, &request.devices_ids);
    let granted = granted.map_err(|why| Status::unavailable(why.to_string()))?;
    tracing::info!("allocating {}", request.devices_ids.join(", "));
    let mut response = ContainerAllocateResponse::default();
    match strategy {
        Strategy::CdiCri => {
            let names = granted.iter().map(|device| CdiDevice { name: qualified(&device.id) });
            response.cdi_devices = names.collect();
        }
        Strategy::DeviceNodes => {
            let own = granted.into_iter().flat_map(|device| device.device_nodes);
            response.devices = inventory.shared_nodes().iter().cloned().chain(own).map(device_spec).collect();
        }
        Strategy::Envvar => {
            let ids: Vec<String> = granted.into_iter().map(|device| device.id).collect();
            response.envs.insert(VISIBLE_DEVICES.to_owned(), ids.join(","));
        }
    }
    if observed.simulated {
        response.annotations.insert(SIMULATED_LABEL.to_owned(), "true".to_owned());
    }
    Ok(response)
}

fn device_spec(path: String) -> DeviceSpec {
    DeviceSpec { container_path: path.clone(), host_path: path, permissions: "rw".to_owned() }
}

/// Sends the full list at first and at each change, until the kubelet hangs up.
async fn send_changes(
    mut observed: watch::Receiver<Observed>,
    send: mpsc::Sender<Result<ListAndWatchResponse, Status>>,
) {
    let mut told: Option<Vec<Advertised>> = None;
    loop {
        let seen = observed.borrow_and_update().clone();
        let (inventory, before) = (seen.believed(), told.as_deref().unwrap_or_default());
        let mut now = inventory.advertised();
        // One that has just come is told of when it is ready, not as one that is ill until then.
        now.retain(|new| !seen.is_pending(&new.id) || before.iter().any(|known| known.id == new.id));
        if told.as_ref() != Some(&now) {
            let healthy = now.iter().filter(|device| device.healthy).count();
            let why = inventory.fault().map(|fault| format!(": {fault}")).unwrap_or_default();
            tracing::info!("offering {healthy} of {} GPUs{why}", now.len());
            let devices = now.iter().map(device).collect();
            if send.send(Ok(ListAndWatchResponse { devices })).await.is_err() {
                return;
            }
            told = Some(now);
        }
        tokio::select! {
            () = send.closed() => return,
            () = newer(&mut observed, FRESHNESS_CHECK) => {}
        }
    }
}

fn device(advertised: &Advertised) -> Device {
    let node = advertised.numa_node.map(|node| NumaNode { id: i64::from(node) });
    let topology = node.map(|node| TopologyInfo { nodes: vec![node] });
    let health = if advertised.healthy { HEALTHY } else { UNHEALTHY };
    Device { id: advertised.id.clone(), health: health.to_owned(), topology }
}
