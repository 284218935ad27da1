//! How many GPUs a pod holds: one count for whoever admits, and for whoever bills.

use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::names::GPU_RESOURCE;

/// A request that isn't a whole number of GPUs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{GPU_RESOURCE} must be a whole number of GPUs, not {0:?}")]
pub struct NotWhole(pub String);

/// The GPUs that a pod holds from its start to its end: those of its containers and side-cars together, or those that its
/// init containers need at once, whichever is more. It is what Kubernetes' own scheduler sets aside
/// (`kubernetes.io/docs/concepts/workloads/pods/sidecar-containers`).
///
/// # Errors
/// A request that isn't a whole number.
pub fn gpus(spec: &PodSpec) -> Result<u32, NotWhole> {
    let (mut most_at_once, mut side_cars) = (0_u32, 0_u32);
    for container in spec.init_containers.iter().flatten() {
        let with_it = side_cars.saturating_add(asked(container)?);
        most_at_once = most_at_once.max(with_it);
        // A side-car stays beside everything that starts after it.
        if container.restart_policy.as_deref() == Some("Always") {
            side_cars = with_it;
        }
    }
    let mut together = side_cars;
    for container in &spec.containers {
        together = together.saturating_add(asked(container)?);
    }
    Ok(most_at_once.max(together))
}

fn asked(container: &Container) -> Result<u32, NotWhole> {
    let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let Some(count) = limits.and_then(|limits| limits.get(GPU_RESOURCE)) else { return Ok(0) };
    count.0.parse().map_err(|_| NotWhole(count.0.clone()))
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
    fn a_request_that_is_not_whole_is_named() {
        assert_eq!(of(&[], &[asks("500m")]), Err(NotWhole("500m".to_owned())));
        assert_eq!(of(&[], &[asks("-1")]), Err(NotWhole("-1".to_owned())));
        assert_eq!(of(&[], &[asks("4294967295"), asks("2")]), Ok(u32::MAX), "more than there can be");
    }
}
