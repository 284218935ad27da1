//! Uninstalling: no pod may be left waiting for a program that is gone.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt as _, api::ListParams};

use crate::{failure::Failure, pods};

/// Takes the finalizer off every pod, and says of which.
pub(crate) async fn release_all(client: &Client) -> Result<(), Failure> {
    let every: Api<Pod> = Api::all(client.clone());
    let listed = every.list(&ListParams::default()).await.map_err(Failure::kube("listing pods"))?;
    for pod in listed.iter().filter(|pod| pods::is_held(pod)) {
        pods::release(client, pod).await?;
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        tracing::info!("let {namespace}/{name} go without a receipt");
    }
    Ok(())
}
