//! What of a GPU is given to pods, and how much of it each part is.

use super::{Part, WHOLE};
use crate::{Gpu, Offers, instance_product};

/// Slices of a divided GPU.
const SLICES: u32 = 7;

/// The parts of a GPU that a pod may hold, whoever gives them away: the GPU itself, its instances, and the replicas that
/// are offered. An instance counts by its compute slices, of seven; a replica is its share of the device.
pub fn parts(gpu: &Gpu, offered: &Offers) -> Vec<Part> {
    let instances = gpu.instances().iter().map(|one| Part {
        id: one.uuid.clone(),
        uuid: one.uuid.clone(),
        milli_gpu: (one.has.compute_slices.clamp(1, SLICES) * WHOLE) / SLICES,
        product: instance_product(&gpu.name, &one.profile),
    });
    let mut parts: Vec<Part> = [Part::whole(&gpu.uuid)].into_iter().chain(instances).collect();
    let shared = offered.resources.values().flatten();
    let shared: Vec<_> = shared.filter(|one| one.gpu == gpu.uuid && one.replica.is_some()).collect();
    for replica in &shared {
        let of = u32::try_from(shared.iter().filter(|one| one.device == replica.device).count()).unwrap_or(1);
        let device = parts.iter().find(|part| part.id == replica.device);
        let milli_gpu = device.map_or(WHOLE, |device| device.milli_gpu);
        let product = device.map(|device| device.product.clone()).unwrap_or_default();
        let (id, uuid) = (replica.id.clone(), replica.device.clone());
        parts.push(Part { id, uuid, milli_gpu: (milli_gpu / of.max(1)).max(1), product });
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{GpuState, Mig, MigInstance, Offered, Profile, Share};

    fn gpu(instances: &[(&str, u32)]) -> Gpu {
        let instances = instances.iter().map(|(uuid, compute_slices)| MigInstance {
            uuid: (*uuid).to_owned(),
            profile: Profile::named(&format!("NVIDIA H100 80GB HBM3 MIG {compute_slices}g.10gb")).unwrap(),
            has: Share { compute_slices: *compute_slices, ..Share::default() },
            ..MigInstance::default()
        });
        let mig = Mig { enabled: true, pending: true, instances: instances.collect() };
        let name = "NVIDIA H100 80GB HBM3".to_owned();
        Gpu { uuid: "GPU-0".to_owned(), name, mig: Some(mig), ..Gpu::default() }
    }

    fn replica(device: &str, number: u32) -> Offered {
        Offered {
            id: format!("{device}::{number}"),
            device: device.to_owned(),
            gpu: "GPU-0".to_owned(),
            instance: None,
            replica: Some(number),
            one_each: false,
            device_nodes: Vec::new(),
            state: GpuState::Healthy,
            numa_node: None,
        }
    }

    fn sizes(gpu: &Gpu, offered: &Offers) -> Vec<(String, String, u32)> {
        parts(gpu, offered).into_iter().map(|part| (part.id, part.uuid, part.milli_gpu)).collect()
    }

    #[test]
    fn an_instance_counts_by_its_slices_and_all_are_at_most_the_gpu() {
        let told = sizes(&gpu(&[("MIG-a", 1), ("MIG-b", 3), ("MIG-c", 3)]), &Offers::default());
        let size = |uuid: &str, milli| (uuid.to_owned(), uuid.to_owned(), milli);
        assert_eq!(told, [size("GPU-0", 1000), size("MIG-a", 142), size("MIG-b", 428), size("MIG-c", 428)]);
    }

    #[test]
    fn a_replica_is_its_share_of_what_it_is_a_replica_of() {
        let offered = |devices: &[(&str, u32)]| {
            let all = devices.iter().flat_map(|(device, of)| (0..*of).map(|n| replica(device, n)));
            Offers { resources: BTreeMap::from([("r".to_owned(), all.collect())]), ..Offers::default() }
        };
        let whole = Gpu { uuid: "GPU-0".to_owned(), ..Gpu::default() };
        let told = sizes(&whole, &offered(&[("GPU-0", 3)]));
        assert_eq!(told[1], ("GPU-0::0".to_owned(), "GPU-0".to_owned(), 333));
        assert_eq!(told.len(), 4);
        let told = sizes(&gpu(&[("MIG-a", 1)]), &offered(&[("MIG-a", 2)]));
        assert_eq!(told[2], ("MIG-a::0".to_owned(), "MIG-a".to_owned(), 71));
    }

    #[test]
    fn an_instance_and_its_shares_are_sold_as_what_they_are() {
        let shared: Vec<_> = (0..2).map(|number| replica("MIG-a", number)).collect();
        let offered = Offers { resources: BTreeMap::from([("r".to_owned(), shared)]), ..Offers::default() };
        let products: Vec<_> =
            parts(&gpu(&[("MIG-a", 1)]), &offered).into_iter().map(|part| part.product).collect();
        let instance = "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb";
        assert_eq!(products, ["", instance, instance, instance], "the GPU itself is told apart by its board");
    }
}
