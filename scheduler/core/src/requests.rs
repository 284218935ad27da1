//! What a pod asks for, and what it holds while it is resized, as Kubernetes computes both.
//!
//! Containers and restartable init containers run together; each other init container runs alone, beside the restartable
//! ones before it. The larger of the two counts, pod-level requests replace it for CPU, memory and huge pages, and the
//! overhead comes on top (KEP-753, KEP-2837). Of a resize, whatever is largest counts: what is asked for, what the kubelet
//! has set aside, what the containers have; what can't be had any more isn't asked for (KEP-1287).

use serde_json::Value;

use crate::{
    document::{AmountTexts, Container, ContainerStatus, PodSpec, PodStatus},
    quantity::{ParseQuantityError, Quantity, Resources},
};

/// What a pod that has no node yet asks for, over its whole life at once.
///
/// # Errors
/// The first amount that is no quantity.
pub(crate) fn asked(spec: &PodSpec) -> Result<Resources, ParseQuantityError> {
    let mut total = over_its_life(spec, |container| read(&container.resources.requests))?;
    replace_by_pod_level(&mut total, pod_level(spec)?);
    total.add(&read(&spec.overhead)?);
    Ok(total)
}

/// What a pod holds on its node.
///
/// # Errors
/// The first amount that is no quantity.
pub(crate) fn held(spec: &PodSpec, status: &PodStatus) -> Result<Resources, ParseQuantityError> {
    let is_infeasible = is_resize_infeasible(status);
    let mut total = Resources::default();
    if !is_infeasible {
        total = over_its_life(spec, |container| read(&container.resources.requests))?;
    }
    let pod_level_status = status.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    if let (Some(allocated), Some(actual)) = (&status.allocated_resources, pod_level_status) {
        total.raise_to(&read(allocated)?);
        total.raise_to(&read(actual)?);
    } else {
        let wanted = |container: &Container| {
            if is_infeasible { Ok(Resources::default()) } else { read(&container.resources.requests) }
        };
        let allocated = |container: &Container| match of(status, &container.name) {
            Some(ContainerStatus { allocated_resources: Some(allocated), .. }) => read(allocated),
            _ => wanted(container),
        };
        let actual = |container: &Container| {
            let found = of(status, &container.name);
            match found.and_then(|status| status.resources.as_ref()?.requests.as_ref()) {
                Some(actual) => read(actual),
                None => allocated(container),
            }
        };
        total.raise_to(&over_its_life(spec, allocated)?);
        total.raise_to(&over_its_life(spec, actual)?);
    }
    let mut whole_pod = pod_level(spec)?;
    if !whole_pod.0.is_empty()
        && let Some(resources) = &status.resources
    {
        if is_infeasible {
            whole_pod = Resources::default();
        }
        whole_pod.raise_to(&read_optional(resources.requests.as_ref())?);
        whole_pod.raise_to(&read_optional(status.allocated_resources.as_ref())?);
    }
    replace_by_pod_level(&mut total, whole_pod);
    total.add(&read(&spec.overhead)?);
    Ok(total)
}

/// Adds up the containers of a pod's life by what each is said to have.
fn over_its_life(
    spec: &PodSpec,
    of: impl Fn(&Container) -> Result<Resources, ParseQuantityError>,
) -> Result<Resources, ParseQuantityError> {
    let mut together = Resources::default();
    for container in &spec.containers {
        together.add(&of(container)?);
    }
    let mut restartable = Resources::default();
    let mut alone = Resources::default();
    for container in &spec.init_containers {
        let mut beside = restartable.clone();
        beside.add(&of(container)?);
        alone.raise_to(&beside);
        if container.restart_policy.as_deref() == Some("Always") {
            restartable = beside;
        }
    }
    together.add(&restartable);
    together.raise_to(&alone);
    Ok(together)
}

/// What the pod as a whole asks for.
fn pod_level(spec: &PodSpec) -> Result<Resources, ParseQuantityError> {
    read_optional(spec.resources.as_ref().map(|resources| &resources.requests))
}

fn replace_by_pod_level(total: &mut Resources, whole_pod: Resources) {
    let is_of_pods = |name: &str| matches!(name, "cpu" | "memory") || name.starts_with("hugepages-");
    total.0.extend(whole_pod.0.into_iter().filter(|(name, _)| is_of_pods(name)));
}

