//! How far the clock of a node's meter is from ours.
//!
//! A meter's clock is never set, so what it is off it is off for all that it tells. How far, it shows with each message.

use plasma_types::UnixMillis;
use serde::{Deserialize, Serialize};

/// A clock this near is right: NTP keeps two within a second, and a message takes its time.
const RIGHT_MS: u64 = 2_000;
/// A comparison is good for so long: two clocks drift apart by a second a day.
const GOOD_FOR_MS: u64 = 600_000;

/// A comparison of both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeClock {
    /// How far it is behind ours, in milliseconds; negative where it is ahead.
    behind_ms: i64,
    /// When that was first found.
    found: Option<UnixMillis>,
}

impl NodeClock {
    /// It showed this in a message that is here now. Of several, the one that took the shortest way tells best.
    pub fn showed(&mut self, shown: UnixMillis, now: UnixMillis) {
        let behind_ms = signed(now) - signed(shown);
        let is_old = self.found.is_none_or(|found| now.since(found).0 > GOOD_FOR_MS);
        if is_old || behind_ms < self.behind_ms {
            *self = Self { behind_ms, found: Some(now) };
        }
    }

    /// What ours showed when that one showed this. One that is right, or that nothing is known of, shows what ours does.
    pub fn ours(&self, shown: UnixMillis) -> UnixMillis {
        if self.behind_ms.unsigned_abs() <= RIGHT_MS {
            return shown;
        }
        UnixMillis(shown.0.saturating_add_signed(self.behind_ms))
    }
}

/// No clock shows more.
fn signed(moment: UnixMillis) -> i64 {
    i64::try_from(moment.0).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn a_clock_that_is_off_is_put_right_and_one_that_is_right_is_left_alone() {
        let moment = UnixMillis(9 * HOUR);
        for (shows, ours) in [
            (10 * HOUR, moment.0 - HOUR),
            (8 * HOUR, moment.0 + HOUR),
            (9 * HOUR + 2_000, moment.0),
            (9 * HOUR - 2_000, moment.0),
            (9 * HOUR - 2_001, moment.0 + 2_001),
        ] {
            let mut clock = NodeClock::default();
            assert_eq!(clock.ours(moment), moment, "it hasn't shown anything");
            clock.showed(UnixMillis(shows), moment);
            assert_eq!(clock.ours(moment), UnixMillis(ours), "{shows}");
        }
        let mut absurd = NodeClock::default();
        absurd.showed(UnixMillis(u64::MAX), UnixMillis(0));
        assert_eq!(absurd.ours(moment), UnixMillis(0));
    }

    #[test]
    fn a_message_that_was_long_on_its_way_tells_nothing_new_for_a_while() {
        let (mut clock, now) = (NodeClock::default(), 9 * HOUR);
        let show = |clock: &mut NodeClock, after: u64, late: u64| {
            clock.showed(UnixMillis(now + after - late - HOUR), UnixMillis(now + after));
            clock.ours(UnixMillis(now)).0 - now
        };
        assert_eq!(show(&mut clock, 0, 700), HOUR + 700);
        assert_eq!(show(&mut clock, 1_000, 3), HOUR + 3);
        assert_eq!(show(&mut clock, 30_000, 20_000), HOUR + 3);
        assert_eq!(show(&mut clock, 700_000, 5), HOUR + 5, "and then again");
    }
}
