//! Whether a node reaches the volumes of a pod's claims; and for claims that wait for their first pod, which volumes they
//! could have there, or whether some could be made.

use super::{Refusal, VolumeFilter, claim_of};
use crate::{
    cluster::Step,
    filter::affinity,
    labels::Text,
    node::Node,
    pod::{Pod, PodClaim},
    storage::{BindingMode, Claim, Class, Promise, Storage, Volume},
};

/// The claims of a pod.
#[derive(Default)]
pub(super) struct Binding<'a> {
    /// The volumes that it has; `None` where one isn't there.
    bound: Vec<(&'a Text, Option<&'a Volume>)>,
    /// The claims that wait for their first pod, the smallest first.
    waiting: Vec<Waiting<'a>>,
}

/// A claim that waits for its first pod.
struct Waiting<'a> {
    key: &'a Text,
    claim: &'a Claim,
    class: &'a Class,
    chance: Chance<'a>,
}

/// How a claim can get its volume.
enum Chance<'a> {
    /// It is being made, for this node.
    Made(&'a Text),
    /// It is promised or kept for it. Whether a volume may be made where this one can't be had, is the second.
    Kept(&'a Text, &'a Volume, bool),
    /// Any of these, the smallest first; or one is made.
    Open(Vec<(&'a Text, &'a Volume)>),
}

impl<'a> Binding<'a> {
    /// The pod's claims, or why they keep it from every node.
    pub(super) fn new(storage: &'a Storage, pod: &'a Pod) -> Result<Self, Refusal> {
        for wanted in &pod.claims {
            usable(storage, pod, wanted)?;
        }
        let mut binding = Self::default();
        for wanted in &pod.claims {
            let claim = claim_of(storage, pod, wanted, VolumeFilter::Binding)?;
            if let Some(name) = claim.bound_volume() {
                binding.bound.push((name, storage.volumes.get(name)));
                continue;
            }
            let class = storage.classes.get(&claim.class).filter(|_| !claim.class.is_empty());
            let waits = class.filter(|class| class.mode == BindingMode::WaitsForConsumer);
            let Some(class) = waits.filter(|_| claim.volume.is_none()) else {
                return Err(unusable(wanted, why_unbound(claim, class)));
            };
            if !binding.waiting.iter().any(|other| *other.key == wanted.key) {
                let chance = chance(storage, &wanted.key, claim);
                binding.waiting.push(Waiting { key: &wanted.key, claim, class, chance });
            }
        }
        binding.waiting.sort_by_key(|waiting| waiting.claim.size.unwrap_or_default());
        Ok(binding)
    }

    /// What must be done for the claims so that the pod can run there, or why it can't.
    pub(super) fn find(&self, storage: &Storage, node: &Node) -> Result<Vec<Step>, Refusal> {
        for (name, volume) in &self.bound {
            let Some(volume) = volume else { return Err(Refusal::VolumeMissing(name.to_string())) };
            if !reaches(storage, node, volume) {
                return Err(Refusal::VolumeAffinity(name.to_string()));
            }
        }
        let (mut taken, mut steps, mut made) = (Vec::new(), Vec::new(), Vec::new());
        for waiting in &self.waiting {
            match waiting.volume(node, &taken)? {
                Some(volume) => {
                    taken.push(volume);
                    steps.push(waiting.step(Promise::Volume(volume.clone())));
                }
                None => made.push(waiting),
            }
        }
        for waiting in made {
            waiting.can_be_made(storage, node)?;
            steps.push(waiting.step(Promise::Node(node.name.clone())));
        }
        Ok(steps)
    }
}

impl<'a> Waiting<'a> {
    /// The volume that it gets there; nothing where one must be made.
    fn volume(&self, node: &Node, taken: &[&Text]) -> Result<Option<&'a Text>, Refusal> {
        match &self.chance {
            Chance::Made(selected) if **selected == node.name => Ok(None),
            Chance::Made(_) => Err(self.no_volume()),
            Chance::Kept(name, volume, _) if reaches_unbound(node, volume) => Ok(Some(name)),
            Chance::Kept(_, _, may_be_made) => {
                if *may_be_made {
                    Ok(None)
                } else {
                    Err(self.no_volume())
                }
            }
            Chance::Open(volumes) => {
                let fits = |(name, volume): &&(&'a Text, &'a Volume)| {
                    !taken.contains(name) && reaches_unbound(node, volume)
                };
                Ok(volumes.iter().find(fits).map(|(name, _)| *name))
            }
        }
    }

    /// Why no volume can be made for it that the node reaches.
    fn can_be_made(&self, storage: &Storage, node: &Node) -> Result<(), Refusal> {
        if !self.class.provisions() || !self.class.allows(&node.labels) {
            return Err(self.no_volume());
        }
        let driver = storage.drivers.get(&self.class.provisioner);
        let (true, Some(size)) = (driver.is_some_and(|driver| driver.tells_capacity), self.claim.size) else {
            return Ok(());
        };
        let mut capacities = storage.capacities.values().filter(|one| one.class == self.claim.class);
        let suffices = capacities.any(|capacity| capacity.suffices(size, &node.labels));
        if suffices { Ok(()) } else { Err(Refusal::StorageFull(self.key.to_string())) }
    }

    fn step(&self, what: Promise) -> Step {
        Step { claim: self.key.clone(), uid: self.claim.uid.clone(), what, was_seen: false }
    }

    fn no_volume(&self) -> Refusal {
        Refusal::NoVolume(self.key.to_string())
    }
}

