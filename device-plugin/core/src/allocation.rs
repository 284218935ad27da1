//! What a container gets with its GPUs.

use crate::{Gpu, GpuState, HandOut, Inventory, Offered};

/// Why the kubelet can't have what it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllocateError {
    /// No GPU of this node has that id.
    Unknown(String),
    /// The GPU is there, and can't be given away now.
    NotHealthy(String, String),
    /// What containers get with the GPU isn't written yet as it is now.
    NotWritten(String),
    /// A container asks for several shares, and the policy gives it one.
    OnlyOne(usize),
}

impl std::fmt::Display for AllocateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(id) => write!(
                f,
                "no GPU of this node is {id}: the kubelet's list is out of date, and will be renewed"
            ),
            Self::NotHealthy(id, why) => write!(f, "GPU {id} can't be given to a container: {why}"),
            Self::NotWritten(id) => write!(
                f,
                "GPU {id} can't be given to a container: what the container runtime was told of it is of an earlier driver or \
                 layout, and isn't written anew yet"
            ),
            Self::OnlyOne(asked) => write!(
                f,
                "a container may ask for one share of a GPU, not for {asked}: with more it would be no faster"
            ),
        }
    }
}

/// What a container gets that is allocated these devices of one resource: one entry for each GPU or part of one, in their
/// order. Replicas of one are one. `is_pending` says of a GPU or part that the runtime has yet to be told what it is.
///
/// # Errors
/// When one of them is unknown, not healthy, or not told of to the runtime: better the pod is tried again than started without
/// its GPU, or with another one.
pub fn allocate(
    offer: &[Offered],
    ids: &[String],
    is_pending: impl Fn(&str) -> bool,
) -> Result<Vec<HandOut>, AllocateError> {
    if ids.len() > 1 && offer.iter().any(|device| device.one_each) {
        return Err(AllocateError::OnlyOne(ids.len()));
    }
    let mut granted: Vec<HandOut> = Vec::new();
    for id in ids {
        match offer.iter().find(|device| device.id == *id) {
            None => return Err(AllocateError::Unknown(id.clone())),
            Some(device) if device.state.is_offered() && is_pending(&device.device) => {
                return Err(AllocateError::NotWritten(id.clone()));
            }
            Some(device) if device.state.is_offered() => {
                if !granted.iter().any(|known| known.id == device.device) {
                    granted.push(device.hand_out());
                }
            }
            Some(device) => {
                let why = device.state.why().unwrap_or_default().to_owned();
                return Err(AllocateError::NotHealthy(id.clone(), why));
            }
        }
    }
    Ok(granted)
}

