//! Which devices are preferred, and that none are better.

use proptest::{
    collection::{btree_set, vec},
    prelude::*,
};

use super::*;
use crate::{
    Distance, Gpu, GpuState, HealthRules, Instance, Inventory, Look, Policy, Scan, Seen, Signs, Topology,
    offers,
};

fn name(index: usize) -> String {
    format!("GPU-{index:02}")
}

fn names(indexes: &[usize]) -> Vec<String> {
    indexes.iter().map(|index| name(*index)).collect()
}

fn node(numa_of: &[u32], links: &[((usize, usize), Link)]) -> Inventory {
    let gpus = numa_of.iter().enumerate().map(|(index, numa)| Seen::Answered {
        gpu: Gpu {
            uuid: name(index),
            index: u32::try_from(index).unwrap(),
            numa_node: Some(*numa),
            ..Gpu::default()
        },
        signs: Signs::default(),
    });
    let mut topology = Topology::default();
    links.iter().for_each(|((one, other), link)| topology.connect(&name(*one), &name(*other), *link));
    let mut inventory = Inventory::new(HealthRules::default());
    inventory.observe(Scan::Looked(Look { gpus: gpus.collect(), topology, ..Look::default() }));
    inventory
}

fn nvlinks(count: u32) -> Link {
    Link { nvlinks: count, distance: Distance::Machine }
}

fn at(distance: Distance) -> Link {
    Link { nvlinks: 0, distance }
}

fn prefer_of(inventory: &Inventory, available: &[String], required: &[String], size: usize) -> Vec<String> {
    let policy = Policy { resource: "r".to_owned(), ..Policy::default() };
    let wish = Wish { available, required, size };
    prefer(offers(inventory, &policy).of("r"), inventory.topology(), wish, Placement::Distributed)
}

#[test]
fn gpus_that_nvlink_joins_go_together_before_those_of_one_numa_node() {
    let links = [((0, 2), nvlinks(4)), ((1, 3), nvlinks(2))];
    let inventory = node(&[0, 0, 1, 1], &links);
    assert_eq!(prefer_of(&inventory, &names(&[0, 1, 2, 3]), &[], 2), names(&[0, 2]), "most links");
    assert_eq!(prefer_of(&inventory, &names(&[0, 1, 3]), &[], 2), names(&[1, 3]));
    assert_eq!(prefer_of(&inventory, &names(&[0, 1, 2, 3]), &names(&[3]), 2), names(&[3, 1]));
}

#[test]
fn without_nvlink_the_numa_node_decides_and_then_pcie() {
    let links = [((2, 3), at(Distance::HostBridge)), ((2, 4), at(Distance::Switch))];
    let inventory = node(&[0, 1, 1, 1, 1], &links);
    assert_eq!(prefer_of(&inventory, &names(&[0, 1, 2, 3, 4]), &[], 2), names(&[2, 4]));
}

#[test]
fn an_island_that_is_begun_is_used_up_before_another_is_broken() {
    // Two GPUs are left of the first four, all four of the others.
    let all = |range: std::ops::Range<usize>| {
        range.clone().flat_map(move |one| (one + 1..range.end).map(move |other| ((one, other), nvlinks(1))))
    };
    let links: Vec<_> = all(0..4).chain(all(4..8)).collect();
    let inventory = node(&[0; 8], &links);
    let available = names(&[2, 3, 4, 5, 6, 7]);
    assert_eq!(prefer_of(&inventory, &available, &[], 2), names(&[2, 3]));
    assert_eq!(prefer_of(&inventory, &available, &[], 4), names(&[4, 5, 6, 7]));
    assert_eq!(prefer_of(&inventory, &names(&[4, 5, 6, 7, 0]), &[], 1), names(&[0]), "the odd one first");
}

#[test]
fn many_devices_are_chosen_in_a_moment_and_stay_together() {
    let numa_of: Vec<u32> = (0..64).map(|index| index / 16).collect();
    let inventory = node(&numa_of, &[]);
    let available: Vec<usize> = (0..64).collect();
    let chosen = prefer_of(&inventory, &names(&available), &names(&[17]), 16);
    let numa: BTreeSet<_> = chosen.iter().map(|id| inventory.find(id).unwrap().0.numa_node).collect();
    assert_eq!((chosen.len(), numa.len()), (16, 1));
}

