//! The device-plugin service: translates, asks the core, answers from memory. NVML is never asked here.

mod list;

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use plasma_api::names::SIMULATED_LABEL;
use plasma_device_plugin_core::{Offered, allocate, qualified};
use plasma_proto::deviceplugin::{
    AllocateRequest, AllocateResponse, CdiDevice, ContainerAllocateRequest, ContainerAllocateResponse,
    ContainerPreferredAllocationResponse, DevicePluginOptions, DeviceSpec, Empty, ListAndWatchResponse,
    PreStartContainerRequest, PreStartContainerResponse, PreferredAllocationRequest,
    PreferredAllocationResponse, device_plugin_server::DevicePlugin,
};
use plasma_runtime::CancellationToken;
use tokio::sync::{mpsc, watch};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use crate::{
    handover::Strategy,
    inventory::Observed,
    metrics::KubeletMetrics,
    preference::{Board, Preferences, Question},
};
use list::List;

pub(crate) use list::Listeners;

/// How NVIDIA's container runtime is told which GPUs a container gets.
const VISIBLE_DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";

/// How long the kubelet may wait for what containers get to be written anew. A refusal fails the pod for good.
const WRITTEN_WITHIN: Duration = Duration::from_secs(2);

/// Where it is told when a GPU, or a part of one, was granted.
pub(crate) type Granted = mpsc::UnboundedSender<(String, Instant)>;

/// The service on one of our sockets, for one resource.
pub(crate) struct Service {
    pub(crate) resource: String,
    pub(crate) observed: watch::Receiver<Observed>,
    pub(crate) metrics: KubeletMetrics,
    pub(crate) strategy: Strategy,
    pub(crate) preferences: Preferences,
    pub(crate) listeners: Listeners,
    /// Who judges dirt is told.
    pub(crate) granted: Granted,
    /// Ends the streams.
    pub(crate) stop: CancellationToken,
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
        let (stop, listening) = (self.stop.clone(), self.listeners.join());
        let list = List::new(self.resource.clone(), self.observed.clone(), listening);
        tokio::spawn(async move {
            stop.run_until_cancelled(list.send_changes(send)).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let board = Arc::new(Board::of(&self.observed.borrow(), &self.resource));
        let mut container_responses = Vec::new();
        for request in request.into_inner().container_requests {
            let question = Question {
                available: request.available_device_i_ds,
                required: request.must_include_device_i_ds,
                size: usize::try_from(request.allocation_size).unwrap_or(0),
            };
            let device_i_ds = self.preferences.answer(&board, question).await;
            container_responses.push(ContainerPreferredAllocationResponse { device_i_ds });
        }
        Ok(Response::new(PreferredAllocationResponse { container_responses }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let requests = request.into_inner().container_requests;
        let observed = self.once_written(&requests).await;
        let responses: Result<Vec<_>, Status> =
            requests.iter().map(|request| self.allocate_one(request, &observed)).collect();
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

impl Service {
    /// What there is, once containers get these devices as they are now; as it is after a while, where they don't.
    async fn once_written(&self, requests: &[ContainerAllocateRequest]) -> Observed {
        let is_asked_for = |id: &String| requests.iter().any(|request| request.devices_ids.contains(id));
        let is_written = |observed: &Observed| {
            let is_pending =
                |device: &Offered| is_asked_for(&device.id) && observed.is_pending(&device.device);
            observed.pending() == 0 || !observed.offers().of(&self.resource).iter().any(is_pending)
        };
        let mut observed = self.observed.clone();
        // Where nobody publishes any more, what was published last is all there is.
        let waited = tokio::time::timeout(WRITTEN_WITHIN, observed.wait_for(is_written)).await;
        drop(waited);
        self.observed.borrow().clone()
    }

    fn allocate_one(
        &self,
        request: &ContainerAllocateRequest,
        observed: &Observed,
    ) -> Result<ContainerAllocateResponse, Status> {
        let offers = observed.offers();
        let granted =
            allocate(offers.of(&self.resource), &request.devices_ids, |device| observed.is_pending(device));
        let granted = granted.map_err(|why| Status::unavailable(why.to_string()))?;
        tracing::info!("allocating {}", request.devices_ids.join(", "));
        let now = Instant::now();
        for device in &granted {
            // Where nobody judges dirt, nobody listens.
            let _ = self.granted.send((device.id.clone(), now));
        }
        let mut response = ContainerAllocateResponse::default();
        match self.strategy {
            Strategy::CdiCri => {
                let names = granted.iter().map(|device| CdiDevice { name: qualified(&device.id) });
                response.cdi_devices = names.collect();
            }
            Strategy::DeviceNodes => {
                let own = granted.into_iter().flat_map(|device| device.device_nodes);
                let mut nodes: Vec<String> = Vec::new();
                // Parts of one GPU have its node in common.
                for node in observed.believed().shared_nodes().iter().cloned().chain(own) {
                    if !nodes.contains(&node) {
                        nodes.push(node);
                    }
                }
                response.devices = nodes.into_iter().map(device_spec).collect();
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
}

fn device_spec(path: String) -> DeviceSpec {
    DeviceSpec { container_path: path.clone(), host_path: path, permissions: "rw".to_owned() }
}

#[cfg(test)]
mod tests;
