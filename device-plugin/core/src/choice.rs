//! Which of the available GPUs to take: those that work best together, and that leave the best behind.
//!
//! A policy is a comparator: it gives each set of GPUs a cost, and the cheapest set is taken. Up to [`EXHAUSTIVE`] sets all
//! are compared; where there are more, the set is grown GPU by GPU from each start, and the cheapest of those is taken.

use std::{cmp::Reverse, collections::BTreeSet};

use crate::{Inventory, Link};

/// So many sets are compared one by one: all of 16 GPUs, whatever the size.
const EXHAUSTIVE: u128 = 12_870;

/// What a set of GPUs costs, most important first; less is better.
///
/// Pairs without NVLink, then the NVLinks that there are (more is better); then NUMA nodes, and the sum of PCIe distances;
/// then islands of NVLink or NUMA that are broken up: that have something taken and something left; then the order of the
/// GPUs, so that the same question always has the same answer.
type Cost = (usize, Reverse<u64>, usize, u64, usize, Vec<usize>);

/// Which of the available GPUs to take: `size` of them, those that must be included. Fewer only when fewer are available.
pub fn prefer(inventory: &Inventory, available: &[String], required: &[String], size: usize) -> Vec<String> {
    let must: Vec<&String> = required.iter().take(size).collect();
    let free: Vec<&String> = available.iter().filter(|id| !required.contains(id)).collect();
    let board = Board::new(inventory, &must, &free);
    let (fixed, wanted) = (must.len(), size.saturating_sub(must.len()).min(free.len()));
    let best = if combinations(free.len(), wanted) <= EXHAUSTIVE {
        board.cheapest(fixed, wanted)
    } else {
        board.grown(fixed, wanted)
    };
    let chosen = best.into_iter().filter_map(|place| board.gpus.get(place));
    chosen.map(|gpu| gpu.id.clone()).collect()
}

/// The GPUs in question, those that must be taken first, and what connects them.
struct Board {
    gpus: Vec<Placed>,
    links: Vec<Vec<Link>>,
}

/// A GPU, and what decides about it.
struct Placed {
    id: String,
    index: u32,
    numa_node: Option<u32>,
    /// GPUs that NVLink joins, or where there is none, the NUMA node: its name is its first member's place.
    island: usize,
}

impl Board {
    fn new(inventory: &Inventory, must: &[&String], free: &[&String]) -> Self {
        let gpus = must.iter().chain(free).map(|id| {
            let (index, numa_node) =
                inventory.find(id).map_or((u32::MAX, None), |(gpu, _)| (gpu.index, gpu.numa_node));
            Placed { id: (*id).clone(), index, numa_node, island: 0 }
        });
        let mut gpus: Vec<Placed> = gpus.collect();
        // Those that must be taken stay in front; the others in NVML's order.
        gpus[must.len()..].sort_by_key(|gpu| gpu.index);
        let topology = inventory.topology();
        let row = |one: &Placed| gpus.iter().map(|other| topology.link(&one.id, &other.id)).collect();
        let links: Vec<Vec<Link>> = gpus.iter().map(row).collect();
        let mut board = Self { gpus, links };
        board.find_islands();
        board
    }

    fn find_islands(&mut self) {
        let has_nvlink = self.links.iter().flatten().any(|link| link.nvlinks > 0);
        let joined = |one: usize, other: usize| {
            let gpus = &self.gpus;
            if has_nvlink {
                self.links[one][other].nvlinks > 0
            } else {
                gpus[one].numa_node == gpus[other].numa_node
            }
        };
        let mut islands: Vec<Option<usize>> = vec![None; self.gpus.len()];
        for first in 0..islands.len() {
            let mut reached = vec![first];
            while let Some(place) = reached.pop() {
                if islands[place].is_none() {
                    islands[place] = Some(islands[first].unwrap_or(first));
                    reached.extend((0..islands.len()).filter(|other| joined(place, *other)));
                }
            }
        }
        for (gpu, island) in self.gpus.iter_mut().zip(islands) {
            gpu.island = island.unwrap_or_default();
        }
    }

    fn cost(&self, chosen: &[usize]) -> Cost {
        let pairs = || {
            let later = |at: usize| chosen[at + 1..].iter();
            chosen
                .iter()
                .enumerate()
                .flat_map(move |(at, one)| later(at).map(|other| self.links[*one][*other]))
        };
        let unlinked = pairs().filter(|link| link.nvlinks == 0).count();
        let nvlinks = pairs().map(|link| u64::from(link.nvlinks)).sum();
        let numa_nodes: BTreeSet<_> = chosen.iter().map(|place| self.gpus[*place].numa_node).collect();
        let distance = pairs().map(|link| link.distance as u64).sum();
        (unlinked, Reverse(nvlinks), numa_nodes.len(), distance, self.broken(chosen), chosen.to_vec())
    }

    /// Islands of which something is taken and something is left.
    fn broken(&self, chosen: &[usize]) -> usize {
        let taken: BTreeSet<usize> = chosen.iter().map(|place| self.gpus[*place].island).collect();
        let left = (0..self.gpus.len()).filter(|place| !chosen.contains(place));
        let left: BTreeSet<usize> = left.map(|place| self.gpus[place].island).collect();
        taken.intersection(&left).count()
    }

    /// The cheapest of all sets.
    fn cheapest(&self, fixed: usize, wanted: usize) -> Vec<usize> {
        let mut chosen: Vec<usize> = (0..fixed + wanted).collect();
        let mut best = (self.cost(&chosen), chosen.clone());
        while next_combination(&mut chosen[fixed..], self.gpus.len()) {
            let cost = self.cost(&chosen);
            if cost < best.0 {
                best = (cost, chosen.clone());
            }
        }
        best.1
    }

