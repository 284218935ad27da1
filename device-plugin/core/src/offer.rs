//! What the kubelet is offered: which resources there are on this node, and which devices each has.
//!
//! The [`Inventory`] says what there is; the [`Policy`] says how it is to be offered. What can't be offered as the policy
//! has it isn't offered in another way: it is left out, and said in words.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Gpu, GpuState, HandOut, Instance, Inventory, MigInstance, Placement, Profile, mig};

/// How divided GPUs are offered. The names are those of NVIDIA's plugin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MigStrategy {
    /// Whole GPUs alone. One that is divided can't be used as a whole, so nobody gets it.
    #[default]
    None,
    /// Every GPU is divided alike, and an instance counts as a GPU.
    Single,
    /// Each profile is a resource of its own, beside the GPUs that are whole.
    Mixed,
}

/// How one resource is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// How many containers may have one device at once.
    pub replicas: u32,
    /// Whether a container that asks for several is refused: it would be no faster with them.
    pub one_each: bool,
}

/// How the node's GPUs are offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The resource that one GPU is, such as `nvidia.com/gpu`.
    pub resource: String,
    /// What becomes of divided GPUs.
    pub mig: MigStrategy,
    /// Which resources are shared. Such a resource isn't offered; what it is shared as has a name of its own.
    pub shared: BTreeMap<String, Sharing>,
    /// Where the next container goes that shares a device.
    pub placement: Placement,
}

/// What a shared resource's name ends in.
pub const SHARED: &str = ".shared";

/// One device of one resource, as the kubelet is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The kubelet's id of it.
    pub id: String,
    /// What it is to the driver: the UUID of a GPU, or of a part of one. Replicas have the same.
    pub device: String,
    /// The UUID of the GPU that it is, or is a part of.
    pub gpu: String,
    /// Which part, where it is one.
    pub instance: Option<Instance>,
    /// Which one of several that share the device.
    pub replica: Option<u32>,
    /// Whether a container that asks for several of the resource is refused.
    pub one_each: bool,
    /// The device nodes that open it, beside those that every GPU's user needs.
    pub device_nodes: Vec<String>,
    /// Whether it can be given away.
    pub state: GpuState,
    /// The CPU NUMA node that it hangs on.
    pub numa_node: Option<u32>,
}

impl Offered {
    /// What a container gets with it.
    pub fn hand_out(&self) -> HandOut {
        HandOut { id: self.device.clone(), device_nodes: self.device_nodes.clone() }
    }
}

/// Everything that the kubelet is offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// By resource: its devices, in the GPUs' order.
    pub resources: BTreeMap<String, Vec<Offered>>,
    /// What can't be offered as the policy has it, and what to do about it.
    pub complaints: Vec<String>,
}

impl Offers {
    /// The devices of a resource; none where there is no such resource.
    pub fn of(&self, resource: &str) -> &[Offered] {
        self.resources.get(resource).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, resource: String, device: Offered) {
        self.resources.entry(resource).or_default().push(device);
    }
}

impl Policy {
    /// The resource that an instance of that profile is, where each profile has its own: `nvidia.com/mig-1g.10gb`.
    pub fn resource_of(&self, profile: &Profile) -> String {
        self.of_profiles() + &profile.label()
    }

    /// What the resources of profiles begin with.
    fn of_profiles(&self) -> String {
        let domain = self.resource.rsplit_once('/').map_or(String::new(), |(domain, _)| format!("{domain}/"));
        format!("{domain}mig-")
    }

    /// Whether a resource of that name can be offered on any node, so that it can be shared.
    ///
    /// # Errors
    /// In words: what it is called, and which names there are.
    pub fn can_offer(&self, resource: &str) -> Result<(), String> {
        let (whole, of_profiles) = (&self.resource, self.of_profiles());
        let is_profile = resource.strip_prefix(&of_profiles).is_some_and(mig::is_label);
        let there_is = match (resource == whole, is_profile, self.mig) {
            (true, ..) | (_, true, MigStrategy::Mixed) => return Ok(()),
            (_, true, _) => "profiles are resources of their own with MIG strategy mixed alone".to_owned(),
            (.., MigStrategy::Mixed) => {
                format!("there are {whole} and profiles such as {of_profiles}1g.10gb")
            }
            _ => format!("there is {whole} alone"),
        };
        Err(format!(
            "{resource:?} is never offered, so it can't be shared: {there_is}; name what is offered, or leave it out"
        ))
    }
}

/// What the kubelet is offered of this node.
pub fn offers(inventory: &Inventory, policy: &Policy) -> Offers {
    let offers = match policy.mig {
        MigStrategy::None => whole_alone(inventory, policy),
        MigStrategy::Single => all_alike(inventory, policy),
        MigStrategy::Mixed => each_profile(inventory, policy),
    };
    let complaint = profiles_that_are_nowhere(inventory, &offers, policy);
    let mut offers = shared(offers, policy);
    offers.complaints.extend(complaint);
    offers
}

/// A node whose GPUs are divided, but not so as it is to be shared, may have been divided by mistake, or the name is one.
fn profiles_that_are_nowhere(inventory: &Inventory, offers: &Offers, policy: &Policy) -> Option<String> {
    let is_divided = inventory.gpus().iter().any(|(gpu, _)| !gpu.instances().is_empty());
    let is_nowhere = |name: &&String| **name != policy.resource && offers.of(name).is_empty();
    let nowhere: Vec<&str> =
        policy.shared.keys().filter(is_nowhere).filter(|_| is_divided).map(String::as_str).collect();
    let there_are: Vec<&str> = offers.resources.keys().map(String::as_str).collect();
    (!nowhere.is_empty()).then(|| {
        format!(
            "{} is to be shared, and no GPU of this node is divided so: it has {}",
            nowhere.join(", "),
            there_are.join(", ")
        )
    })
}

