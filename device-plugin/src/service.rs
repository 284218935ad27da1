//! The device-plugin service: translates, asks the core, answers from memory. NVML is never asked here.

use std::{pin::Pin, time::Duration};

use plasma_device_plugin_core::{Advertised, allocate, prefer};
use plasma_proto::deviceplugin::{
    AllocateRequest, AllocateResponse, ContainerAllocateResponse, ContainerPreferredAllocationResponse,
    Device, DevicePluginOptions, DeviceSpec, Empty, HEALTHY, ListAndWatchResponse, NumaNode,
    PreStartContainerRequest, PreStartContainerResponse, PreferredAllocationRequest,
    PreferredAllocationResponse, TopologyInfo, UNHEALTHY, device_plugin_server::DevicePlugin,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use crate::inventory::Observed;

/// How often the list is looked at again though nothing was published: a hanging NVML publishes nothing.
const FRESHNESS_CHECK: Duration = Duration::from_secs(1);

/// The service on our socket.
pub(crate) struct Service {
    observed: watch::Receiver<Observed>,
}

impl Service {
    pub(crate) fn new(observed: watch::Receiver<Observed>) -> Self {
        Self { observed }
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
        tokio::spawn(send_changes(self.observed.clone(), send));
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let inventory = self.observed.borrow().believed();
        let prefer_one = |request: plasma_proto::deviceplugin::ContainerPreferredAllocationRequest| {
            let size = usize::try_from(request.allocation_size).unwrap_or(0);
            let (available, required) = (&request.available_device_i_ds, &request.must_include_device_i_ds);
            ContainerPreferredAllocationResponse {
                device_i_ds: prefer(&inventory, available, required, size),
            }
        };
        let container_responses =
            request.into_inner().container_requests.into_iter().map(prefer_one).collect();
        Ok(Response::new(PreferredAllocationResponse { container_responses }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let observed = self.observed.borrow().clone();
        let inventory = observed.believed();
        let allocate_one = |request: plasma_proto::deviceplugin::ContainerAllocateRequest| {
            let nodes = allocate(&inventory, &request.devices_ids)
                .map_err(|why| Status::unavailable(why.to_string()))?;
            tracing::info!("allocating {}", request.devices_ids.join(", "));
            // A simulated GPU has no device node; a real one's is handed over whether or not we can see it.
            let nodes = if observed.simulated { Vec::new() } else { nodes };
            let devices = nodes.into_iter().map(|node| device_spec(node.0)).collect();
            Ok(ContainerAllocateResponse { devices, ..Default::default() })
        };
        let responses: Result<Vec<_>, Status> =
            request.into_inner().container_requests.into_iter().map(allocate_one).collect();
        Ok(Response::new(AllocateResponse { container_responses: responses? }))
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        Ok(Response::new(PreStartContainerResponse {}))
    }
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
        let now = observed.borrow_and_update().believed().advertised();
        if told.as_ref() != Some(&now) {
            let devices = now.iter().map(device).collect();
            if send.send(Ok(ListAndWatchResponse { devices })).await.is_err() {
                return;
            }
            told = Some(now);
        }
        tokio::select! {
            () = send.closed() => return,
            () = tokio::time::sleep(FRESHNESS_CHECK) => {}
            changed = observed.changed() => if changed.is_err() { return },
        }
    }
}

fn device(advertised: &Advertised) -> Device {
    let topology =
        advertised.numa_node.map(|node| TopologyInfo { nodes: vec![NumaNode { id: i64::from(node) }] });
    let health = if advertised.healthy { HEALTHY } else { UNHEALTHY };
    Device { id: advertised.id.clone(), health: health.to_owned(), topology }
}
