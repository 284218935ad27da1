//! `nodeSelector` and required node affinity.

use super::Refusal;
use crate::{
    node::Node,
    pod::{Affinity, Kind, NodeRequirement, NodeTerm, Operator},
    read::Shared,
};

/// What of the selector or the affinity doesn't hold.
pub(super) fn mismatch(kind: &Kind, node: &Node, _: &Shared) -> Option<Refusal> {
    if let Some((key, value)) =
        kind.node_selector.iter().find(|(key, value)| node.labels.get(key) != Some(value))
    {
        return Some(Refusal::NodeSelector(format!("{key}={value}")));
    }
    let matches = kind.affinity.as_ref().is_none_or(|affinity| matches_affinity(affinity, node));
    (!matches).then_some(Refusal::NodeAffinity)
}

/// Whether both hold.
pub(super) fn matches(kind: &Kind, node: &Node) -> bool {
    kind.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
        && kind.affinity.as_ref().is_none_or(|affinity| matches_affinity(affinity, node))
}

fn matches_affinity(affinity: &Affinity, node: &Node) -> bool {
    affinity.node_selector_terms.iter().any(|term| matches_term(term, node, true))
}

/// Whether a node is one that reaches a volume: of that only labels speak.
pub(super) fn allows(affinity: &Affinity, node: &Node) -> bool {
    affinity.node_selector_terms.iter().any(|term| matches_term(term, node, false))
}

fn matches_term(term: &NodeTerm, node: &Node, heeds_fields: bool) -> bool {
    if term.match_expressions.is_empty() && term.match_fields.is_empty() {
        return false;
    }
    let label = |requirement: &NodeRequirement| {
        holds(requirement, node.labels.get(&requirement.key).map(|value| &**value))
    };
    let field = |requirement: &NodeRequirement| {
        requirement.key == "metadata.name" && holds(requirement, Some(&*node.name))
    };
    term.match_expressions.iter().all(label) && (!heeds_fields || term.match_fields.iter().all(field))
}

fn holds(requirement: &NodeRequirement, value: Option<&str>) -> bool {
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
