//! Themes about the node itself: its name, its cordon, its taints, its labels, what it declares.

use serde_json::{Value, json};

use super::super::{
    base::{GONE, HOSTNAME, ZONE},
    case::{Case, each, push},
    random::Random,
};

/// Pods that name their node.
pub(super) fn names(random: &mut Random, case: &mut Case) {
    let names = case.node_names();
    for pod in &mut case.incoming {
        if random.percent(70) {
            let at = random.between(0, names.len());
            pod["spec"]["nodeName"] = json!(names.get(at).map_or(GONE, String::as_str));
        }
    }
}

/// Cordoned nodes, and pods that tolerate it.
pub(super) fn cordons(random: &mut Random, case: &mut Case) {
    const KEY: &str = "node.kubernetes.io/unschedulable";
    for node in &mut case.nodes {
        if random.percent(60) {
            node["spec"]["unschedulable"] = json!(true);
        }
        // The controller's taint comes a little later, and goes a little later.
        if random.percent(15) {
            push(&mut node["spec"]["taints"], json!({ "key": KEY, "effect": "NoSchedule" }));
        }
    }
    for pod in &mut case.incoming {
        if random.percent(60) {
            continue;
        }
        let toleration = match random.between(0, 6) {
            0 => json!({ "key": KEY, "operator": "Exists", "effect": "NoSchedule" }),
            1 => json!({ "key": KEY, "operator": "Exists" }),
            2 => json!({ "operator": "Exists" }),
            3 => json!({ "key": KEY, "operator": "Equal", "effect": "NoSchedule" }),
            4 => json!({ "key": KEY, "operator": "Equal", "value": "true", "effect": "NoSchedule" }),
            5 => json!({ "key": KEY, "operator": "Exists", "effect": "NoExecute" }),
            _ => json!({ "key": KEY }),
        };
        push(&mut pod["spec"]["tolerations"], toleration);
    }
}

const TAINTS: &[&str] = &["dedicated", "gpu", "node.kubernetes.io/not-ready", "example.com/level"];
const EFFECTS: &[&str] = &["NoSchedule", "NoExecute", "PreferNoSchedule"];

/// Tainted nodes, and pods that tolerate some of it.
pub(super) fn taints(random: &mut Random, case: &mut Case) {
    for node in &mut case.nodes {
        for key in several(random, 3, TAINTS) {
            let mut taint = json!({ "key": key, "effect": random.pick(EFFECTS) });
            match random.pick(&["", "a", "b", "10"]) {
                "" => {}
                value => taint["value"] = json!(value),
            }
            push(&mut node["spec"]["taints"], taint);
        }
    }
    for pod in &mut case.incoming {
        for _ in 0..random.between(0, 4) {
            let toleration = toleration(random);
            push(&mut pod["spec"]["tolerations"], toleration);
        }
        if random.percent(30) {
            let admitted = json!({
                "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300,
            });
            push(&mut pod["spec"]["tolerations"], admitted);
        }
    }
}

fn toleration(random: &mut Random) -> Value {
    let mut toleration = json!({});
    let operator = random.pick(&["Exists", "Exists", "Equal", "Equal", "", "Lt", "Gt"]);
    if !operator.is_empty() {
        toleration["operator"] = json!(operator);
    }
    if operator != "Exists" || random.percent(93) {
        toleration["key"] = json!(random.pick(TAINTS));
    }
    match operator {
        "Exists" => {}
        "Lt" | "Gt" => toleration["value"] = json!(random.pick(&["5", "20"])),
        _ => match random.pick(&["", "a", "b", "10"]) {
            "" => {}
            value => toleration["value"] = json!(value),
        },
    }
    if random.percent(60) {
        let effect = random.pick(EFFECTS);
        toleration["effect"] = json!(effect);
        if effect == "NoExecute" && random.percent(50) {
            toleration["tolerationSeconds"] = json!(random.pick(&[0, 300]));
        }
    }
    toleration
}

/// Pods that want nodes with certain labels, or by name.
pub(super) fn affinity(random: &mut Random, case: &mut Case) {
    let names = case.node_names();
    for pod in &mut case.incoming {
        if random.percent(35) {
            pod["spec"]["nodeSelector"] = selector(random);
        }
        let required = &mut pod["spec"]["affinity"]["nodeAffinity"];
        if random.percent(70) {
            let terms: Vec<Value> = (0..random.between(1, 3)).map(|_| term(random, &names)).collect();
            required["requiredDuringSchedulingIgnoredDuringExecution"] =
                json!({ "nodeSelectorTerms": terms });
        }
        if random.percent(20) {
            let preferred =
                json!([{ "weight": 5, "preference": { "matchExpressions": [requirement(random)] } }]);
            required["preferredDuringSchedulingIgnoredDuringExecution"] = preferred;
        }
    }
}

