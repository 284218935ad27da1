//! Nobody but settlement lets a pod go before its receipt is durable.

use std::time::{Duration, Instant};

use k8s_openapi::api::{core::v1::Pod, rbac::v1::ClusterRoleBinding};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use plasma_api::compute_job::Phase;
use plasma_e2e::{NAMESPACE, World, job, phase};
use serde_json::json;

/// Somebody who may edit every pod.
const EDITOR: &str = "e2e-editor";

async fn editor(world: &World) -> Client {
    let bindings: Api<ClusterRoleBinding> = Api::all(world.client.clone());
    let binding = serde_json::from_value(json!({
        "metadata": { "name": EDITOR },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": EDITOR }],
    }))
    .expect("a binding");
    match bindings.create(&PostParams::default(), &binding).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(fault) => panic!("{fault}"),
    }
    let mut config = kube::Config::infer().await.expect("a cluster");
    config.auth_info.impersonate = Some(EDITOR.to_owned());
    Client::try_from(config).expect("a client")
}

#[tokio::test]
async fn a_user_who_may_edit_pods_may_not_take_the_finalizer_off() {
    let world = World::connect().await;
    let made = world.create(NAMESPACE, job("held", (1, 1), "sleep 30")).await.expect("a job");
    world.wait(&made, "running", 60, |job| phase(job) == Some(Phase::Running)).await;
    let name = world.pods(&made).await[0].name_any();
    let pods: Api<Pod> = Api::namespaced(editor(&world).await, NAMESPACE);
    let label = Patch::Merge(json!({ "metadata": { "labels": { "touched": "yes" } } }));
    // Whatever else an editor does to the pod is allowed; the policy may take a moment to be in force.
    pods.patch(&name, &PatchParams::default(), &label).await.expect("a label");
    let none = Patch::Merge(json!({ "metadata": { "finalizers": [] } }));
    let fault =
        pods.patch(&name, &PatchParams::default(), &none).await.expect_err("the policy refuses").to_string();
    assert!(fault.contains("only plasma-settlement"), "{fault}");
    // Nor may whose it is and who pays be changed: it would never be paid for.
    for other in [
        json!({ "annotations": { "compute.plasma.dev/queue": "free" } }),
        json!({ "labels": { "compute.plasma.dev/gang": null } }),
        json!({ "labels": { "compute.plasma.dev/job-uid": "123e4567-e89b-12d3-a456-426614174000" } }),
    ] {
        let patch = Patch::Merge(json!({ "metadata": other }));
        let refused = pods.patch(&name, &PatchParams::default(), &patch).await.expect_err("it is refused");
        assert!(refused.to_string().contains("waits for its receipt"), "{other}: {refused}");
    }

    // Settlement itself lets it go once it has a receipt, also where the job that it should tell is gone.
    world.delete(&made).await;
    let begun = Instant::now();
    while !world.pods(&made).await.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{name} is held, and its job is deleted");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
