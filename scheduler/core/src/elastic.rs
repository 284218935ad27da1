//! Groups of which more pods wait than must be placed at once: as many as fit are placed, and never fewer than must start
//! together. Who fits is taken by age; who doesn't keeps nobody else waiting.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use crate::{
    around,
    cluster::Cluster,
    missing,
    node::{NodeId, PodId},
    plan::{Alike, Blocker, Decision},
};

/// How many pods of a kind that aren't like one another in all that matters are passed over, one by one, before all of the
/// kind are.
const PASSED_OVER: usize = 8;
/// After so many looks at nodes no more is tried, and what was found by then is taken.
const LOOKS: u64 = 1_000_000;
/// For how many kinds of pods that each stand alone it is said what is missing.
const TOLD: usize = 4;

/// The pods of a group that wait.
pub(crate) struct Wanted {
    pub(crate) all: Vec<Alike>,
    /// How many of them must be placed at once at least.
    pub(crate) enough: usize,
}

/// A pod in its place among those that are tried: its kind, by number.
type Place = (usize, PodId);

/// Pods, and a node for each of them.
type Found = (Vec<Alike>, Vec<NodeId>);

impl Wanted {
    /// Whether fewer than all will do.
    pub(crate) fn has_choice(&self) -> bool {
        self.enough < self.pods()
    }

    /// How many of each kind are placed at least, whichever pods are chosen.
    pub(crate) fn least(&self) -> impl Iterator<Item = (&Alike, usize)> {
        let to_spare = self.pods() - self.enough;
        self.all.iter().map(move |alike| (alike, alike.pods.len().saturating_sub(to_spare)))
    }

    fn pods(&self) -> usize {
        self.all.iter().map(|alike| alike.pods.len()).sum()
    }

    fn of(&self, chosen: &[Place]) -> Vec<Alike> {
        let chosen: BTreeSet<PodId> = chosen.iter().map(|(_, pod)| *pod).collect();
        let of_kind = |alike: &Alike| {
            let pods: Vec<PodId> = alike.pods.iter().filter(|id| chosen.contains(id)).copied().collect();
            (!pods.is_empty()).then(|| Alike { kind: alike.kind.clone(), pods })
        };
        self.all.iter().filter_map(of_kind).collect()
    }
}

impl Cluster {
    /// How many of a group's pods that wait must be placed: all, but for an upstream PodGroup, of which only those must that
    /// are missing to its `minCount`. Where none is missing, each of them stands alone.
    pub(crate) fn wanted(&self, key: &str, all: Vec<Alike>) -> Wanted {
        let mut wanted = Wanted { all, enough: 0 };
        let missing = self.min_count(key).map(|min| min.saturating_sub(self.bound_of(key)).max(1));
        wanted.enough = missing.unwrap_or(usize::MAX).min(wanted.pods());
        wanted
    }

    /// Nodes for all of the pods, or for as many of them as can be had, if these are enough. If not, says again what is
    /// wanted.
    pub(crate) fn find_most(&mut self, wanted: Wanted) -> Result<Found, Wanted> {
        if let Some(places) = self.find_room(&wanted.all) {
            return Ok((wanted.all, places));
        }
        if !wanted.has_choice() {
            return Err(wanted);
        }
        let until = self.looks().saturating_add(LOOKS);
        let mut orders = self.orders(&wanted).into_iter();
        orders.find_map(|order| self.find_in_order(&wanted, order, until)).ok_or(wanted)
    }

    /// Just enough of the pods, in the ways in which it is tried to make room for them.
    pub(crate) fn fewest(&self, wanted: &Wanted) -> Vec<Vec<Alike>> {
        if !wanted.has_choice() {
            return vec![wanted.all.clone()];
        }
        self.orders(wanted).iter().map(|order| wanted.of(&order[..wanted.enough])).collect()
    }

    /// Says what is missing for a group: for just enough of its pods; where each of them stands alone, for one of each kind.
    pub(crate) fn missing(&mut self, key: &str, wanted: &Wanted) -> Decision {
        let is_each_alone = wanted.has_choice() && wanted.enough == 1 && wanted.all.len() > 1;
        if !is_each_alone {
            let first = self.fewest(wanted).into_iter().next().unwrap_or_default();
            return missing::hold(self, key, &first);
        }
        let (mut messages, mut blockers) = (Vec::new(), Vec::<Blocker>::new());
        for Alike { kind, pods } in wanted.all.iter().take(TOLD) {
            let one = Alike { kind: kind.clone(), pods: pods[..1].to_vec() };
            if let Decision::Hold { message, blockers: of_one, .. } = missing::hold(self, key, &[one]) {
                messages.push(format!("{}: {message}", self.name_of(pods.first())));
                let news: Vec<Blocker> =
                    of_one.into_iter().filter(|blocker| !blockers.contains(blocker)).collect();
                blockers.extend(news);
            }
        }
        if wanted.all.len() > TOLD {
            messages.push("…".to_owned());
        }
        Decision::Hold { group: key.to_owned(), message: messages.join("; "), blockers }
    }

    /// The pods in the order in which they are taken: those for which nodes are kept, then the oldest; where they are of
    /// several kinds, also those that ask for the least first.
    fn orders(&self, wanted: &Wanted) -> Vec<Vec<Place>> {
        let pods = wanted.all.iter().enumerate();
        let pods = pods.flat_map(|(kind, alike)| alike.pods.iter().map(move |pod| (kind, *pod)));
        let mut oldest: Vec<Place> = pods.collect();
        oldest.sort_by_cached_key(|(_, id)| {
            let known = self.known(*id);
            known.map(|known| (known.reserved.is_none(), known.pod.created, known.pod.name.clone()))
        });
        let mut orders = vec![oldest];
        if wanted.all.len() > 1 {
            let is_kept = |pod: PodId| self.known(pod).is_some_and(|known| known.reserved.is_some());
            let mut smallest = orders[0].clone();
            smallest.sort_by_key(|(kind, pod)| (!is_kept(*pod), Reverse(*kind)));
            orders.push(smallest);
        }
        orders
    }

    /// Takes as many as fit in this order, without those that don't fit beside the ones before them. All together are known
    /// not to fit.
    fn find_in_order(&mut self, wanted: &Wanted, mut order: Vec<Place>, until: u64) -> Option<Found> {
        let mut passed_over: BTreeMap<usize, usize> = BTreeMap::new();
        let (mut found, mut fit, mut too_many) = (None, 0, order.len());
        while fit < order.len() && order.len() >= wanted.enough && self.looks() < until {
            while fit + 1 < too_many && self.looks() < until {
                let some = wanted.of(&order[..fit.midpoint(too_many)]);
                match self.find_room(&some) {
                    Some(places) => {
                        fit = fit.midpoint(too_many);
                        found = Some((fit, (some, places)));
                    }
                    None => too_many = fit.midpoint(too_many),
                }
            }
            let Some((misfit, _)) = order.get(fit).copied() else { break };
            let passed = passed_over.entry(misfit).or_default();
            *passed += 1;
            if *passed < PASSED_OVER && around::looks(self, std::slice::from_ref(&wanted.all[misfit])) {
                order.remove(fit);
            } else {
                let mut at = 0;
                order.retain(|(kind, _)| {
                    at += 1;
                    at <= fit || *kind != misfit
                });
            }
            too_many = order.len() + 1;
        }
        found.filter(|(fit, _)| *fit >= wanted.enough).map(|(_, found)| found)
    }
}

#[cfg(test)]
mod tests;