fn whole_alone(inventory: &Inventory, policy: &Policy) -> Offers {
    let mut offers = nothing(policy);
    for (gpu, state) in inventory.gpus() {
        let mut device = whole(gpu, state);
        if gpu.is_divided() {
            let why = "it is in MIG mode, in which no program can use it as a whole".to_owned();
            offers.complaints.push(format!(
                "{}: {why}; offer its instances with --mig-strategy single or mixed, or end its MIG mode",
                name(gpu)
            ));
            device.state = device.state.worse(&GpuState::Unhealthy(why)).clone();
        }
        offers.add(policy.resource.clone(), device);
    }
    offers
}

fn all_alike(inventory: &Inventory, policy: &Policy) -> Offers {
    let gpus = inventory.gpus();
    let profiles: BTreeSet<&str> =
        gpus.iter().flat_map(|(gpu, _)| gpu.instances()).map(|part| part.profile.name()).collect();
    let divided = gpus.iter().filter(|(gpu, _)| gpu.is_divided()).count();
    let refused = if divided > 0 && divided < gpus.len() {
        Some(format!("{divided} of {} GPUs are in MIG mode", gpus.len()))
    } else if profiles.len() > 1 {
        Some(format!("there are instances of {}", profiles.into_iter().collect::<Vec<_>>().join(", ")))
    } else {
        None
    };
    if let Some(why) = refused {
        let complaint = format!(
            "no {} is offered: --mig-strategy single needs all GPUs divided alike, and {why}; \
             divide them alike, or use --mig-strategy mixed",
            policy.resource
        );
        return Offers { complaints: vec![complaint], ..nothing(policy) };
    }
    let mut offers = nothing(policy);
    for (gpu, state) in gpus {
        let parts = parts(inventory, gpu, &mut offers.complaints);
        let whole = (!gpu.is_divided()).then(|| whole(gpu, state));
        parts.into_iter().map(|(_, device)| device).chain(whole).for_each(|device| {
            offers.add(policy.resource.clone(), device);
        });
    }
    offers
}

fn each_profile(inventory: &Inventory, policy: &Policy) -> Offers {
    let gpus = inventory.gpus();
    let none_is_whole = !gpus.is_empty() && gpus.iter().all(|(gpu, _)| gpu.is_divided());
    let mut offers = if none_is_whole { Offers::default() } else { nothing(policy) };
    for (gpu, state) in gpus {
        for (profile, device) in parts(inventory, gpu, &mut offers.complaints) {
            offers.add(policy.resource_of(&profile), device);
        }
        if !gpu.is_divided() {
            offers.add(policy.resource.clone(), whole(gpu, state));
        }
    }
    offers
}

/// The resource of whole GPUs, of which there is none.
fn nothing(policy: &Policy) -> Offers {
    let resources = BTreeMap::from([(policy.resource.clone(), Vec::new())]);
    Offers { resources, complaints: Vec::new() }
}

fn whole(gpu: &Gpu, state: &GpuState) -> Offered {
    Offered {
        id: gpu.uuid.clone(),
        device: gpu.uuid.clone(),
        gpu: gpu.uuid.clone(),
        instance: None,
        replica: None,
        one_each: false,
        device_nodes: gpu.device_node.iter().cloned().collect(),
        state: state.clone(),
        numa_node: gpu.numa_node,
    }
}

/// The parts of a GPU, where it is divided; that it has none is said.
fn parts(inventory: &Inventory, gpu: &Gpu, complaints: &mut Vec<String>) -> Vec<(Profile, Offered)> {
    if gpu.is_divided() && gpu.instances().is_empty() {
        complaints
            .push(format!("{} is in MIG mode and has no instances: nothing of it is offered", name(gpu)));
    }
    let offer = |(part, state): (&MigInstance, &GpuState)| {
        let device_nodes = gpu.device_node.iter().chain(&part.device_nodes).cloned().collect();
        let device = Offered {
            id: part.uuid.clone(),
            device: part.uuid.clone(),
            instance: Some(part.instance),
            device_nodes,
            ..whole(gpu, state)
        };
        (part.profile.clone(), device)
    };
    inventory.instances(&gpu.uuid).into_iter().map(offer).collect()
}

fn name(gpu: &Gpu) -> String {
    format!("GPU {} ({})", gpu.index, gpu.uuid)
}

/// Replaces what is shared by its replicas, under their own name.
fn shared(offers: Offers, policy: &Policy) -> Offers {
    let mut resources = BTreeMap::new();
    for (resource, devices) in offers.resources {
        match policy.shared.get(&resource) {
            None => drop(resources.insert(resource, devices)),
            Some(sharing) => {
                let replicas = devices.iter().flat_map(|device| {
                    (0..sharing.replicas).map(|replica| Offered {
                        id: format!("{}::{replica}", device.id),
                        replica: Some(replica),
                        one_each: sharing.one_each,
                        ..device.clone()
                    })
                });
                resources.insert(resource + SHARED, replicas.collect());
            }
        }
    }
    Offers { resources, ..offers }
}

#[cfg(test)]
mod tests;