/// What there is to hand over, whether it can be now or not: containers that were given a GPU keep its name. Of a divided GPU
/// also its parts.
pub fn hand_outs(inventory: &Inventory) -> Vec<HandOut> {
    let of_gpu = |(gpu, _): (&Gpu, &GpuState)| {
        let parts = gpu.instances().iter().map(|part| HandOut {
            id: part.uuid.clone(),
            device_nodes: gpu.device_node.iter().chain(&part.device_nodes).cloned().collect(),
        });
        let whole = HandOut { id: gpu.uuid.clone(), device_nodes: gpu.device_node.iter().cloned().collect() };
        std::iter::once(whole).chain(parts).collect::<Vec<_>>()
    };
    inventory.gpus().into_iter().flat_map(of_gpu).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HealthRules, Instance, Look, Mig, MigInstance, Policy, Scan, Seen, Sharing, Signs, offers};

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

    /// The devices of the only resource there is.
    fn offer(inventory: &Inventory, policy: Policy) -> Vec<Offered> {
        let offers = offers(inventory, &Policy { resource: "r".to_owned(), ..policy });
        offers.resources.into_values().flatten().collect()
    }

    fn allocate_of(inventory: &Inventory, ids: &[String]) -> Result<Vec<HandOut>, AllocateError> {
        written(&offer(inventory, Policy::default()), ids)
    }

    /// Where the runtime knows of all.
    fn written(offer: &[Offered], ids: &[String]) -> Result<Vec<HandOut>, AllocateError> {
        allocate(offer, ids, |_| false)
    }

    fn ids(indexes: &[u32]) -> Vec<String> {
        indexes.iter().map(|index| format!("GPU-{index}")).collect()
    }

    #[test]
    fn a_container_gets_the_device_nodes_of_its_own_gpus() {
        let granted = allocate_of(&node(&[0, 0]), &ids(&[1])).unwrap();
        assert_eq!(granted, hand_outs(&node(&[0, 0]))[1..]);
        assert_eq!(granted[0].device_nodes, ["/dev/nvidia11"]);
    }

    #[test]
    fn an_unknown_or_sick_gpu_is_refused_by_its_id() {
        let mut inventory = node(&[0, 0]);
        assert_eq!(allocate_of(&inventory, &ids(&[7])), Err(AllocateError::Unknown("GPU-7".to_owned())));
        inventory.observe(Scan::Failed("gone".to_owned()));
        let refused = AllocateError::NotHealthy("GPU-0".to_owned(), "gone".to_owned());
        assert_eq!(allocate_of(&inventory, &ids(&[0])), Err(refused));
    }

    #[test]
    fn replicas_of_one_gpu_are_that_gpu_once() {
        let shared = [("r".to_owned(), Sharing { replicas: 2, one_each: false })].into();
        let offer = offer(&node(&[0, 0]), Policy { shared, ..Policy::default() });
        let ids = ["GPU-1::0", "GPU-0::1", "GPU-1::1"].map(str::to_owned);
        let granted = written(&offer, &ids).unwrap();
        let is_one = |device: &str| device == "GPU-0";
        let refused = Err(AllocateError::NotWritten("GPU-0::1".to_owned()));
        assert_eq!(allocate(&offer, &ids, is_one), refused, "the runtime was told something else of it");
        assert!(allocate(&offer, &ids[..1], is_one).is_ok(), "another one's matter");
        assert_eq!(granted.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["GPU-1", "GPU-0"]);
    }

    #[test]
    fn a_container_gets_one_share_where_the_policy_says_so() {
        let shared = [("r".to_owned(), Sharing { replicas: 2, one_each: true })].into();
        let offer = offer(&node(&[0, 0]), Policy { shared, ..Policy::default() });
        let ids = ["GPU-1::0", "GPU-0::1"].map(str::to_owned);
        assert_eq!(written(&offer, &ids), Err(AllocateError::OnlyOne(2)));
        assert!(written(&offer, &ids[..1]).is_ok());
    }

    #[test]
    fn a_part_of_a_gpu_is_handed_over_with_what_opens_it() {
        let part = MigInstance {
            uuid: "MIG-7".to_owned(),
            instance: Instance { gpu: 7, compute: 0 },
            device_nodes: vec!["/dev/nvidia-caps/nvidia-cap66".to_owned()],
            ..MigInstance::default()
        };
        let mig = Some(Mig { enabled: true, pending: true, instances: vec![part] });
        let node = Some("/dev/nvidia3".to_owned());
        let gpu = Gpu { uuid: "GPU-0".to_owned(), device_node: node, mig, ..Gpu::default() };
        let gpus = vec![Seen::Answered { gpu, signs: Signs::default() }];
        let mut inventory = Inventory::new(HealthRules::default());
        inventory.observe(Scan::Looked(Look { gpus, ..Look::default() }));
        let nodes = ["/dev/nvidia3", "/dev/nvidia-caps/nvidia-cap66"].map(str::to_owned).to_vec();
        assert_eq!(hand_outs(&inventory)[1..], [HandOut { id: "MIG-7".to_owned(), device_nodes: nodes }]);
        let single = Policy { mig: crate::MigStrategy::Single, ..Policy::default() };
        let granted = written(&offer(&inventory, single), &["MIG-7".to_owned()]).unwrap();
        assert_eq!(granted, hand_outs(&inventory)[1..]);
    }
}
