//! Volumes whose labels say where they are.

use super::{Refusal, VolumeFilter, claim_of};
use crate::{
    labels::Text,
    node::Node,
    pod::Pod,
    storage::{BindingMode, Storage},
};

/// The labels that say where something is, each with its successor.
const LABELS: [(&str, &str); 4] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
];

/// Where a volume is, by one of its labels.
pub(super) struct Zone<'a> {
    volume: &'a Text,
    label: &'static str,
    successor: &'static str,
    /// Any of these.
    values: Vec<&'a str>,
}

/// Where the volumes of a pod's claims are.
pub(super) fn of<'a>(storage: &'a Storage, pod: &Pod) -> Result<Vec<Zone<'a>>, Refusal> {
    let mut zones = Vec::new();
    for wanted in pod.claims.iter().filter(|wanted| !wanted.is_ephemeral) {
        let claim = claim_of(storage, pod, wanted, VolumeFilter::Zone)?;
        let unusable =
            |why: &str| Refusal::ClaimNotUsable(VolumeFilter::Zone, format!("{} {why}", wanted.key));
        let Some(name) = &claim.volume else {
            if claim.class.is_empty() {
                return Err(unusable("has neither a volume nor a storage class"));
            }
            let class = storage.classes.get(&claim.class);
            match class.map(|class| class.mode) {
                Some(BindingMode::WaitsForConsumer) => continue,
                Some(BindingMode::Immediate) => return Err(unusable("has no volume yet")),
                Some(BindingMode::Unset) => return Err(unusable("has a class without volumeBindingMode")),
                None => return Err(unusable("has a storage class that isn't there")),
            }
        };
        let Some(volume) = storage.volumes.get(name) else {
            return Err(unusable("is bound to a volume that isn't there"));
        };
        for (label, successor) in LABELS {
            let Some(value) = volume.labels.get(label) else { continue };
            let values: Vec<&str> = value.split("__").map(str::trim).collect();
            // A label that makes no sense is passed over, as kube-scheduler does.
            if !values.contains(&"") {
                zones.push(Zone { volume: name, label, successor, values });
            }
        }
    }
    Ok(zones)
}

/// A volume that is elsewhere. A node that doesn't say where it is may be anywhere.
pub(super) fn refusal(zones: &[Zone<'_>], node: &Node) -> Option<Refusal> {
    if zones.is_empty() || !LABELS.iter().any(|(label, _)| node.labels.get(label).is_some()) {
        return None;
    }
    let is_elsewhere = |zone: &&Zone<'_>| {
        let here = node.labels.get(zone.label).or_else(|| node.labels.get(zone.successor));
        !here.is_some_and(|here| zone.values.contains(&&**here))
    };
    let zone = zones.iter().find(is_elsewhere)?;
    Some(Refusal::VolumeElsewhere(zone.volume.to_string()))
}
