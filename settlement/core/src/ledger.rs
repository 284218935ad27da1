//! What one node's meter has told, each record once, and how much of it the node may forget.
//!
//! A record is known by its journal and its sequence. The node keeps each until it is acknowledged; here it is acknowledged
//! once nobody needs it any more, or once what it adds up to is durable.

use std::collections::BTreeMap;

use plasma_types::{Duration, PodUid, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::{CLOCKS, NodeClock, PodMeter, Told};

/// What a node's meter has told of the pods that somebody still needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    place: Place,
    clock: NodeClock,
    /// By its clock.
    complete_until: Option<UnixMillis>,
    pods: BTreeMap<PodUid, Entry>,
}

/// A place in a node's journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Names the journal.
    pub journal: String,
    /// All records up to this sequence are in; 0 before the first.
    pub through: u64,
}

/// What a ledger adds up to at a place: kept durably, it stands for all records up to there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Up to where.
    pub place: Place,
    /// How far its clock was off.
    #[serde(default)]
    pub clock: NodeClock,
    /// What was told of each pod that somebody still needs.
    pub pods: BTreeMap<PodUid, PodMeter>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    meter: PodMeter,
    /// The first of its records that isn't durable.
    needs_from: Option<u64>,
    /// The last of its records, in this journal.
    latest: u64,
}

/// One record, as far as it concerns anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Nobody held the device, or what is told can't be used.
    Nobody,
    /// A pod's time, or its end, or both.
    Of {
        /// The pod.
        pod: PodUid,
        /// What it held; absent where the span can't be used.
        told: Option<Told>,
        /// Whether no other record of this pod follows.
        over: bool,
    },
}

/// A record that doesn't follow the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {got} comes after record {after}: send all that isn't acknowledged, in order, without a gap")]
pub struct OutOfOrder {
    /// The sequence that came.
    pub got: u64,
    /// The one before it.
    pub after: u64,
}

/// All is told up to a moment that is in the future.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it says that all is told up to a moment {} s from now", ahead.0 / 1000)]
pub struct FromTheFuture {
    /// How far it is ahead of our clock.
    pub ahead: Duration,
}

impl Ledger {
    /// Goes on from sums that were kept.
    pub fn from_sums(sums: Sums) -> Self {
        let entry = |(pod, meter)| (pod, Entry { meter, needs_from: None, latest: 0 });
        let pods = sums.pods.into_iter().map(entry).collect();
        Self { place: sums.place, clock: sums.clock, complete_until: None, pods }
    }

    /// The node begins to report from a sequence of its journal; all before it were acknowledged.
    ///
    /// A new journal means that the earlier one is lost. What it told stays, since it was so; nothing of it will come again.
    pub fn open(&mut self, journal: &str, first: u64) {
        let before_first = first.saturating_sub(1);
        if self.place.journal != journal {
            self.place = Place { journal: journal.to_owned(), through: before_first };
            self.complete_until = None;
            self.pods.values_mut().for_each(|entry| (entry.needs_from, entry.latest) = (None, 0));
        }
        // What was acknowledged without being kept concerned nobody.
        self.place.through = self.place.through.max(before_first);
    }

    /// Takes the next record; whether it was new. One that is in already changes nothing.
    ///
    /// # Errors
    /// When one before it is missing.
    pub fn take(&mut self, sequence: u64, line: Line) -> Result<bool, OutOfOrder> {
        if sequence <= self.place.through {
            return Ok(false);
        }
        if sequence != self.place.through.saturating_add(1) {
            return Err(OutOfOrder { got: sequence, after: self.place.through });
        }
        self.place.through = sequence;
        if let Line::Of { pod, told, over } = line {
            let new = || Entry { meter: PodMeter::default(), needs_from: None, latest: 0 };
            let entry = self.pods.entry(pod).or_insert_with(new);
            told.iter().for_each(|told| entry.meter.add(told));
            if over {
                entry.meter.end();
            }
            entry.needs_from.get_or_insert(sequence);
            entry.latest = sequence;
        }
        Ok(true)
    }

    /// The clock of the node's meter shows this, by the first message of a call, and ours `now`: what it showed before
    /// may have been in another boot of the node. 0 says nothing.
    pub fn first_shows(&mut self, shown: UnixMillis, now: UnixMillis) {
        self.clock = NodeClock::default();
        self.shows(shown, now);
    }

    /// The clock of the node's meter shows this, and ours `now`. 0 says nothing.
    pub fn shows(&mut self, shown: UnixMillis, now: UnixMillis) {
        if shown.0 > 0 {
            self.clock.showed(shown, now);
        }
    }

    /// How far its clock is from ours.
    pub fn clock(&self) -> &NodeClock {
        &self.clock
    }

    /// All that ended before this moment, by its clock, is in. `now` is our clock's.
    ///
    /// # Errors
    /// When it is in the future: nobody knows what ends by then. It changes nothing, neither now nor when that moment has come.
    pub fn complete(&mut self, until: UnixMillis, now: UnixMillis) -> Result<(), FromTheFuture> {
        let ahead = self.clock.ours(until).since(now);
        if ahead > CLOCKS {
            return Err(FromTheFuture { ahead });
        }
        self.complete_until = self.complete_until.max(Some(until));
        Ok(())
    }

    /// All that ended before this moment, by our clock, is in; `None` where it hasn't said.
    pub fn complete_until(&self) -> Option<UnixMillis> {
        self.complete_until.map(|until| self.clock.ours(until))
    }

    /// How far it is. Whoever wants to know which pods are needed asks this first: records that come meanwhile aren't judged.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What was told of a pod, by the clock of the node's meter.
    pub fn pod(&self, pod: PodUid) -> Option<&PodMeter> {
        self.pods.get(&pod).map(|entry| &entry.meter)
    }

    /// How many pods it remembers.
    pub fn pods(&self) -> usize {
        self.pods.len()
    }

    /// Forgets the pods that nobody needs; those of them that were forgotten. `looked` is where the ledger was before it was
    /// asked which are needed: a pod of which more came since is left for the next time.
    pub fn forget(&mut self, looked: &Place, is_needed: impl Fn(PodUid) -> bool) -> usize {
        if self.place.journal != looked.journal {
            return 0;
        }
        let before = self.pods.len();
        self.pods.retain(|pod, entry| entry.latest > looked.through || is_needed(*pod));
        before - self.pods.len()
    }

    /// Up to where the node may forget.
    pub fn acknowledged(&self) -> u64 {
        let needed = self.pods.values().filter_map(|entry| entry.needs_from).min();
        needed.map_or(self.place.through, |first| first.saturating_sub(1))
    }

    /// What is to be kept, so that all up to its place may be acknowledged.
    pub fn sums(&self) -> Sums {
        let pods = self.pods.iter().map(|(pod, entry)| (*pod, entry.meter.clone())).collect();
        Sums { place: self.place.clone(), clock: self.clock, pods }
    }

    /// The sums of that place are durable now.
    pub fn is_durable(&mut self, place: &Place) {
        if self.place.journal != place.journal {
            return;
        }
        for entry in self.pods.values_mut() {
            let is_later = entry.latest > place.through;
            let from = |first: u64| is_later.then(|| first.max(place.through.saturating_add(1)));
            entry.needs_from = entry.needs_from.and_then(from);
        }
    }
}

#[cfg(test)]
mod tests;
