//! What a device plugin may write, with its own token: what one node's root says must not reach beyond its GPUs.

use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{Node, Pod, ServiceAccount},
};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{ListParams, Patch, PatchParams, PostParams},
    config::AuthInfo,
};
use plasma_api::{GpuNode, names::SYSTEM_NAMESPACE};
use plasma_e2e::World;
use serde_json::{Value, json};

const PROGRAM: &str = "plasma-device-plugin";
/// What the refusals say: each rule of the policy has its own.
const LABELS: &str = "the labels of its node that tell of GPUs";
const METADATA: &str = "no annotations, finalizers or owners";
const SPEC: &str = "nothing of its spec";
const STATUS: &str = "the condition GPUUnhealthy of its node, and nothing else";

/// Who asks, and of which node.
struct Plugin {
    client: Client,
    node: String,
}

impl Plugin {
    /// With a token that is bound to its pod, as the kubelet gets one for it.
    async fn of(world: &World) -> Self {
        let pods: Api<Pod> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
        let selector = ListParams::default().labels(&format!("app.kubernetes.io/name={PROGRAM}"));
        let pod = pods.list(&selector).await.expect("pods").items.remove(0);
        let bound = BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(pod.name_any()),
            uid: pod.uid(),
        };
        let spec = TokenRequestSpec { bound_object_ref: Some(bound), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
        let issued = accounts.create_token_request(PROGRAM, &PostParams::default(), &request).await;
        let token = issued.expect("a token").status.and_then(|status| status.token).expect("it is issued");
        let mut config = Config::infer().await.expect("a cluster: KUBECONFIG");
        config.auth_info = AuthInfo { token: Some(token.into()), ..AuthInfo::default() };
        let node = pod.spec.and_then(|spec| spec.node_name).expect("it is bound");
        Self { client: Client::try_from(config).expect("a client"), node }
    }

    /// The API server's refusal; nothing where it would be done.
    async fn refused(&self, subresource: Option<&str>, patch: &Value) -> Option<String> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let asked = PatchParams { dry_run: true, ..PatchParams::default() };
        // As the plugin does: a condition is merged by its type.
        let patch = Patch::Strategic(patch);
        let done = match subresource {
            Some(_) => nodes.patch_status(&self.node, &asked, &patch).await,
            None => nodes.patch(&self.node, &asked, &patch).await,
        };
        done.err().map(|fault| fault.to_string())
    }
}

#[tokio::test]
async fn of_its_node_it_writes_what_tells_of_gpus_and_nothing_else() {
    let world = World::connect().await;
    let plugin = Plugin::of(&world).await;
    let owner = json!([{ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u" }]);
    let status = |field: &str, value: Value| json!({ "status": { field: value } });
    let metadata = |field: &str, value: Value| json!({ "metadata": { field: value } });
    let condition = |name: &str| json!([{ "type": name, "status": "False", "reason": "R", "message": "" }]);
    let other_label = json!({ "node-restriction.kubernetes.io/tenant": "rich" });
    for (way, patch, rule) in [
        (None, metadata("annotations", json!({ "a": "b" })), METADATA),
        (Some("status"), metadata("annotations", json!({ "a": "b" })), METADATA),
        (None, metadata("finalizers", json!(["example.com/stays"])), METADATA),
        (None, metadata("ownerReferences", owner), METADATA),
        (None, metadata("labels", other_label.clone()), LABELS),
        (Some("status"), metadata("labels", other_label), LABELS),
        (None, metadata("labels", json!({ "kubernetes.io/hostname": null })), LABELS),
        (None, json!({ "spec": { "unschedulable": true } }), SPEC),
        (Some("status"), status("capacity", json!({ "nvidia.com/gpu": "99" })), STATUS),
        (Some("status"), status("allocatable", json!({ "nvidia.com/gpu": "99" })), STATUS),
        (
            Some("status"),
            status("addresses", json!([{ "type": "InternalIP", "address": "10.9.9.9" }])),
            STATUS,
        ),
        (Some("status"), status("daemonEndpoints", json!({ "kubeletEndpoint": { "Port": 1 } })), STATUS),
        (Some("status"), status("nodeInfo", json!({ "kernelVersion": "0" })), STATUS),
        (Some("status"), status("images", json!([{ "names": ["a/b:1"], "sizeBytes": 1 }])), STATUS),
        (Some("status"), status("volumesInUse", json!(["example.com/v"])), STATUS),
        (
            Some("status"),
            status("volumesAttached", json!([{ "name": "example.com/v", "devicePath": "" }])),
            STATUS,
        ),
        (Some("status"), status("conditions", condition("Ready")), STATUS),
    ] {
        let refused = plugin.refused(way, &patch).await;
        let refused = refused.unwrap_or_else(|| panic!("it may do {patch}, by {way:?}"));
        assert!(refused.contains(rule), "{patch}: {refused}");
    }
    for (way, patch) in [
        (
            None,
            metadata("labels", json!({ "nvidia.com/gpu.product": "x", "nvidia.com/mig-1g.10gb.count": "1" })),
        ),
        (None, metadata("labels", json!({ "nvidia.com/gpu.product": null }))),
        (Some("status"), status("conditions", condition("GPUUnhealthy"))),
    ] {
        assert_eq!(plugin.refused(way, &patch).await, None, "{patch}");
    }
}

#[tokio::test]
async fn of_gpunodes_it_writes_its_own_and_neither_binds_nor_holds_it() {
    let world = World::connect().await;
    let plugin = Plugin::of(&world).await;
    let gpu_nodes: Api<GpuNode> = Api::all(plugin.client.clone());
    let asked = PatchParams { dry_run: true, ..PatchParams::default() };
    let patch = |patch: Value| {
        let (gpu_nodes, node, asked) = (gpu_nodes.clone(), plugin.node.clone(), asked.clone());
        async move { gpu_nodes.patch(&node, &asked, &Patch::Merge(&patch)).await.map(drop) }
    };
    patch(json!({ "spec": { "driverVersion": "1" } })).await.expect("its own");
    for metadata in [
        json!({ "finalizers": ["example.com/stays"] }),
        json!({ "annotations": { "a": "b" } }),
        json!({ "ownerReferences": [{ "apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u" }] }),
    ] {
        let refused = patch(json!({ "metadata": metadata })).await.expect_err("it is refused").to_string();
        assert!(refused.contains(METADATA), "{metadata}: {refused}");
    }
    let own = gpu_nodes.get(&plugin.node).await.expect("its own");
    let other: GpuNode = serde_json::from_value(json!({
        "apiVersion": "compute.plasma.dev/v1alpha1", "kind": "GpuNode",
        "metadata": { "name": "another" }, "spec": own.spec,
    }))
    .expect("a GpuNode");
    let create = PostParams { dry_run: true, ..PostParams::default() };
    let refused = gpu_nodes.create(&create, &other).await.expect_err("another's").to_string();
    assert!(refused.contains("may write that node and its GpuNode alone"), "{refused}");
}
