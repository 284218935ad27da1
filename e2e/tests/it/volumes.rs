//! Volumes on a real cluster: what a gang's claims are promised the volume controller binds, and the kubelet mounts.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node, PersistentVolume};
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, PostParams},
};
use plasma_api::{compute_job::Phase, names::SCHEDULER_NAME};
use plasma_e2e::{NAMESPACE, World, job, phase};
use serde_json::{Value, json};

const CLASS: &str = "e2e-local";
const VOLUMES: [&str; 2] = ["e2e-local-0", "e2e-local-1"];

/// Makes an object; one of an earlier run under its name goes first.
pub(super) async fn make(world: &World, object: Value) {
    let object: DynamicObject = serde_json::from_value(object).expect("an object");
    let types = object.types.clone().expect("a kind");
    let (group, version) = types.api_version.rsplit_once('/').unwrap_or(("", &types.api_version));
    let kind = kube::core::GroupVersionKind::gvk(group, version, &types.kind);
    let objects: Api<DynamicObject> = Api::all_with(world.client.clone(), &ApiResource::from_gvk(&kind));
    let name = object.name_any();
    for _ in 0..40 {
        match objects.create(&PostParams::default(), &object).await {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let _ = objects.delete(&name, &DeleteParams::default()).await;
                tokio::time::sleep(std::time::Duration::from_millis(250)).await;
            }
            Err(fault) => panic!("{name}: {fault}"),
        }
    }
    panic!("{name} of an earlier run doesn't go");
}

/// A class of volumes that are there, and two of them, each reached by the one node.
async fn volumes(world: &World) {
    let nodes: Api<Node> = Api::all(world.client.clone());
    let node = nodes.list(&ListParams::default()).await.expect("nodes").items.remove(0).name_any();
    make(
        world,
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": { "name": CLASS },
            "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer",
        }),
    )
    .await;
    for name in VOLUMES {
        let here = json!({ "key": "kubernetes.io/hostname", "operator": "In", "values": [node] });
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": name },
            "spec": {
                "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "1Mi" }, "storageClassName": CLASS,
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": { "path": format!("/tmp/plasma-{name}"), "type": "DirectoryOrCreate" },
                "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [here] }] } },
            },
        });
        make(world, volume).await;
    }
}

#[tokio::test]
async fn each_pod_of_a_gang_writes_to_a_volume_of_its_own() {
    let world = World::connect().await;
    volumes(&world).await;
    let mut wanted = job("volumes", (2, 1), "date > /data/when && test -s /data/when");
    let spec = &mut wanted["spec"]["roles"][0]["template"]["spec"];
    let claim = json!({
        "accessModes": ["ReadWriteOnce"], "storageClassName": CLASS,
        "resources": { "requests": { "storage": "1Mi" } },
    });
    spec["volumes"] = json!([{ "name": "data", "ephemeral": { "volumeClaimTemplate": { "spec": claim } } }]);
    spec["containers"][0]["volumeMounts"] = json!([{ "name": "data", "mountPath": "/data" }]);
    let job = world.create(NAMESPACE, wanted).await.expect("a job");
    world.wait(&job, "done", 90, |job| phase(job) == Some(Phase::Succeeded)).await;
    let schedulers: BTreeSet<_> =
        world.pods(&job).await.into_iter().filter_map(|pod| pod.spec?.scheduler_name).collect();
    assert_eq!(schedulers, BTreeSet::from([SCHEDULER_NAME.to_owned()]));
    let of_pods: BTreeSet<String> =
        world.pods(&job).await.iter().map(|pod| format!("{}-data", pod.name_any())).collect();
    let volumes: Api<PersistentVolume> = Api::all(world.client.clone());
    let mut claims = BTreeSet::new();
    for name in VOLUMES {
        let volume = volumes.get(name).await.expect("a volume");
        assert_eq!(
            volume.annotations().get("pv.kubernetes.io/bound-by-controller").map(String::as_str),
            Some("yes")
        );
        claims.extend(volume.spec.and_then(|spec| spec.claim_ref).and_then(|claim| claim.name));
    }
    assert_eq!(claims, of_pods);
    world.delete(&job).await;
    for name in VOLUMES {
        volumes.delete(name, &DeleteParams::default()).await.expect("it goes");
    }
}
