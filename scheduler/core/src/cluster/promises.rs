//! What must be done for the volumes of pods on their way, and how far that is.

use super::{Cluster, Known};
use crate::{
    filter::{VolumeNeeds, reaches},
    labels::Text,
    node::{Node, NodeId, PodId},
    pod::Pod,
    storage::Promise,
};

/// What must be done for a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// `namespace/name`.
    pub(crate) claim: Text,
    pub(crate) uid: Text,
    pub(crate) what: Promise,
    /// Whether the API server was seen to know of it when the pod was last put aside.
    pub(crate) was_seen: bool,
}

/// What must be done for one of a pod's volumes before the pod is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeStep {
    /// `spec.claimRef` of the volume is set to the claim, and the annotation `pv.kubernetes.io/bound-by-controller`.
    Bind {
        /// The claim.
        claim: ClaimName,
        /// The volume's name.
        volume: String,
    },
    /// The claim's annotation `volume.kubernetes.io/selected-node` is set.
    Provision {
        /// The claim.
        claim: ClaimName,
        /// The node's name.
        node: String,
    },
}

/// Which claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID: a claim that was made anew under the name is another one.
    pub uid: String,
}

/// How far a pod's volumes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumesState {
    /// All are bound: the pod can be bound, too.
    Bound,
    /// Somebody is still at work: for which claim.
    Pending(String),
    /// It can't come to be as planned: why. The pod needs another plan.
    Failed(String),
}

impl Step {
    fn public(&self) -> VolumeStep {
        let (namespace, name) = self.claim.split_once('/').unwrap_or_default();
        let text = ToString::to_string;
        let claim = ClaimName { namespace: text(namespace), name: text(name), uid: self.uid.to_string() };
        match &self.what {
            Promise::Volume(volume) => VolumeStep::Bind { claim, volume: volume.to_string() },
            Promise::Node(node) => VolumeStep::Provision { claim, node: node.to_string() },
        }
    }
}

impl Cluster {
    /// What must be done for a pod's volumes, as it was planned, before the pod is bound.
    pub fn volume_steps(&self, uid: &str) -> Vec<VolumeStep> {
        let steps = self.known_by_uid(uid).map(|known| known.steps.iter().map(Step::public));
        steps.into_iter().flatten().collect()
    }

    /// How far the volumes are of a pod that is on its way to a node.
    pub fn volumes_state(&self, uid: &str) -> VolumesState {
        let Some(known) = self.known_by_uid(uid) else {
            return VolumesState::Failed("the pod isn't there any more".to_owned());
        };
        let Some(node) = known.on.map(|node| &self.nodes[node.index()]) else {
            return VolumesState::Failed("the pod isn't on its way to a node".to_owned());
        };
        let mut state = VolumesState::Bound;
        for step in &known.steps {
            match self.step_state(step, node) {
                VolumesState::Bound => {}
                VolumesState::Pending(claim) => state = VolumesState::Pending(claim),
                failed @ VolumesState::Failed(_) => return failed,
            }
        }
        state
    }

    fn step_state(&self, step: &Step, node: &Node) -> VolumesState {
        let storage = &self.storage;
        let failed = |why: &str| VolumesState::Failed(format!("claim {} {why}", step.claim));
        let pending = || VolumesState::Pending(step.claim.to_string());
        let Some(claim) = storage.claims.get(&step.claim).filter(|claim| claim.uid == step.uid) else {
            return failed("isn't there any more");
        };
        if claim.is_terminating || claim.is_lost {
            return failed("is being deleted, or has lost its volume");
        }
        if let Promise::Volume(volume) = &step.what {
            let Some(found) = storage.volumes.get(volume) else {
                return failed("was to get a volume that is gone");
            };
            match &found.owner {
                Some(owner) if !owner.is(&step.claim, &step.uid) => {
                    return failed("was to get a volume that another claim has");
                }
                None if storage.promises.was_seen(&step.claim) => {
                    return failed("has lost its hold on its volume");
                }
                _ => {}
            }
            if claim.volume.as_ref().is_some_and(|bound| bound != volume) {
                return failed("was bound to another volume");
            }
        }
        if let Promise::Node(selected) = &step.what
            && claim.selected_node.as_ref() != Some(selected)
            && (storage.promises.was_seen(&step.claim) || claim.selected_node.is_some())
        {
            return failed("can't get a volume on the node that was selected: its provisioner says so");
        }
        let volume = claim.volume.as_ref().and_then(|name| storage.volumes.get(name));
        match volume {
            Some(volume) if !reaches(storage, node, volume) => {
                failed("got a volume that its node doesn't reach")
            }
            Some(_) if claim.is_bound => VolumesState::Bound,
            _ => pending(),
        }
    }

    /// What must be done for a pod's volumes on a node; nothing where that isn't known, or they can't be had there.
    pub(super) fn steps_for(&self, pod: &Pod, node: NodeId) -> Vec<Step> {
        if pod.claims.is_empty() {
            return Vec::new();
        }
        VolumeNeeds::new(self, pod).steps(&self.nodes[node.index()]).unwrap_or_default()
    }

    /// A pod holds what its volumes were promised, and uses its claims where it is on a node.
    pub(super) fn hold_volumes(&mut self, id: PodId, known: &Known) {
        for step in &known.steps {
            self.storage.promises.add(step);
        }
        if known.on.is_some() {
            shared_claims(&known.pod).for_each(|claim| self.storage.use_claim(claim, id));
        }
    }

    /// It doesn't any more.
    pub(super) fn let_volumes_go(&mut self, id: PodId, known: &mut Known) {
        for step in &mut known.steps {
            step.was_seen = self.storage.promises.was_seen(&step.claim);
            self.storage.promises.remove(&step.claim, &step.uid);
        }
        if known.on.is_some() {
            shared_claims(&known.pod).for_each(|claim| self.storage.leave_claim(claim, id));
        }
        if !known.steps.is_empty() || !known.pod.claims.is_empty() {
            self.changes.storage();
        }
    }
}

/// The claims of a pod that other pods may use, too.
fn shared_claims(pod: &Pod) -> impl Iterator<Item = &Text> {
    pod.claims.iter().filter(|claim| !claim.is_ephemeral).map(|claim| &claim.key)
}
