//! Whether a pod may go to a node, and if not, why: the rules of kube-scheduler's filters of the same names, and one of ours:
//! the GPUs that a node shares are shared by the pods of one namespace.

use std::fmt;

use crate::{
    node::{Node, Taint},
    pod::{Affinity, NodeTerm, Operator, Pod, Requirement, Toleration, shared_resource},
};

/// The taint that stands for a cordoned node.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Why a node can't take a pod, whatever is free on it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// It is cordoned.
    Unschedulable,
    /// A taint that the pod doesn't tolerate: `key=value:effect`.
    UntoleratedTaint(String),
    /// A label that `nodeSelector` asks for: `key=value`.
    NodeSelector(String),
    /// No term of the required node affinity holds.
    NodeAffinity,
    /// Pods of another namespace have shares of its GPUs: the resource that is shared.
    SharedByAnother(String),
}

impl Refusal {
    /// As it appears in a Gang's status.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unschedulable => "NodeUnschedulable",
            Self::UntoleratedTaint(_) => "UntoleratedTaint",
            Self::NodeSelector(_) => "NodeSelectorMismatch",
            Self::NodeAffinity => "NodeAffinityMismatch",
            Self::SharedByAnother(_) => "SharedByAnotherNamespace",
        }
    }

    /// What it is about.
    pub fn subject(&self) -> &str {
        match self {
            Self::Unschedulable => "spec.unschedulable",
            Self::NodeAffinity => "spec.affinity.nodeAffinity",
            Self::UntoleratedTaint(subject)
            | Self::NodeSelector(subject)
            | Self::SharedByAnother(subject) => subject,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unschedulable => f.write_str("cordoned"),
            Self::UntoleratedTaint(taint) => write!(f, "untolerated taint {taint}"),
            Self::NodeSelector(label) => write!(f, "no label {label} (nodeSelector)"),
            Self::NodeAffinity => f.write_str("required node affinity doesn't match"),
            // Whose they are is nobody else's business.
            Self::SharedByAnother(resource) => write!(f, "{resource} is in use by another namespace"),
        }
    }
}

/// The first rule that the node breaks whatever is free on it.
pub(crate) fn eligibility(pod: &Pod, node: &Node) -> Option<Refusal> {
    let cordon =
        || Taint { key: UNSCHEDULABLE.to_owned(), value: String::new(), effect: "NoSchedule".to_owned() };
    if node.unschedulable && !tolerates(&pod.tolerations, &cordon()) {
        return Some(Refusal::Unschedulable);
    }
    let keeps_away = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    if let Some(taint) =
        node.taints.iter().filter(keeps_away).find(|taint| !tolerates(&pod.tolerations, taint))
    {
        let Taint { key, value, effect } = taint;
        let value = if value.is_empty() { String::new() } else { format!("={value}") };
        return Some(Refusal::UntoleratedTaint(format!("{key}{value}:{effect}")));
    }
    if let Some((key, value)) =
        pod.node_selector.iter().find(|(key, value)| node.labels.get(*key) != Some(value))
    {
        return Some(Refusal::NodeSelector(format!("{key}={value}")));
    }
    if !pod.affinity.as_ref().is_none_or(|affinity| matches_affinity(affinity, node)) {
        return Some(Refusal::NodeAffinity);
    }
    shared_by_another(pod, node)
}

/// Which of its GPUs a pod gets isn't known before the node hands them out, so the whole node is one namespace's.
fn shared_by_another(pod: &Pod, node: &Node) -> Option<Refusal> {
    let resource = shared_resource(&pod.requests)?;
    let others = node.sharing.iter().any(|namespace| *namespace != pod.namespace);
    others.then(|| Refusal::SharedByAnother(resource.to_owned()))
}

fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| {
        let effect = toleration.effect.as_deref().filter(|effect| !effect.is_empty());
        let key = toleration.key.as_deref().filter(|key| !key.is_empty());
        let effect_matches = effect.is_none_or(|effect| effect == taint.effect);
        let key_matches = key.is_none_or(|key| key == taint.key);
        let value_matches = match toleration.operator.as_deref() {
            Some("Exists") => true,
            // Without a key only `Exists` is allowed.
            None | Some("" | "Equal") => {
                key.is_some() && toleration.value.as_deref().unwrap_or("") == taint.value
            }
            // An operator from a newer Kubernetes tolerates nothing here.
            Some(_) => false,
        };
        effect_matches && key_matches && value_matches
    })
}

fn matches_affinity(affinity: &Affinity, node: &Node) -> bool {
    affinity.node_selector_terms.iter().any(|term| matches_term(term, node))
}

fn matches_term(term: &NodeTerm, node: &Node) -> bool {
    if term.match_expressions.is_empty() && term.match_fields.is_empty() {
        return false;
    }
    let label =
        |requirement: &Requirement| holds(requirement, node.labels.get(&requirement.key).map(String::as_str));
    let field = |requirement: &Requirement| {
        requirement.key == "metadata.name" && holds(requirement, Some(node.name.as_str()))
    };
    term.match_expressions.iter().all(label) && term.match_fields.iter().all(field)
}

