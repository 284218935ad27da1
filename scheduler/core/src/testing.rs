//! Small clusters for tests, made of the documents that an API server would give.

use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, Names, Served},
    gang::GangFacts,
    plan::Alike,
};

/// Amounts in whole units.
pub(crate) type Amounts<'a> = &'a [(&'a str, i64)];

pub(crate) const GPU: &str = "nvidia.com/gpu";

pub(crate) fn gpus(count: i64) -> [(&'static str, i64); 1] {
    [(GPU, count)]
}

/// A cluster under construction.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    nodes: std::collections::BTreeMap<String, Value>,
}

impl Default for World {
    fn default() -> Self {
        let names = Names {
            scheduler: "plasma-scheduler".to_owned(),
            gang_label: "compute.plasma.dev/gang".to_owned(),
            job_label: "compute.plasma.dev/job-uid".to_owned(),
        };
        Self { cluster: Cluster::new(names), nodes: std::collections::BTreeMap::new() }
    }
}

fn texts(amounts: Amounts<'_>) -> Value {
    amounts.iter().map(|(name, amount)| ((*name).to_owned(), json!(amount.to_string()))).collect()
}

impl World {
    /// A node with these amounts, room for 110 pods, and its name as a label.
    pub(crate) fn node(&mut self, name: &str, offers: Amounts<'_>) {
        let mut allocatable = texts(offers);
        allocatable["pods"] = json!("110");
        let labels = json!({ "kubernetes.io/hostname": name });
        let node = json!({ "metadata": { "name": name, "labels": labels }, "status": { "allocatable": allocatable } });
        self.set_node(name, node);
    }

    /// Changes a node's document.
    pub(crate) fn change_node(&mut self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut node = self.nodes[name].clone();
        change(&mut node);
        self.set_node(name, node);
    }

    pub(crate) fn cordon(&mut self, name: &str) {
        self.change_node(name, |node| node["spec"]["unschedulable"] = json!(true));
    }

    fn set_node(&mut self, name: &str, node: Value) {
        self.cluster.set_node(&serde_json::from_value(node.clone()).unwrap());
        self.nodes.insert(name.to_owned(), node);
    }

    /// Nodes `n0`, `n1` and so on with so many GPUs each.
    pub(crate) fn of_gpus(free: &[i64]) -> Self {
        let mut world = Self::default();
        for (at, free) in free.iter().enumerate() {
            world.node(&format!("n{at}"), &gpus(*free));
        }
        world
    }

    /// A gang in the namespace `ns` whose pods ask for so many GPUs each.
    pub(crate) fn gang_of_gpus(&mut self, name: &str, pods: &[i64]) {
        let pods: Vec<_> = pods.iter().map(|count| gpus(*count)).collect();
        self.gang(name, &pods.iter().map(|pod| &pod[..]).collect::<Vec<_>>());
    }

    /// A gang in the namespace `ns` whose pods ask for these amounts each.
    pub(crate) fn gang(&mut self, name: &str, pods: &[Amounts<'_>]) {
        let facts = GangFacts { key: format!("ns/{name}"), min_member: pods.len(), ..GangFacts::default() };
        self.cluster.set_gang(facts);
        for (at, asked) in pods.iter().enumerate() {
            let labels = json!({ "compute.plasma.dev/gang": name });
            self.pod(&format!("{name}-{at}"), asked, |pod| pod["metadata"]["labels"] = labels);
        }
    }

    /// An upstream PodGroup in the namespace `ns`; its UID is `uid-` and its name. The API server has no others.
    pub(crate) fn pod_group(&mut self, name: &str, spec: &Value) {
        let group = json!({
            "metadata": { "name": name, "namespace": "ns", "uid": format!("uid-{name}") }, "spec": spec,
        });
        self.cluster.set_pod_group(&serde_json::from_value(group).unwrap());
        self.cluster.set_pod_groups_served(Served::Yes);
    }

    /// The gang that was made for an upstream PodGroup.
    pub(crate) fn upstream_gang(&mut self, name: &str) {
        let (key, pod_group) = (format!("ns/podgroup:{name}"), Some(format!("uid-{name}")));
        self.cluster.set_gang(GangFacts { key, pod_group, ..GangFacts::default() });
    }

    /// A pod in the namespace `ns` that asks for these amounts; its UID is its name.
    pub(crate) fn pod(&mut self, name: &str, asked: Amounts<'_>, change: impl FnOnce(&mut Value)) {
        let mut pod = json!({
            "metadata": { "name": name, "namespace": "ns", "uid": name },
            "spec": {
                "schedulerName": "plasma-scheduler",
                "containers": [{ "name": "c", "resources": { "requests": texts(asked) } }],
            },
        });
        change(&mut pod);
        self.cluster.set_pod(&serde_json::from_value(pod).unwrap());
    }

    /// A gang in the namespace `ns` of pods of a priority, on these nodes or waiting, that ask for so many GPUs each.
    pub(crate) fn ranked_gang(&mut self, name: &str, priority: i32, pods: &[(i64, Option<&str>)]) {
        let facts =
            GangFacts { key: format!("ns/{name}"), min_member: pods.len(), priority, ..GangFacts::default() };
        self.cluster.set_gang(facts);
        for (at, (count, node)) in pods.iter().enumerate() {
            self.ranked_pod(&format!("{name}-{at}"), priority, (*count, *node), |pod| {
                pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": name });
            });
        }
    }

    /// A pod of a priority, on a node or waiting, that asks for so many GPUs.
    pub(crate) fn ranked_pod(
        &mut self,
        name: &str,
        priority: i32,
        (count, node): (i64, Option<&str>),
        change: impl FnOnce(&mut Value),
    ) {
        self.pod(name, &gpus(count), |pod| {
            pod["spec"]["priority"] = json!(priority);
            if let Some(node) = node {
                pod["spec"]["nodeName"] = json!(node);
                pod["status"] = json!({ "phase": "Running" });
            }
            change(pod);
        });
    }

    /// The pods of a gang that wait, by kind.
    pub(crate) fn alike(&self, gang: &str) -> Vec<Alike> {
        let group = self.cluster.find_group(&format!("ns/{gang}")).unwrap();
        self.cluster.alike(group)
    }

    /// A storage class that waits for the first pod.
    pub(crate) fn class(&mut self, name: &str, provisioner: &str, change: impl FnOnce(&mut Value)) {
        let mode = "WaitForFirstConsumer";
        let mut class =
            json!({ "metadata": { "name": name }, "provisioner": provisioner, "volumeBindingMode": mode });
        change(&mut class);
        self.cluster.set_class(&serde_json::from_value(class).unwrap());
    }

    /// A claim in the namespace `ns` for 1000Mi that isn't bound; its UID is `uid-` and its name.
    pub(crate) fn claim(&mut self, name: &str, class: &str, change: impl FnOnce(&mut Value)) {
        let mut claim = json!({
            "metadata": { "name": name, "namespace": "ns", "uid": format!("uid-{name}") },
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": class,
                "resources": { "requests": { "storage": "1000Mi" } },
            },
            "status": { "phase": "Pending" },
        });
        change(&mut claim);
        self.cluster.set_claim(&serde_json::from_value(claim).unwrap());
    }

    /// A volume of 1000Mi that nobody has.
    pub(crate) fn volume(&mut self, name: &str, class: &str, change: impl FnOnce(&mut Value)) {
        let mut volume = json!({
            "metadata": { "name": name },
            "spec": {
                "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "1000Mi" }, "storageClassName": class,
                "csi": { "driver": "csi.example.com", "volumeHandle": name },
            },
            "status": { "phase": "Available" },
        });
        change(&mut volume);
        self.cluster.set_volume(&serde_json::from_value(volume).unwrap());
    }

    /// A claim and a volume that are bound to each other.
    pub(crate) fn bound(&mut self, claim: &str, volume: &str, change: impl FnOnce(&mut Value)) {
        self.claim(claim, "made", |claim| {
            claim["spec"]["volumeName"] = json!(volume);
            claim["metadata"]["annotations"] = json!({ "pv.kubernetes.io/bind-completed": "yes" });
            claim["status"]["phase"] = json!("Bound");
        });
        self.volume(volume, "made", |document| {
            document["spec"]["claimRef"] =
                json!({ "name": claim, "namespace": "ns", "uid": format!("uid-{claim}") });
            document["status"]["phase"] = json!("Bound");
            change(document);
        });
    }
}

/// Whether any way at all places every pod on nodes with so many GPUs free: the slow, obvious answer.
pub(crate) fn some_way_exists(free: &mut [i64], pods: &[i64]) -> bool {
    let Some((first, rest)) = pods.split_first() else { return true };
    (0..free.len()).any(|index| {
        if free[index] < *first {
            return false;
        }
        free[index] -= first;
        let found = some_way_exists(free, rest);
        free[index] += first;
        found
    })
}
