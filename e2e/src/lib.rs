//! What the end-to-end tests do with a cluster in which Plasma is installed: `cargo xtask test --only e2e` brings one up.

// A test that can't go on says so and ends: that is what these are for.
#![allow(clippy::expect_used, clippy::panic)]

mod command;
mod journal;
mod processes;
mod rental;

use std::{
    collections::BTreeMap,
    env,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, GetParams, ListParams, ObjectMeta, PostParams},
    core::Request,
};
use plasma_api::{ComputeJob, ComputeQueue, SettlementBatch, compute_job::Phase, names};
use plasma_chain::{Chain, Endpoint, SettledPod};
use plasma_types::{JobUid, PodUid, Xpl};
use serde_json::{Value, json};

pub use command::{Said, helm, kubectl, kubectl_plasma};
pub use journal::{Recorded, recorded as recorded_on_the_node};
pub use processes::{
    Victim, all_run, containers_started, kill, kill_kubelet, resume, resume_kube_scheduler, runs, stop,
    stop_kube_scheduler,
};
pub use rental::fresh_queue;

/// The queue that the cluster was set up with, and the namespace that it serves.
pub const QUEUE: &str = "research";
/// See [`QUEUE`].
pub const NAMESPACE: &str = "team-a";

/// How long the pods of an earlier run's job may take to go.
const LEFTOVERS: Duration = Duration::from_secs(60);

/// The cluster and the chain.
pub struct World {
    /// As the administrator.
    pub client: Client,
    /// The chain, asked directly.
    pub chain: Chain,
}

impl World {
    /// The cluster that the environment names.
    ///
    /// # Panics
    /// Where there is none: these tests can't run without.
    pub async fn connect() -> Self {
        let variable = |name: &str| {
            env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run cargo xtask test --only e2e"))
        };
        let url = variable("PLASMA_RPC");
        let contract = variable("PLASMA_CONTRACT").parse().expect("an address");
        let client = Client::try_default().await.expect("a cluster: KUBECONFIG");
        let chain = Chain::new(Endpoint { url, chain_id: 31337, contract }).expect("an endpoint");
        Self { client, chain }
    }

    /// Jobs of a namespace.
    pub fn jobs(&self, namespace: &str) -> Api<ComputeJob> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Makes a job; one of its name that an earlier run left, on a cluster that is kept, goes first.
    ///
    /// # Errors
    /// The API server's refusal.
    pub async fn create(&self, namespace: &str, job: Value) -> Result<ComputeJob, kube::Error> {
        let job: ComputeJob = serde_json::from_value(job).map_err(kube::Error::SerdeError)?;
        let (jobs, begun) = (self.jobs(namespace), Instant::now());
        loop {
            match jobs.create(&PostParams::default(), &job).await {
                Err(kube::Error::Api(status)) if status.code == 409 && begun.elapsed() < LEFTOVERS => {
                    let _ = jobs.delete(&job.name_any(), &DeleteParams::foreground()).await;
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Posts a job as it is, without our own types in between, and gives the API server's message.
    ///
    /// # Panics
    /// Where it is accepted.
    pub async fn refusal(&self, job: Value) -> String {
        let resource = kube::api::ApiResource::erase::<ComputeJob>(&());
        let jobs: Api<kube::api::DynamicObject> =
            Api::namespaced_with(self.client.clone(), NAMESPACE, &resource);
        let job = serde_json::from_value(job).unwrap_or_else(|fault| panic!("an object: {fault}"));
        match jobs.create(&PostParams::default(), &job).await {
            Err(kube::Error::Api(status)) => status.message,
            other => panic!("the API server took it: {other:?}"),
        }
    }

    /// A namespace of the test's own.
    ///
    /// # Panics
    /// Where it can't be made.
    pub async fn namespace(&self, name: &str) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let object = Namespace {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..Default::default() },
            ..Default::default()
        };
        match namespaces.create(&PostParams::default(), &object).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(fault) => panic!("namespace {name}: {fault}"),
        }
    }

    /// Waits until the job is as it should be.
    ///
    /// # Panics
    /// When it isn't in time: with what it was.
    pub async fn wait(
        &self,
        job: &ComputeJob,
        what: &str,
        seconds: u64,
        is: impl Fn(&ComputeJob) -> bool,
    ) -> ComputeJob {
        let (namespace, name) = (job.namespace().unwrap_or_default(), job.name_any());
        let begun = Instant::now();
        let mut last = None;
        while begun.elapsed() < Duration::from_secs(seconds) {
            match self.jobs(&namespace).get(&name).await {
                Ok(job) if is(&job) => return job,
                Ok(job) => last = job.status,
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        panic!("{namespace}/{name}: not {what} after {seconds} s; its status: {last:#?}");
    }

    /// The job's pods.
    ///
    /// # Panics
    /// Where they can't be listed.
    pub async fn pods(&self, job: &ComputeJob) -> Vec<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &job.namespace().unwrap_or_default());
        let selector = format!("compute.plasma.dev/job-uid={}", job.uid().unwrap_or_default());
        pods.list(&ListParams::default().labels(&selector)).await.expect("pods").items
    }

    /// What the chain paid for each pod of the job: every time that it did.
    ///
    /// # Panics
    /// Where chain or queue can't be read.
    pub async fn paid(&self, job: &ComputeJob) -> BTreeMap<PodUid, Vec<Xpl>> {
        let uid: JobUid = job.job_uid().expect("a UID");
        let events = self.ledger(&job.spec.queue).await;
        payments(events.into_iter().filter(|pod| pod.job_uid == uid))
    }

    /// What the chain paid for each pod of any job of the queue, every time that it did.
    ///
    /// # Panics
    /// Where chain or queue can't be read.
    pub async fn paid_by(&self, queue: &str) -> BTreeMap<PodUid, Vec<Xpl>> {
        payments(self.ledger(queue).await)
    }

    async fn ledger(&self, queue: &str) -> Vec<SettledPod> {
        let queues: Api<ComputeQueue> = Api::all(self.client.clone());
        let queue = queues.get(queue).await.expect("the queue");
        let rental = queue.spec.billing.expect("a queue that bills").rental;
        self.chain.settled_pods(rental).await.expect("the chain")
    }

    /// Every batch.
    ///
    /// # Panics
    /// Where they can't be listed.
    pub async fn batches(&self) -> Vec<SettlementBatch> {
        let batches: Api<SettlementBatch> = Api::all(self.client.clone());
        batches.list(&ListParams::default()).await.expect("batches").items
    }

    /// A program's metric of this name, with its labels, read through the API server as it stands now; `None` while nobody
    /// answers.
    ///
    /// # Panics
    /// Where the program answers, but doesn't have it.
    pub async fn metric(&self, program: &str, name: &str) -> Option<f64> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), names::SYSTEM_NAMESPACE);
        let selector = ListParams::default().labels(&format!("app.kubernetes.io/name={program}"));
        let pod = pods.list(&selector).await.ok()?.items.first()?.name_any();
        let proxy = format!("/api/v1/namespaces/{}/pods/{pod}:9090/proxy", names::SYSTEM_NAMESPACE);
        let request = Request::new(proxy).get("metrics", &GetParams::default()).ok()?;
        let text = self.client.request_text(request).await.ok()?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        Some(value.unwrap_or_else(|| panic!("no metric {name} in:\n{text}")))
    }

    /// Removes a job and waits for nothing.
    pub async fn delete(&self, job: &ComputeJob) {
        let _ = self
            .jobs(&job.namespace().unwrap_or_default())
            .delete(&job.name_any(), &DeleteParams::default())
            .await;
    }
}

