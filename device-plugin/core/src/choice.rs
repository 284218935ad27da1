//! Which of the available devices to take: those that work best together, and that leave the best behind.
//!
//! A policy is a comparator: it gives each set of devices a cost, and the cheapest set is taken. Up to [`EXHAUSTIVE`] sets
//! all are compared; where there are more, the set is grown device by device from each start, and the cheapest of those is
//! taken.

mod spread;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use crate::{Link, Offered, Topology};

/// So many sets are compared one by one: all of 16 GPUs, whatever the size.
const EXHAUSTIVE: u128 = 12_870;

/// What a set of devices costs, most important first; less is better.
///
/// Pairs of replicas of one device; pairs of GPUs without NVLink, then the NVLinks that there are (more is better); then NUMA
/// nodes, and the sum of PCIe distances; then islands that are broken up: that have something taken and something left; then
/// what is free on the devices or GPUs that are taken from; then the order of the devices, so that the same question always
/// has the same answer.
type Cost = (usize, usize, Reverse<u64>, usize, u64, usize, i64, Vec<usize>);

/// Where the next container goes that shares a device with others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// To the device with the fewest others: each gets as much of it as there is.
    #[default]
    Distributed,
    /// To the device with the most others: the rest stays free.
    Packed,
}

/// One question of the kubelet.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The ids of those that can be taken.
    pub available: &'a [String],
    /// Of these, the ids of those that must be.
    pub required: &'a [String],
    /// How many to take.
    pub size: usize,
}

/// Which of a resource's available devices to take. Fewer than were asked for only when fewer are available.
pub fn prefer(offer: &[Offered], topology: &Topology, wish: Wish<'_>, placement: Placement) -> Vec<String> {
    let must: Vec<&String> = wish.required.iter().take(wish.size).collect();
    let free: Vec<&String> = wish.available.iter().filter(|id| !wish.required.contains(id)).collect();
    let (fixed, wanted) = (must.len(), wish.size.saturating_sub(must.len()).min(free.len()));
    let board = Board::new(offer, topology, (&must, &free, wanted), placement);
    let best = if combinations(board.devices.len() - fixed, wanted) <= EXHAUSTIVE {
        board.cheapest(fixed, wanted)
    } else {
        board.grown(fixed, wanted)
    };
    let chosen = best.into_iter().filter_map(|place| board.devices.get(place));
    chosen.map(|device| device.id.clone()).collect()
}

/// The first of the available devices in the offer's order, after those that must be included: for when there is no time to
/// compare.
pub fn first_of(offer: &[Offered], wish: Wish<'_>) -> Vec<String> {
    let order = |id: &&String| offer.iter().position(|device| device.id == **id).unwrap_or(usize::MAX);
    let mut free: Vec<&String> = wish.available.iter().filter(|id| !wish.required.contains(id)).collect();
    free.sort_by_cached_key(order);
    wish.required.iter().chain(free).take(wish.size).cloned().collect()
}

/// What the devices of a resource are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Whole GPUs: what connects them decides.
    Whole,
    /// Parts of GPUs. Nothing connects them (NVIDIA's MIG User Guide: no peer-to-peer), so GPUs that are begun are used up.
    Parts,
    /// Replicas: two of one device are no faster than one.
    Replicas(Placement),
}

/// The devices in question, those that must be taken first, and what connects their GPUs.
struct Board {
    kind: Kind,
    devices: Vec<Placed>,
    links: Vec<Vec<Link>>,
}

/// A device, and what decides about it.
struct Placed {
    id: String,
    gpu: String,
    order: usize,
    numa_node: Option<u32>,
    /// GPUs that NVLink joins, or where there is none, the NUMA node: its name is its first member's place.
    island: usize,
    /// What it shares with others: the device with its replicas, the GPU with its parts.
    whole: String,
    /// How much of that is free.
    free: i64,
}

impl Placed {
    fn new(kind: Kind, order: usize, device: &Offered) -> Self {
        let whole = match kind {
            Kind::Parts => &device.gpu,
            Kind::Whole | Kind::Replicas(_) => &device.device,
        };
        let (id, gpu, whole) = (device.id.clone(), device.gpu.clone(), whole.clone());
        Self { id, gpu, order, numa_node: device.numa_node, island: 0, whole, free: 0 }
    }

    /// Something that isn't offered: `Allocate` will say so.
    fn unknown(id: &str) -> Self {
        let id = id.to_owned();
        let (gpu, whole) = (id.clone(), id.clone());
        Self { id, gpu, order: usize::MAX, numa_node: None, island: 0, whole, free: 0 }
    }
}

