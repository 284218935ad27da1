//! Pods on nodes whose resources are being changed in place.

use serde_json::{Value, json};

use super::super::{
    case::{each, push},
    random::Random,
};

/// Lets the pod's status say what was given, beside what its spec now asks for.
pub(super) fn resized(random: &mut Random, pod: &mut Value) {
    let has_ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    for (containers, statuses) in
        [("containers", "containerStatuses"), ("initContainers", "initContainerStatuses")]
    {
        let names: Vec<Value> =
            each(&mut pod["spec"][containers]).map(|container| container["name"].clone()).collect();
        for name in names {
            if random.percent(80) {
                let status = container(random, &name, has_ended);
                push(&mut pod["status"][statuses], status);
            }
        }
    }
    if random.percent(35) {
        if random.percent(80) {
            pod["status"]["allocatedResources"] = amounts(random);
        }
        if random.percent(80) {
            pod["status"]["resources"] = json!({ "requests": amounts(random) });
        }
    }
    let (kind, reason) = random.pick(&[
        ("PodResizePending", "Infeasible"),
        ("PodResizePending", "Infeasible"),
        ("PodResizePending", "Deferred"),
        ("PodResizeInProgress", ""),
        ("PodScheduled", ""),
    ]);
    let mut condition = json!({ "type": kind, "status": "True" });
    if !reason.is_empty() {
        condition["reason"] = json!(reason);
    }
    push(&mut pod["status"]["conditions"], condition);
}

fn container(random: &mut Random, name: &Value, has_ended: bool) -> Value {
    // Of a pod that has ended, none runs any more.
    let state = if has_ended {
        json!({ "terminated": { "exitCode": 0, "finishedAt": "2026-01-01T00:00:00Z" } })
    } else {
        json!({ "running": { "startedAt": "2026-01-01T00:00:00Z" } })
    };
    let mut status = json!({
        "name": name, "image": "pause", "imageID": "", "ready": !has_ended, "restartCount": 0, "state": state,
    });
    if random.percent(70) {
        status["allocatedResources"] = amounts(random);
    }
    if random.percent(60) {
        status["resources"] =
            if random.percent(85) { json!({ "requests": amounts(random) }) } else { json!({}) };
    }
    status
}

fn amounts(random: &mut Random) -> Value {
    let mut amounts = json!({ "cpu": random.pick(&["100m", "500m", "2", "0"]) });
    if random.percent(80) {
        amounts["memory"] = json!(random.pick(&["64Mi", "1Gi", "2Gi"]));
    }
    if random.percent(10) {
        amounts["nvidia.com/gpu"] = json!("1");
    }
    amounts
}
