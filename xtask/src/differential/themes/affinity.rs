//! Pods that want to be near others, or far from them.

use serde_json::{Value, json};

use super::{
    super::{
        base::{HOSTNAME, NAMESPACES, REGION, ZONE},
        case::{Case, push},
        random::Random,
    },
    selectors,
};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

/// Terms on pods that wait and on pods that are on nodes.
pub(super) fn terms(random: &mut Random, case: &mut Case) {
    for pod in &mut case.pods {
        // Whom a pod on a node wants near is its own affair; whom it doesn't is the newcomer's too.
        lay(random, pod, "podAntiAffinity", 35);
        lay(random, pod, "podAffinity", 15);
    }
    for pod in &mut case.incoming {
        lay(random, pod, "podAffinity", 45);
        lay(random, pod, "podAntiAffinity", 45);
    }
}

fn lay(random: &mut Random, pod: &mut Value, kind: &str, chance: u32) {
    if !random.percent(chance) {
        return;
    }
    for _ in 0..random.pick(&[1, 1, 1, 2]) {
        let term = term(random, pod);
        push(&mut pod["spec"]["affinity"][kind][REQUIRED], term);
    }
    if random.percent(10) {
        let preferred = json!({ "weight": 1, "podAffinityTerm": term(random, pod) });
        push(
            &mut pod["spec"]["affinity"][kind]["preferredDuringSchedulingIgnoredDuringExecution"],
            preferred,
        );
    }
}

fn term(random: &mut Random, pod: &Value) -> Value {
    let mut term =
        json!({ "topologyKey": random.pick(&[ZONE, ZONE, HOSTNAME, HOSTNAME, REGION, "disk", "gpu"]) });
    // Often the pod's own kind: the first of a series finds nobody.
    let mut selector = if random.percent(35) {
        Some(json!({ "matchLabels": { "app": pod["metadata"]["labels"]["app"] } }))
    } else {
        selectors::of_pods(random)
    };
    if random.percent(30) {
        let count = random.between(1, 2);
        term["namespaces"] = json!(random.several(count, NAMESPACES));
    }
    if random.percent(35) {
        term["namespaceSelector"] = match random.between(0, 4) {
            0 => json!({}),
            1 => json!({ "matchLabels": { "team": "a" } }),
            2 => json!({ "matchLabels": { "team": "b", "env": "prod" } }),
            3 => json!({ "matchExpressions": [{ "key": "env", "operator": "NotIn", "values": ["prod"] }] }),
            _ => json!({ "matchExpressions": [{ "key": "team", "operator": "Exists" }] }),
        };
    }
    if let Some(selector) = selector.as_mut()
        && random.percent(20)
    {
        let (field, operator) = random.pick(&[("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")]);
        term[field] = json!(["pod-template-hash"]);
        selectors::merge_keys(pod, selector, "pod-template-hash", operator);
    }
    if let Some(selector) = selector {
        term["labelSelector"] = selector;
    }
    term
}
