//! The watches: pods as raw JSON (a typed pod would hide fields that we don't know), nodes, gangs.

use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{ApiResource, DynamicObject},
    core::DeserializeGuard,
    runtime::{WatchStreamExt as _, reflector, reflector::Store, watcher},
};
use plasma_api::Gang;
use plasma_runtime::{CancellationToken, Gate};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

/// What the watches know, and a bell that rings when they learn something.
pub(crate) struct Watched {
    pub(crate) pods: Store<DynamicObject>,
    pub(crate) nodes: Store<Node>,
    /// One that can't be read keeps nobody but its own pods from being placed.
    pub(crate) gangs: Store<DeserializeGuard<Gang>>,
    pub(crate) changed: Arc<Notify>,
    ready: Gate,
}

/// The API resource of pods, for raw access.
pub(crate) fn pod_resource() -> ApiResource {
    ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&())
}

/// Starts the watches.
pub(crate) fn start(client: &Client, ready: Gate, shutdown: CancellationToken) -> Watched {
    let changed = Arc::new(Notify::new());
    let resource = pod_resource();
    let pods: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    Watched {
        pods: watch(pods, resource, &changed, &shutdown, |_| {}),
        nodes: watch(Api::all(client.clone()), (), &changed, &shutdown, |_| {}),
        gangs: watch(Api::all(client.clone()), (), &changed, &shutdown, warn_of_unreadable),
        changed,
        ready,
    }
}

impl Watched {
    /// Waits until every watch has listed its objects once: before that, what looks free may not be.
    pub(crate) async fn wait_until_complete(&self) {
        let lists =
            (self.pods.wait_until_ready(), self.nodes.wait_until_ready(), self.gangs.wait_until_ready());
        let (pods, nodes, gangs) = futures::join!(lists.0, lists.1, lists.2);
        match pods.and(nodes).and(gangs) {
            Ok(()) => self.ready.set(true),
            Err(fault) => tracing::error!("a watch ended before it had listed anything: {fault}"),
        }
    }
}

#[cfg(test)]
impl Watched {
    /// What a test fills by itself.
    pub(crate) fn for_tests(
        pods: Store<DynamicObject>,
        nodes: Store<Node>,
        gangs: Store<DeserializeGuard<Gang>>,
    ) -> Self {
        let ready = plasma_runtime::Health::default().gate("watches");
        Self { pods, nodes, gangs, changed: Arc::default(), ready }
    }
}

fn warn_of_unreadable(gang: &DeserializeGuard<Gang>) {
    if let Err(fault) = &gang.0 {
        let (namespace, name) = (gang.namespace().unwrap_or_default(), gang.name_any());
        tracing::warn!("gang {namespace}/{name} can't be read, and its pods are not placed: {fault}");
    }
}

fn watch<K>(
    api: Api<K>,
    kind: K::DynamicType,
    changed: &Arc<Notify>,
    shutdown: &CancellationToken,
    look: fn(&K),
) -> Store<K>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
    K::DynamicType: Clone + Eq + std::hash::Hash + Send + Sync,
{
    let name = K::kind(&kind).into_owned();
    let writer = reflector::store::Writer::new(kind);
    let store = writer.as_reader();
    let changed = changed.clone();
    let events = watcher(api, watcher::Config::default()).default_backoff().reflect(writer);
    let events = events.take_until(shutdown.clone().cancelled_owned());
    tokio::spawn(async move {
        futures::pin_mut!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => look(&object),
                Ok(_) => {}
                Err(fault) => tracing::warn!("watching {name}: {fault}"),
            }
            changed.notify_one();
        }
    });
    store
}