#[test]
fn more_than_there_are_is_all_that_there_are() {
    let inventory = node(&[0, 0], &[]);
    assert_eq!(prefer_of(&inventory, &names(&[0, 1]), &[], 5), names(&[0, 1]));
    assert_eq!(prefer_of(&inventory, &[], &[], 1), Vec::<String>::new());
    let unknown = vec!["GPU-of-another-node".to_owned()];
    assert_eq!(prefer_of(&inventory, &unknown, &[], 1), unknown, "Allocate says what is wrong with it");
}

/// The same order of sets, told in another way: by a bit mask over all GPUs, straight from what each rule says.
fn worth(inventory: &Inventory, offered: &[usize], mask: u32) -> (usize, Reverse<u64>, usize, u64, usize) {
    let has = |index: usize| mask >> index & 1 == 1;
    let link = |one: usize, other: usize| inventory.topology().link(&name(one), &name(other));
    let numa = |index: usize| inventory.find(&name(index)).unwrap().0.numa_node;
    let (mut unlinked, mut nvlinks, mut distance) = (0, 0, 0);
    for one in 0..8 {
        for other in one + 1..8 {
            if has(one) && has(other) {
                unlinked += usize::from(link(one, other).nvlinks == 0);
                nvlinks += u64::from(link(one, other).nvlinks);
                distance += link(one, other).distance as u64;
            }
        }
    }
    let numa_nodes: BTreeSet<_> = (0..8).filter(|index| has(*index)).map(numa).collect();
    let linked = offered.iter().any(|one| offered.iter().any(|other| link(*one, *other).nvlinks > 0));
    // Islands by spreading a colour until nothing changes.
    let mut island: Vec<usize> = (0..8).collect();
    for _ in 0..8 {
        for one in offered {
            for other in offered {
                let joined = if linked { link(*one, *other).nvlinks > 0 } else { numa(*one) == numa(*other) };
                if joined {
                    island[*one] = island[*one].min(island[*other]);
                }
            }
        }
    }
    let part = |taken: bool| -> BTreeSet<usize> {
        offered.iter().filter(|index| has(**index) == taken).map(|index| island[*index]).collect()
    };
    let broken = part(true).intersection(&part(false)).count();
    (unlinked, Reverse(nvlinks), numa_nodes.len(), distance, broken)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn nothing_is_better_than_what_is_preferred(
        numa_of in vec(0_u32..3, 8),
        joined in vec((0_usize..8, 0_usize..8, 0_u32..4, 0_usize..6), 0..20),
        available in btree_set(0_usize..8, 1..=8),
        required in 0_usize..4,
        size in 1_usize..=8,
    ) {
        const DISTANCES: [Distance; 6] = [Distance::Board, Distance::Switch, Distance::Switches,
            Distance::HostBridge, Distance::Node, Distance::Machine];
        let links: Vec<_> = joined.into_iter().filter(|(one, other, ..)| one != other)
            .map(|(one, other, nvlinks, distance)| ((one, other), Link { nvlinks, distance: DISTANCES[distance] }))
            .collect();
        let inventory = node(&numa_of, &links);
        let offered: Vec<usize> = available.into_iter().collect();
        let size = size.min(offered.len());
        // Not the first ones, which the order alone would prefer.
        let must: Vec<usize> = offered.iter().rev().take(required.min(size)).copied().collect();
        let chosen = prefer_of(&inventory, &names(&offered), &names(&must), size);
        let mask = chosen.iter().fold(0_u32, |mask, id| mask | 1 << inventory.find(id).unwrap().0.index);
        prop_assert_eq!((mask.count_ones() as usize, chosen.len()), (size, size), "distinct, and as many as asked");
        prop_assert!(must.iter().all(|index| mask >> index & 1 == 1));
        prop_assert!((0..8).all(|index| mask >> index & 1 == 0 || offered.contains(&index)));
        let ours = worth(&inventory, &offered, mask);
        for other in 0_u32..256 {
            let is_a_choice = other.count_ones() as usize == size
                && must.iter().all(|index| other >> index & 1 == 1)
                && (0..8).all(|index| other >> index & 1 == 0 || offered.contains(&index));
            if is_a_choice {
                prop_assert!(ours <= worth(&inventory, &offered, other), "{other:08b} is better than {mask:08b}");
            }
        }
    }

    #[test]
    fn growing_gives_a_set_of_the_right_kind(numa_of in vec(0_u32..4, 8), fixed in 0_usize..3, wanted in 1_usize..5) {
        let inventory = node(&numa_of, &[]);
        let (must, free): (Vec<usize>, Vec<usize>) = (0..8).partition(|index| *index < fixed);
        let (must, free) = (names(&must), names(&free));
        let (must, free): (Vec<_>, Vec<_>) = (must.iter().collect(), free.iter().collect());
        let policy = Policy { resource: "r".to_owned(), ..Policy::default() };
        let offers = offers(&inventory, &policy);
        let asked = (&must[..], &free[..], wanted);
        let board = Board::new(offers.of("r"), inventory.topology(), asked, Placement::Distributed);
        let grown = board.grown(fixed, wanted);
        prop_assert_eq!(grown.iter().collect::<BTreeSet<_>>().len(), fixed + wanted);
        prop_assert!((0..fixed).all(|place| grown.contains(&place)));
    }
}

