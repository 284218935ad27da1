//! What a container gets with its GPUs.

use crate::{Gpu, HandOut, Inventory};

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

/// What a container gets that is allocated these GPUs: one entry each, in their order.
///
/// # Errors
/// When one of them is unknown or not healthy: better the pod is tried again than started without its GPU.
pub fn allocate(inventory: &Inventory, ids: &[String]) -> Result<Vec<HandOut>, AllocateError> {
    let one = |id: &String| match inventory.find(id) {
        None => Err(AllocateError::Unknown(id.clone())),
        Some((gpu, state)) if state.is_offered() => Ok(hand_out(gpu)),
        Some((_, state)) => {
            Err(AllocateError::NotHealthy(id.clone(), state.why().unwrap_or_default().to_owned()))
        }
    };
    ids.iter().map(one).collect()
}

/// What there is to hand over, whether it can be now or not: containers that were given a GPU keep its name.
pub fn hand_outs(inventory: &Inventory) -> Vec<HandOut> {
    inventory.gpus().into_iter().map(|(gpu, _)| hand_out(gpu)).collect()
}

/// The first of the available GPUs in NVML's order, after those that must be included: for when there is no time to compare.
pub fn first_of(
    inventory: &Inventory,
    available: &[String],
    required: &[String],
    size: usize,
) -> Vec<String> {
    let index = |id: &&String| inventory.find(id).map_or(u32::MAX, |(gpu, _)| gpu.index);
    let mut free: Vec<&String> = available.iter().filter(|id| !required.contains(id)).collect();
    free.sort_by_key(index);
    required.iter().chain(free).take(size).cloned().collect()
}

fn hand_out(gpu: &Gpu) -> HandOut {
    HandOut { id: gpu.uuid.clone(), device_nodes: gpu.device_node.iter().cloned().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HealthRules, Look, Scan, Seen, Signs};

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
    fn a_container_gets_the_device_nodes_of_its_own_gpus() {
        let granted = allocate(&node(&[0, 0]), &ids(&[1])).unwrap();
        assert_eq!(granted, hand_outs(&node(&[0, 0]))[1..]);
        assert_eq!(granted[0].device_nodes, ["/dev/nvidia11"]);
    }

    #[test]
    fn an_unknown_or_sick_gpu_is_refused_by_its_id() {
        let mut inventory = node(&[0, 0]);
        assert_eq!(allocate(&inventory, &ids(&[7])), Err(AllocateError::Unknown("GPU-7".to_owned())));
        inventory.observe(Scan::Failed("gone".to_owned()));
        let refused = AllocateError::NotHealthy("GPU-0".to_owned(), "gone".to_owned());
        assert_eq!(allocate(&inventory, &ids(&[0])), Err(refused));
    }
}
