//! How many GPUs, and parts of GPUs, a pod holds: one count for whoever admits, and for whoever bills.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::names::{GPU_PREFIX, GPU_RESOURCE};

/// A request that isn't a whole number of devices.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{resource} must be a whole number, not {count:?}")]
pub struct NotWhole {
    /// What is asked for.
    pub resource: String,
    /// How much of it.
    pub count: String,
}

/// The whole GPUs that a pod holds, counted as [`devices`] does.
///
/// # Errors
/// A request that isn't a whole number.
pub fn gpus(spec: &PodSpec) -> Result<u32, NotWhole> {
    held(spec, GPU_RESOURCE)
}

/// The devices that a pod holds, by resource: GPUs, parts of divided ones, shares. Resources of which it asks for none are
/// left out.
///
/// A pod holds from its start to its end those of its containers and side-cars together, or those that its init containers
/// need at once, whichever is more. It is what Kubernetes' own scheduler sets aside
/// (`kubernetes.io/docs/concepts/workloads/pods/sidecar-containers`).
///
/// # Errors
/// A request that isn't a whole number.
pub fn devices(spec: &PodSpec) -> Result<BTreeMap<&str, u32>, NotWhole> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let limits = containers.filter_map(|container| container.resources.as_ref()?.limits.as_ref());
    let names = limits.flat_map(BTreeMap::keys).filter(|name| name.starts_with(GPU_PREFIX));
    let counts = names.map(|name| Ok((name.as_str(), held(spec, name)?)));
    counts.filter(|count| !matches!(count, Ok((_, 0)))).collect()
}

fn held(spec: &PodSpec, resource: &str) -> Result<u32, NotWhole> {
    let (mut most_at_once, mut side_cars) = (0_u32, 0_u32);
    for container in spec.init_containers.iter().flatten() {
        let with_it = side_cars.saturating_add(asked(container, resource)?);
        most_at_once = most_at_once.max(with_it);
        // A side-car stays beside everything that starts after it.
        if container.restart_policy.as_deref() == Some("Always") {
            side_cars = with_it;
        }
    }
    let mut together = side_cars;
    for container in &spec.containers {
        together = together.saturating_add(asked(container, resource)?);
    }
    Ok(most_at_once.max(together))
}

fn asked(container: &Container, resource: &str) -> Result<u32, NotWhole> {
    let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let Some(count) = limits.and_then(|limits| limits.get(resource)) else { return Ok(0) };
    count.0.parse().map_err(|_| NotWhole { resource: resource.to_owned(), count: count.0.clone() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn asks(count: &str) -> Value {
        json!({ "name": "c", "resources": { "limits": { GPU_RESOURCE: count } } })
    }

    fn side_car(count: &str) -> Value {
        let mut container = asks(count);
        container["restartPolicy"] = json!("Always");
        container
    }

    fn of(init: &[Value], containers: &[Value]) -> Result<u32, NotWhole> {
        let spec = json!({ "initContainers": init, "containers": containers });
        gpus(&serde_json::from_value(spec).expect("a pod spec"))
    }

    #[test]
    fn containers_count_together_and_init_containers_one_after_the_other() {
        assert_eq!(of(&[], &[asks("1"), asks("2")]), Ok(3));
        assert_eq!(of(&[asks("2"), asks("4")], &[asks("1"), asks("2")]), Ok(4));
        assert_eq!(of(&[], &[json!({ "name": "c" })]), Ok(0));
    }

    #[test]
    fn side_cars_stay_beside_what_starts_after_them() {
        assert_eq!(of(&[side_car("1")], &[asks("2")]), Ok(3));
        assert_eq!(of(&[side_car("1"), asks("4")], &[asks("2")]), Ok(5));
        assert_eq!(of(&[asks("4"), side_car("1")], &[asks("2")]), Ok(4), "it was not there yet");
    }

    #[test]
    fn each_resource_is_counted_for_itself() {
        let asks = |limits: Value| json!({ "name": "c", "resources": { "limits": limits } });
        let counted = |spec: Value| {
            let spec = serde_json::from_value(spec).expect("a pod spec");
            devices(&spec).map(|all| all.into_iter().map(|(name, count)| (name.to_owned(), count)).collect())
        };
        let (part, share) = ("nvidia.com/mig-1g.10gb", "nvidia.com/gpu.shared");
        let spec = json!({ "initContainers": [asks(json!({ part: 3, share: "0" }))],
            "containers": [asks(json!({ GPU_RESOURCE: 1, part: 1, "cpu": "500m" })), asks(json!({ part: 1 }))] });
        let expected = [(GPU_RESOURCE, 1), (part, 3)].map(|(name, count)| (name.to_owned(), count));
        assert_eq!(counted(spec), Ok(BTreeMap::from(expected)));
        let half = json!({ "containers": [asks(json!({ GPU_RESOURCE: 1, share: "500m" }))] });
        let why = counted(half).expect_err("half a share").to_string();
        assert_eq!(why, "nvidia.com/gpu.shared must be a whole number, not \"500m\"");
    }

    #[test]
    fn a_request_that_is_not_whole_is_named() {
        for count in ["500m", "-1"] {
            let named = NotWhole { resource: GPU_RESOURCE.to_owned(), count: count.to_owned() };
            assert_eq!(of(&[], &[asks(count)]), Err(named));
        }
        assert_eq!(of(&[], &[asks("4294967295"), asks("2")]), Ok(u32::MAX), "more than there can be");
    }
}
