//! From a pod object to what the core measures, and taking our finalizer off.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{ContainerStatus, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
};
use plasma_api::{
    has_run, is_told,
    names::{GPU_RESOURCE, SETTLEMENT_FINALIZER},
    size, started_at,
};
use plasma_settlement_core::{ContainerRun, PodRun};
use plasma_types::UnixMillis;

use crate::failure::Failure;

/// Whether the pod waits for its receipt.
pub(crate) fn is_held(pod: &Pod) -> bool {
    pod.finalizers().iter().any(|finalizer| finalizer == SETTLEMENT_FINALIZER)
}

/// How long after the end of its grace period a deleted pod may still be told about by its kubelet, in milliseconds.
const KUBELET_TELLS: u64 = 300_000;

/// Whether the pod runs no more, or never will: one that is being deleted and has no node, or whose kubelet is silent.
pub(crate) fn is_over(pod: &Pod, now: UnixMillis) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    // The deletion's time holds the grace period already.
    let due = pod.metadata.deletion_timestamp.as_ref().and_then(millis);
    let silent = due.is_some_and(|due| now.since(due).0 >= KUBELET_TELLS);
    matches!(phase, Some("Succeeded" | "Failed")) || silent || (due.is_some() && node(pod).is_none())
}

/// The node that it ran on.
pub(crate) fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

/// What its status says of its containers, for a pod that was seen to run no more at that moment.
pub(crate) fn run_of(pod: &Pod, seen_over: UnixMillis) -> PodRun {
    let statuses = pod.status.iter().flat_map(|status| {
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
    });
    let admitted = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    PodRun {
        containers: statuses.map(|status| container_run(status, admitted)).collect(),
        milli_gpus: milli_gpus(pod),
        created: created(pod),
        seen_over,
    }
}

/// When the API server made it.
pub(crate) fn created(pod: &Pod) -> UnixMillis {
    pod.metadata.creation_timestamp.as_ref().and_then(millis).unwrap_or(UnixMillis(0))
}

/// When its kubelet took it, and with it its devices; where the kubelet never said so, or its clock is behind, when it was
/// made.
pub(crate) fn admitted(pod: &Pod) -> UnixMillis {
    let admitted = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    admitted.and_then(millis).unwrap_or(UnixMillis(0)).max(created(pod))
}

/// When its last container ended, by its node's clock; `None` where one that ran doesn't say.
pub(crate) fn ended(pod: &Pod) -> Option<UnixMillis> {
    let runs = run_of(pod, UnixMillis(u64::MAX)).containers;
    let finished = runs.into_iter().filter_map(|run| match run {
        ContainerRun::Never => None,
        ContainerRun::Ran { finished, .. } => Some(finished),
    });
    finished.collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// How many devices it asked for, whole GPUs and parts of them: no more are billed.
pub(crate) fn devices(pod: &Pod) -> u32 {
    asked(pod).into_values().fold(0, u32::saturating_add)
}

/// `admitted` is when the kubelet took the pod, and with it its GPUs.
fn container_run(status: &ContainerStatus, admitted: Option<&Time>) -> ContainerRun {
    if !has_run(status) {
        return ContainerRun::Never;
    }
    // Of a container that began anew only the last run's times are told; the pod held its GPUs all the while.
    let began = if status.restart_count > 0 { admitted } else { started_at(status) };
    let ended = status.state.as_ref().and_then(|state| state.terminated.as_ref());
    let ended = ended.and_then(|ended| ended.finished_at.as_ref()).filter(|time| is_told(time));
    ContainerRun::Ran { started: began.and_then(millis), finished: ended.and_then(millis) }
}

/// In milliseconds since 1970; `None` before that.
pub(crate) fn millis(time: &Time) -> Option<UnixMillis> {
    u64::try_from(time.0.as_millisecond()).ok().map(UnixMillis)
}

/// How much of GPUs it held, in thousandths, as far as its request alone says: of a share nobody but the node's meter knows
/// among how many it was, so it counts as nothing, in the payer's favour.
fn milli_gpus(pod: &Pod) -> u64 {
    let milli = |resource: &str| match size::of(resource).profile {
        _ if resource == GPU_RESOURCE => size::WHOLE,
        profile => profile.and_then(size::part).unwrap_or(0),
    };
    let held = asked(pod).into_iter().map(|(resource, count)| u64::from(count) * u64::from(milli(resource)));
    held.fold(0, u64::saturating_add)
}

/// Whether it asked for parts of divided GPUs, by their names.
pub(crate) fn has_parts(pod: &Pod) -> bool {
    asked(pod).into_keys().any(|resource| size::of(resource).profile.is_some())
}

/// The devices that it asked for, by resource. A request that isn't a whole number never became a pod: the API server refuses it.
fn asked(pod: &Pod) -> BTreeMap<&str, u32> {
    pod.spec.as_ref().and_then(|spec| plasma_api::devices(spec).ok()).unwrap_or_default()
}

/// Takes our finalizer off this very pod, and no other's.
pub(crate) async fn release(client: &Client, pod: &Pod) -> Result<(), Failure> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let patch = Patch::Strategic(plasma_api::release_patch(pod.uid().as_deref()));
    match pods.patch(&name, &PatchParams::default(), &patch).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        // Another pod has that name by now: the one that was meant is gone.
        Err(_) if is_gone(client, pod).await? => Ok(()),
        Err(fault) => Err(Failure::kube(format!("letting pod {namespace}/{name} go"))(fault)),
    }
}

