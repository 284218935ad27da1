//! From what a node's meter told of a pod to what the pod used.
//!
//! A device is what the kubelet gives under one id: of a GPU that is shared, a pod may hold several shares, and each counts.
//! Of each sums are enough: when the pod began to hold it, until when its time is told, and how much of that counts.
//! Time that is told twice, or told in two ways, counts once; where the two differ, the payer is believed.

use std::collections::BTreeMap;

use plasma_types::{Duration, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::{NodeClock, Usage};

/// A whole device, in thousandths.
pub const WHOLE: u16 = 1000;

/// One device over one span, held by one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The kubelet's id of the device; its UUID, where the node tells no ids.
    pub id: String,
    /// The device's UUID, which several shares of it have in common.
    pub device: String,
    /// The UUID of the board that it is, or is a part of.
    pub board: String,
    /// How much of the board it is, in thousandths, at most [`WHOLE`].
    pub milli: u16,
    /// What it was then; `None` where the node doesn't tell.
    pub kind: Option<Kind>,
    /// When the span begins.
    pub start: UnixMillis,
    /// When it ends; never before it begins.
    pub end: UnixMillis,
    /// How long of it the device could be used; never longer than the span.
    pub healthy: Duration,
    /// Whether the pod's time on this device ends with it.
    pub last: bool,
    /// Whether a substitute of NVML said so.
    pub simulated: bool,
    /// Whether both its ends are what the kubelet told, and in time.
    pub exact: bool,
}

/// What a device was while it was held, whatever its GPU is divided into later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kind {
    /// The board's model.
    pub board: String,
    /// The model of the part of the board that it was all of; `None` for a board, and for a share of anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
}

/// All that a meter has told of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodMeter {
    /// By the kubelet's id.
    devices: BTreeMap<String, Held>,
    simulated: bool,
    over: bool,
}

/// A device that a pod held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its UUID. Sums that were kept before there were ids have it as the key alone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    device: String,
    /// The UUID of the board.
    pub board: String,
    /// How much of the board it is, in thousandths.
    pub milli: u16,
    /// What it was, by the first record that says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    start: UnixMillis,
    end: UnixMillis,
    /// What counts of the time between the two.
    healthy: Duration,
    ended: bool,
    /// Whether the end is what the kubelet told, and in time.
    #[serde(default)]
    exact: bool,
}

/// What a price is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A whole board: a part of it counts as the part that it is.
    Board,
    /// A device of its kind, whatever it is a part of.
    Device,
}

/// What no meter can make more than it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When the API server made the pod.
    pub created: UnixMillis,
    /// When it was seen to run no more.
    pub seen_over: UnixMillis,
    /// When its last container ended, by its node's clock; `None` where its status doesn't say.
    pub ended: Option<UnixMillis>,
    /// How many devices it asked for.
    pub devices: u32,
}

/// A kubelet tells ends in whole seconds, rounded down.
const WHOLE_SECOND: u64 = 1000;

impl Life {
    /// The moment, or the nearest one in the pod's life. An end that the meter knew in time is better than the status's: it
    /// is by a clock that nobody sets.
    fn within(&self, moment: UnixMillis, is_exact: bool) -> UnixMillis {
        let ended = self.ended.filter(|_| !is_exact);
        let ended = ended.map_or(u64::MAX, |ended| ended.0.saturating_add(WHOLE_SECOND));
        moment.min(UnixMillis(ended)).max(self.created).min(self.seen_over)
    }
}

