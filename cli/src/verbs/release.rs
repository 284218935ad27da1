//! `kubectl plasma release POD`: lets a pod go that waits for its receipt.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use plasma_api::names::SETTLEMENT_FINALIZER;

use crate::{cluster::Cluster, failure::Failure, output};

pub(crate) async fn run(cluster: &Cluster, name: &str, yes: bool) -> Result<(), Failure> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let pod = pods.get_opt(name).await.map_err(Failure::kube("reading the pod"))?;
    let missing =
        || Failure::NotFound { kind: "pod", namespace: cluster.namespace.clone(), name: name.to_owned() };
    let pod = pod.ok_or_else(missing)?;
    if !pod.finalizers().iter().any(|finalizer| finalizer == SETTLEMENT_FINALIZER) {
        return Err(Failure::NotHeld(name.to_owned()));
    }
    if !yes {
        return Err(Failure::NotConfirmed(name.to_owned()));
    }
    let patch = Patch::Strategic(plasma_api::release_patch(pod.uid().as_deref()));
    let patched = pods.patch(name, &PatchParams::default(), &patch).await;
    patched.map_err(Failure::kube("letting the pod go"))?;
    output::print(&format!("pod {name} is let go without a receipt; nobody is paid for it"))
}
