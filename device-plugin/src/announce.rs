//! What people watch a node for: events when a GPU's health changes, and one condition of the node.

use k8s_openapi::{
    api::core::v1::{NodeCondition, ObjectReference},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::runtime::events::{Event, EventType};
use plasma_api::{
    GpuNodeStatus,
    gpu_node::{GpuHealth, Health},
};

/// The node's condition: true where something is wrong, as those of the kubelet and of node-problem-detector are.
const CONDITION: &str = "GPUUnhealthy";
/// An event's note may be no longer.
const LONGEST_NOTE: usize = 1000;

/// The node, as events are about it: `kubectl describe node` finds them by its name in the place of a UID.
pub(crate) fn node_reference(node: &str) -> ObjectReference {
    ObjectReference {
        kind: Some("Node".to_owned()),
        name: Some(node.to_owned()),
        uid: Some(node.to_owned()),
        ..ObjectReference::default()
    }
}

/// One event for each GPU whose health is another than it was. Nothing was known before the first look.
pub(crate) fn events(before: Option<&GpuNodeStatus>, now: &GpuNodeStatus) -> Vec<Event> {
    let Some(before) = before else { return Vec::new() };
    let was = |uuid: &str| before.gpus.iter().find(|gpu| gpu.uuid == uuid).map(|gpu| gpu.health);
    let changed = now.gpus.iter().filter(|gpu| was(&gpu.uuid).is_some_and(|was| was != gpu.health));
    changed.map(event).collect()
}

fn event(gpu: &GpuHealth) -> Event {
    let (type_, reason) = match gpu.health {
        Health::Healthy => (EventType::Normal, "GPUHealthy"),
        Health::Recovering => (EventType::Normal, "GPURecovering"),
        Health::Suspect => (EventType::Warning, "GPUSuspect"),
        Health::Unhealthy => (EventType::Warning, "GPUUnhealthy"),
        Health::Unknown => (EventType::Warning, "GPUUnknown"),
    };
    let why = gpu.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let note = format!("GPU {}{why}", gpu.uuid).chars().take(LONGEST_NOTE).collect();
    let action = "Looking".to_owned();
    Event { type_, reason: reason.to_owned(), note: Some(note), action, secondary: None }
}

/// The node's condition. Its transition time is `now`, and kept by [`merge`] where the answer is the same.
pub(crate) fn condition(status: &GpuNodeStatus, now: &Time) -> NodeCondition {
    let out = status.gpus.iter().filter(|gpu| !matches!(gpu.health, Health::Healthy | Health::Suspect));
    let faults: Vec<String> = out
        .map(|gpu| format!("GPU {}: {}", gpu.uuid, gpu.reason.as_deref().unwrap_or("unhealthy")))
        .chain(status.message.clone())
        .collect();
    let unknown = !status.gpus.is_empty() && status.gpus.iter().all(|gpu| gpu.health == Health::Unknown);
    let (answer, reason) = match faults.is_empty() {
        true => ("False", "GPUsAreHealthy"),
        false if unknown => ("Unknown", "GPUsAreUnknown"),
        false => ("True", "GPUsAreUnhealthy"),
    };
    let message = match faults.is_empty() {
        true => "every GPU can be given to pods".to_owned(),
        false => faults.join("; ").chars().take(LONGEST_NOTE).collect(),
    };
    NodeCondition {
        type_: CONDITION.to_owned(),
        status: answer.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_heartbeat_time: Some(now.clone()),
        last_transition_time: Some(now.clone()),
    }
}

/// The condition with the time since which its answer is what it is.
pub(crate) fn merge(before: Option<&NodeCondition>, now: NodeCondition) -> NodeCondition {
    let since = before.filter(|before| before.status == now.status);
    let last_transition_time =
        since.map_or(now.last_transition_time, |before| before.last_transition_time.clone());
    NodeCondition { last_transition_time, ..now }
}

/// Ours among a node's conditions.
pub(crate) fn ours(conditions: &[NodeCondition]) -> Option<&NodeCondition> {
    conditions.iter().find(|condition| condition.type_ == CONDITION)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn gpu(uuid: &str, health: Health, reason: Option<&str>) -> GpuHealth {
        GpuHealth { uuid: uuid.to_owned(), health, reason: reason.map(str::to_owned), instances: Vec::new() }
    }

    fn status(gpus: &[GpuHealth]) -> GpuNodeStatus {
        GpuNodeStatus { gpus: gpus.to_vec(), ..GpuNodeStatus::default() }
    }

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn each_change_of_a_gpus_health_is_an_event_and_nothing_else_is() {
        let well = [gpu("A", Health::Healthy, None), gpu("B", Health::Healthy, None)];
        let sick = [well[0].clone(), gpu("B", Health::Unhealthy, Some("XID 79"))];
        assert!(events(None, &status(&sick)).is_empty(), "nobody knows what it was");
        let told = events(Some(&status(&well)), &status(&sick));
        assert_eq!((told.len(), told[0].reason.as_str()), (1, "GPUUnhealthy"));
        assert_eq!(told[0].note.as_deref(), Some("GPU B: XID 79"));
        assert!(events(Some(&status(&sick)), &status(&sick)).is_empty());
        let back = events(Some(&status(&sick)), &status(&well));
        assert!(matches!((back[0].type_, back[0].reason.as_str()), (EventType::Normal, "GPUHealthy")));
        assert!(
            events(Some(&status(&well[..1])), &status(&well)).is_empty(),
            "a new GPU is no change of health"
        );
    }

    #[test]
    fn the_condition_is_true_where_something_is_wrong_and_says_what() {
        let answer = |gpus: &[GpuHealth]| condition(&status(gpus), &at(1));
        let well = gpu("A", Health::Healthy, None);
        assert_eq!(answer(std::slice::from_ref(&well)).status, "False");
        assert_eq!(
            answer(&[gpu("A", Health::Suspect, Some("XID 92"))]).status,
            "False",
            "it is still offered"
        );
        let sick = answer(&[well, gpu("B", Health::Unhealthy, Some("XID 79"))]);
        assert_eq!((sick.status.as_str(), sick.message.as_deref()), ("True", Some("GPU B: XID 79")));
        assert_eq!(answer(&[gpu("A", Health::Unknown, Some("no driver"))]).status, "Unknown");
        let nameless = GpuNodeStatus { message: Some("GPU 0 can't be offered".to_owned()), ..status(&[]) };
        assert_eq!(condition(&nameless, &at(1)).status, "True");
    }

    #[test]
    fn the_transition_time_moves_only_with_the_answer() {
        let sick = |second| condition(&status(&[gpu("A", Health::Unhealthy, None)]), &at(second));
        let first = merge(None, sick(1));
        let second = merge(Some(&first), sick(2));
        assert_eq!(second.last_transition_time, Some(at(1)));
        assert_eq!(second.last_heartbeat_time, Some(at(2)));
        let well = condition(&status(&[gpu("A", Health::Healthy, None)]), &at(3));
        assert_eq!(merge(Some(&second), well).last_transition_time, Some(at(3)));
    }
}
