//! What a container gets with its GPUs.

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

#[cfg(test)]
mod tests {
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
}
