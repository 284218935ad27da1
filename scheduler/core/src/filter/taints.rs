//! Taints, and who tolerates them.

use super::Refusal;
use crate::{
    document::Taint,
    node::Node,
    pod::{Kind, Toleration},
    read::Shared,
};

/// The taint that stands for a cordoned node.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// The first taint that keeps the pod away.
pub(super) fn untolerated(kind: &Kind, node: &Node, _: &Shared) -> Option<Refusal> {
    let Taint { key, value, effect } = find(&node.taints, &kind.tolerations)?;
    let value = if value.is_empty() { String::new() } else { format!("={value}") };
    Some(Refusal::UntoleratedTaint(format!("{key}{value}:{effect}")))
}

/// Whether no taint keeps the pod away.
pub(super) fn are_tolerated(kind: &Kind, node: &Node) -> bool {
    find(&node.taints, &kind.tolerations).is_none()
}

/// Whether the pod may go to a cordoned node.
pub(super) fn tolerates_cordon(tolerations: &[Toleration]) -> bool {
    let cordon =
        Taint { key: UNSCHEDULABLE.to_owned(), value: String::new(), effect: "NoSchedule".to_owned() };
    tolerates(tolerations, &cordon)
}

fn find<'a>(taints: &'a [Taint], tolerations: &[Toleration]) -> Option<&'a Taint> {
    let keeps_away = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    taints.iter().filter(keeps_away).find(|taint| !tolerates(tolerations, taint))
}

fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| {
        let effect_matches = toleration.effect.is_empty() || toleration.effect == taint.effect;
        let key_matches = toleration.key.is_empty() || toleration.key == taint.key;
        let value_matches = match toleration.operator.as_str() {
            "Exists" => true,
            "" | "Equal" => toleration.value == taint.value,
            // `Gt` and `Lt` are alpha in 1.37; and an operator from a newer Kubernetes tolerates nothing here.
            _ => false,
        };
        effect_matches && key_matches && value_matches
    })
}