    /// A cheap set, grown by the GPU that costs least each time, from each GPU that can be the first.
    fn grown(&self, fixed: usize, wanted: usize) -> Vec<usize> {
        let starts = fixed..if fixed == 0 { self.gpus.len() } else { fixed + 1 };
        let grow = |start: usize| {
            let mut chosen: Vec<usize> = if fixed == 0 { vec![start] } else { (0..fixed).collect() };
            while chosen.len() < fixed + wanted {
                let rest = (0..self.gpus.len()).filter(|place| !chosen.contains(place));
                let with = |place: usize| [&chosen[..], &[place]].concat();
                match rest.min_by_key(|place| self.cost(&with(*place))) {
                    Some(place) => chosen.push(place),
                    None => break,
                }
            }
            chosen.sort_unstable();
            chosen
        };
        starts.map(grow).min_by_key(|chosen| self.cost(chosen)).unwrap_or_default()
    }
}

/// The next set in order: `chosen` are ascending places below `count`.
fn next_combination(chosen: &mut [usize], count: usize) -> bool {
    let size = chosen.len();
    let Some(at) = (0..size).rfind(|at| chosen[*at] < count - size + at) else { return false };
    chosen[at] += 1;
    for next in at + 1..size {
        chosen[next] = chosen[next - 1] + 1;
    }
    true
}

/// How many sets of that size there are; saturating.
fn combinations(count: usize, size: usize) -> u128 {
    (0..size.min(count - size))
        .fold(1, |sets: u128, at| sets.saturating_mul((count - at) as u128) / (at as u128 + 1))
}

#[cfg(test)]
mod tests {
    use proptest::{
        collection::{btree_set, vec},
        prelude::*,
    };

    use super::*;
    use crate::{Distance, Gpu, HealthRules, Look, Scan, Seen, Signs, Topology};

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

    #[test]
    fn gpus_that_nvlink_joins_go_together_before_those_of_one_numa_node() {
        let links = [((0, 2), nvlinks(4)), ((1, 3), nvlinks(2))];
        let inventory = node(&[0, 0, 1, 1], &links);
        assert_eq!(prefer(&inventory, &names(&[0, 1, 2, 3]), &[], 2), names(&[0, 2]), "most links");
        assert_eq!(prefer(&inventory, &names(&[0, 1, 3]), &[], 2), names(&[1, 3]));
        assert_eq!(prefer(&inventory, &names(&[0, 1, 2, 3]), &names(&[3]), 2), names(&[3, 1]));
    }

    #[test]
    fn without_nvlink_the_numa_node_decides_and_then_pcie() {
        let links = [((2, 3), at(Distance::HostBridge)), ((2, 4), at(Distance::Switch))];
        let inventory = node(&[0, 1, 1, 1, 1], &links);
        assert_eq!(prefer(&inventory, &names(&[0, 1, 2, 3, 4]), &[], 2), names(&[2, 4]));
    }

    #[test]
    fn an_island_that_is_begun_is_used_up_before_another_is_broken() {
        // Two GPUs are left of the first four, all four of the others.
        let all = |range: std::ops::Range<usize>| {
            range
                .clone()
                .flat_map(move |one| (one + 1..range.end).map(move |other| ((one, other), nvlinks(1))))
        };
        let links: Vec<_> = all(0..4).chain(all(4..8)).collect();
        let inventory = node(&[0; 8], &links);
        let available = names(&[2, 3, 4, 5, 6, 7]);
        assert_eq!(prefer(&inventory, &available, &[], 2), names(&[2, 3]));
        assert_eq!(prefer(&inventory, &available, &[], 4), names(&[4, 5, 6, 7]));
        assert_eq!(prefer(&inventory, &names(&[4, 5, 6, 7, 0]), &[], 1), names(&[0]), "the odd one first");
    }

    #[test]
    fn many_devices_are_chosen_in_a_moment_and_stay_together() {
        let numa_of: Vec<u32> = (0..64).map(|index| index / 16).collect();
        let inventory = node(&numa_of, &[]);
        let available: Vec<usize> = (0..64).collect();
        let chosen = prefer(&inventory, &names(&available), &names(&[17]), 16);
        let numa: BTreeSet<_> = chosen.iter().map(|id| inventory.find(id).unwrap().0.numa_node).collect();
        assert_eq!((chosen.len(), numa.len()), (16, 1));
    }

    #[test]
    fn more_than_there_are_is_all_that_there_are() {
        let inventory = node(&[0, 0], &[]);
        assert_eq!(prefer(&inventory, &names(&[0, 1]), &[], 5), names(&[0, 1]));
        assert_eq!(prefer(&inventory, &[], &[], 1), Vec::<String>::new());
        let unknown = vec!["GPU-of-another-node".to_owned()];
        assert_eq!(prefer(&inventory, &unknown, &[], 1), unknown, "Allocate says what is wrong with it");
    }

    /// The same order of sets, told in another way: by a bit mask over all GPUs, straight from what each rule says.
    fn worth(
        inventory: &Inventory,
        offered: &[usize],
        mask: u32,
    ) -> (usize, Reverse<u64>, usize, u64, usize) {
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
                    let joined =
                        if linked { link(*one, *other).nvlinks > 0 } else { numa(*one) == numa(*other) };
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
            let chosen = prefer(&inventory, &names(&offered), &names(&must), size);
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
            let board = Board::new(&inventory, &must.iter().collect::<Vec<_>>(), &free.iter().collect::<Vec<_>>());
            let grown = board.grown(fixed, wanted);
            prop_assert_eq!(grown.iter().collect::<BTreeSet<_>>().len(), fixed + wanted);
            prop_assert!((0..fixed).all(|place| grown.contains(&place)));
        }
    }
}
