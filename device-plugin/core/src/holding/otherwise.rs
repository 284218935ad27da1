//! Devices that pods hold in another way than they are offered: as a whole where shares are offered by now, or the other way
//! round. So it is when sharing is switched on or off while pods run: the kubelet counts each resource for itself.

use std::collections::BTreeMap;

use super::{Holdings, SHARE};
use crate::{GpuState, Offers};

/// The devices that are offered in another way than a pod holds them, by UUID, and how it does; `None` where nobody knows who
/// holds what.
pub fn held_otherwise(offers: &Offers, holdings: &Holdings) -> Option<BTreeMap<String, String>> {
    let holders = holdings.named()?;
    let held = holders.iter().filter_map(|(id, holders)| {
        let holder = holders.first()?;
        let (device, is_share) =
            id.split_once(SHARE).map_or((id.as_str(), false), |(device, _)| (device, true));
        let mut offered = offers.resources.values().flatten();
        let part = if is_share { "a share" } else { "all" };
        offered
            .any(|offered| offered.device == device && offered.replica.is_some() != is_share)
            .then(|| (device.to_owned(), format!("pod {}/{} has {part} of it", holder.namespace, holder.pod)))
    });
    Some(held.collect())
}

impl Offers {
    /// Keeps these devices from everybody: by UUID, and why.
    #[must_use]
    pub fn without(mut self, held: &BTreeMap<String, String>) -> Self {
        for offered in self.resources.values_mut().flatten() {
            if let Some(why) = held.get(&offered.device) {
                offered.state = offered.state.worse(&GpuState::Unhealthy(why.clone())).clone();
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::{Holder, Offered};

    fn offered(device: usize, replica: Option<u32>) -> Offered {
        let device = format!("GPU-{device}");
        Offered {
            id: replica.map_or_else(|| device.clone(), |replica| format!("{device}::{replica}")),
            gpu: device.clone(),
            device,
            instance: None,
            replica,
            one_each: false,
            device_nodes: Vec::new(),
            state: GpuState::Healthy,
            numa_node: None,
        }
    }

    /// Two GPUs, whole or as two shares each.
    fn offers(shared: bool) -> Offers {
        let replicas = if shared { vec![Some(0), Some(1)] } else { vec![None] };
        let devices = (0..2).flat_map(|gpu| replicas.iter().map(move |replica| offered(gpu, *replica)));
        Offers { resources: BTreeMap::from([("r".to_owned(), devices.collect())]), complaints: Vec::new() }
    }

    fn held(ids: &[String]) -> Holdings {
        let holder = Holder {
            pod_uid: "u".to_owned(),
            namespace: "team".to_owned(),
            pod: "p".to_owned(),
            container: "c".to_owned(),
        };
        Holdings::Known(ids.iter().map(|id| (id.clone(), vec![holder.clone()])).collect())
    }

    #[test]
    fn who_has_all_of_a_gpu_shares_it_with_nobody_and_the_other_way_round() {
        let whole = held_otherwise(&offers(true), &held(&["GPU-1".to_owned()]));
        let why = "pod team/p has all of it".to_owned();
        assert_eq!(whole, Some(BTreeMap::from([("GPU-1".to_owned(), why.clone())])));
        let share = held_otherwise(&offers(false), &held(&["GPU-1::0".to_owned()]));
        assert_eq!(share.unwrap()["GPU-1"], "pod team/p has a share of it");
        let kept = offers(true).without(&whole.unwrap());
        let states: Vec<_> = kept.of("r").iter().map(|device| device.state.clone()).collect();
        let (well, ill) = (GpuState::Healthy, GpuState::Unhealthy(why));
        assert_eq!(states, [well.clone(), well, ill.clone(), ill]);
    }

    #[test]
    fn unknown_is_not_nobody() {
        assert_eq!(held_otherwise(&offers(true), &Holdings::Unknown), None);
    }

    proptest! {
        /// What can be given away of a GPU is what pods have of it already, or nobody has any of it.
        #[test]
        fn nobody_gets_a_part_of_what_another_has_as_a_whole(
            shared in any::<bool>(),
            ids in prop::collection::btree_set((0_usize..3, prop::option::of(0_u32..4)), 0..5),
        ) {
            let ids: Vec<_> = ids.into_iter().map(|(gpu, replica)| offered(gpu, replica).id).collect();
            let held = held_otherwise(&offers(shared), &held(&ids)).unwrap();
            let kept = offers(shared).without(&held);
            let free: BTreeSet<_> =
                kept.of("r").iter().filter(|device| device.state.is_offered()).map(|device| &device.gpu).collect();
            for gpu in ["GPU-0", "GPU-1"] {
                let is_otherwise =
                    |id: &String| id.starts_with(gpu) && (id.len() > gpu.len()) != shared;
                prop_assert_eq!(free.contains(&gpu.to_owned()), !ids.iter().any(is_otherwise));
            }
        }
    }
}
