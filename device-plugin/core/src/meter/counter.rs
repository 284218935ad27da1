//! A board's energy counter as it was read, and which load of the driver counted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Readings older than this are kept this far apart.
const RECENT_MS: u64 = 60_000;
const APART_MS: u64 = 15_000;

/// One reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reading {
    pub(super) at_ms: u64,
    pub(super) mj: u64,
    /// Which of the counter's epochs it belongs to.
    pub(super) epoch: u32,
}

/// Readings in order of time, as far as they still matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counter {
    readings: Vec<Reading>,
    /// What the epochs are called.
    names: BTreeMap<u32, String>,
    driver: Option<String>,
    /// Counts loads of the library within this process, so it means nothing in the next one.
    #[serde(skip)]
    session: Option<u64>,
}

/// Where a reading comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    /// Names the load of the driver, where that can be known.
    pub(super) driver: Option<&'a str>,
    /// Counts how often this process loaded the library.
    pub(super) session: u64,
}

impl Counter {
    /// Takes in a reading. A counter that is lower than before, or another load of the driver, begins a new epoch at
    /// the reading before; where the counter is lower, that it began at zero in between is certain.
    pub(super) fn observe(&mut self, at_ms: u64, mj: u64, source: Source<'_>) {
        let Some(last) = self.readings.last().copied() else {
            self.begin(Reading { at_ms, mj, epoch: self.next_epoch() }, source);
            return;
        };
        let at_ms = at_ms.max(last.at_ms);
        if mj < last.mj || self.is_another_load(source) {
            let epoch = self.next_epoch();
            let from = if mj < last.mj { 0 } else { mj };
            self.begin(Reading { at_ms: last.at_ms, mj: from, epoch }, source);
            self.readings.push(Reading { at_ms, mj, epoch });
            return;
        }
        (self.driver, self.session) = (source.driver.map(str::to_owned), Some(source.session));
        // When the clock went back, or stands, what is newest holds; but what an epoch begins with stays.
        let begins = self.readings.iter().rev().nth(1).is_none_or(|before| before.epoch != last.epoch);
        match self.readings.last_mut().filter(|last| last.at_ms == at_ms && !begins) {
            Some(last) => last.mj = mj,
            None => self.readings.push(Reading { at_ms, mj, epoch: last.epoch }),
        }
    }

    fn begin(&mut self, reading: Reading, source: Source<'_>) {
        let driver = source.driver.unwrap_or("driver");
        self.names.insert(reading.epoch, format!("{driver}/{}", reading.epoch));
        (self.driver, self.session) = (source.driver.map(str::to_owned), Some(source.session));
        self.readings.push(reading);
    }

    fn next_epoch(&self) -> u32 {
        self.names.last_key_value().map_or(1, |(epoch, _)| epoch.saturating_add(1))
    }

    fn is_another_load(&self, source: Source<'_>) -> bool {
        match (self.driver.as_deref(), source.driver) {
            (Some(was), Some(is)) => was != is,
            // Nobody can say: a library that was loaded anew may have met another driver.
            _ => self.session.is_some_and(|was| was != source.session),
        }
    }

    /// The reading nearest to that moment, of one epoch.
    pub(super) fn nearest(&self, at_ms: u64, epoch: u32) -> Option<Reading> {
        let of_epoch = self.readings.iter().filter(|reading| reading.epoch == epoch);
        // Of several at once the newest.
        of_epoch.rev().min_by_key(|reading| reading.at_ms.abs_diff(at_ms)).copied()
    }

    /// Where the epoch after this one begins.
    pub(super) fn next_begin(&self, epoch: Option<u32>) -> Option<Reading> {
        self.readings.iter().find(|reading| epoch.is_none_or(|epoch| reading.epoch > epoch)).copied()
    }

    /// The moment of the last reading that isn't after that one.
    pub(super) fn last_until(&self, ms: u64) -> Option<u64> {
        self.readings.iter().map(|reading| reading.at_ms).rfind(|at_ms| *at_ms <= ms)
    }

