//! Pods, as the kubelet is given them.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::{RESOURCE, kubelet::Running};

/// A fresh number for each pod.
static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// The namespace of all of them.
pub(crate) const NAMESPACE: &str = "default";

/// A pod.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) uid: String,
    init: Vec<Value>,
    containers: Vec<Value>,
}

impl Pod {
    /// A pod without containers.
    pub(crate) fn named(name: &str) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self { name: name.to_owned(), uid: format!("uid-{number}"), init: Vec::new(), containers: Vec::new() }
    }

    /// A pod of one container with one GPU.
    pub(crate) fn with_gpu(name: &str) -> Self {
        Self::named(name).container(name, 1, 0)
    }

    /// With one more container: that many GPUs, that many thousandths of a CPU.
    pub(crate) fn container(mut self, name: &str, gpus: u32, millicpus: u32) -> Self {
        self.containers.push(container(name, gpus, millicpus));
        self
    }

    /// With one more init container.
    pub(crate) fn init(mut self, name: &str, gpus: u32, millicpus: u32) -> Self {
        self.init.push(container(name, gpus, millicpus));
        self
    }

    /// With one more init container that goes on beside the others.
    pub(crate) fn sidecar(mut self, name: &str, gpus: u32, millicpus: u32) -> Self {
        let mut sidecar = container(name, gpus, millicpus);
        sidecar["restartPolicy"] = json!("Always");
        self.init.push(sidecar);
        self
    }

    /// The name of its first container.
    pub(crate) fn container_name(&self) -> &str {
        self.containers.first().and_then(|first| first["name"].as_str()).unwrap_or_default()
    }

    /// All that run after its start, as a kubelet that starts finds them.
    pub(crate) fn running(&self) -> Vec<Running> {
        let container = self.container_name().to_owned();
        vec![Running { uid: self.uid.clone(), container }]
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "metadata": { "name": self.name, "namespace": NAMESPACE, "uid": self.uid },
            "spec": { "initContainers": self.init, "containers": self.containers },
        })
    }
}

fn container(name: &str, gpus: u32, millicpus: u32) -> Value {
    let mut limits = json!({});
    if gpus > 0 {
        limits[RESOURCE] = json!(gpus.to_string());
    }
    if millicpus > 0 {
        // Whole CPUs are given to pods of the class Guaranteed alone.
        limits["cpu"] = json!(format!("{millicpus}m"));
        limits["memory"] = json!("100Mi");
    }
    json!({ "name": name, "image": "image", "resources": { "limits": limits, "requests": limits } })
}