fn holds(requirement: &Requirement, value: Option<&str>) -> bool {
    let listed = |value: &str| requirement.values.iter().any(|allowed| allowed == value);
    let compare = |test: fn(i64, i64) -> bool| {
        let bound = requirement.values.first().and_then(|bound| bound.parse().ok());
        let value = value.and_then(|value| value.parse().ok());
        value.zip(bound).is_some_and(|(value, bound)| test(value, bound))
    };
    match requirement.operator {
        Operator::In => value.is_some_and(listed),
        Operator::NotIn => !value.is_some_and(listed),
        Operator::Exists => value.is_some(),
        Operator::DoesNotExist => value.is_none(),
        Operator::Gt => compare(|value, bound| value > bound),
        Operator::Lt => compare(|value, bound| value < bound),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::quantity::{Quantity, Resources};

    fn node() -> Node {
        Node {
            name: "n".to_owned(),
            labels: [("zone".to_owned(), "a".to_owned()), ("gpus".to_owned(), "8".to_owned())].into(),
            ..Node::default()
        }
    }

    fn tainted(effect: &str) -> Node {
        let taint = Taint { key: "gpu".to_owned(), value: "yes".to_owned(), effect: effect.to_owned() };
        Node { taints: vec![taint], ..node() }
    }

    fn tolerating(toleration: serde_json::Value) -> Pod {
        Pod { tolerations: vec![serde_json::from_value(toleration).unwrap()], ..Pod::default() }
    }

    #[test]
    fn taints_keep_pods_away_unless_tolerated() {
        let refused = Some(Refusal::UntoleratedTaint("gpu=yes:NoSchedule".to_owned()));
        assert_eq!(eligibility(&Pod::default(), &tainted("NoSchedule")), refused);
        assert_eq!(eligibility(&Pod::default(), &tainted("PreferNoSchedule")), None);
        for (toleration, passes) in [
            (json!({ "operator": "Exists" }), true),
            (json!({ "key": "gpu", "operator": "Exists" }), true),
            (json!({ "key": "gpu", "value": "yes" }), true),
            (json!({ "key": "gpu", "value": "yes", "effect": "NoSchedule" }), true),
            (json!({ "key": "gpu", "value": "no" }), false),
            (json!({ "key": "gpu", "value": "yes", "effect": "NoExecute" }), false),
            (json!({ "key": "other", "operator": "Exists" }), false),
            (json!({ "key": "gpu", "operator": "FromTheFuture" }), false),
        ] {
            let pod = tolerating(toleration.clone());
            assert_eq!(eligibility(&pod, &tainted("NoSchedule")).is_none(), passes, "{toleration}");
        }
    }

    #[test]
    fn a_cordoned_node_takes_only_who_tolerates_it() {
        let node = Node { unschedulable: true, ..node() };
        assert_eq!(eligibility(&Pod::default(), &node), Some(Refusal::Unschedulable));
        assert_eq!(eligibility(&tolerating(json!({ "operator": "Exists" })), &node), None);
    }

    #[test]
    fn required_affinity_is_one_of_its_terms() {
        for (terms, passes) in [
            (
                json!([{ "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["a", "b"] }] }]),
                true,
            ),
            (
                json!([{ "matchExpressions": [{ "key": "zone", "operator": "NotIn", "values": ["a"] }] }]),
                false,
            ),
            (
                json!([{ "matchExpressions": [{ "key": "rack", "operator": "NotIn", "values": ["a"] }] }]),
                true,
            ),
            (json!([{ "matchExpressions": [{ "key": "gpus", "operator": "Gt", "values": ["7"] }] }]), true),
            (json!([{ "matchExpressions": [{ "key": "gpus", "operator": "Lt", "values": ["8"] }] }]), false),
            (json!([{ "matchExpressions": [{ "key": "zone", "operator": "Gt", "values": ["1"] }] }]), false),
            (json!([{ "matchExpressions": [{ "key": "rack", "operator": "DoesNotExist" }] }]), true),
            (
                json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n"] }] }]),
                true,
            ),
            (
                json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["m"] }] }]),
                false,
            ),
            (json!([{}]), false),
            (json!([]), false),
            (json!([{}, { "matchExpressions": [{ "key": "zone", "operator": "Exists" }] }]), true),
        ] {
            let affinity = serde_json::from_value(json!({ "nodeSelectorTerms": terms.clone() })).unwrap();
            let pod = Pod { affinity: Some(affinity), ..Pod::default() };
            assert_eq!(eligibility(&pod, &node()).is_none(), passes, "{terms}");
        }
    }

    #[test]
    fn the_gpus_that_a_node_shares_are_shared_within_one_namespace() {
        let pod = |namespace: &str, resource: &str| Pod {
            namespace: namespace.to_owned(),
            requests: Resources([(resource.to_owned(), Quantity::whole(1))].into()),
            ..Pod::default()
        };
        let shared = "nvidia.com/gpu.shared";
        let refused = Some(Refusal::SharedByAnother(shared.to_owned()));
        for (sharing, namespace, expected) in [
            (&[][..], "mine", None),
            (&["mine"], "mine", None),
            (&["theirs"], "mine", refused.clone()),
            (&["mine", "theirs"], "mine", refused.clone()),
            (&["theirs"], "", refused),
        ] {
            let sharing = sharing.iter().map(|namespace| (*namespace).to_owned()).collect();
            let node = Node { sharing, ..node() };
            assert_eq!(eligibility(&pod(namespace, shared), &node), expected, "{namespace} on {node:?}");
            assert_eq!(
                eligibility(&pod(namespace, "nvidia.com/gpu"), &node),
                None,
                "whole GPUs are nobody's else"
            );
        }
    }

    #[test]
    fn a_missing_label_is_named() {
        let pod = Pod { node_selector: [("zone".to_owned(), "b".to_owned())].into(), ..Pod::default() };
        assert_eq!(eligibility(&pod, &node()), Some(Refusal::NodeSelector("zone=b".to_owned())));
    }
}
