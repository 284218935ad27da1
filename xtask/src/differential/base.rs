//! A cluster with nothing special: nodes with room, pods with labels. The themes make it interesting.

use serde_json::{Value, json};

use super::{case::Case, random::Random};

pub(super) const NAMESPACES: &[&str] = &["default", "team-a", "team-b"];
pub(super) const ZONES: &[&str] = &["za", "zb", "zc"];
pub(super) const ZONE: &str = "topology.kubernetes.io/zone";
pub(super) const REGION: &str = "topology.kubernetes.io/region";
/// A node that isn't there, or isn't any more.
pub(super) const GONE: &str = "node-that-is-gone";
pub(super) const HOSTNAME: &str = "kubernetes.io/hostname";

/// Three to seven nodes, some pods on them, and three to five that wait.
pub(super) fn cluster(random: &mut Random) -> Case {
    let mut case = Case { namespaces: namespaces(random), ..Case::default() };
    for index in 0..random.between(3, 7) {
        case.nodes.push(node(random, index));
    }
    let names = case.node_names();
    for index in 0..random.between(2, 14) {
        let mut pod = pod(random, &format!("on-{index}"));
        let at = random.between(0, names.len() - 1);
        pod["spec"]["nodeName"] = json!(names[at]);
        pod["status"]["phase"] = json!(random.pick(&["Running", "Running", "Running", "Pending"]));
        if random.percent(3) {
            pod["spec"]["nodeName"] = json!(GONE);
        }
        if random.percent(8) {
            pod["status"]["phase"] = json!(random.pick(&["Succeeded", "Failed"]));
        }
        if random.percent(10) {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
        }
        case.pods.push(pod);
    }
    for index in 0..random.between(3, 5) {
        case.incoming.push(pod(random, &format!("waits-{index}")));
    }
    case
}

fn namespaces(random: &mut Random) -> Vec<Value> {
    let mut objects = Vec::new();
    for name in NAMESPACES {
        // A pod may be seen before its namespace is.
        if random.percent(4) {
            continue;
        }
        let mut labels = json!({ "kubernetes.io/metadata.name": name });
        if random.percent(70) {
            labels["team"] = json!(random.pick(&["a", "b"]));
        }
        if random.percent(50) {
            labels["env"] = json!(random.pick(&["prod", "dev"]));
        }
        objects.push(
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } }),
        );
    }
    objects
}

fn node(random: &mut Random, index: usize) -> Value {
    let name = format!("n{index}");
    let mut labels = json!({ "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64" });
    if random.percent(95) {
        labels[HOSTNAME] = json!(name);
    }
    if random.percent(90) {
        labels[ZONE] = json!(random.pick(ZONES));
    }
    if random.percent(80) {
        labels[REGION] = json!(random.pick(&["ra", "rb"]));
    }
    if random.percent(60) {
        labels["disk"] = json!(random.pick(&["ssd", "hdd", ""]));
    }
    if random.percent(60) {
        labels["generation"] = json!(random.pick(&["1", "5", "12", "x", "007"]));
    }
    if random.percent(30) {
        labels["gpu"] = json!("true");
    }
    let amounts = json!({ "cpu": "64", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "110" });
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "uid": format!("uid-{name}"), "labels": labels },
        "spec": {},
        "status": {
            "capacity": amounts, "allocatable": amounts,
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

fn pod(random: &mut Random, name: &str) -> Value {
    let mut labels = json!({ "app": random.pick(&["web", "db", "cache"]) });
    if random.percent(60) {
        labels["tier"] = json!(random.pick(&["front", "back"]));
    }
    if random.percent(40) {
        labels["pod-template-hash"] = json!(random.pick(&["h1", "h2"]));
    }
    if random.percent(20) {
        labels["rank"] = json!(random.pick(&["1", "2", "10"]));
    }
    if random.percent(5) {
        labels = Value::Null;
    }
    let namespace = random.pick(NAMESPACES);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": namespace, "uid": format!("uid-{namespace}-{name}"), "labels": labels,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "schedulerName": "default-scheduler", "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
            "terminationGracePeriodSeconds": 30, "serviceAccountName": "default", "enableServiceLinks": true,
            "priority": 0, "preemptionPolicy": "PreemptLowerPriority", "securityContext": {},
            "containers": [{
                "name": "main", "image": "registry.k8s.io/pause:3.10", "imagePullPolicy": "IfNotPresent",
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } },
            }],
        },
        "status": { "phase": "Pending", "qosClass": "Burstable" },
    })
}
