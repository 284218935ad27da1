//! Whether a pod's volumes can be had on a node. What doesn't depend on the node is found once for the pod, then each node
//! is asked.

mod binding;
mod limits;
mod restrictions;
mod zone;

use super::Refusal;
use crate::{
    cluster::{Cluster, Step},
    node::Node,
    pod::{Pod, PodClaim},
    storage::{Claim, Storage},
};
use binding::Binding;
pub(crate) use binding::reaches;
use zone::Zone;

/// kube-scheduler's filters of volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VolumeFilter {
    /// Whether the volumes can be had together with others.
    Restrictions,
    /// Whether the node can attach so many.
    Limits,
    /// Whether the node reaches the volumes, or can get some that it does.
    Binding,
    /// Whether the volumes' labels say that they are where the node is.
    Zone,
}

impl VolumeFilter {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Restrictions => "VolumeRestrictions",
            Self::Limits => "NodeVolumeLimits",
            Self::Binding => "VolumeBinding",
            Self::Zone => "VolumeZone",
        }
    }
}

/// What a pod's volumes ask of nodes.
pub(crate) struct VolumeNeeds<'a> {
    cluster: &'a Cluster,
    pod: &'a Pod,
    /// Why it can't be had on any node.
    everywhere: Vec<Refusal>,
    binding: Binding<'a>,
    zones: Vec<Zone<'a>>,
}

impl<'a> VolumeNeeds<'a> {
    pub(crate) fn new(cluster: &'a Cluster, pod: &'a Pod) -> Self {
        let storage = &cluster.storage;
        let mut everywhere = Vec::new();
        let binding = Binding::new(storage, pod).unwrap_or_else(|refusal| {
            everywhere.push(refusal);
            Binding::default()
        });
        everywhere.extend(restrictions::everywhere(cluster, pod));
        let zones = zone::of(storage, pod).unwrap_or_else(|refusal| {
            everywhere.push(refusal);
            Vec::new()
        });
        Self { cluster, pod, everywhere, binding, zones }
    }

    /// Why the volumes can't be had on any node, whichever.
    pub(crate) fn hopeless(&self) -> Option<&Refusal> {
        self.everywhere.first()
    }

    /// The first reason why they can't be had on this one.
    pub(crate) fn refusal(&self, node: &Node) -> Option<Refusal> {
        self.everywhere.first().cloned().or_else(|| self.on(node).into_iter().flatten().next())
    }

    /// Every reason.
    pub(crate) fn refusals(&self, node: &Node) -> Vec<Refusal> {
        self.everywhere.iter().cloned().chain(self.on(node).into_iter().flatten()).collect()
    }

    fn on(&self, node: &Node) -> [Option<Refusal>; 4] {
        let (cluster, pod) = (self.cluster, self.pod);
        [
            restrictions::conflict(cluster, pod, node),
            zone::refusal(&self.zones, node),
            self.binding.find(&cluster.storage, node).err(),
            limits::refusal(cluster, pod, node),
        ]
    }

    /// What must be done for the volumes before the pod can run there; nothing where they can't be had there.
    pub(crate) fn steps(&self, node: &Node) -> Option<Vec<Step>> {
        self.binding.find(&self.cluster.storage, node).ok()
    }
}

/// A pod's claim. One that was made for the pod must be the pod's.
fn claim_of<'a>(
    storage: &'a Storage,
    pod: &Pod,
    wanted: &PodClaim,
    filter: VolumeFilter,
) -> Result<&'a Claim, Refusal> {
    let unusable = |why: &str| Refusal::ClaimNotUsable(filter, format!("{} {why}", wanted.key));
    let Some(claim) = storage.claims.get(&wanted.key) else {
        let why = if wanted.is_ephemeral { "isn't there yet: it is made for the pod" } else { "isn't there" };
        return Err(unusable(why));
    };
    if wanted.is_ephemeral && claim.owner.as_ref() != Some(&pod.uid) {
        return Err(unusable("wasn't made for this pod, but is called as if"));
    }
    Ok(claim)
}

#[cfg(test)]
mod tests;
