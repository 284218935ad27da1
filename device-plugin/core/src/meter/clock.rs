//! The meter's own clock. It runs with the time since the machine started, whatever is done to the node's clock, so that
//! every span is as long as it was, and no moment comes twice.
//!
//! What it shows at first is what the node's clock does. When that is set, forward or back, this one goes on, and remembers
//! from when on the node's was ahead by how much: what the kubelet tells is by the node's clock.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::holding::PodSeen;

/// So far the node's clock may be from where it was before it counts as having been set: less is what reading two clocks,
/// and a leap second, make of it.
const SET_MS: u64 = 1_000;
/// A kubelet rounds down to whole seconds, and a clock that is set is noticed a moment later: so far a moment may lie
/// outside of the stretch that it belongs to.
const ROUGH_MS: u64 = 2_000;
/// Older stretches are forgotten.
const MOST_STRETCHES: usize = 32;

/// What both clocks of a machine show at one moment, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Since the machine started, the time that it slept included. Nobody can set it.
    pub boot_ms: u64,
    /// Since 1970, by the clock that people and programs can set.
    pub wall_ms: u64,
}

/// The clock, within one boot of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeterClock {
    /// What it showed when the machine started.
    anchor_ms: i64,
    /// In order; what was before the second one is the first one's. Never empty.
    stretches: Vec<Stretch>,
    /// By UID, the moments that were told of pods with devices.
    #[serde(default)]
    told: BTreeMap<String, Vec<Told>>,
}

/// A moment that was told: which one of the node's clock it was, and which of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    wall_ms: u64,
    /// A container's start or its end: both may be the same moment of a clock that was set in between.
    is_end: bool,
    at_ms: u64,
}

/// From some moment on, and until the next one begins, the node's clock was ahead by so much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stretch {
    /// By this clock.
    from_ms: u64,
    ahead_ms: i64,
}

impl MeterClock {
    /// One that shows what the node's clock shows.
    pub fn new(now: Reading) -> Self {
        let anchor_ms = signed(now.wall_ms) - signed(now.boot_ms);
        Self { anchor_ms, stretches: vec![Stretch::default()], told: BTreeMap::new() }
    }

    /// What it shows, so long after the machine started. Milliseconds since 1970.
    pub fn at(&self, boot_ms: u64) -> u64 {
        self.anchor_ms.saturating_add(signed(boot_ms)).try_into().unwrap_or_default()
    }

    /// How far the node's clock is ahead of it, in milliseconds; 0 where they agree.
    pub fn ahead_ms(&self) -> i64 {
        self.stretches.last().map_or(0, |last| last.ahead_ms)
    }

    /// Looks at the node's clock. Where that was set since the last look, by how much: forward, or back where it is
    /// negative.
    pub fn observe(&mut self, now: Reading) -> Option<i64> {
        let (now_ms, before) = (self.at(now.boot_ms), self.ahead_ms());
        let ahead_ms = signed(now.wall_ms) - signed(now_ms);
        if ahead_ms.abs_diff(before) <= SET_MS {
            return None;
        }
        let ahead_ms = if ahead_ms.unsigned_abs() <= SET_MS { 0 } else { ahead_ms };
        self.begin(Stretch { from_ms: now_ms, ahead_ms });
        Some(ahead_ms - before)
    }

    /// Shows no less than that from now on. A machine that started again may have its clock where it was long ago; what
    /// is recorded isn't taken back.
    pub fn go_on_from(&mut self, ms: u64, now: Reading) {
        let by = signed(ms.saturating_sub(self.at(now.boot_ms)));
        self.anchor_ms += by;
        if by.unsigned_abs() > SET_MS {
            self.begin(Stretch { from_ms: ms, ahead_ms: self.ahead_ms() - by });
        }
    }

    /// The pod with its times by this clock. A moment that is told again is when it was when it was told first: since then
    /// the node's clock may have been set back, and come there again.
    #[must_use]
    pub fn pod(&mut self, pod: PodSeen, now_ms: u64) -> PodSeen {
        let before = self.told.remove(&pod.uid).unwrap_or_default();
        let mut told = Vec::new();
        let pod = pod.with_times(|wall_ms, is_end| {
            let is_same = |one: &&Told| one.wall_ms == wall_ms && one.is_end == is_end;
            let known = before.iter().find(is_same).map(|one| one.at_ms);
            let at_ms = known.unwrap_or_else(|| self.of_wall(wall_ms, now_ms));
            told.push(Told { wall_ms, is_end, at_ms });
            at_ms
        });
        if pod.has_devices() {
            self.told.insert(pod.uid.clone(), told);
        }
        pod
    }

    /// Forgets what was told of pods that are gone.
    pub fn forget_but(&mut self, is_there: impl Fn(&str) -> bool) {
        self.told.retain(|uid, _| is_there(uid));
    }

    /// What this clock showed when the node's showed that: of the stretches in which it may have been, the latest, since
    /// what is told is told soon. What was told has happened by now.
    pub(crate) fn of_wall(&self, wall_ms: u64, now_ms: u64) -> u64 {
        let ends = self.stretches.iter().skip(1).map(|next| next.from_ms).chain([now_ms]);
        let moments = self.stretches.iter().zip(ends).map(|(stretch, end_ms)| {
            let at_ms = signed(wall_ms).saturating_sub(stretch.ahead_ms).try_into().unwrap_or_default();
            let outside = stretch.from_ms.saturating_sub(at_ms).max(at_ms.saturating_sub(end_ms));
            (outside.saturating_sub(ROUGH_MS), at_ms)
        });
        let best = moments.reduce(|best, one| if one.0 <= best.0 { one } else { best });
        best.map_or(wall_ms, |(_, at_ms)| at_ms).min(now_ms.saturating_add(ROUGH_MS))
    }

    fn begin(&mut self, stretch: Stretch) {
        if self.stretches.len() >= MOST_STRETCHES {
            self.stretches.remove(0);
        }
        self.stretches.push(stretch);
    }
}

/// A time, or a difference of two: no clock shows more.
fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

#[cfg(test)]
mod tests;
