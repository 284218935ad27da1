//! Uninstalling: no pod may be left waiting for a program that is gone.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt as _, api::ListParams};

use crate::{failure::Failure, pods};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// So many looks in a row must show nothing to let go: pods that were on their way are there by then.
const QUIET_LOOKS: u32 = 5;

/// Takes the finalizer off every pod, and says of which; ends when nobody is left in our own namespace who adds any.
pub(crate) async fn release_all(client: &Client) -> Result<(), Failure> {
    let every: Api<Pod> = Api::all(client.clone());
    let mut quiet = 0;
    while quiet < QUIET_LOOKS {
        let listed = every.list(&ListParams::default()).await.map_err(Failure::kube("listing pods"))?;
        let held: Vec<&Pod> = listed.iter().filter(|pod| pods::is_held(pod)).collect();
        let is_awaited = |pod: &Pod| makes_held_pods(pod, client.default_namespace());
        let is_quiet = held.is_empty() && !listed.iter().any(is_awaited);
        quiet = if is_quiet { quiet + 1 } else { 0 };
        for pod in held {
            let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
            // One that can't be let go must not keep the others; the next look shows it again.
            match pods::release(client, pod).await {
                Ok(()) => tracing::info!("let {namespace}/{name} go without a receipt"),
                Err(fault) => tracing::warn!("{fault}"),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// An operator that has not ended yet may still start a job whose pods are held; one that was told that nobody settles
/// doesn't.
fn makes_held_pods(pod: &Pod, namespace: &str) -> bool {
    let is_operator =
        pod.labels().get("app.kubernetes.io/name").is_some_and(|name| name == "plasma-operator");
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut arguments = containers.flat_map(|container| container.args.iter().flatten());
    is_operator
        && pod.namespace().as_deref() == Some(namespace)
        && !arguments.any(|argument| argument == "--settlement=false")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_operator_of_ours_that_bills_is_awaited_and_no_other() {
        let operator = |namespace: &str, settles: bool| {
            let container =
                json!({ "name": "c", "args": ["--log-format=json", format!("--settlement={settles}")] });
            let labels = json!({ "app.kubernetes.io/name": "plasma-operator" });
            let metadata = json!({ "namespace": namespace, "labels": labels });
            serde_json::from_value(json!({ "metadata": metadata, "spec": { "containers": [container] } }))
                .expect("a pod")
        };
        assert!(makes_held_pods(&operator("plasma-system", true), "plasma-system"));
        assert!(
            !makes_held_pods(&operator("plasma-system", false), "plasma-system"),
            "settlement was switched off"
        );
        assert!(
            !makes_held_pods(&operator("somebody-else", true), "plasma-system"),
            "a label is anybody's to write"
        );
        assert!(!makes_held_pods(&Pod::default(), "plasma-system"));
    }
}
