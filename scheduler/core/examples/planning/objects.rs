//! Nodes and pods as an API server has them, and a cluster of many.

use plasma_scheduler_core::{Cluster, Decision, GangFacts, Names};
use serde_json::{Value, json};

use crate::cpu;

pub(crate) const NODES: usize = 5_000;
const GPU: &str = "nvidia.com/gpu";

/// What a pod asks for: GPUs and CPUs.
pub(crate) type Asked = (usize, usize);

/// A cluster, and what it has cost.
pub(crate) struct Bench {
    pub(crate) cluster: Cluster,
    /// Milliseconds of CPU since this was last set to zero.
    pub(crate) spent: f64,
    /// The most that one plan has cost.
    pub(crate) worst: f64,
    pub(crate) placed: usize,
    pub(crate) decided: usize,
}

impl Bench {
    /// A cluster of nodes with eight GPUs, and nobody on them.
    pub(crate) fn new() -> serde_json::Result<Self> {
        let names = Names {
            scheduler: "plasma-scheduler".to_owned(),
            gang_label: "compute.plasma.dev/gang".to_owned(),
            job_label: "compute.plasma.dev/job-uid".to_owned(),
        };
        let mut cluster = Cluster::new(names);
        for at in 0..NODES {
            cluster.set_node(&serde_json::from_value(node(at))?);
        }
        Ok(Self { cluster, spent: 0.0, worst: 0.0, placed: 0, decided: 0 })
    }

    /// A watch tells of a pod.
    pub(crate) fn tell(&mut self, pod: &Value) -> serde_json::Result<()> {
        let document = serde_json::from_str(&pod.to_string())?;
        let begun = cpu();
        self.cluster.set_pod(&document);
        self.spent += cpu() - begun;
        Ok(())
    }

    pub(crate) fn gone(&mut self, uid: &str) {
        let begun = cpu();
        self.cluster.remove_pod(uid);
        self.spent += cpu() - begun;
    }

    /// Plans until nothing more is decided. Pods that are placed stay on their way.
    pub(crate) fn plan(&mut self) -> Vec<Decision> {
        let mut all = Vec::new();
        loop {
            let begun = cpu();
            let decisions = self.cluster.plan(256);
            let cost = cpu() - begun;
            self.spent += cost;
            self.worst = self.worst.max(cost);
            if decisions.is_empty() && !self.cluster.has_more() {
                return all;
            }
            self.decided += decisions.len();
            for decision in &decisions {
                if let Decision::Place { placements, .. } = decision {
                    self.placed += placements.len();
                }
            }
            all.extend(decisions);
        }
    }

    pub(crate) fn begin(&mut self) {
        (self.spent, self.worst, self.placed, self.decided) = (0.0, 0.0, 0, 0);
    }

    pub(crate) fn gang(
        &mut self,
        name: &str,
        priority: i32,
        pods: &[(Asked, usize)],
    ) -> serde_json::Result<()> {
        let facts = GangFacts {
            key: format!("ns/{name}"),
            min_member: pods.iter().map(|(_, count)| count).sum(),
            priority,
            ..GangFacts::default()
        };
        self.cluster.set_gang(facts);
        for (kind, (asked, count)) in pods.iter().enumerate() {
            for at in 0..*count {
                let mut pod = pod(&format!("{name}-{kind}-{at}"), *asked);
                pod["metadata"]["labels"]["compute.plasma.dev/gang"] = json!(name);
                pod["spec"]["priority"] = json!(priority);
                self.tell(&pod)?;
            }
        }
        Ok(())
    }
}

pub(crate) fn node_name(at: usize) -> String {
    format!("gpu-node-{at:05}.example")
}

fn node(at: usize) -> Value {
    let name = node_name(at);
    json!({
        "metadata": { "name": name, "uid": name, "labels": {
            "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("zone-{}", at % 3),
            "topology.example/rack": format!("rack-{}", at / 16), "pool": format!("pool-{}", at % 10),
            "node.kubernetes.io/instance-type": "gpu-8x", "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        } },
        "status": { "allocatable": { "cpu": "192", "memory": "2113556856Ki", "pods": "110", GPU: "8" } },
    })
}

/// A pod of no gang that waits. Its UID is its name.
pub(crate) fn pod(name: &str, (gpus, cpus): Asked) -> Value {
    let mut requests = json!({ "cpu": cpus.to_string(), "memory": "4Gi" });
    if gpus > 0 {
        requests[GPU] = json!(gpus.to_string());
    }
    json!({
        "metadata": { "name": name, "namespace": "ns", "uid": name, "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": { "app.kubernetes.io/name": "trainer", "job-name": name, "controller-uid": name } },
        "spec": { "schedulerName": "plasma-scheduler",
            "tolerations": [
                { "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 },
                { "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 },
            ],
            "containers": [{ "name": "c", "resources": { "requests": requests } }] },
        "status": { "phase": "Pending" },
    })
}

/// The pod, running on a node.
pub(crate) fn on(mut pod: Value, node: usize) -> Value {
    pod["spec"]["nodeName"] = json!(node_name(node));
    pod["status"] = json!({ "phase": "Running", "startTime": "2026-01-01T00:01:00Z" });
    pod
}
