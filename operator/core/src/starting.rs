//! How far the pods of a placed attempt are in starting, and what keeps the others.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// Reasons that every container goes through on its way.
const ON_THEIR_WAY: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// The pods that have started, and why the others have not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Starting {
    /// Pods that run or ran.
    pub started: i32,
    /// What keeps one of the others, as its kubelet has it.
    pub kept_by: Option<String>,
}

impl Starting {
    /// From the pods' own statuses.
    pub fn of(pods: &[Pod]) -> Self {
        let (started, others): (Vec<&Pod>, Vec<&Pod>) = pods.iter().partition(|pod| has_started(pod));
        let reasons = || others.iter().filter_map(|pod| Some((*pod, waiting(pod)?)));
        let telling = |(_, (reason, _)): &(&Pod, (String, String))| !ON_THEIR_WAY.contains(&reason.as_str());
        let kept_by = reasons().find(telling).or_else(|| reasons().next()).map(|(pod, (reason, message))| {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let message = if message.is_empty() { message } else { format!(": {message}") };
            format!("pod {name}: {reason}{message}")
        });
        Self { started: i32::try_from(started.len()).unwrap_or(i32::MAX), kept_by }
    }
}

fn has_started(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Running" | "Succeeded" | "Failed"))
}

/// Why a container of the pod waits: reason and message.
fn waiting(pod: &Pod) -> Option<(String, String)> {
    let status = pod.status.as_ref()?;
    let lists = [&status.init_container_statuses, &status.container_statuses];
    lists.into_iter().flatten().flatten().find_map(|container: &ContainerStatus| {
        let waiting = container.state.as_ref()?.waiting.clone()?;
        Some((waiting.reason?, waiting.message.unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn pod(name: &str, phase: &str, waiting: Value) -> Pod {
        let status = json!({ "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": waiting } });
        from_value(json!({ "metadata": { "name": name }, "status": { "phase": phase, "containerStatuses": [status] } }))
            .expect("a pod")
    }

    #[test]
    fn a_pod_that_cannot_start_is_named_before_one_on_its_way() {
        let on_its_way = pod("a", "Pending", json!({ "reason": "ContainerCreating" }));
        let stuck = pod("b", "Pending", json!({ "reason": "ErrImagePull", "message": "no such image" }));
        let runs = pod("c", "Running", json!({ "reason": "CrashLoopBackOff" }));
        let starting = Starting::of(&[on_its_way.clone(), stuck, runs.clone()]);
        assert_eq!(
            starting,
            Starting { started: 1, kept_by: Some("pod b: ErrImagePull: no such image".to_owned()) }
        );
        let starting = Starting::of(&[on_its_way, runs.clone()]);
        assert_eq!(starting.kept_by.as_deref(), Some("pod a: ContainerCreating"));
        assert_eq!(Starting::of(&[runs]), Starting { started: 1, kept_by: None });
    }

    #[test]
    fn what_the_kubelet_has_not_told_yet_keeps_nobody() {
        let silent = from_value(json!({ "metadata": { "name": "a" } })).expect("a pod");
        assert_eq!(Starting::of(&[silent]), Starting::default());
    }
}
