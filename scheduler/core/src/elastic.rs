//! Groups of which more pods wait than must be placed at once: as many as fit are placed, and never fewer than must start
//! together. Who fits is taken by age; who doesn't keeps nobody else waiting.

mod round;

use std::{cmp::Reverse, collections::BTreeSet};

pub(crate) use round::{LOOKS, Missed, Round};

use crate::{
    cluster::Cluster,
    labels::Text,
    missing,
    node::PodId,
    plan::{Alike, Blocker, Decision},
    preempt::{self, Fate, Room},
};

/// How many times the looks of one part of a search may be spent before whom to evict is sought for no more kinds.
const EVICTING: u64 = 10;
/// For how many kinds of pods that each stand alone it is said what is missing.
const TOLD: usize = 4;

/// The pods of a group that wait.
pub(crate) struct Wanted {
    pub(crate) all: Vec<Alike>,
    /// How many of them must be placed at once at least.
    pub(crate) enough: usize,
}

/// One of those pods: which of the kinds, and which of its pods.
type Pick = (usize, usize);

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

    fn pod(&self, (kind, at): Pick) -> PodId {
        self.all[kind].pods[at]
    }

    fn of(&self, chosen: &[Pick]) -> Vec<Alike> {
        let mut chosen = chosen.to_vec();
        chosen.sort_unstable();
        let of_kind = |picks: &[Pick]| Alike {
            kind: self.all[picks[0].0].kind.clone(),
            pods: picks.iter().map(|pick| self.pod(*pick)).collect(),
        };
        chosen.chunk_by(|(kind, _), (other, _)| kind == other).map(of_kind).collect()
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

    /// Makes room for just enough of a group's pods: for the oldest, or for those that ask for the least; where each stands
    /// alone, for the oldest of each kind, one after the other. Where that takes too long, the next search begins with those
    /// for whom it wasn't tried.
    pub(crate) fn make_room(&mut self, key: &Text, wanted: &Wanted) -> Room {
        let (mut tries, mut fate) = (self.fewest(wanted), Fate::NotTried);
        // Nothing else is tried while nodes are kept for one of them: those would be given up.
        let goes_on = self.find_group(key).filter(|_| !self.has_reserved(&wanted.all));
        let first = goes_on.map_or(0, |group| group.evicts_from).min(tries.len());
        tries.rotate_left(first);
        let until = self.looks().saturating_add(self.looks_at_once.saturating_mul(EVICTING));
        let mut evicts_from = 0;
        for (nth, alike) in tries.iter().enumerate() {
            if nth > 0 && self.looks() >= until {
                (fate, evicts_from) = (Fate::GivenUp, (first + nth) % tries.len());
                break;
            }
            match preempt::make_room(self, key, alike) {
                Room::Not(Fate::InVain) if fate == Fate::GivenUp => {}
                Room::Not(other @ (Fate::InVain | Fate::GivenUp | Fate::NotTried)) => fate = other,
                made_or_waits => return made_or_waits,
            }
        }
        if let Some(group) = self.find_group_mut(key) {
            group.evicts_from = evicts_from;
        }
        Room::Not(fate)
    }

    /// Just enough of the pods, in the ways in which it is tried to make room for them.
    fn fewest(&self, wanted: &Wanted) -> Vec<Vec<Alike>> {
        if !wanted.has_choice() {
            return vec![wanted.all.clone()];
        }
        let orders = self.orders(wanted);
        if wanted.enough > 1 {
            return orders.iter().map(|order| wanted.of(&order[..wanted.enough])).collect();
        }
        let mut kinds = BTreeSet::new();
        let oldest = orders.into_iter().flatten().filter(|(kind, _)| kinds.insert(*kind));
        oldest.map(|pick| wanted.of(&[pick])).collect()
    }

    /// Says what is missing for a group: for just enough of its pods; where each of them stands alone, for one of each kind.
    pub(crate) fn missing(&mut self, key: &str, wanted: &Wanted) -> Decision {
        let mut fewest = self.fewest(wanted);
        if wanted.enough > 1 || fewest.len() == 1 {
            return missing::hold(self, key, &fewest.swap_remove(0));
        }
        let (mut messages, mut blockers) = (Vec::new(), Vec::<Blocker>::new());
        for one in fewest.iter().take(TOLD) {
            if let Decision::Hold { message, blockers: of_one, .. } = missing::hold(self, key, one) {
                messages.push(format!("{}: {message}", self.name_of(one[0].pods.first())));
                let news: Vec<Blocker> =
                    of_one.into_iter().filter(|blocker| !blockers.contains(blocker)).collect();
                blockers.extend(news);
            }
        }
        if fewest.len() > TOLD {
            messages.push("…".to_owned());
        }
        Decision::Hold { group: key.to_owned(), message: messages.join("; "), blockers }
    }

    /// The pods in the order in which they are taken: those for which nodes are kept, then the oldest; where several of
    /// several kinds are needed, also those that ask for the least first.
    fn orders(&self, wanted: &Wanted) -> Vec<Vec<Pick>> {
        let kinds = wanted.all.iter().enumerate();
        let mut oldest: Vec<Pick> =
            kinds.flat_map(|(kind, alike)| (0..alike.pods.len()).map(move |at| (kind, at))).collect();
        let is_kept = |pick: Pick| self.known(wanted.pod(pick)).is_some_and(|known| known.reserved.is_some());
        oldest.sort_by_cached_key(|pick| {
            let pod = self.known(wanted.pod(*pick)).map(|known| &known.pod);
            (!is_kept(*pick), pod.map(|pod| (pod.created, pod.name.clone())))
        });
        let mut orders = vec![oldest];
        if wanted.all.len() > 1 && wanted.enough > 1 {
            let mut smallest = orders[0].clone();
            smallest.sort_by_key(|pick| (!is_kept(*pick), Reverse(pick.0)));
            orders.push(smallest);
        }
        orders
    }
}

#[cfg(test)]
mod tests;
