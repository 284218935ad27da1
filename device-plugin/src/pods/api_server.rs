//! The API server's view of the node's pods, for kubelets that have no Pods API.

use std::pin::Pin;

use k8s_openapi::{
    api::core::v1::{ContainerState, ContainerStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api,
    api::ListParams,
    runtime::watcher::{self, Event},
};
use plasma_device_plugin_core::PodSeen;
use plasma_runtime::ServiceAccount;
use tokio_stream::{Stream, StreamExt as _};

use super::source::{self, News, Run};
use crate::part::PodPart;

type Events = Pin<Box<dyn Stream<Item = Result<Event<PodPart>, watcher::Error>> + Send>>;

/// A watch of the pods that are bound to this node.
pub(super) struct ApiServer {
    pods: Api<PodPart>,
    of_this_node: String,
    events: Events,
}

impl ApiServer {
    pub(super) fn open(node: &str, account: &ServiceAccount) -> Result<Self, String> {
        let client = account.client().map_err(|fault| fault.to_string())?;
        let (pods, of_this_node) = (Api::<PodPart>::all(client), format!("spec.nodeName={node}"));
        let config = watcher::Config::default().fields(&of_this_node);
        let events = Box::pin(watcher::watcher(pods.clone(), config));
        Ok(Self { pods, of_this_node, events })
    }

    pub(super) async fn next(&mut self) -> Result<News, String> {
        let event = self.events.next().await.ok_or("the watch ended")?;
        Ok(match event.map_err(|fault| format!("the API server doesn't tell of pods: {fault}"))? {
            Event::Init => News::Again,
            Event::InitApply(pod) | Event::Apply(pod) => News::Pod(seen(pod)),
            Event::InitDone => News::All,
            Event::Delete(pod) => News::Gone(pod.metadata.uid.clone().unwrap_or_default(), Some(seen(pod))),
        })
    }

    pub(super) async fn pods(&mut self) -> Result<Vec<PodSeen>, String> {
        let params = ListParams::default().fields(&self.of_this_node);
        let pods = self.pods.list(&params).await.map_err(|fault| fault.to_string())?;
        Ok(pods.items.into_iter().map(seen).collect())
    }
}

fn seen(pod: PodPart) -> PodSeen {
    let (metadata, status) = (pod.metadata, pod.status);
    let main = status.container_statuses.into_iter().flatten().map(|one| container(one, false));
    let init = status.init_container_statuses.into_iter().flatten().map(|one| container(one, true));
    let identity = [metadata.name, metadata.namespace, metadata.uid].map(Option::unwrap_or_default);
    source::seen(identity, &status.phase.unwrap_or_default(), main.chain(init))
}

fn container(status: ContainerStatus, init: bool) -> source::Status {
    let devices = status.allocated_resources_status.into_iter().flatten();
    let devices = devices.flat_map(|resource| resource.resources.unwrap_or_default());
    source::Status {
        name: status.name,
        init,
        now: status.state.and_then(run),
        before: status.last_state.and_then(run),
        devices: devices.map(|device| device.resource_id).collect(),
        id: status.container_id,
    }
}

fn run(state: ContainerState) -> Option<Run> {
    let running = state.running.map(|run| Run { started_ms: ms(run.started_at), ended: None });
    let terminated =
        state.terminated.map(|run| Run { started_ms: ms(run.started_at), ended: Some(ms(run.finished_at)) });
    running.or(terminated)
}

fn ms(time: Option<Time>) -> Option<u64> {
    u64::try_from(time?.0.as_millisecond()).ok().filter(|ms| *ms > 0)
}
