//! The API server's view of the node's pods, for kubelets that have no Pods API.

use std::pin::Pin;

use k8s_openapi::{
    api::core::v1::{ContainerState, ContainerStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client,
    api::ListParams,
    runtime::watcher::{self, Event},
};
use plasma_device_plugin_core::PodSeen;
use plasma_runtime::ServiceAccount;
use tokio_stream::{Stream, StreamExt as _};

use super::source::{self, Asked, News, Run};
use crate::part::{Container, PodPart};

type Events = Pin<Box<dyn Stream<Item = Result<Event<PodPart>, watcher::Error>> + Send>>;

/// A watch of the pods that are bound to this node.
pub(super) struct ApiServer {
    pods: Api<PodPart>,
    of_this_node: String,
    events: Events,
}

impl ApiServer {
    pub(super) fn open(node: &str, account: &ServiceAccount) -> Result<Self, String> {
        Ok(Self::watch(account.client().map_err(|fault| fault.to_string())?, node))
    }

    fn watch(client: Client, node: &str) -> Self {
        let (pods, of_this_node) = (Api::<PodPart>::all(client), format!("spec.nodeName={node}"));
        let config = watcher::Config::default().fields(&of_this_node);
        let events = Box::pin(watcher::watcher(pods.clone(), config));
        Self { pods, of_this_node, events }
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
    let (metadata, spec, status) = (pod.metadata, pod.spec, pod.status);
    let (main, init) = (asked(spec.containers), asked(spec.init_containers));
    let main = status.container_statuses.into_iter().flatten().map(|one| container(one, false, &main));
    let init = status.init_container_statuses.into_iter().flatten().map(|one| container(one, true, &init));
    let identity = [metadata.name, metadata.namespace, metadata.uid].map(Option::unwrap_or_default);
    source::seen(identity, &status.phase.unwrap_or_default(), main.chain(init))
}

fn asked(containers: Vec<Container>) -> Asked {
    let limits =
        |one: Container| one.resources.limits.into_iter().map(|(resource, count)| (resource, count.0));
    containers.into_iter().map(|one| (one.name.clone(), source::asks(limits(one)))).collect()
}

fn container(status: ContainerStatus, init: bool, asked: &Asked) -> source::Status {
    let devices = status.allocated_resources_status.into_iter().flatten();
    let devices = devices.flat_map(|resource| resource.resources.unwrap_or_default());
    source::Status {
        asks: asked.get(&status.name).cloned().unwrap_or_default(),
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

#[cfg(test)]
pub(super) mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    use kube::client::Body;
    use serde_json::{Value, json};
    use tonic::codegen::http::{Request, Response};

    use super::*;

    /// An API server that gives these answers in turn, each a status and lines, and what it was asked.
    pub(in super::super) fn api_server(
        answers: Vec<(u16, Vec<Value>)>,
    ) -> (ApiServer, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answers) = (asked.clone(), Arc::new(Mutex::new(answers.into_iter())));
        let service = tower::service_fn(move |request: Request<Body>| {
            log.lock().unwrap().push(request.uri().to_string());
            let (status, lines) = answers.lock().unwrap().next().unwrap_or((500, vec![]));
            let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
            let answer = Body::from(lines.join("\n").into_bytes());
            async move { Ok::<_, Infallible>(Response::builder().status(status).body(answer).unwrap()) }
        });
        (ApiServer::watch(Client::new(service, "default"), "node-1"), asked)
    }

    fn pod(uid: &str, phase: &str, state: &Value) -> Value {
        let metadata = json!({ "name": "p", "namespace": "team", "uid": uid, "resourceVersion": "2" });
        let status = json!({ "phase": phase, "containerStatuses": [{
            "name": "main", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": state,
            "allocatedResourcesStatus": [{ "name": "nvidia.com/gpu", "resources": [{ "resourceID": "GPU-0" }] }],
        }] });
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status })
    }

    fn runs() -> Value {
        json!({ "running": { "startedAt": "2026-11-26T19:13:20Z" } })
    }

    fn ran() -> Value {
        json!({ "terminated": {
            "exitCode": 0, "startedAt": "2026-11-26T19:13:20Z", "finishedAt": "2026-11-26T19:13:50Z",
        } })
    }

    pub(in super::super) fn list(pods: &[Value]) -> (u16, Vec<Value>) {
        (
            200,
            vec![
                json!({ "kind": "PodList", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": pods }),
            ],
        )
    }

    fn event(kind: &str, object: &Value) -> Value {
        json!({ "type": kind, "object": object })
    }

    #[tokio::test]
    async fn pods_are_listed_and_then_watched_to_their_end() {
        let changes = vec![
            event("MODIFIED", &pod("u", "Succeeded", &ran())),
            event("DELETED", &pod("u", "Succeeded", &ran())),
            event("ADDED", &pod("v", "Pending", &json!({}))),
        ];
        let (mut server, asked) = api_server(vec![list(&[pod("u", "Running", &runs())]), (200, changes)]);
        assert!(matches!(server.next().await.unwrap(), News::Again));
        let News::Pod(first) = server.next().await.unwrap() else { panic!("the pod that there is") };
        let [main] = &first.containers[..] else { panic!("{first:?}") };
        assert_eq!((&*first.uid, &*first.namespace, first.over), ("u", "team", false));
        assert_eq!((main.started_ms, main.finished_ms), (Some(1_795_720_400_000), None));
        assert_eq!(main.devices, ["GPU-0"]);
        assert!(matches!(server.next().await.unwrap(), News::All));
        let News::Pod(over) = server.next().await.unwrap() else { panic!("its end") };
        assert_eq!((over.over, over.containers[0].finished_ms), (true, Some(1_795_720_430_000)));
        let News::Gone(uid, Some(last)) = server.next().await.unwrap() else { panic!("it is gone") };
        assert_eq!((&*uid, last.over), ("u", true), "and how it was in the end");
        assert!(matches!(server.next().await.unwrap(), News::Pod(pod) if pod.uid == "v" && !pod.over));
        let asked = asked.lock().unwrap();
        assert!(asked.iter().all(|uri| uri.contains("fieldSelector=spec.nodeName%3Dnode-1")), "{asked:?}");
        assert!(!asked[0].contains("watch=") && asked[1].contains("watch=true"), "{asked:?}");
    }

    #[tokio::test]
    async fn a_watch_that_is_too_old_begins_anew_with_a_list() {
        let gone = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old" });
        let watch = (200, vec![event("ERROR", &gone)]);
        let (mut server, _) = api_server(vec![list(&[]), watch, list(&[pod("u", "Running", &runs())])]);
        assert!(matches!(server.next().await.unwrap(), News::Again));
        assert!(matches!(server.next().await.unwrap(), News::All));
        let fault = server.next().await.unwrap_err();
        assert!(fault.contains("too old"), "{fault}");
        assert!(matches!(server.next().await.unwrap(), News::Again), "nothing of before counts any more");
        assert!(matches!(server.next().await.unwrap(), News::Pod(pod) if pod.uid == "u"));
        assert!(matches!(server.next().await.unwrap(), News::All));
    }

    #[tokio::test]
    async fn a_refusal_is_said_in_words() {
        let refusal = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "pods is forbidden" });
        let (mut server, _) = api_server(vec![(403, vec![refusal])]);
        assert!(matches!(server.next().await, Ok(News::Again)));
        let fault = server.next().await.unwrap_err();
        assert!(
            fault.contains("the API server doesn't tell of pods") && fault.contains("forbidden"),
            "{fault}"
        );
    }
}