impl PodMeter {
    /// Adds a span. What of it is told already adds nothing.
    pub fn add(&mut self, told: &Told) {
        self.simulated |= told.simulated;
        // What was told by the UUID alone, before the node told ids, goes on under them.
        if told.id != told.device
            && let Some(before) = self.devices.get_mut(&told.device)
        {
            before.ended = true;
        }
        let unhealthy = told.end.since(told.start).0.saturating_sub(told.healthy.0);
        let Some(held) = self.devices.get_mut(&told.id) else {
            self.devices.insert(told.id.clone(), Held::new(told));
            return;
        };
        held.kind = held.kind.take().or_else(|| told.kind.clone());
        // A device has one size; of two that are told, the smaller one costs less.
        held.milli = held.milli.min(told.milli);
        let news = told.end.since(told.start.max(held.end)).0;
        held.healthy.0 = held.healthy.0.saturating_add(news.saturating_sub(unhealthy));
        if told.end >= held.end {
            (held.end, held.ended, held.exact) = (told.end, told.last, told.exact);
        }
    }

    /// The same by our clock.
    #[must_use]
    pub fn by(mut self, clock: &NodeClock) -> Self {
        for held in self.devices.values_mut() {
            (held.start, held.end) = (clock.ours(held.start), clock.ours(held.end));
        }
        self
    }

    /// The meter says that nothing of this pod follows.
    pub fn end(&mut self) {
        self.over = true;
    }

    /// Whether all is told: the pod's end, and of each device the last span.
    pub fn is_complete(&self) -> bool {
        self.over && self.devices.values().all(|held| held.ended)
    }

    /// Whether a substitute of NVML said any of it.
    pub fn is_simulated(&self) -> bool {
        self.simulated
    }

    /// Whether it tells of any time.
    pub fn tells_time(&self) -> bool {
        self.devices.values().any(|held| held.healthy.0 > 0)
    }

    /// The first moment that it tells of.
    pub fn begin(&self) -> Option<UnixMillis> {
        self.devices.values().map(|held| held.start).min()
    }

    /// The devices that it held, each with its UUID, which shares of one device have in common.
    pub fn devices(&self) -> impl Iterator<Item = (&str, &Held)> {
        self.devices
            .iter()
            .map(|(id, held)| (if held.device.is_empty() { id } else { &held.device }.as_str(), held))
    }

    /// What the pod used: from the first device's first moment to the last one's last, and Σ over its devices of the
    /// healthy milliseconds, in the unit that is priced. Rounded down, in the payer's favour.
    ///
    /// Nothing outside of the pod's life counts, nor more devices than it asked for, whatever the node's clock says: what
    /// lies outside is taken from the healthy time. Where its status tells its end, and the meter learnt of it late, it ended
    /// within that second.
    pub fn usage(&self, life: &Life, unit: Unit) -> Usage {
        let start = self.devices.values().map(|held| held.within(life).0).min();
        let end = self.devices.values().map(|held| held.within(life).1).max();
        let (Some(start), Some(end)) = (start, end) else { return Usage::Unknown { end: life.seen_over } };
        let duration = end.since(start);
        let counted = |held: &Held| {
            let (from, to) = held.within(life);
            let outside = held.end.since(held.start).0.saturating_sub(to.since(from).0);
            let share = if unit == Unit::Board { held.milli } else { WHOLE };
            u128::from(held.healthy.0.saturating_sub(outside)) * u128::from(share)
        };
        let told = self.devices.values().map(counted).sum::<u128>() / u128::from(WHOLE);
        let most = u128::from(duration.0) * u128::from(life.devices);
        Usage::Known { end, duration, device_ms: u64::try_from(told.min(most)).unwrap_or(u64::MAX) }
    }
}

impl Held {
    fn new(told: &Told) -> Self {
        let Told { device, board, milli, kind, start, end, healthy, last: ended, exact, .. } = told.clone();
        let healthy = Duration(healthy.0.min(end.since(start).0));
        Self { device, board, milli, kind, start, end, healthy, ended, exact }
    }

    /// Its first and its last moment, as far as they are in the pod's life.
    fn within(&self, life: &Life) -> (UnixMillis, UnixMillis) {
        (life.within(self.start, self.exact), life.within(self.end, self.exact))
    }
}

#[cfg(test)]
mod tests;
