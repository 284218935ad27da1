//! A cluster with a gang, on an API server that a test can spoil, and a scheduler that sees of it what its watches show.

use std::collections::BTreeMap;

use clap::Parser as _;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::core::{ApiResource, GroupVersionKind};
use plasma_api::names;
use plasma_runtime::{CancellationToken, prometheus::Registry};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::api_server::ApiServer;
use crate::{
    args::Args,
    cycle::Scheduler,
    metrics::Metrics,
    observe::{self, Change, Observed},
    storage::Stored,
};

/// A cluster with one gang of two pods, a GPU each, and what a scheduler's watches show of it.
pub(super) struct Cluster {
    pub(super) server: ApiServer,
    pub(super) shown: Shown,
    pub(super) now: Timestamp,
}

/// Which watches lag behind the others.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lags {
    pub(super) pods: bool,
    pub(super) nodes: bool,
    pub(super) gangs: bool,
}

/// What the watches show, by name.
#[derive(Clone, Default)]
pub(super) struct Shown {
    pods: BTreeMap<String, Value>,
    nodes: BTreeMap<String, Value>,
    pub(super) gangs: BTreeMap<String, Value>,
    claims: BTreeMap<String, Value>,
    volumes: BTreeMap<String, Value>,
    /// None where the API server has no such kind.
    pod_groups: Option<BTreeMap<String, Value>>,
}

impl Shown {
    /// A scheduler reads complete lists of it.
    pub(super) fn tell(&self, scheduler: &mut Scheduler) {
        list(&self.nodes, Observed::Node, scheduler);
        self.tell_what_stays(scheduler);
        list(&self.pods, Observed::Pod, scheduler);
        list(&self.gangs, Observed::Gang, scheduler);
    }

    /// All but nodes, pods and gangs.
    pub(super) fn tell_what_stays(&self, scheduler: &mut Scheduler) {
        list(&BTreeMap::new(), Observed::Namespace, scheduler);
        let none = BTreeMap::new();
        list(&none, Observed::Budget, scheduler);
        list(&self.claims, |change| Observed::Storage(Stored::Claim(Box::new(change))), scheduler);
        list(&self.volumes, |change| Observed::Storage(Stored::Volume(Box::new(change))), scheduler);
        list(&classes(), |change| Observed::Storage(Stored::Class(Box::new(change))), scheduler);
        list(&none, |change| Observed::Storage(Stored::CsiNode(Box::new(change))), scheduler);
        list(&none, |change| Observed::Storage(Stored::CsiDriver(Box::new(change))), scheduler);
        list(&none, |change| Observed::Storage(Stored::Capacity(Box::new(change))), scheduler);
        list(&none, |change| Observed::Storage(Stored::Attachment(Box::new(change))), scheduler);
        let resource = || {
            let kind = GroupVersionKind::gvk("scheduling.k8s.io", "v1beta1", "PodGroup");
            ApiResource::from_gvk_with_plural(&kind, "podgroups")
        };
        scheduler.observe(Observed::PodGroupsFound(self.pod_groups.as_ref().map(|_| resource())));
        if let Some(pod_groups) = &self.pod_groups {
            list(pod_groups, Observed::PodGroup, scheduler);
        }
    }
}

pub(super) fn list<T: DeserializeOwned>(
    objects: &BTreeMap<String, Value>,
    observed: fn(Change<T>) -> Observed,
    scheduler: &mut Scheduler,
) {
    scheduler.observe(observed(Change::ListBegins));
    for object in objects.values() {
        scheduler.observe(observed(Change::Is(serde_json::from_value(object.clone()).unwrap())));
    }
    scheduler.observe(observed(Change::ListEnds));
}

pub(super) const UIDS: [&str; 2] =
    ["00000000-0000-4000-8000-000000000000", "00000000-0000-4000-8000-000000000001"];

/// So many seconds from now, by the clock of the test.
pub(super) fn in_seconds(seconds: i64) -> String {
    let ahead = tokio::time::Instant::now().into_std().saturating_duration_since(std::time::Instant::now());
    (Timestamp::now() + ahead + SignedDuration::from_secs(seconds)).to_string()
}

impl Cluster {
    /// A cluster of nothing.
    pub(super) fn empty() -> Self {
        Self { server: ApiServer::default(), shown: Shown::default(), now: Timestamp::now() }
    }

    pub(super) fn new() -> Self {
        let server = ApiServer::default();
        {
            let mut objects = server.objects();
            objects.nodes.insert("n".to_owned(), node());
            objects.gangs.insert("g".to_owned(), gang());
            objects.pods.insert("p0".to_owned(), pod(0));
            objects.pods.insert("p1".to_owned(), pod(1));
        }
        let now = Timestamp::now();
        let mut cluster = Self { server, shown: Shown::default(), now };
        cluster.show();
        cluster
    }

    /// Two pods, a GPU each, of an upstream PodGroup, and no gang.
    pub(super) fn with_pod_group(spec: &Value) -> Self {
        let mut cluster = Self::new();
        {
            let mut objects = cluster.server.objects();
            objects.gangs.clear();
            for pod in objects.pods.values_mut() {
                pod["metadata"]["labels"] = json!({});
                pod["spec"]["schedulingGroup"] = json!({ "podGroupName": "pg" });
            }
            objects.pod_groups = Some([("pg".to_owned(), pod_group(spec))].into());
        }
        cluster.show();
        cluster
    }

    /// A gang as a scheduler leaves it that dies after it wrote its plan, with a deadline in so many seconds.
    pub(super) fn with_journal(seconds: i64) -> Self {
        let mut cluster = Self::new();
        let deadline = cluster.now + SignedDuration::from_secs(seconds);
        let place = |pod: usize| json!({ "pod": format!("p{pod}"), "podUid": UIDS[pod], "node": "n" });
        let journal = json!({ "deadline": deadline.to_string(), "placements": [place(0), place(1)] });
        cluster.set_gang("status", json!({ "phase": "Binding", "journal": journal }));
        cluster
    }