impl Board {
    fn new(
        offer: &[Offered],
        topology: &Topology,
        (must, free, wanted): (&[&String], &[&String], usize),
        placement: Placement,
    ) -> Self {
        let kind = match offer.first() {
            Some(Offered { replica: Some(_), .. }) => Kind::Replicas(placement),
            Some(Offered { instance: Some(_), .. }) => Kind::Parts,
            _ => Kind::Whole,
        };
        let found: BTreeMap<&String, (usize, &Offered)> =
            offer.iter().enumerate().map(|(order, device)| (&device.id, (order, device))).collect();
        let place = |id: &&String| match found.get(*id) {
            Some((order, device)) => Placed::new(kind, *order, device),
            None => Placed::unknown(id),
        };
        let mut devices: Vec<Placed> = must.iter().chain(free).map(place).collect();
        // Those that must be taken stay in front; the others in NVML's order.
        devices[must.len()..].sort_by_key(|device| device.order);
        let mut free_of: BTreeMap<String, i64> = BTreeMap::new();
        devices[must.len()..]
            .iter()
            .for_each(|device| *free_of.entry(device.whole.clone()).or_default() += 1);
        devices.iter_mut().for_each(|device| device.free = free_of.get(&device.whole).copied().unwrap_or(0));
        if matches!(kind, Kind::Replicas(_)) {
            spread::thin(&mut devices, must.len(), wanted);
        }
        let row = |one: &Placed| devices.iter().map(|other| topology.link(&one.gpu, &other.gpu)).collect();
        let links: Vec<Vec<Link>> = devices.iter().map(row).collect();
        let mut board = Self { kind, devices, links };
        board.find_islands();
        board
    }

    fn find_islands(&mut self) {
        let has_nvlink = self.links.iter().flatten().any(|link| link.nvlinks > 0);
        let joined = |one: usize, other: usize| {
            let gpus = &self.devices;
            if self.kind == Kind::Parts {
                gpus[one].whole == gpus[other].whole
            } else if has_nvlink {
                self.links[one][other].nvlinks > 0
            } else {
                gpus[one].numa_node == gpus[other].numa_node
            }
        };
        let mut islands: Vec<Option<usize>> = vec![None; self.devices.len()];
        for first in 0..islands.len() {
            let mut reached = vec![first];
            while let Some(place) = reached.pop() {
                if islands[place].is_none() {
                    islands[place] = Some(islands[first].unwrap_or(first));
                    reached.extend((0..islands.len()).filter(|other| joined(place, *other)));
                }
            }
        }
        for (gpu, island) in self.devices.iter_mut().zip(islands) {
            gpu.island = island.unwrap_or_default();
        }
    }

    fn cost(&self, chosen: &[usize]) -> Cost {
        let is_one = |one: usize, other: usize| self.devices[one].whole == self.devices[other].whole;
        let pairs = || {
            let later = |at: usize| chosen[at + 1..].iter();
            chosen.iter().enumerate().flat_map(move |(at, one)| later(at).map(move |other| (*one, *other)))
        };
        let links = || {
            let apart = pairs().filter(|(one, other)| self.kind != Kind::Parts && !is_one(*one, *other));
            apart.map(|(one, other)| self.links[one][other])
        };
        let siblings = match self.kind {
            Kind::Replicas(_) => pairs().filter(|(one, other)| is_one(*one, *other)).count(),
            Kind::Whole | Kind::Parts => 0,
        };
        let unlinked = links().filter(|link| link.nvlinks == 0).count();
        let nvlinks = links().map(|link| u64::from(link.nvlinks)).sum();
        let numa_nodes: BTreeSet<_> = chosen.iter().map(|place| self.devices[*place].numa_node).collect();
        let distance = links().map(|link| link.distance as u64).sum();
        let (broken, free) = (self.broken(chosen), self.free(chosen));
        (siblings, unlinked, Reverse(nvlinks), numa_nodes.len(), distance, broken, free, chosen.to_vec())
    }

    /// What is free on what is taken from, each counted once; the other way round where much is good.
    fn free(&self, chosen: &[usize]) -> i64 {
        let wholes: BTreeMap<&str, i64> = chosen
            .iter()
            .map(|place| (self.devices[*place].whole.as_str(), self.devices[*place].free))
            .collect();
        let free: i64 = wholes.values().sum();
        match self.kind {
            Kind::Whole => 0,
            Kind::Parts | Kind::Replicas(Placement::Packed) => free,
            Kind::Replicas(Placement::Distributed) => -free,
        }
    }

    /// Islands of which something is taken and something is left.
    fn broken(&self, chosen: &[usize]) -> usize {
        // Every replica that is taken leaves others.
        if matches!(self.kind, Kind::Replicas(_)) {
            return 0;
        }
        let taken: BTreeSet<usize> = chosen.iter().map(|place| self.devices[*place].island).collect();
        let left = (0..self.devices.len()).filter(|place| !chosen.contains(place));
        let left: BTreeSet<usize> = left.map(|place| self.devices[place].island).collect();
        taken.intersection(&left).count()
    }

    /// The cheapest of all sets.
    fn cheapest(&self, fixed: usize, wanted: usize) -> Vec<usize> {
        let mut chosen: Vec<usize> = (0..fixed + wanted).collect();
        let mut best = (self.cost(&chosen), chosen.clone());
        while next_combination(&mut chosen[fixed..], self.devices.len()) {
            let cost = self.cost(&chosen);
            if cost < best.0 {
                best = (cost, chosen.clone());
            }
        }
        best.1
    }

    /// A cheap set, grown by the GPU that costs least each time, from each GPU that can be the first.
    fn grown(&self, fixed: usize, wanted: usize) -> Vec<usize> {
        let starts = fixed..if fixed == 0 { self.devices.len() } else { fixed + 1 };
        let grow = |start: usize| {
            let mut chosen: Vec<usize> = if fixed == 0 { vec![start] } else { (0..fixed).collect() };
            while chosen.len() < fixed + wanted {
                let rest = (0..self.devices.len()).filter(|place| !chosen.contains(place));
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
mod tests;
