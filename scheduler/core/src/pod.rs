//! A pod as far as placing it is concerned.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::quantity::{ParseQuantityError, Quantity, Resources};

/// A pod that waits for a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// Its name, in its gang's namespace.
    pub name: String,
    /// Its UID: what a binding is sure of.
    pub uid: String,
    /// Its namespace: whose it is.
    pub namespace: String,
    /// What it asks for, over its whole life at once.
    pub requests: Resources,
    /// Labels that a node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Required node affinity: one of the terms must hold. Empty where there is none.
    pub affinity: Option<Affinity>,
    /// Taints that it tolerates.
    pub tolerations: Vec<Toleration>,
}

/// Required node affinity: a node must satisfy one of the terms; no terms, no node.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Affinity {
    /// The alternatives.
    pub node_selector_terms: Vec<NodeTerm>,
}

/// One alternative: all of its requirements must hold. An empty one holds for no node.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeTerm {
    /// About the node's labels.
    #[serde(default)]
    pub match_expressions: Vec<Requirement>,
    /// About the node's fields; `metadata.name` is the only one.
    #[serde(default)]
    pub match_fields: Vec<Requirement>,
}

/// What one label or field must be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// The label or field.
    pub key: String,
    /// How it is compared.
    pub operator: Operator,
    /// With what.
    #[serde(default)]
    pub values: Vec<String>,
}

/// How a label or field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[allow(missing_docs)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
}

/// A taint that a pod tolerates.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Toleration {
    /// The taint's key; none with `Exists` tolerates every key.
    pub key: Option<String>,
    /// `Equal` (the default) or `Exists`.
    pub operator: Option<String>,
    /// The taint's value, for `Equal`.
    pub value: Option<String>,
    /// The taint's effect; none tolerates every effect.
    pub effect: Option<String>,
    /// Only `NoExecute` counts it, after placement.
    pub toleration_seconds: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LifeOfAPod {
    #[serde(default)]
    containers: Vec<Container>,
    #[serde(default)]
    init_containers: Vec<Container>,
    #[serde(default)]
    overhead: Amounts,
    #[serde(default)]
    resources: Requirements,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    #[serde(default)]
    resources: Requirements,
    restart_policy: Option<String>,
}

#[derive(Default, Deserialize)]
struct Requirements {
    #[serde(default)]
    requests: Amounts,
}

type Amounts = BTreeMap<String, Value>;

/// What a pod's spec asks for, as Kubernetes computes it.
///
/// Containers and restartable init containers run together; each other init container runs alone, beside the
/// restartable ones before it. The larger of the two counts, pod-level requests replace it for the resources that they
/// name, and the overhead comes on top. (KEP-753, KEP-2837.)
///
/// # Errors
/// The first amount that is no quantity.
pub fn requests(spec: &Value) -> Result<Resources, ParseQuantityError> {
    let life = LifeOfAPod::deserialize(spec).map_err(|fault| ParseQuantityError(fault.to_string()))?;
    let mut together = Resources::default();
    for container in &life.containers {
        together.add(&read(&container.resources.requests)?);
    }
    let mut restartable = Resources::default();
    let mut alone = Resources::default();
    for container in &life.init_containers {
        let own = read(&container.resources.requests)?;
        let mut beside = restartable.clone();
        beside.add(&own);
        alone.raise_to(&beside);
        if container.restart_policy.as_deref() == Some("Always") {
            restartable = beside;
        }
    }
    together.add(&restartable);
    together.raise_to(&alone);
    together.0.extend(read(&life.resources.requests)?.0);
    together.add(&read(&life.overhead)?);
    Ok(together)
}

fn read(amounts: &Amounts) -> Result<Resources, ParseQuantityError> {
    let one = |(name, value): (&String, &Value)| {
        let quantity: Quantity = match value {
            Value::String(text) => text.parse()?,
            other => other.to_string().parse()?,
        };
        Ok((name.clone(), quantity))
    };
    amounts.iter().map(one).collect::<Result<_, _>>().map(Resources)
}

/// What the names of resources end in whose devices several containers have at once.
const SHARED: &str = ".shared";

/// A resource among these of which something is asked, and whose devices others may have at the same time.
pub fn shared_resource(requests: &Resources) -> Option<&str> {
    let asked = requests.0.iter().filter(|(_, amount)| amount.0 > 0);
    asked.map(|(name, _)| name.as_str()).find(|name| name.contains('/') && name.ends_with(SHARED))
}

impl Pod {
    /// The resources that it asks for.
    pub fn resource_names(&self) -> BTreeSet<&str> {
        self.requests.0.keys().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cpu(spec: Value) -> String {
        requests(&spec).unwrap().get("cpu").to_string()
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
    }

    #[test]
    fn a_shared_resource_is_one_whose_name_says_so_and_of_which_something_is_asked() {
        let shared = |name: &str, amount: &str| {
            let spec = json!({ "containers": [{ "resources": { "requests": { name: amount } } }] });
            shared_resource(&requests(&spec).unwrap()).map(str::to_owned)
        };
        assert_eq!(shared("nvidia.com/gpu.shared", "1").as_deref(), Some("nvidia.com/gpu.shared"));
        assert_eq!(
            shared("nvidia.com/mig-1g.10gb.shared", "2").as_deref(),
            Some("nvidia.com/mig-1g.10gb.shared")
        );
        assert_eq!(shared("nvidia.com/gpu.shared", "0"), None);
        assert_eq!(shared("nvidia.com/gpu", "1"), None);
    }

    #[test]
    fn nonsense_is_named() {
        let fault = requests(&json!({ "containers": [asks("lots")] })).unwrap_err();
        assert_eq!(fault, ParseQuantityError("lots".to_owned()));
    }
}