fn is_resize_infeasible(status: &PodStatus) -> bool {
    let pending = status.conditions.iter().find(|condition| condition.kind == "PodResizePending");
    pending.is_some_and(|condition| condition.reason == "Infeasible")
}

fn of<'a>(status: &'a PodStatus, container: &str) -> Option<&'a ContainerStatus> {
    let mut all = status.container_statuses.iter().chain(&status.init_container_statuses);
    all.find(|status| status.name == container)
}

fn read_optional(amounts: Option<&AmountTexts>) -> Result<Resources, ParseQuantityError> {
    amounts.map_or_else(|| Ok(Resources::default()), read)
}

/// Reads amounts by resource name.
///
/// # Errors
/// The first one that is no quantity.
pub(crate) fn read(amounts: &AmountTexts) -> Result<Resources, ParseQuantityError> {
    let one = |(name, value): (&String, &Value)| {
        let quantity: Quantity = match value {
            Value::String(text) => text.parse()?,
            other => other.to_string().parse()?,
        };
        Ok((name.clone(), quantity))
    };
    amounts.iter().map(one).collect::<Result<_, _>>().map(Resources)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cpu(spec: Value) -> String {
        asked(&serde_json::from_value(spec).unwrap()).unwrap().get("cpu").to_string()
    }

    fn asks(cpu: &str) -> Value {
        json!({ "resources": { "requests": { "cpu": cpu } } })
    }

    fn sidecar(cpu: &str) -> Value {
        json!({ "restartPolicy": "Always", "resources": { "requests": { "cpu": cpu } } })
    }

    #[test]
    fn containers_add_up_and_an_init_container_runs_alone() {
        assert_eq!(cpu(json!({ "containers": [asks("1"), asks("500m")] })), "1500m");
        assert_eq!(cpu(json!({ "containers": [asks("1")], "initContainers": [asks("3"), asks("2")] })), "3");
    }

    #[test]
    fn a_side_car_runs_beside_containers_and_later_init_containers() {
        let spec =
            json!({ "containers": [asks("1")], "initContainers": [asks("3"), sidecar("2"), asks("2")] });
        assert_eq!(cpu(spec), "4");
        assert_eq!(
            cpu(json!({ "containers": [asks("3")], "initContainers": [sidecar("2"), asks("1")] })),
            "5"
        );
    }

    #[test]
    fn overhead_comes_on_top_and_pod_level_requests_replace() {
        assert_eq!(cpu(json!({ "containers": [asks("1")], "overhead": { "cpu": "250m" } })), "1250m");
        let spec = json!({ "containers": [asks("1")], "resources": { "requests": { "cpu": "4" } } });
        assert_eq!(cpu(spec), "4");
        let spec = json!({ "containers": [{ "resources": { "requests": { "x/gpu": 2 } } }],
                           "resources": { "requests": { "x/gpu": "9" } } });
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        assert_eq!(
            asked(&spec).unwrap().get("x/gpu").to_string(),
            "2",
            "a pod as a whole asks for no devices"
        );
    }

    #[test]
    fn of_a_resize_the_largest_counts_and_what_cannot_be_had_does_not() {
        let holds = |asked: &str, allocated: &str, actual: &str, reason: &str| {
            let spec =
                json!({ "containers": [{ "name": "c", "resources": { "requests": { "cpu": asked } } }] });
            let status = json!({
                "conditions": [{ "type": "PodResizePending", "status": "True", "reason": reason }],
                "containerStatuses": [{
                    "name": "c", "allocatedResources": { "cpu": allocated }, "resources": { "requests": { "cpu": actual } },
                }],
            });
            let (spec, status) =
                (serde_json::from_value(spec).unwrap(), serde_json::from_value(status).unwrap());
            held(&spec, &status).unwrap().get("cpu").to_string()
        };
        assert_eq!(holds("4", "2", "1", "Deferred"), "4");
        assert_eq!(holds("1", "2", "1", "Deferred"), "2");
        assert_eq!(holds("1", "2", "3", "Deferred"), "3");
        assert_eq!(holds("4", "2", "1", "Infeasible"), "2");
    }

    #[test]
    fn nonsense_is_named() {
        let spec: PodSpec = serde_json::from_value(json!({ "containers": [asks("lots")] })).unwrap();
        assert_eq!(asked(&spec).unwrap_err(), ParseQuantityError("lots".to_owned()));
    }
}