/// So many replicas of each GPU, or where `parts`, so many parts.
fn divided(gpus: usize, each: u32, parts: bool) -> Vec<Offered> {
    let device = |gpu: usize, part: u32| {
        let (id, instance) = (format!("{}::{part}", name(gpu)), Instance { gpu: part, compute: 0 });
        Offered {
            device: if parts { id.clone() } else { name(gpu) },
            id,
            gpu: name(gpu),
            instance: parts.then_some(instance),
            replica: (!parts).then_some(part),
            one_each: false,
            device_nodes: Vec::new(),
            state: GpuState::Healthy,
            numa_node: None,
        }
    };
    (0..gpus).flat_map(|gpu| (0..each).map(move |part| device(gpu, part))).collect()
}

fn ids(of: &[(usize, u32)]) -> Vec<String> {
    of.iter().map(|(gpu, part)| format!("{}::{part}", name(*gpu))).collect()
}

#[test]
fn a_container_gets_replicas_of_different_gpus_as_long_as_there_are_any() {
    let offer = divided(3, 4, false);
    let all: Vec<String> = offer.iter().map(|device| device.id.clone()).collect();
    let choose = |available: &[String], required: &[String], size| {
        prefer(&offer, &Topology::default(), Wish { available, required, size }, Placement::Distributed)
    };
    assert_eq!(choose(&all, &[], 3), ids(&[(0, 0), (1, 0), (2, 0)]));
    assert_eq!(choose(&all, &[], 5).iter().filter(|id| id.starts_with("GPU-02")).count(), 1);
    assert_eq!(choose(&ids(&[(0, 1), (0, 2), (1, 3)]), &ids(&[(0, 1)]), 2), ids(&[(0, 1), (1, 3)]));
    assert_eq!(choose(&ids(&[(0, 1), (0, 2)]), &[], 2), ids(&[(0, 1), (0, 2)]), "unavoidable");
}

#[test]
fn containers_that_share_are_spread_or_packed() {
    let offer = divided(3, 3, false);
    // Two of the first GPU's replicas are taken, one of the second's.
    let available = ids(&[(0, 2), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]);
    let choose = |placement| {
        let wish = Wish { available: &available, required: &[], size: 1 };
        prefer(&offer, &Topology::default(), wish, placement)
    };
    assert_eq!(choose(Placement::Distributed), ids(&[(2, 0)]));
    assert_eq!(choose(Placement::Packed), ids(&[(0, 2)]));
}

