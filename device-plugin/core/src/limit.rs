//! How much of a shared GPU's memory each container may have, and where the driver is told so: at the container's cgroup.

mod cgroup;
mod obstacles;

use std::collections::BTreeMap;

use crate::{Holder, Holdings, Inventory, Policy, offers};

pub use cgroup::{is_of_container, is_of_pod, leads_to_pods};
pub use obstacles::Obstacles;

/// How much of one GPU's memory one container may have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemoryShare {
    /// The GPU's UUID.
    pub gpu: String,
    /// Whose it is.
    pub holder: Holder,
    /// The memory, in bytes.
    pub bytes: u64,
}

/// The containers that share whole GPUs, and how much of each GPU's memory is theirs: as large a part as theirs of the GPU's
/// replicas, rounded down, so that no GPU's shares are together more than it has.
///
/// Instances of divided GPUs aren't among them: the driver takes no limit for those.
pub fn memory_shares(inventory: &Inventory, policy: &Policy, holdings: &Holdings) -> Vec<MemoryShare> {
    let mut replicas = BTreeMap::<String, u64>::new();
    let mut held = BTreeMap::<(String, Holder), u64>::new();
    let offers = offers(inventory, policy);
    let shared = offers.resources.values().flatten();
    for device in shared.filter(|device| device.replica.is_some() && device.instance.is_none()) {
        *replicas.entry(device.gpu.clone()).or_default() += 1;
        for holder in holdings.of(&device.id) {
            *held.entry((device.gpu.clone(), holder.clone())).or_default() += 1;
        }
    }
    let share = |((gpu, holder), of_it): ((String, Holder), u64)| {
        let (board, _) = inventory.find(&gpu).filter(|(board, _)| !board.is_divided())?;
        let part = u128::from(board.memory_bytes) * u128::from(of_it) / u128::from(*replicas.get(&gpu)?);
        Some(MemoryShare { bytes: u64::try_from(part).ok()?, gpu, holder })
    };
    held.into_iter().filter_map(share).collect()
}

/// Whether something is shared that the driver takes no limit for: an instance of a divided GPU.
pub fn shares_instances(inventory: &Inventory, policy: &Policy) -> bool {
    let offers = offers(inventory, policy);
    offers.resources.values().flatten().any(|device| device.replica.is_some() && device.instance.is_some())
}

#[cfg(test)]
mod tests;
