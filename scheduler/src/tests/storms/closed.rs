//! Nodes that close, and what a copy of the scheduler was shown of that: to a node that it knew to be closed when it chose
//! it, it sends nobody.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::world::World;

/// Where pods that choose their nodes want to be; where all nodes are when they begin.
pub(super) const ZONE: &str = "a";

/// What each copy was shown.
#[derive(Default)]
pub(super) struct Closed {
    /// Of each node.
    nodes: BTreeMap<(usize, String), Since>,
    /// Since when it has been shown everything once.
    complete: BTreeMap<usize, Instant>,
}

/// Since when a copy knows a node to be closed.
#[derive(Clone, Copy, Default)]
struct Since {
    /// To everybody: it is cordoned, or tainted.
    to_all: Option<Instant>,
    /// To those who want to be elsewhere.
    by_zone: Option<Instant>,
}

impl Closed {
    /// A copy is shown a node.
    pub(super) fn is_shown(&mut self, copy: usize, node: &Value) {
        let key = (copy, node["metadata"]["name"].as_str().unwrap_or_default().to_owned());
        let since = self.nodes.entry(key).or_default();
        let set = |since: &mut Option<Instant>, is_closed: bool| {
            *since = is_closed.then(|| since.unwrap_or_else(Instant::now));
        };
        set(&mut since.to_all, is_closed(node));
        set(&mut since.by_zone, is_elsewhere(node));
    }

    /// A copy begins to watch: it knows nothing.
    pub(super) fn begins(&mut self, copy: usize) {
        self.nodes.retain(|(whose, _), _| *whose != copy);
        self.complete.remove(&copy);
    }

    /// A copy has been shown everything: what others have planned, and left, it carries on from now on.
    pub(super) fn completes(&mut self, copy: usize) {
        self.complete.entry(copy).or_insert_with(Instant::now);
    }

    /// Since when a copy knows that a node takes no such pod.
    pub(super) fn since(&self, copy: usize, node: &str, pod: &Value) -> Option<Instant> {
        let since = self.nodes.get(&(copy, node.to_owned()))?;
        let by_zone = since.by_zone.filter(|_| pod["spec"]["nodeSelector"]["zone"].is_string());
        since.to_all.into_iter().chain(by_zone).min()
    }
}

/// Whether a node takes nobody more.
fn is_closed(node: &Value) -> bool {
    node["spec"]["unschedulable"] == true || node["spec"]["taints"].is_array()
}

/// Whether it isn't where pods want to be that choose.
fn is_elsewhere(node: &Value) -> bool {
    node["metadata"]["labels"]["zone"] != ZONE
}

/// Whether it takes whom there is room for.
pub(super) fn is_open(node: &Value) -> bool {
    !is_closed(node) && !is_elsewhere(node)
}

/// Changes a node in one of four ways; a second time, back.
pub(super) fn change(node: &mut Value, how: usize, gpus: usize) {
    match how {
        0 => node["spec"]["unschedulable"] = json!(node["spec"]["unschedulable"] != true),
        1 if node["spec"]["taints"].is_null() => {
            node["spec"]["taints"] = json!([{ "key": "broken", "value": "yes", "effect": "NoSchedule" }]);
        }
        1 => node["spec"]["taints"] = Value::Null,
        2 => {
            let gpus = gpus.to_string();
            let is_less = node["status"]["allocatable"]["nvidia.com/gpu"] != gpus;
            node["status"]["allocatable"]["nvidia.com/gpu"] = json!(if is_less { &gpus } else { "1" });
        }
        _ => {
            node["metadata"]["labels"]["zone"] = json!(if is_elsewhere(node) { ZONE } else { "b" });
        }
    }
}

impl World {
    /// A copy sends a request: a binding isn't one to a node that it knew to be closed when it chose it, or found that another
    /// copy did; nor one of a gang's pod of which no journal knows.
    pub(super) fn check_target(&self, copy: usize, line: &str, body: &Value) {
        if !line.ends_with("/binding") {
            return;
        }
        let (uid, node) = (body["metadata"]["uid"].as_str(), body["target"]["name"].as_str());
        let (uid, node) = (uid.unwrap_or_default(), node.unwrap_or_default());
        let wrong = {
            let objects = self.objects();
            let Some(pod) = objects.pods.values().find(|pod| pod["metadata"]["uid"] == uid) else { return };
            let state = self.state();
            let chosen = state.plans.chosen(uid, node).max(state.closed.complete.get(&copy).copied());
            let closed = state.closed.since(copy, node, pod);
            let name = &pod["metadata"]["name"];
            if chosen.zip(closed).is_some_and(|(chosen, closed)| closed <= chosen) {
                Some(format!("copy {copy} sends {name} to {node}, of which it knew that it is closed to it"))
            } else if state.plans.is_unannounced(pod) {
                Some(format!("copy {copy} sends {name} to {node}, and no journal says so"))
            } else {
                None
            }
        };
        if let Some(wrong) = wrong {
            self.fail(&wrong);
        }
    }
}