#[test]
fn a_gpu_whose_parts_are_given_away_is_used_up_before_another_is_begun() {
    let offer = divided(3, 7, true);
    let available = ids(&[(0, 0), (0, 1), (0, 2), (0, 3), (1, 5), (1, 6), (2, 4)]);
    let choose = |size| {
        let wish = Wish { available: &available, required: &[], size };
        prefer(&offer, &Topology::default(), wish, Placement::Distributed)
    };
    assert_eq!(choose(1), ids(&[(2, 4)]));
    assert_eq!(choose(2), ids(&[(1, 5), (1, 6)]));
    assert_eq!(choose(3), ids(&[(1, 5), (1, 6), (2, 4)]));
}

/// What is wrong with a choice of replicas, told in another way: by how many of each GPU are taken.
fn harm(
    taken: &[usize; 4],
    free: &[usize; 4],
    links: &[[u32; 4]; 4],
    placement: Placement,
) -> (usize, usize, Reverse<u32>, i64) {
    let siblings = taken.iter().map(|count| count * count.saturating_sub(1) / 2).sum();
    let (mut unlinked, mut nvlinks) = (0, 0);
    for one in 0..4 {
        for other in one + 1..4 {
            let pairs = taken[one] * taken[other];
            let count = links[one][other].max(links[other][one]);
            unlinked += if count == 0 { pairs } else { 0 };
            nvlinks += count * u32::try_from(pairs).unwrap();
        }
    }
    let begun: usize = (0..4).filter(|gpu| taken[*gpu] > 0).map(|gpu| free[gpu]).sum();
    let begun = i64::try_from(begun).unwrap();
    let begun = if placement == Placement::Packed { begun } else { -begun };
    (siblings, unlinked, Reverse(nvlinks), begun)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn no_spread_of_replicas_is_better_than_what_is_preferred(
        free in [0_usize..5, 0_usize..5, 0_usize..5, 0_usize..5],
        links in [[0_u32..3, 0..3, 0..3, 0..3], [0..3, 0..3, 0..3, 0..3], [0..3, 0..3, 0..3, 0..3], [0..3, 0..3, 0..3, 0..3]],
        required in 0_usize..3,
        size in 1_usize..7,
        packed in any::<bool>(),
    ) {
        let placement = if packed { Placement::Packed } else { Placement::Distributed };
        let mut topology = Topology::default();
        for (one, row) in links.iter().enumerate() {
            for (other, count) in row.iter().enumerate().skip(one + 1) {
                let nvlinks = (*count).max(links[other][one]);
                topology.connect(&name(one), &name(other), Link { nvlinks, distance: Distance::Node });
            }
        }
        let available: Vec<(usize, u32)> =
            (0..4).flat_map(|gpu| (0..u32::try_from(free[gpu]).unwrap()).map(move |part| (gpu, part))).collect();
        let size = size.min(available.len());
        let must: Vec<_> = available.iter().rev().take(required.min(size)).copied().collect();
        let wish = Wish { available: &ids(&available), required: &ids(&must), size };
        let chosen = prefer(&divided(4, 5, false), &topology, wish, placement);
        prop_assert_eq!(chosen.iter().collect::<BTreeSet<_>>().len(), size);
        prop_assert!(ids(&must).iter().all(|id| chosen.contains(id)));
        let count = |of: &[String], gpu: usize| of.iter().filter(|id| id.starts_with(&name(gpu))).count();
        let counts = |of: &[String]| std::array::from_fn::<_, 4, _>(|gpu| count(of, gpu));
        let (least, most) = (counts(&ids(&must)), counts(&ids(&available)));
        // What is free once those that must be taken are.
        let left = std::array::from_fn(|gpu| most[gpu] - least[gpu]);
        let ours = harm(&counts(&chosen), &left, &links, placement);
        let choices = (0..6_usize.pow(4)).map(|code| [code % 6, code / 6 % 6, code / 36 % 6, code / 216]);
        for other in choices.filter(|other| other.iter().sum::<usize>() == size) {
            if (0..4).all(|gpu| (least[gpu]..=most[gpu]).contains(&other[gpu])) {
                prop_assert!(ours <= harm(&other, &left, &links, placement), "{other:?} is better than {chosen:?}");
            }
        }
    }
}
