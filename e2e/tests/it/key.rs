//! The provider's key is for settlement alone.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams};
use plasma_api::names::SYSTEM_NAMESPACE;
use plasma_e2e::World;
use serde_json::{Value, json};

const KEY: &str = "plasma-settlement-key";

fn pod(account: &str, volumes: &Value, container: &Value) -> Pod {
    let mut container = container.clone();
    container["name"] = json!("c");
    container["image"] = json!("plasma.dev/busybox:2");
    serde_json::from_value(json!({
        "metadata": { "generateName": "thief-" },
        "spec": { "serviceAccountName": account, "containers": [container], "volumes": volumes },
    }))
    .expect("a pod")
}

#[tokio::test]
async fn no_other_pod_may_have_it() {
    let world = World::connect().await;
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let asked = PostParams { dry_run: true, ..PostParams::default() };
    let none = json!([]);
    let mounted = json!([{ "name": "key", "secret": { "secretName": KEY } }]);
    let projected = json!([{ "name": "key", "projected": { "sources": [{ "secret": { "name": KEY } }] } }]);
    let variable = json!({ "env": [{ "name": "K", "valueFrom": { "secretKeyRef": { "name": KEY, "key": "private-key" } } }] });
    let variables = json!({ "envFrom": [{ "secretRef": { "name": KEY } }] });
    for (way, thief) in [
        ("mounted", pod("plasma-operator", &mounted, &json!({}))),
        ("projected", pod("default", &projected, &json!({}))),
        ("a variable", pod("plasma-settlement", &none, &variable)),
        ("all variables", pod("plasma-settlement", &none, &variables)),
    ] {
        let refused = pods.create(&asked, &thief).await.expect_err(way).to_string();
        assert!(refused.contains("only plasma-settlement may mount it"), "{way}: {refused}");
    }
    let other = json!([{ "name": "other", "secret": { "secretName": "other" } }]);
    pods.create(&asked, &pod("plasma-operator", &other, &json!({}))).await.expect("another Secret");
    pods.create(&asked, &pod("plasma-settlement", &mounted, &json!({}))).await.expect("settlement itself");
}