fn unusable(wanted: &PodClaim, why: &str) -> Refusal {
    Refusal::ClaimNotUsable(VolumeFilter::Binding, format!("{} {why}", wanted.key))
}

/// Whether the claim can be used at all.
fn usable(storage: &Storage, pod: &Pod, wanted: &PodClaim) -> Result<(), Refusal> {
    let claim = claim_of(storage, pod, wanted, VolumeFilter::Binding)?;
    if claim.is_lost {
        return Err(unusable(wanted, "has lost its volume"));
    }
    if claim.is_terminating {
        return Err(unusable(wanted, "is being deleted"));
    }
    match &claim.fault {
        Some(fault) if claim.bound_volume().is_none() => Err(unusable(wanted, fault)),
        _ => Ok(()),
    }
}

/// Why a claim that doesn't wait for its first pod is not bound.
fn why_unbound(claim: &Claim, class: Option<&Class>) -> &'static str {
    match class.map(|class| class.mode) {
        _ if claim.volume.is_some() => "is being bound to its volume",
        Some(BindingMode::Unset) => "has a class without volumeBindingMode",
        Some(_) => "isn't bound yet: its class binds without waiting for a pod",
        None if claim.class.is_empty() => "isn't bound yet, and names no storage class",
        None => "isn't bound, and its storage class isn't there",
    }
}

/// How the claim can get its volume.
fn chance<'a>(storage: &'a Storage, key: &'a Text, claim: &'a Claim) -> Chance<'a> {
    match storage.promises.to(key, &claim.uid) {
        Some(Promise::Node(node)) => return Chance::Made(node),
        Some(Promise::Volume(name)) => {
            if let Some(volume) = storage.volumes.get(name) {
                return Chance::Kept(name, volume, false);
            }
        }
        None => {}
    }
    if let Some(node) = &claim.selected_node {
        return Chance::Made(node);
    }
    let size = claim.size.unwrap_or_default();
    let suits = |(_, volume): &(&Text, &Volume)| {
        volume.size >= size && volume.offers == claim.wants && !volume.is_terminating
    };
    let kept =
        |(_, volume): &(&Text, &Volume)| volume.owner.as_ref().is_some_and(|owner| owner.is(key, &claim.uid));
    let suiting = || storage.volumes_of(&claim.class).filter(suits);
    if let Some((name, volume)) = suiting().find(|one| kept(one) && !is_promised(storage, one.0)) {
        return Chance::Kept(name, volume, true);
    }
    let is_free = |(name, volume): &(&Text, &Volume)| {
        volume.owner.is_none()
            && volume.is_available
            && claim.selector.as_ref().is_none_or(|selector| selector.matches(&volume.labels))
            && claim.access_modes.iter().all(|mode| volume.access_modes.contains(mode))
            && !is_promised(storage, name)
    };
    let mut free: Vec<(&Text, &Volume)> = suiting().filter(is_free).collect();
    free.sort_by(|(name, one), (other_name, other)| (one.size, name).cmp(&(other.size, other_name)));
    Chance::Open(free)
}

/// Whether the volume is promised to a claim that is still there.
fn is_promised(storage: &Storage, volume: &str) -> bool {
    let owner = storage.promises.owner_of(volume);
    owner.is_some_and(|(claim, uid)| storage.claims.get(claim).is_some_and(|claim| claim.uid == *uid))
}

/// Whether a node reaches a volume, in the words of whoever attaches it there.
pub(crate) fn reaches(storage: &Storage, node: &Node, volume: &Volume) -> bool {
    let plugin = volume.source.as_ref().and_then(|source| source.plugin);
    let here = storage.nodes.get(&node.name);
    let taken_over = plugin.zip(here).is_some_and(|(plugin, here)| here.has_taken_over(plugin));
    volume.affinity(taken_over).is_none_or(|affinity| affinity::allows(affinity, node))
}

fn reaches_unbound(node: &Node, volume: &Volume) -> bool {
    volume.affinity(false).is_none_or(|affinity| affinity::allows(affinity, node))
}
