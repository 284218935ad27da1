//! Which GPUs are preferred for a container, and what it gets with them.

use std::collections::{BTreeMap, BTreeSet};

use crate::Inventory;

/// Why the kubelet can't have what it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllocateError {
    /// No GPU of this node has that id.
    Unknown(String),
    /// The GPU is there, and can't be given away now.
    NotHealthy(String, String),
}

impl std::fmt::Display for AllocateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(id) => write!(
                f,
                "no GPU of this node is {id}: the kubelet's list is out of date, and will be renewed"
            ),
            Self::NotHealthy(id, why) => write!(f, "GPU {id} can't be given to a container: {why}"),
        }
    }
}

/// The device nodes for a container that gets these GPUs: those that all GPUs share, and theirs.
///
/// # Errors
/// When one of them is unknown or not healthy: better the pod is tried again than started without its GPU.
pub fn allocate(inventory: &Inventory, ids: &[String]) -> Result<Vec<String>, AllocateError> {
    let mut nodes = inventory.shared_nodes().to_vec();
    for id in ids {
        match inventory.find(id) {
            None => return Err(AllocateError::Unknown(id.clone())),
            Some((gpu, state)) if state.is_offered() => nodes.extend(gpu.device_node.clone()),
            Some((_, state)) => {
                let why = state.why().unwrap_or_default().to_owned();
                return Err(AllocateError::NotHealthy(id.clone(), why));
            }
        }
    }
    Ok(nodes)
}

/// Which of the available GPUs to take: those that must be, then from as few NUMA nodes as possible, filling up the
/// node that has least left over. At most `size` ids; fewer only when fewer are available.
pub fn prefer(inventory: &Inventory, available: &[String], required: &[String], size: usize) -> Vec<String> {
    let mut chosen: Vec<String> = required.iter().take(size).cloned().collect();
    let mut by_numa: BTreeMap<Option<u32>, BTreeSet<(u32, &String)>> = BTreeMap::new();
    for id in available.iter().filter(|id| !required.contains(id)) {
        let (numa, index) =
            inventory.find(id).map_or((None, u32::MAX), |(gpu, _)| (gpu.numa_node, gpu.index));
        by_numa.entry(numa).or_default().insert((index, id));
    }
    let begun: BTreeSet<Option<u32>> =
        required.iter().filter_map(|id| inventory.find(id)).map(|(gpu, _)| gpu.numa_node).collect();
    while chosen.len() < size {
        let missing = size - chosen.len();
        // Where we are already; else the smallest group that is enough; else the largest.
        let best = by_numa.iter().filter(|(_, group)| !group.is_empty()).min_by_key(|(numa, group)| {
            let rank = group.len().checked_sub(missing).unwrap_or(usize::MAX - group.len());
            (!begun.contains(numa), rank)
        });
        let Some(numa) = best.map(|(numa, _)| *numa) else { break };
        let group = by_numa.remove(&numa).unwrap_or_default();
        chosen.extend(group.into_iter().take(missing).map(|(_, id)| id.clone()));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_set, prelude::*};

    use super::*;
    use crate::{Gpu, HealthRules, Look, Scan, Seen, Signs};

    fn node(numa_of: &[u32]) -> Inventory {
        let gpus = (0_u32..).zip(numa_of).map(|(index, numa)| Seen::Answered {
            gpu: Gpu {
                uuid: format!("GPU-{index}"),
                index,
                device_node: Some(format!("/dev/nvidia{}", index + 10)),
                numa_node: Some(*numa),
                ..Gpu::default()
            },
            signs: Signs::default(),
        });
        let mut inventory = Inventory::new(HealthRules::default());
        let shared_nodes = vec!["/dev/nvidiactl".to_owned()];
        inventory.observe(Scan::Looked(Look { gpus: gpus.collect(), shared_nodes, ..Look::default() }));
        inventory
    }

    fn ids(indexes: &[u32]) -> Vec<String> {
        indexes.iter().map(|index| format!("GPU-{index}")).collect()
    }

    #[test]
    fn a_container_gets_its_own_device_nodes_and_the_shared_ones() {
        assert_eq!(allocate(&node(&[0, 0]), &ids(&[1])).unwrap(), ["/dev/nvidiactl", "/dev/nvidia11"]);
    }

    #[test]
    fn an_unknown_or_sick_gpu_is_refused_by_its_id() {
        let mut inventory = node(&[0, 0]);
        assert_eq!(allocate(&inventory, &ids(&[7])), Err(AllocateError::Unknown("GPU-7".to_owned())));
        inventory.observe(Scan::Failed("gone".to_owned()));
        let refused = AllocateError::NotHealthy("GPU-0".to_owned(), "gone".to_owned());
        assert_eq!(allocate(&inventory, &ids(&[0])), Err(refused));
    }

    #[test]
    fn gpus_of_one_numa_node_go_together_and_leave_the_larger_group_whole() {
        let inventory = node(&[0, 0, 0, 1, 1]);
        assert_eq!(prefer(&inventory, &ids(&[0, 1, 2, 3, 4]), &[], 2), ids(&[3, 4]));
        assert_eq!(prefer(&inventory, &ids(&[0, 1, 2, 3, 4]), &[], 3), ids(&[0, 1, 2]));
        assert_eq!(prefer(&inventory, &ids(&[0, 1, 2, 3, 4]), &ids(&[0]), 2), ids(&[0, 1]));
    }

    /// Over every choice of that size that holds what it must: the fewest NUMA nodes that any has.
    fn fewest_numa_nodes(numa_of: &[u32], available: &[u32], must: &[u32], size: usize) -> Option<usize> {
        (0_u32..1 << available.len())
            .filter(|mask| mask.count_ones() as usize == size)
            .map(|mask| {
                let chosen = available.iter().enumerate().filter(|(place, _)| mask >> place & 1 == 1);
                chosen.map(|(_, gpu)| *gpu).collect::<BTreeSet<u32>>()
            })
            .filter(|chosen| must.iter().all(|gpu| chosen.contains(gpu)))
            .map(|chosen| chosen.iter().map(|gpu| numa_of[*gpu as usize]).collect::<BTreeSet<_>>().len())
            .min()
    }

    proptest! {
        // Groups that need the choice of the largest first are rare.
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn a_preference_is_available_distinct_of_the_right_size_and_on_fewest_numa_nodes(
            numa_of in proptest::collection::vec(0_u32..4, 8),
            available in btree_set(0_u32..8, 1..8),
            required in 0_usize..4,
            size in 1_usize..8,
        ) {
            let inventory = node(&numa_of);
            let offered: Vec<u32> = available.iter().copied().collect();
            let size = size.min(offered.len());
            // Not the first ones, which the order alone would prefer.
            let must: Vec<u32> = offered.iter().rev().take(required.min(size)).copied().collect();
            let chosen = prefer(&inventory, &ids(&offered), &ids(&must), size);
            let distinct: BTreeSet<_> = chosen.iter().collect();
            prop_assert_eq!(distinct.len(), chosen.len());
            prop_assert_eq!(chosen.len(), size);
            prop_assert!(chosen.iter().all(|id| ids(&offered).contains(id)));
            prop_assert!(ids(&must).iter().all(|id| chosen.contains(id)));
            let nodes: BTreeSet<_> = chosen.iter().map(|id| inventory.find(id).unwrap().0.numa_node).collect();
            prop_assert_eq!(Some(nodes.len()), fewest_numa_nodes(&numa_of, &offered, &must, size));
        }
    }
}