    pub(super) fn name(&self, epoch: u32) -> String {
        self.names.get(&epoch).cloned().unwrap_or_default()
    }

    /// Forgets what no moment after this one can be nearest to, and thins out what is old: what an epoch ends with stays.
    pub(super) fn forget_before(&mut self, ms: u64, epoch: Option<u32>) {
        let before = |reading: &Reading| reading.at_ms <= ms && Some(reading.epoch) == epoch;
        let first = self.readings.iter().rposition(before).unwrap_or(0);
        let now = self.readings.last().map_or(0, |last| last.at_ms);
        let mut kept = Vec::with_capacity(self.readings.len() - first);
        for (at, reading) in self.readings.iter().enumerate().skip(first) {
            let is_last_of_its_epoch =
                self.readings.get(at + 1).is_none_or(|next| next.epoch != reading.epoch);
            let is_near = kept.last().is_some_and(|kept: &Reading| {
                kept.epoch == reading.epoch && reading.at_ms < kept.at_ms.saturating_add(APART_MS)
            });
            let is_old = reading.at_ms.saturating_add(RECENT_MS) < now;
            if is_last_of_its_epoch || !(is_near && is_old) {
                kept.push(*reading);
            }
        }
        self.readings = kept;
        let newest = self.names.last_key_value().map(|(epoch, _)| *epoch);
        self.names.retain(|name, _| epoch.is_none_or(|epoch| *name >= epoch) || Some(*name) == newest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(readings: &[(u64, u64, Option<&str>, u64)]) -> Counter {
        let mut counter = Counter::default();
        for (at_ms, mj, driver, session) in readings {
            counter.observe(*at_ms, *mj, Source { driver: *driver, session: *session });
        }
        counter
    }

    fn epochs(counter: &Counter) -> Vec<(u64, u64, u32)> {
        counter.readings.iter().map(|reading| (reading.at_ms, reading.mj, reading.epoch)).collect()
    }

    #[test]
    fn a_counter_that_dropped_began_at_zero_since_the_reading_before() {
        let counter = read(&[(10, 500, Some("a"), 0), (20, 90, Some("a"), 0)]);
        assert_eq!(epochs(&counter), [(10, 500, 1), (10, 0, 2), (20, 90, 2)]);
        assert_eq!(counter.name(2), "a/2");
    }

    #[test]
    fn another_driver_begins_where_it_is_first_seen_and_the_same_one_goes_on() {
        let counter = read(&[(10, 500, Some("a"), 0), (20, 600, Some("a"), 1), (30, 700, Some("b"), 1)]);
        assert_eq!(epochs(&counter), [(10, 500, 1), (20, 600, 1), (20, 700, 2), (30, 700, 2)]);
        assert_eq!(counter.name(2), "b/2");
    }

    #[test]
    fn a_library_that_is_loaded_anew_may_have_met_another_driver_where_nobody_can_say() {
        let mut counter = read(&[(10, 500, None, 0), (20, 600, None, 1)]);
        assert_eq!(epochs(&counter), [(10, 500, 1), (10, 600, 2), (20, 600, 2)]);
        // In the next process the number begins anew, and only a drop tells.
        counter.session = None;
        counter.observe(30, 700, Source { driver: None, session: 0 });
        assert_eq!(counter.readings.last().unwrap().epoch, 2);
    }

    #[test]
    fn old_readings_are_thinned_and_those_before_are_forgotten() {
        let all: Vec<_> = (0..200).map(|n| (n * 2_000, n, Some("a"), 0)).collect();
        let mut counter = read(&all);
        counter.forget_before(101_000, Some(1));
        let at: Vec<u64> = counter.readings.iter().map(|reading| reading.at_ms).collect();
        assert_eq!(at[0], 100_000);
        assert!(at.len() < 50 && at.ends_with(&[394_000, 396_000, 398_000]), "{at:?}");
        assert_eq!(counter.nearest(101_000, 1).unwrap().at_ms, 100_000);
    }
}
