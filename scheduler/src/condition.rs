//! A pod's conditions, as kube-scheduler writes them: since when they hold, and of which generation of the pod that is said.

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use serde_json::{Value, json};

use crate::said::Recipient;

/// A patch of the pod's status by which it says why it has no node; nothing where that isn't so any more. It names the
/// version that was seen: a pod that was bound meanwhile is not told that it wasn't.
pub(crate) fn not_scheduled(pod: &Recipient, message: &str) -> Value {
    let condition = match pod.reason {
        Some(reason) => json!({
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
            "lastTransitionTime": pod.said.as_ref().and_then(|said| said.since.clone()).unwrap_or_else(now),
            "observedGeneration": pod.generation,
        }),
        None => json!({ "type": "PodScheduled", "$patch": "delete" }),
    };
    json!({
        "metadata": { "uid": pod.uid, "resourceVersion": pod.version },
        "status": { "conditions": [condition] },
    })
}

/// A patch of the status of a pod, as it was read, by which it says that it is taken away through no fault of its own.
pub(crate) fn disrupted(pod: &Pod, reason: &str, message: &str) -> Value {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut before = conditions
        .filter(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True")
        .filter_map(|condition| condition.last_transition_time.as_ref());
    let since = before.next().map_or_else(now, written);
    json!({ "metadata": { "uid": pod.metadata.uid }, "status": { "conditions": [{
        "type": "DisruptionTarget", "status": "True", "reason": reason, "message": message,
        "lastTransitionTime": since, "observedGeneration": pod.metadata.generation,
    }] } })
}

fn now() -> String {
    written(&Time(Timestamp::now()))
}

/// As RFC 3339 text, in whole seconds.
fn written(time: &Time) -> String {
    time.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
