//! Whether a plan that was made earlier still holds: its pods are taken off their nodes and put there once more, one by one,
//! and the rules are asked anew about those that aren't bound yet.

use crate::{
    around::Around,
    cluster::{Cluster, VolumesState},
    filter::{self, Refusal, VolumeNeeds},
    node::{NodeId, PodId},
    plan::{Alike, Placement},
    pod::Pod,
};

/// Why a pod can't be sent to the node any more that was planned for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Outdated {
    /// The node is gone.
    #[error("node {node} isn't there any more")]
    NodeGone {
        /// Its name.
        node: String,
    },
    /// By its labels, the pod isn't the group's any more.
    #[error("pod {pod} is another group's now")]
    Stranger {
        /// Its name.
        pod: String,
    },
    /// Its room was given back: it is being deleted, or is over.
    #[error("pod {pod} isn't on its way any more: it is being deleted, or is over")]
    Left {
        /// Its name.
        pod: String,
    },
    /// Its volumes aren't bound, or can't be had there.
    #[error("pod {pod} can't have its volumes on node {node}: {why}")]
    Volumes {
        /// The pod's name.
        pod: String,
        /// The node's name.
        node: String,
        /// Which of them, and why.
        why: String,
    },
    /// The node doesn't take it any more.
    #[error("node {node} doesn't take pod {pod} any more: {refusal}")]
    Refused {
        /// The pod's name.
        pod: String,
        /// The node's name.
        node: String,
        /// The rule that it breaks.
        refusal: Refusal,
    },
}

/// A pod of a plan.
struct Place<'a> {
    placement: &'a Placement,
    pod: PodId,
    node: NodeId,
    /// Whether it has no node yet, and so may still be kept from this one.
    is_asked: bool,
}

impl Cluster {
    /// The first reason why the pods of a group's plan, as far as they are on their way, can't go to their nodes any more.
    /// Each is asked beside those before it in the plan, as it was when the plan was made. Room that is kept for others
    /// counts as free: it was kept beside this plan. Pods that aren't known are left out. Changes nothing.
    pub fn outdated(&mut self, key: &str, plan: &[Placement]) -> Option<Outdated> {
        let stranger = plan.iter().find(|placement| self.belongs(key, &placement.uid) == Some(false));
        if let Some(Placement { pod, .. }) = stranger {
            return Some(Outdated::Stranger { pod: pod.clone() });
        }
        if let Some(Placement { pod, .. }) = plan.iter().find(|placement| self.has_left(&placement.uid)) {
            return Some(Outdated::Left { pod: pod.clone() });
        }
        let places: Vec<Place<'_>> = plan.iter().filter_map(|placement| self.place_of(placement)).collect();
        if let Some(outdated) =
            places.iter().filter(|place| place.is_asked).find_map(|place| self.has_lost(place))
        {
            return Some(outdated);
        }
        self.changes.begin_trial();
        let promised: Vec<_> = self.promised().into_iter().filter_map(|pod| self.lift(pod)).collect();
        let outdated = self.replay(&places);
        promised.into_iter().for_each(|lifted| self.lay_back(lifted));
        self.changes.end_trial();
        outdated
    }

    /// Whether a pod has no node and isn't on its way to one.
    fn has_left(&self, uid: &str) -> bool {
        self.known_by_uid(uid).is_some_and(|known| known.pod.node.is_none() && known.assumed.is_none())
    }

    fn place_of<'a>(&self, placement: &'a Placement) -> Option<Place<'a>> {
        let pod = self.pod_id(&placement.uid)?;
        let known = self.known(pod)?;
        Some(Place { placement, pod, node: known.on?, is_asked: known.assumed.is_some() })
    }

    /// What a pod on its way has lost, if anything: its node, or its volumes.
    fn has_lost(&self, place: &Place<'_>) -> Option<Outdated> {
        let placement = place.placement;
        if !self.nodes[place.node.index()].exists {
            return Some(Outdated::NodeGone { node: placement.node.clone() });
        }
        let why = match self.volumes_state(&placement.uid) {
            VolumesState::Bound => return None,
            VolumesState::Pending(claim) => format!("claim {claim} isn't bound"),
            VolumesState::Failed(why) => why,
        };
        Some(Outdated::Volumes { pod: placement.pod.clone(), node: placement.node.clone(), why })
    }

    /// Places the pods once more, and puts every one back where it was.
    fn replay(&mut self, places: &[Place<'_>]) -> Option<Outdated> {
        let lifted: Vec<_> = places.iter().map(|place| self.lift(place.pod)).collect();
        let asked = places.iter().filter(|place| place.is_asked);
        let alike = asked.filter_map(|place| {
            let kind = self.known(place.pod)?.pod.kind.clone();
            Some(Alike { kind, pods: vec![place.pod] })
        });
        let mut around = Around::new(self, &alike.collect::<Vec<_>>());
        let mut outdated = None;
        for (place, lifted) in places.iter().zip(lifted) {
            if place.is_asked && outdated.is_none() {
                outdated = self.refusal_of(place, &around).map(|refusal| Outdated::Refused {
                    pod: place.placement.pod.clone(),
                    node: place.placement.node.clone(),
                    refusal,
                });
            }
            let Some(lifted) = lifted else { continue };
            self.lay_back(lifted);
            around.notice(self, place.pod, place.node);
        }
        outdated
    }

    /// The first rule that the pod breaks on its node.
    fn refusal_of(&self, place: &Place<'_>, around: &Around) -> Option<Refusal> {
        let (pod, node): (&Pod, _) = (&self.known(place.pod)?.pod, &self.nodes[place.node.index()]);
        let own = || filter::refusals(&pod.kind, node, &self.shared).into_iter().next();
        let beside = || around.of(pod)?.refusal(node);
        let volumes = || pod.kind.volumes.as_ref().and_then(|_| VolumeNeeds::new(self, pod).refusal(node));
        own().or_else(beside).or_else(volumes)
    }
}

#[cfg(test)]
mod tests;
