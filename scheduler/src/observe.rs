//! The watches: pods, nodes, namespaces, gangs and storage, told one by one as they come, and nothing of them kept here.

use std::fmt::Debug;

use futures::StreamExt as _;
use kube::{
    Api, Client, Resource,
    core::{ApiResource, DeserializeGuard},
    runtime::{WatchStreamExt as _, watcher},
};
use plasma_api::Gang;
use plasma_runtime::CancellationToken;
use plasma_scheduler_core::{BudgetDocument, NamespaceDocument, NodeDocument, PodDocument};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::{
    object::Object,
    pod_groups::{self, PodGroup},
    storage::Stored,
};

/// How many observations wait to be taken in; a watch that is ahead of that waits. Each is an object with all its text.
const WAITING: usize = 256;
/// How many objects of a list are asked for at once: they are in memory as text and as objects at the same time, for each
/// kind, and a process seldom gives back what it once needed.
const PAGE: u32 = 250;

/// What a watch tells.
#[derive(Debug)]
pub(crate) enum Observed {
    Pod(Change<Object<PodDocument>>),
    Node(Change<Object<NodeDocument>>),
    Namespace(Change<Object<NamespaceDocument>>),
    /// One that can't be read keeps nobody but its own pods from being placed.
    Gang(Change<DeserializeGuard<Gang>>),
    /// One that can't be read protects everybody in its namespace.
    Budget(Change<DeserializeGuard<Object<BudgetDocument>>>),
    Storage(Stored),
    /// What the API server calls PodGroups; nothing where it has none.
    PodGroupsFound(Option<ApiResource>),
    PodGroup(Change<PodGroup>),
}

/// What happens to objects of one kind.
#[derive(Debug)]
pub(crate) enum Change<T> {
    /// A complete list begins: what isn't in it is gone.
    ListBegins,
    /// The object is there, or has changed.
    Is(T),
    /// It is gone.
    Gone(T),
    /// The list is complete.
    ListEnds,
}

impl<T> Change<T> {
    /// What a watcher says.
    pub(crate) fn of(event: watcher::Event<T>) -> Self {
        match event {
            watcher::Event::Init => Self::ListBegins,
            watcher::Event::InitApply(object) | watcher::Event::Apply(object) => Self::Is(object),
            watcher::Event::Delete(object) => Self::Gone(object),
            watcher::Event::InitDone => Self::ListEnds,
        }
    }
}

/// Starts the watches.
pub(crate) fn start(client: &Client, shutdown: &CancellationToken) -> Receiver<Observed> {
    let (sender, receiver) = mpsc::channel(WAITING);
    watch(Api::all(client.clone()), Observed::Pod, sender.clone(), shutdown);
    watch(Api::all(client.clone()), Observed::Node, sender.clone(), shutdown);
    watch(Api::all(client.clone()), Observed::Namespace, sender.clone(), shutdown);
    watch(Api::all(client.clone()), Observed::Gang, sender.clone(), shutdown);
    watch(Api::all(client.clone()), Observed::Budget, sender.clone(), shutdown);
    start_storage(client, &sender, shutdown);
    pod_groups::watch(client.clone(), sender, shutdown);
    receiver
}

/// An API server that has no storage has none of these kinds.
fn start_storage(client: &Client, sender: &Sender<Observed>, shutdown: &CancellationToken) {
    macro_rules! watch_storage {
        ($($kind:ident),*) => {$(
            let observed = |change| Observed::Storage(Stored::$kind(Box::new(change)));
            watch(Api::all(client.clone()), observed, sender.clone(), shutdown);
        )*};
    }
    watch_storage!(Claim, Volume, Class, CsiNode, CsiDriver, Capacity, Attachment);
}

fn watch<K>(
    api: Api<K>,
    observed: fn(Change<K>) -> Observed,
    sender: Sender<Observed>,
    shutdown: &CancellationToken,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let name = K::kind(&()).into_owned();
    let events = watcher(api, watcher::Config::default().page_size(PAGE)).default_backoff();
    let events = events.take_until(shutdown.clone().cancelled_owned());
    tokio::spawn(async move {
        futures::pin_mut!(events);
        let mut was_served = false;
        while let Some(event) = events.next().await {
            was_served |= matches!(&event, Ok(event) if !matches!(event, watcher::Event::Init));
            let change = match event {
                Ok(event) => Change::of(event),
                Err(fault) => {
                    tracing::warn!("watching {name}: {fault}");
                    if !was_served && is_not_served(&fault) && is_optional(&K::group(&()), &name) {
                        Change::ListEnds
                    } else {
                        continue;
                    }
                }
            };
            if sender.send(observed(change)).await.is_err() {
                return;
            }
        }
    });
}

/// Whether the API server doesn't know the kind at all.
pub(crate) fn is_not_served(fault: &watcher::Error) -> bool {
    matches!(fault, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404)
}

/// Whether there may be an API server without that kind: then there are no such objects.
fn is_optional(group: &str, kind: &str) -> bool {
    matches!(group, "storage.k8s.io" | "policy") || kind.starts_with("PersistentVolume")
}
