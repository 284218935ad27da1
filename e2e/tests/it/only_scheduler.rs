//! Ours as the cluster's only scheduler: it takes kube-scheduler's lease, and places what every cluster has.

use std::{fmt::Debug, panic::resume_unwind};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{DaemonSet, Deployment},
        coordination::v1::Lease,
        core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod},
    },
};
use kube::{
    Api, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use plasma_api::{compute_job::Phase, names::SCHEDULER_NAME};
use plasma_e2e::{World, helm, job, phase, resume_kube_scheduler, stop_kube_scheduler, until};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::volumes::make as make_anew;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/plasma");
const DEFAULT: &str = "default-scheduler";
/// A namespace of the test's own, and its volume.
const HERE: &str = "e2e-only-scheduler";
/// How long something may take that takes a moment: the longest is a lease that has to run out.
const PATIENCE: u64 = 90;

#[tokio::test]
async fn in_kube_schedulers_place_it_places_what_every_cluster_has() {
    let world = World::connect().await;
    clean(&world).await;
    until("kube-scheduler leads", PATIENCE, || async { !ours_leads(&world).await }).await;
    let outcome = tokio::spawn(in_its_place()).await;
    // All as it was, whatever came of it.
    let resumed = resume_kube_scheduler();
    named(SCHEDULER_NAME);
    clean(&world).await;
    outcome.unwrap_or_else(|fault| resume_unwind(fault.into_panic()));
    assert!(resumed, "kube-scheduler is gone");
    until("kube-scheduler leads again", PATIENCE, || async { !ours_leads(&world).await }).await;
}

async fn in_its_place() {
    let world = World::connect().await;
    // It is placed by kube-scheduler, and waits.
    named(DEFAULT);
    assert!(!ours_leads(&world).await, "two leaders");
    assert!(stop_kube_scheduler(), "kube-scheduler doesn't run");
    until("ours leads", PATIENCE, || async { ours_leads(&world).await }).await;

    world.namespace(HERE).await;
    an_account(&world).await;
    shunning(&world).await;
    spread(&world).await;
    on_every_node(&world).await;
    with_a_volume(&world).await;
    for (app, running) in [("shuns", 1), ("spread", 3), ("everywhere", 1), ("stores", 1)] {
        until(&format!("{running} of {app} run"), PATIENCE, || async {
            pods(&world, app).await.iter().filter(|pod| is(pod, "Running")).count() == running
        })
        .await;
    }
    until("the one that is shunned is told why", PATIENCE, || async {
        let waiting: Vec<Pod> =
            pods(&world, "shuns").await.into_iter().filter(|pod| is(pod, "Pending")).collect();
        waiting.len() == 1 && waiting.iter().all(has_no_place)
    })
    .await;
    a_job(&world).await;
    assert!(ours_leads(&world).await, "kube-scheduler leads: it may have placed them");
}

/// An upgrade that gives the scheduler another name, as an administrator makes it.
fn named(name: &str) {
    let name = format!("scheduler.name={name}");
    let upgrade = ["upgrade", "plasma", CHART, "--reuse-values", "--set", &name, "--wait", "--timeout", "4m"];
    let said = helm(&upgrade);
    assert!(said.succeeded, "{said:?}");
}

/// Whether a pod of ours holds kube-scheduler's lease: kube-scheduler holds it under its node's name.
async fn ours_leads(world: &World) -> bool {
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), "kube-system");
    let lease = leases.get("kube-scheduler").await.expect("kube-scheduler's lease");
    let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
    holder.is_empty() || holder.starts_with("plasma-scheduler-")
}

/// Each pod shuns the others on its node, and the cluster has one node.
async fn shunning(world: &World) {
    let term = json!({ "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": "shuns" } } });
    let anti = json!({ "requiredDuringSchedulingIgnoredDuringExecution": [term] });
    let template = pod("shuns", json!({ "affinity": { "podAntiAffinity": anti } }));
    make::<Deployment>(
        world,
        json!({ "metadata": { "name": "shuns" }, "spec": of("shuns", Some(2), template) }),
    )
    .await;
}

async fn spread(world: &World) {
    let constraint = json!({
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app": "spread" } },
    });
    let template = pod("spread", json!({ "topologySpreadConstraints": [constraint] }));
    make::<Deployment>(
        world,
        json!({ "metadata": { "name": "spread" }, "spec": of("spread", Some(3), template) }),
    )
    .await;
}

