//! A job and a queue for tests: two pods with one GPU each, an hour at most, at 3.6 XPL an hour.

use plasma_api::{ComputeJob, ComputeQueue};
use serde_json::{from_value, json};

use crate::{desire::Parent, own::Key};

pub(crate) fn job() -> ComputeJob {
    from_value(json!({
        "apiVersion": "compute.plasma.dev/v1alpha1", "kind": "ComputeJob",
        "metadata": { "name": "ddp", "namespace": "team", "uid": "123e4567-e89b-12d3-a456-426614174000", "generation": 1 },
        "spec": {
            "queue": "research", "maxRuntimeSeconds": 3600, "maxPricePerGpuHour": "4", "budget": "8", "backoffLimit": 1,
            "roles": [{ "name": "worker", "replicas": 2, "template": { "spec": { "containers": [
                { "name": "c", "image": "x", "resources": { "limits": { "nvidia.com/gpu": 1 } } }
            ] } } }],
        },
    }))
    .expect("a job")
}

pub(crate) fn queue() -> ComputeQueue {
    from_value(json!({
        "apiVersion": "compute.plasma.dev/v1alpha1", "kind": "ComputeQueue", "metadata": { "name": "research" },
        "spec": { "namespaces": ["team"], "billing": {
            "payer": "0x5fbdb2315678afecb367f032d93f642f64180aa3", "rental": format!("0x{}", "ab".repeat(32)),
            "prices": [{ "pricePerGpuHour": "3.6" }],
        } },
    }))
    .expect("a queue")
}

pub(crate) fn parent(billed: bool) -> Parent {
    let metadata = job().metadata;
    let told = |text: Option<String>| text.expect("it has one");
    let (namespace, name, uid) = (told(metadata.namespace), told(metadata.name), told(metadata.uid));
    Parent { key: Key { namespace, name, uid }, billed, scheduler: "plasma-scheduler".to_owned() }
}
