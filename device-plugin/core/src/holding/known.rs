//! Until when all is known of who held what.

use std::time::Duration;

/// Follows how far what is told can be relied on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// How long after the pods are told of again it may take until it is right how they are.
    settles: Duration,
    /// Since when somebody tells of all pods, by the monotonic clock; `None` while nobody does.
    told_since: Option<Duration>,
    /// From when on what is told is right.
    settled_at: Option<Duration>,
    /// Up to where all was known last. Milliseconds since 1970.
    until_ms: Option<u64>,
    /// Whether it was told what an earlier process knew.
    has_remembered: bool,
}

impl Known {
    /// Nothing is known yet. `settles` is how long after the pods are told of again it may take until it is right how they
    /// are: a kubelet that was started anew tells what the API server had last, until it has looked at its containers, and a
    /// pod that ended meanwhile still runs there.
    pub fn new(settles: Duration) -> Self {
        Self { settles, told_since: None, settled_at: None, until_ms: None, has_remembered: false }
    }

    /// All was known up to `last_ms` to an earlier process; 0 where there was none.
    pub fn remember(&mut self, last_ms: u64) {
        self.has_remembered = true;
        if last_ms > 0 {
            self.until_ms = self.until_ms.max(Some(last_ms));
        }
    }

    /// Nobody tells of the pods any more.
    pub fn is_silent(&mut self) {
        (self.told_since, self.settled_at) = (None, None);
    }

    /// All pods have been told of, and each change is from now on.
    pub fn is_told(&mut self, now: Duration) {
        self.told_since.get_or_insert(now);
    }

    /// Until when all is known, now that it is `now_ms`; `None` where it never was. Of a silent stretch nothing is known
    /// until the pods have been told of for a while, and nothing since `unclear_ms`, when a pod began of which it isn't
    /// clear what it holds.
    pub fn until(&mut self, now: Duration, now_ms: u64, unclear_ms: Option<u64>) -> Option<u64> {
        if !self.has_remembered {
            return None;
        }
        if self.told_since.is_some_and(|since| self.is_certain(since, now)) {
            self.until_ms = Some(now_ms);
        }
        Some(self.until_ms?.min(unclear_ms.unwrap_or(u64::MAX)))
    }

    /// Before the first time that all was known nothing was metered, so nothing of it can be wrong.
    fn is_certain(&mut self, since: Duration, now: Duration) -> bool {
        let settles = if self.until_ms.is_none() { Duration::ZERO } else { self.settles };
        let settled_at = *self.settled_at.get_or_insert(since + settles);
        now >= settled_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(100);

    fn nothing() -> Known {
        Known::new(Duration::from_secs(30))
    }

    fn after(seconds: u64) -> Duration {
        FIRST + Duration::from_secs(seconds)
    }

    #[test]
    fn of_a_silent_stretch_nothing_is_known_until_what_is_told_after_it_has_settled() {
        let mut known = nothing();
        known.is_told(FIRST);
        known.remember(0);
        assert_eq!(known.until(after(1), 1_000, None), Some(1_000), "nothing was before");
        known.is_silent();
        assert_eq!(known.until(after(600), 600_000, None), Some(1_000));
        known.is_told(after(601));
        for (seconds, until_ms) in [(601, 1_000), (630, 1_000), (631, 631_000), (632, 632_000)] {
            assert_eq!(known.until(after(seconds), seconds * 1_000, None), Some(until_ms));
        }
    }

    #[test]
    fn another_process_goes_on_where_the_one_before_knew_all() {
        let mut known = nothing();
        assert_eq!(known.until(FIRST, 5_000, None), None);
        known.is_told(FIRST);
        assert_eq!(known.until(after(1), 6_000, None), None, "what was before isn't known yet");
        known.remember(4_000);
        assert_eq!(known.until(after(2), 7_000, None), Some(4_000));
        assert_eq!(known.until(after(30), 35_000, None), Some(35_000));
        // It waited beside the other one, and was told all along.
        let mut known = nothing();
        known.is_told(FIRST);
        known.remember(4_000);
        assert_eq!(known.until(after(40), 45_000, None), Some(45_000));
    }

    #[test]
    fn nothing_is_known_since_a_container_began_of_which_it_is_not_clear_what_it_holds() {
        let mut known = nothing();
        known.is_told(FIRST);
        known.remember(0);
        assert_eq!(known.until(after(9), 9_000, Some(7_000)), Some(7_000));
        assert_eq!(known.until(after(10), 10_000, None), Some(10_000));
    }
}