/// Whether that very pod is no longer there.
pub(crate) async fn is_gone(client: &Client, pod: &Pod) -> Result<bool, Failure> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let found = pods.get_metadata_opt(&name).await;
    let found = found.map_err(Failure::kube(format!("looking for pod {namespace}/{name}")))?;
    Ok(found.is_none_or(|found| found.uid() != pod.uid()))
}

#[cfg(test)]
mod tests {
    use plasma_settlement_core::{Usage, measure};
    use serde_json::{Value, json};

    use super::*;

    const SEEN: UnixMillis = UnixMillis(9_000_000_000_000);

    fn pod(metadata: Value, spec: Value, status: Value) -> Pod {
        let object = json!({ "metadata": metadata, "spec": spec, "status": status });
        serde_json::from_value(object).expect("a pod")
    }

    fn with_status(status: Value) -> Pod {
        pod(json!({}), json!({ "containers": [] }), status)
    }

    fn with_containers(containers: Value) -> Pod {
        with_status(json!({ "containerStatuses": containers }))
    }

    fn container(state: Value) -> Value {
        json!({ "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state })
    }

    #[test]
    fn a_container_that_was_never_created_did_not_run() {
        // What the kubelet reports of a container that it couldn't make.
        let never = json!({ "terminated": { "exitCode": 128,
            "startedAt": "1970-01-01T00:00:00Z", "finishedAt": "1970-01-01T00:00:00Z" } });
        let waiting = json!({ "waiting": { "reason": "ErrImagePull" } });
        let pod = with_containers(json!([container(never), container(waiting)]));
        assert_eq!(measure(&run_of(&pod, SEEN)), Usage::Nothing);
    }

    #[test]
    fn times_are_those_of_the_containers() {
        let ran = json!({ "terminated": { "exitCode": 0,
            "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:07Z" } });
        let used = measure(&run_of(&with_containers(json!([container(ran)])), SEEN));
        assert!(matches!(used, Usage::Known { duration, .. } if duration.0 == 7000), "{used:?}");
        let runs = json!({ "running": { "startedAt": "2026-01-01T00:00:00Z" } });
        let used = measure(&run_of(&with_containers(json!([container(runs)])), SEEN));
        assert!(matches!(used, Usage::Unknown { .. }), "{used:?}");
    }

    #[test]
    fn a_container_that_began_anew_held_its_gpus_since_the_pod_was_admitted() {
        let last = json!({ "terminated": { "exitCode": 0,
            "startedAt": "2026-01-01T10:00:00Z", "finishedAt": "2026-01-01T10:00:01Z" } });
        let mut again = container(last);
        again["restartCount"] = json!(1);
        let pod = with_status(json!({ "startTime": "2026-01-01T00:00:00Z", "containerStatuses": [again] }));
        let used = measure(&run_of(&pod, SEEN));
        assert!(matches!(used, Usage::Known { duration, .. } if duration.0 == 36_001_000), "{used:?}");
    }

    #[test]
    fn a_container_that_was_lost_ran_nobody_knows_how_long() {
        let lost = json!({ "terminated": { "exitCode": 137, "reason": "ContainerStatusUnknown" } });
        let known = json!({ "terminated": { "exitCode": 0,
            "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:05Z" } });
        let mut was_there = container(lost.clone());
        was_there["containerID"] = json!("containerd://abc");
        let used = measure(&run_of(&with_containers(json!([container(known), was_there])), SEEN));
        assert!(matches!(used, Usage::Unknown { .. }), "{used:?}");
        let never_made = measure(&run_of(&with_containers(json!([container(lost)])), SEEN));
        assert_eq!(never_made, Usage::Nothing, "its image was never there");
    }

    #[test]
    fn a_pod_is_over_when_its_phase_says_so_or_nobody_will() {
        let now = UnixMillis(1_767_225_600_000 + 300_000); // five minutes into 2026
        assert!(is_over(&with_status(json!({ "phase": "Failed" })), now));
        assert!(!is_over(&with_status(json!({ "phase": "Running" })), now));
        let deleted = |at: &str, node: Value| {
            let spec = json!({ "nodeName": node, "containers": [] });
            pod(json!({ "deletionTimestamp": at }), spec, json!({ "phase": "Running" }))
        };
        assert!(is_over(&deleted("2026-01-01T00:04:59Z", Value::Null), now), "it has no node");
        assert!(!is_over(&deleted("2026-01-01T00:00:01Z", json!("n")), now), "its kubelet may still tell");
        assert!(is_over(&deleted("2026-01-01T00:00:00Z", json!("n")), now), "its kubelet is silent");
    }

    #[test]
    fn a_pods_end_is_its_last_containers_and_unknown_where_one_does_not_tell() {
        let ended = |second: &str| {
            json!({ "terminated": { "exitCode": 0, "startedAt": "2026-01-01T00:00:00Z",
                "finishedAt": format!("2026-01-01T00:00:{second}Z") } })
        };
        let two = with_containers(json!([container(ended("05")), container(ended("07"))]));
        assert_eq!(super::ended(&two), Some(UnixMillis(1_767_225_607_000)));
        let runs = json!({ "running": { "startedAt": "2026-01-01T00:00:00Z" } });
        assert_eq!(super::ended(&with_containers(json!([container(ended("05")), container(runs)]))), None);
    }

    #[test]
    fn a_pod_is_billed_for_as_many_devices_as_it_asked_for() {
        let asks = |resource: &str, count: &str| json!({ "name": "c", "resources": { "limits": { resource: count, "cpu": "4" } } });
        let spec = json!({ "initContainers": [asks("nvidia.com/gpu", "2")],
            "containers": [asks("nvidia.com/gpu", "1"), asks("nvidia.com/mig-1g.10gb", "3")] });
        assert_eq!(devices(&pod(json!({}), spec.clone(), json!({}))), 5);
        assert_eq!(
            run_of(&pod(json!({}), spec, json!({})), SEEN).milli_gpus,
            2426,
            "two GPUs, and three sevenths, each rounded down"
        );
        let shares = json!({ "containers": [asks("nvidia.com/gpu.shared", "2")] });
        let shares = pod(json!({}), shares, json!({}));
        assert_eq!(
            (devices(&shares), run_of(&shares, SEEN).milli_gpus),
            (2, 0),
            "of how many, only its node knows"
        );
        let none = json!({ "containers": [asks("example.com/nic", "2")] });
        assert_eq!(devices(&pod(json!({}), none, json!({}))), 0);
    }
}
