//! Selectors of pods by their labels.

use serde_json::{Value, json};

use super::super::{case::push, random::Random};

/// A selector of pods: none, one that all match, or one about the labels that pods here have.
pub(super) fn of_pods(random: &mut Random) -> Option<Value> {
    match random.between(0, 19) {
        0 => None,
        1 => Some(json!({})),
        2..=11 => {
            let mut labels = json!({ "app": random.pick(&["web", "db", "cache"]) });
            if random.percent(20) {
                labels["tier"] = json!(random.pick(&["front", "back"]));
            }
            Some(json!({ "matchLabels": labels }))
        }
        _ => {
            let mut selector = json!({ "matchExpressions": [expression(random)] });
            if random.percent(30) {
                let another = expression(random);
                push(&mut selector["matchExpressions"], another);
            }
            if random.percent(15) {
                selector["matchLabels"] = json!({ "tier": "front" });
            }
            Some(selector)
        }
    }
}

fn expression(random: &mut Random) -> Value {
    let (key, values): (&str, &[&str]) = random.pick(&[
        ("app", &["web", "db", "cache"] as &[&str]),
        ("app", &["web", "db", "cache"]),
        ("tier", &["front", "back"]),
        ("rank", &["1", "2"]),
    ]);
    match random.pick(&["In", "In", "NotIn", "Exists", "DoesNotExist"]) {
        operator @ ("Exists" | "DoesNotExist") => json!({ "key": key, "operator": operator }),
        operator => {
            let count = random.between(1, 2);
            json!({ "key": key, "operator": operator, "values": random.several(count, values) })
        }
    }
}

/// Keys of labels whose values are the pod's own, which the API server has merged into the selector.
pub(super) fn merge_keys(pod: &Value, selector: &mut Value, key: &str, operator: &str) {
    if let Some(value) = pod["metadata"]["labels"][key].as_str() {
        push(
            &mut selector["matchExpressions"],
            json!({ "key": key, "operator": operator, "values": [value] }),
        );
    }
}
