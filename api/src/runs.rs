//! Whether a container ever ran, and when it began: one answer for whoever counts attempts, and for whoever bills.

use k8s_openapi::{
    api::core::v1::{ContainerState, ContainerStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

/// What the kubelet says of a container that it can't find: its times are lost, if it ever had any.
const LOST: &str = "ContainerStatusUnknown";

/// Whether the container ever ran. One that could not be started is reported as ended at the beginning of time, in 1970.
pub fn has_run(status: &ContainerStatus) -> bool {
    // The kubelet says the same of a container that it never made; one that was there keeps its id.
    let was_there = status.container_id.as_ref().is_some_and(|id| !id.is_empty());
    let lost = |state: &Option<ContainerState>| {
        let ended = state.as_ref().and_then(|state| state.terminated.as_ref());
        was_there && ended.is_some_and(|ended| ended.reason.as_deref() == Some(LOST))
    };
    status.restart_count > 0
        || started_at(status).is_some()
        || lost(&status.state)
        || status.last_state.as_ref().is_some_and(|last| last.terminated.is_some())
}

/// When the container's current or last run began, where that is known.
pub fn started_at(status: &ContainerStatus) -> Option<&Time> {
    let state = status.state.as_ref()?;
    let running = state.running.as_ref().and_then(|running| running.started_at.as_ref());
    let ended = state.terminated.as_ref().and_then(|ended| ended.started_at.as_ref());
    running.or(ended).filter(|time| is_told(time))
}

/// Whether the kubelet told that time: what it doesn't know is the beginning of time.
pub fn is_told(time: &Time) -> bool {
    time.0.as_second() > 0
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn container(state: Value, restarts: i32) -> ContainerStatus {
        serde_json::from_value(json!({
            "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": restarts, "state": state,
        }))
        .expect("a container's status")
    }

    #[test]
    fn a_container_that_could_not_be_started_did_not_run() {
        let never = json!({ "terminated": { "exitCode": 128, "reason": "StartError",
            "startedAt": "1970-01-01T00:00:00Z", "finishedAt": "1970-01-01T00:00:00Z" } });
        assert!(!has_run(&container(never, 0)));
        assert!(!has_run(&container(json!({ "waiting": { "reason": "ErrImagePull" } }), 0)));
    }

    #[test]
    fn one_that_runs_ended_was_lost_or_began_anew_did() {
        assert!(has_run(&container(json!({ "running": { "startedAt": "2026-01-01T00:00:00Z" } }), 0)));
        let ended = json!({ "terminated": { "exitCode": 1, "startedAt": "2026-01-01T00:00:00Z" } });
        assert!(has_run(&container(ended, 0)));
        let mut lost = container(json!({ "terminated": { "exitCode": 137, "reason": LOST } }), 0);
        assert!(!has_run(&lost), "a container that was never made is told of in the same way");
        lost.container_id = Some("containerd://abc".to_owned());
        assert!(has_run(&lost) && started_at(&lost).is_none());
        assert!(has_run(&container(json!({ "waiting": { "reason": "CrashLoopBackOff" } }), 1)));
    }
}
