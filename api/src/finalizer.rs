//! Taking the settlement finalizer off a pod.

use serde_json::{Value, json};

use crate::names::SETTLEMENT_FINALIZER;

/// A strategic merge patch that takes the settlement finalizer off this very pod: it fails where another pod has the name
/// by now, and leaves others' finalizers alone, since it names one entry of the list.
pub fn release_patch(pod_uid: Option<&str>) -> Value {
    json!({ "metadata": { "uid": pod_uid, "$deleteFromPrimitiveList/finalizers": [SETTLEMENT_FINALIZER] } })
}