fn selector(random: &mut Random) -> Value {
    let mut selector = json!({});
    for key in several(random, 2, &["disk", "gpu", ZONE, "generation"]) {
        selector[key] = json!(match key {
            "disk" => random.pick(&["ssd", "hdd", ""]),
            "gpu" => "true",
            "generation" => random.pick(&["1", "5"]),
            _ => random.pick(&["za", "zb"]),
        });
    }
    selector
}

fn term(random: &mut Random, names: &[String]) -> Value {
    let mut term = json!({});
    for _ in 0..random.between(0, 2) {
        let requirement = requirement(random);
        push(&mut term["matchExpressions"], requirement);
    }
    if random.percent(30) {
        let at = random.between(0, names.len());
        let name = names.get(at).map_or(GONE, String::as_str);
        let operator = random.pick(&["In", "In", "NotIn"]);
        push(
            &mut term["matchFields"],
            json!({ "key": "metadata.name", "operator": operator, "values": [name] }),
        );
    }
    term
}

fn requirement(random: &mut Random) -> Value {
    let key = random.pick(&["disk", "gpu", ZONE, HOSTNAME, "generation", "nobody-has-it"]);
    let values: &[&str] = match key {
        "disk" => &["ssd", "hdd", ""],
        "gpu" => &["true", "false"],
        "generation" => &["1", "5", "12", "x"],
        ZONE => &["za", "zb", "zc"],
        _ => &["n0", "n1", "n2"],
    };
    match random.pick(&["In", "In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]) {
        operator @ ("Exists" | "DoesNotExist") => json!({ "key": key, "operator": operator }),
        operator @ ("Gt" | "Lt") => {
            let bound = random.pick(&["0", "3", "5", "x", "007"]);
            json!({ "key": random.pick(&["generation", "generation", "disk"]), "operator": operator, "values": [bound] })
        }
        operator => {
            let count = random.between(1, 2);
            json!({ "key": key, "operator": operator, "values": random.several(count, values) })
        }
    }
}

const FEATURES: &[&str] =
    &["RestartAllContainersOnContainerExits", "UserNamespacesHostNetworkSupport", "VolumeBindMountOptions"];

/// Pods that need what only some kubelets can do.
pub(super) fn declared_features(random: &mut Random, case: &mut Case) {
    for node in &mut case.nodes {
        let mut declared = several(random, 3, FEATURES);
        if random.percent(20) {
            declared.push("SomethingNewer");
        }
        declared.sort_unstable();
        if !declared.is_empty() {
            node["status"]["declaredFeatures"] = json!(declared);
        }
    }
    for pod in case.all_pods() {
        if random.percent(40) {
            let action = random.pick(&["RestartAllContainers", "RestartAllContainers", "Restart"]);
            let rule = json!({ "action": action, "exitCodes": { "operator": "In", "values": [42] } });
            restart_rule(random, pod, rule);
        }
        if random.percent(30) {
            pod["spec"]["hostNetwork"] = json!(random.percent(70));
            pod["spec"]["hostUsers"] = json!(random.percent(30));
        }
        if random.percent(25) {
            let mut mount = json!({ "name": "scratch", "mountPath": "/scratch" });
            if random.percent(70) {
                mount["bindMountOptions"] = json!(["noexec"]);
            }
            push(&mut pod["spec"]["volumes"], json!({ "name": "scratch", "emptyDir": {} }));
            push(&mut pod["spec"]["containers"][0]["volumeMounts"], mount);
        }
    }
}

fn restart_rule(random: &mut Random, pod: &mut Value, rule: Value) {
    if random.percent(70) {
        for container in each(&mut pod["spec"]["containers"]) {
            container["restartPolicy"] = json!("Never");
            container["restartPolicyRules"] = json!([rule]);
        }
        return;
    }
    let container = json!({
        "name": "restarts", "image": "registry.k8s.io/pause:3.10", "restartPolicy": "Never",
        "restartPolicyRules": [rule], "resources": {},
    });
    push(&mut pod["spec"]["initContainers"], container);
}

/// Up to so many of these.
fn several<'a>(random: &mut Random, most: usize, among: &[&'a str]) -> Vec<&'a str> {
    let count = random.between(0, most);
    random.several(count, among)
}
