//! Pods that are spread over zones and nodes.

use serde_json::{Value, json};

use super::{
    super::{
        base::{HOSTNAME, REGION, ZONE},
        case::{Case, push},
        random::Random,
    },
    selectors,
};

/// Pods of few kinds, and some that want to be spread.
pub(super) fn constraints(random: &mut Random, case: &mut Case) {
    let namespace = random.pick(&["default", "team-a"]);
    for pod in case.all_pods() {
        if random.percent(75) {
            pod["metadata"]["namespace"] = json!(namespace);
        }
        if random.percent(60) {
            pod["metadata"]["labels"]["app"] = json!("web");
        }
    }
    for node in &mut case.nodes {
        if random.percent(20) {
            let effect = random.pick(&["NoSchedule", "PreferNoSchedule", "NoExecute"]);
            push(&mut node["spec"]["taints"], json!({ "key": "spread", "effect": effect }));
        }
    }
    for pod in &mut case.incoming {
        if random.percent(25) {
            let values = random.several(2, &["za", "zb", "zc"]);
            pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = json!({
                "nodeSelectorTerms": [{ "matchExpressions": [{ "key": ZONE, "operator": "In", "values": values }] }],
            });
        }
        if random.percent(70) {
            push(&mut pod["spec"]["tolerations"], json!({ "key": "spread", "operator": "Exists" }));
        }
        let count = random.pick(&[0, 1, 1, 1, 2, 3]);
        // A key may not come twice with the same action.
        for key in random.several(count, &[ZONE, HOSTNAME, REGION, "disk"]) {
            let constraint = constraint(random, pod, key);
            push(&mut pod["spec"]["topologySpreadConstraints"], constraint);
        }
    }
}

fn constraint(random: &mut Random, pod: &Value, key: &str) -> Value {
    let hard = random.percent(85);
    let mut constraint = json!({
        "maxSkew": random.pick(&[1, 1, 1, 2, 3]), "topologyKey": key,
        "whenUnsatisfiable": if hard { "DoNotSchedule" } else { "ScheduleAnyway" },
    });
    let mut selector = match random.between(0, 2) {
        0 => selectors::of_pods(random),
        _ => Some(json!({ "matchLabels": { "app": "web" } })),
    };
    if hard && random.percent(35) {
        constraint["minDomains"] = json!(random.between(1, 5));
    }
    for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
        match random.pick(&["", "Honor", "Ignore"]) {
            "" => {}
            value => constraint[policy] = json!(value),
        }
    }
    if let Some(selector) = selector.as_mut()
        && random.percent(25)
    {
        constraint["matchLabelKeys"] = json!(["pod-template-hash"]);
        // An API server that is older than the merge leaves it to the scheduler.
        if random.percent(50) {
            selectors::merge_keys(pod, selector, "pod-template-hash", "In");
        }
    }
    if let Some(selector) = selector {
        constraint["labelSelector"] = selector;
    }
    constraint
}
