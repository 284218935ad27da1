//! What pods ask for and what nodes have.

use serde_json::{Value, json};

use super::{
    super::{
        case::{Case, each, push},
        random::Random,
    },
    resize,
};

/// Small nodes, and pods that ask for much in every way in which one can ask.
pub(super) fn requests(random: &mut Random, case: &mut Case) {
    for node in &mut case.nodes {
        // A kubelet that has just registered says nothing yet.
        let amounts = if random.percent(4) { Value::Null } else { allocatable(random) };
        node["status"]["allocatable"] = amounts.clone();
        node["status"]["capacity"] = amounts;
    }
    for pod in &mut case.pods {
        ask(random, pod);
        if random.percent(60) {
            resize::resized(random, pod);
        }
    }
    for pod in &mut case.incoming {
        ask(random, pod);
    }
}

fn allocatable(random: &mut Random) -> Value {
    let mut amounts = json!({
        "cpu": random.pick(&["2", "4", "1500m", "3900m", "16"]),
        "memory": random.pick(&["2Gi", "4Gi", "3500Mi", "4000000000", "64Gi"]),
    });
    if random.percent(96) {
        amounts["pods"] = json!(random.pick(&["1", "2", "4", "110"]));
    }
    for (name, among) in [
        ("ephemeral-storage", &["10Gi", "1Gi", "0"]),
        ("hugepages-2Mi", &["0", "64Mi", "512Mi"]),
        ("nvidia.com/gpu", &["0", "2", "8"]),
        ("example.com/card", &["1", "3", "0"]),
    ] {
        if random.percent(80) {
            amounts[name] = json!(random.pick(among));
        }
    }
    amounts
}

fn ask(random: &mut Random, pod: &mut Value) {
    let plain = |name: String, resources: Value| json!({ "name": name, "image": "registry.k8s.io/pause:3.10", "resources": resources });
    pod["spec"]["containers"][0]["resources"] = resources(random);
    for index in 1..random.pick(&[1, 1, 1, 2, 3]) {
        let container = plain(format!("more-{index}"), resources(random));
        push(&mut pod["spec"]["containers"], container);
    }
    for index in 0..random.pick(&[0, 0, 0, 1, 2, 3]) {
        let mut container = plain(format!("first-{index}"), resources(random));
        if random.percent(50) {
            container["restartPolicy"] = json!("Always");
        }
        push(&mut pod["spec"]["initContainers"], container);
    }
    if random.percent(15) {
        pod["spec"]["runtimeClassName"] = json!("vm");
        pod["spec"]["overhead"] = json!({ "cpu": "250m", "memory": random.pick(&["120Mi", "1Gi"]) });
    }
    if random.percent(20) {
        pod["spec"]["resources"] = pod_level(random);
        for list in ["containers", "initContainers"] {
            for container in each(&mut pod["spec"][list]) {
                container["resources"] = small(random);
            }
        }
    }
}

/// What a container asks for within a pod that asks for itself: together not more than the pod.
fn small(random: &mut Random) -> Value {
    match random.between(0, 3) {
        0 => json!({}),
        1 => json!({ "requests": { "cpu": "500m" } }),
        2 => json!({ "requests": { "memory": "256Mi" }, "limits": { "memory": "512Mi" } }),
        _ => json!({ "requests": { "cpu": "100m", "memory": "300M" } }),
    }
}

/// What a container asks for: nothing, zero, or some of everything.
fn resources(random: &mut Random) -> Value {
    let mut requests = json!({});
    if random.percent(75) {
        requests["cpu"] = json!(random.pick(&["100m", "500m", "1", "1500m", "0", "1m", "0.25", "2"]));
    }
    if random.percent(75) {
        let amounts = ["64Mi", "1Gi", "500M", "0", "1", "1500m", "2Gi", "100000000500m", "1.5Gi"];
        requests["memory"] = json!(random.pick(&amounts));
    }
    if random.percent(15) {
        requests["ephemeral-storage"] = json!(random.pick(&["1Gi", "6Gi", "500Mi", "0"]));
    }
    let mut limits = json!({});
    // Requests of these are their limits.
    for (name, among) in [
        ("hugepages-2Mi", &["32Mi", "64Mi", "0"]),
        ("nvidia.com/gpu", &["1", "4", "0"]),
        ("example.com/card", &["1", "2", "0"]),
        ("example.com/nobody-has-it", &["1", "0", "0"]),
    ] {
        let chance = if name.ends_with("it") { 3 } else { 12 };
        // Huge pages are asked for beside something else only.
        let may = !name.starts_with("huge") || requests["cpu"].is_string() || requests["memory"].is_string();
        if may && random.percent(chance) {
            let amount = random.pick(among);
            requests[name] = json!(amount);
            limits[name] = json!(amount);
        }
    }
    let mut resources = json!({});
    for (name, amounts) in [("requests", requests), ("limits", limits)] {
        if amounts.as_object().is_some_and(|amounts| !amounts.is_empty()) {
            resources[name] = amounts;
        }
    }
    resources
}

/// What a pod asks for as a whole: processors, memory and huge pages only.
fn pod_level(random: &mut Random) -> Value {
    let mut requests = json!({});
    for (name, among) in [("cpu", ["3", "3500m", "6"]), ("memory", ["3Gi", "5Gi", "8Gi"])] {
        if random.percent(60) {
            requests[name] = json!(random.pick(&among));
        }
    }
    if requests.as_object().is_none_or(serde_json::Map::is_empty) {
        return json!({ "limits": { "cpu": "8", "memory": "16Gi" } });
    }
    if random.percent(15) {
        let pages = random.pick(&["64Mi", "128Mi", "256Mi"]);
        requests["hugepages-2Mi"] = json!(pages);
        return json!({ "requests": requests, "limits": { "hugepages-2Mi": pages } });
    }
    json!({ "requests": requests })
}