async fn on_every_node(world: &World) {
    let template = pod("everywhere", json!({}));
    make::<DaemonSet>(
        world,
        json!({ "metadata": { "name": "everywhere" }, "spec": of("everywhere", None, template) }),
    )
    .await;
}

/// A claim of which the volume is chosen with the pod's node.
async fn with_a_volume(world: &World) {
    let nodes: Api<Node> = Api::all(world.client.clone());
    let node = nodes.list(&ListParams::default()).await.expect("nodes").items.remove(0).name_any();
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": { "name": HERE },
        "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer",
    });
    let here = json!({ "key": "kubernetes.io/hostname", "operator": "In", "values": [node] });
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": HERE },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "1Mi" }, "storageClassName": HERE,
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": { "path": format!("/tmp/plasma-{HERE}"), "type": "DirectoryOrCreate" },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [here] }] } },
        },
    });
    make_anew(world, class).await;
    make_anew(world, volume).await;
    let claim = json!({
        "metadata": { "name": "data" },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": HERE, "resources": { "requests": { "storage": "1Mi" } },
        },
    });
    make::<PersistentVolumeClaim>(world, claim).await;
    let volume = json!({ "name": "data", "persistentVolumeClaim": { "claimName": "data" } });
    let mut stores = pod("stores", json!({ "volumes": [volume] }));
    stores["metadata"]["name"] = json!("stores");
    make::<Pod>(world, stores).await;
}

/// A job's pods have the cluster's scheduler's name, too.
async fn a_job(world: &World) {
    let made =
        world.create(plasma_e2e::NAMESPACE, job("only-scheduler", (2, 1), "true")).await.expect("a job");
    world.wait(&made, "done", 90, |job| phase(job) == Some(Phase::Succeeded)).await;
    let names: Vec<_> =
        world.pods(&made).await.into_iter().filter_map(|pod| pod.spec?.scheduler_name).collect();
    assert_eq!(names, [DEFAULT, DEFAULT]);
    world.delete(&made).await;
}

/// A pod that runs until it is deleted; `spec` has what is special about it.
fn pod(app: &str, mut spec: Value) -> Value {
    spec["terminationGracePeriodSeconds"] = json!(1);
    spec["automountServiceAccountToken"] = json!(false);
    spec["containers"] = json!([{
        "name": "c", "image": "plasma.dev/busybox:2", "imagePullPolicy": "Never", "command": ["sleep", "600"],
    }]);
    json!({ "metadata": { "labels": { "app": app } }, "spec": spec })
}

/// What a Deployment or a DaemonSet wants.
fn of(app: &str, replicas: Option<u32>, template: Value) -> Value {
    let mut spec = json!({ "selector": { "matchLabels": { "app": app } }, "template": template });
    if let Some(replicas) = replicas {
        spec["replicas"] = json!(replicas);
    }
    spec
}

async fn make<K>(world: &World, object: Value)
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
    K::DynamicType: Default,
{
    let objects: Api<K> = Api::namespaced(world.client.clone(), HERE);
    let object: K = serde_json::from_value(object).expect("an object");
    objects.create(&PostParams::default(), &object).await.expect("it is made");
}

/// Pods are taken once their namespace has its service account.
async fn an_account(world: &World) {
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> =
        Api::namespaced(world.client.clone(), HERE);
    until("the service account is there", PATIENCE, || async {
        accounts.get_opt("default").await.expect("accounts").is_some()
    })
    .await;
}

async fn pods(world: &World, app: &str) -> Vec<Pod> {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), HERE);
    pods.list(&ListParams::default().labels(&format!("app={app}"))).await.expect("pods").items
}

fn is(pod: &Pod, phase: &str) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some(phase)
}

fn has_no_place(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|told| told.type_ == "PodScheduled" && told.reason.as_deref() == Some("Unschedulable"))
}

/// Deletes what this test makes, or an earlier run made; and waits until it is gone.
async fn clean(world: &World) {
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let volumes: Api<PersistentVolume> = Api::all(world.client.clone());
    let _ = namespaces.delete(HERE, &DeleteParams::default()).await;
    until("the namespace is gone", PATIENCE, || async {
        namespaces.get_opt(HERE).await.expect("namespaces").is_none()
    })
    .await;
    let _ = volumes.delete(HERE, &DeleteParams::default()).await;
}