    /// The watches catch up with the API server.
    pub(super) fn show(&mut self) {
        let objects = self.server.objects();
        let (pods, nodes, gangs) = (objects.pods.clone(), objects.nodes.clone(), objects.gangs.clone());
        let (claims, volumes) = (objects.claims.clone(), objects.volumes.clone());
        let pod_groups = objects.pod_groups.clone();
        self.shown = Shown { pods, nodes, gangs, claims, volumes, pod_groups };
    }

    /// A scheduler that just started.
    pub(super) fn scheduler(&self) -> Scheduler {
        let metrics = Metrics::register(&Registry::new());
        Scheduler::new(Args::parse_from(["plasma-scheduler"]), self.server.client(), metrics)
    }

    /// The same, after its watches have read complete lists.
    pub(super) fn scheduler_that_knows(&self) -> Scheduler {
        let mut scheduler = self.scheduler();
        self.shown.tell(&mut scheduler);
        scheduler
    }

    /// A scheduler whose own watches have listed everything once.
    pub(super) async fn listed(&self, shutdown: &CancellationToken) -> Scheduler {
        let mut observations = observe::start(&self.server.client(), shutdown);
        let mut scheduler = self.scheduler();
        let listed = async {
            while !scheduler.state.is_complete() {
                scheduler.observe(observations.recv().await.unwrap());
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), listed).await.unwrap();
        scheduler
    }

    /// The scheduler's next cycle, on what the watches show, until all that it began has ended.
    pub(super) async fn cycle(&self, scheduler: &mut Scheduler) {
        self.shown.tell(scheduler);
        scheduler.look(self.now);
        scheduler.cycle(self.now);
        while let Some(outcome) = scheduler.tasks.join_next().await {
            scheduler.learn(outcome, self.now);
            // What is bound is written down as such.
            scheduler.carry_on(self.now);
        }
    }

    /// The scheduler's next cycle, so much later, after the watches have caught up.
    pub(super) async fn later(&mut self, scheduler: &mut Scheduler, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        self.show();
        self.cycle(scheduler).await;
    }

    /// The scheduler's next cycle, so much later, after some watches have caught up and others haven't.
    pub(super) async fn later_but(&mut self, scheduler: &mut Scheduler, lags: Lags, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        let before = self.shown.clone();
        self.show();
        for (lags, now, before) in [
            (lags.pods, &mut self.shown.pods, before.pods),
            (lags.nodes, &mut self.shown.nodes, before.nodes),
            (lags.gangs, &mut self.shown.gangs, before.gangs),
        ] {
            if lags {
                *now = before;
            }
        }
        self.cycle(scheduler).await;
    }

    pub(super) fn set_gang(&mut self, field: &str, value: Value) {
        self.server.objects().gangs.get_mut("g").unwrap()[field] = value;
        self.show();
    }

    /// Changes a pod; the watches don't show it yet.
    pub(super) fn change_pod(&self, name: &str, change: impl FnOnce(&mut Value)) {
        change(self.server.objects().pods.get_mut(name).unwrap());
    }

    pub(super) fn status(&self) -> Value {
        self.server.objects().gangs["g"]["status"].clone()
    }

    pub(super) fn node_of(&self, pod: &str) -> Value {
        self.server.objects().pods[pod]["spec"]["nodeName"].clone()
    }

    pub(super) fn pods(&self) -> Vec<String> {
        self.server.objects().pods.keys().cloned().collect()
    }

    pub(super) fn lines(&self, begin: &str) -> Vec<String> {
        self.server.lines(begin)
    }
}

/// Two classes that wait for the first pod: of volumes that are there, and of volumes that are made.
fn classes() -> BTreeMap<String, Value> {
    let class = |(name, provisioner): (&str, &str)| {
        let class = json!({
            "metadata": { "name": name }, "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer",
        });
        (name.to_owned(), class)
    };
    [("local", "kubernetes.io/no-provisioner"), ("made", "csi.example.com")].map(class).into()
}

fn node() -> Value {
    let free = json!({ "nvidia.com/gpu": "2", "pods": "10" });
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n" }, "status": { "allocatable": free } })
}

fn gang() -> Value {
    json!({
        "apiVersion": "compute.plasma.dev/v1alpha1", "kind": "Gang", "spec": { "minMember": 2 },
        "metadata": { "name": "g", "namespace": "ns", "uid": "the-gang", "resourceVersion": "1" },
    })
}

pub(super) fn pod_group(spec: &Value) -> Value {
    json!({
        "apiVersion": "scheduling.k8s.io/v1beta1", "kind": "PodGroup", "spec": spec,
        "metadata": {
            "name": "pg", "namespace": "ns", "uid": "the-pod-group", "resourceVersion": "1", "generation": 3,
        },
    })
}

fn pod(index: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("p{index}"), "namespace": "ns", "uid": UIDS[index], "resourceVersion": "1", "generation": 3,
            "labels": { names::GANG_LABEL: "g" },
        },
        "spec": {
            "schedulerName": names::SCHEDULER_NAME,
            "containers": [{ "name": "c", "resources": { "requests": { "nvidia.com/gpu": "1" } } }],
        },
        "status": { "phase": "Pending" },
    })
}

pub(super) fn is_bound(pod: &mut Value) {
    pod["spec"]["nodeName"] = json!("n");
}

pub(super) fn runs(pod: &mut Value) {
    is_bound(pod);
    pod["status"]["phase"] = json!("Running");
}