fn payments(pods: impl IntoIterator<Item = SettledPod>) -> BTreeMap<PodUid, Vec<Xpl>> {
    let mut paid: BTreeMap<PodUid, Vec<Xpl>> = BTreeMap::new();
    for pod in pods {
        paid.entry(pod.pod_uid).or_default().push(pod.amount);
    }
    paid
}

/// Waits until it holds.
///
/// # Panics
/// When it doesn't after so many seconds.
pub async fn until<F: Future<Output = bool>>(what: &str, seconds: u64, mut holds: impl FnMut() -> F) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(seconds), "not after {seconds} s: {what}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// A job of `replicas` pods with `gpus` each, which run a shell command.
pub fn job(name: &str, (replicas, gpus): (i32, i32), command: &str) -> Value {
    json!({
        "apiVersion": "compute.plasma.dev/v1alpha1", "kind": "ComputeJob", "metadata": { "name": name },
        "spec": {
            "queue": QUEUE, "maxRuntimeSeconds": 120, "maxPricePerGpuHour": "4", "budget": "5",
            "roles": [{ "name": "worker", "replicas": replicas, "template": { "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "c", "image": "plasma.dev/busybox:2", "imagePullPolicy": "Never",
                    "command": ["sh", "-c", command], "resources": { "limits": { "nvidia.com/gpu": gpus } },
                }],
            } } }],
        },
    })
}

/// The job's phase.
pub fn phase(job: &ComputeJob) -> Option<Phase> {
    job.status.as_ref().and_then(|status| status.phase)
}

/// How many of the job's pods are paid for good.
pub fn settled(job: &ComputeJob) -> i32 {
    job.status.as_ref().and_then(|status| status.cost.as_ref()).map_or(0, |cost| cost.settled)
}

/// How many of the job's pods have a receipt.
pub fn recorded(job: &ComputeJob) -> i32 {
    job.status.as_ref().and_then(|status| status.cost.as_ref()).map_or(0, |cost| cost.recorded)
}

/// Whether every pod of the job that ran is paid for: those of one attempt at least, of a further one where there was one.
pub fn is_paid(job: &ComputeJob) -> bool {
    let pods = job.status.as_ref().and_then(|status| status.pods);
    let is_whole = pods.is_some_and(|pods| pods <= settled(job));
    phase(job) == Some(Phase::Succeeded) && is_whole && recorded(job) == settled(job)
}
