//! When a GPU could be used, as the looks at it say.

use serde::{Deserialize, Serialize};

/// Spans in which it could be used, in order, as far as they still matter.
///
/// How a look finds it, it is until the next look. Where nobody looked for long, it could be used if it could before and
/// after: a fault that came and went in between would have been over by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Usable {
    runs: Vec<(u64, u64)>,
    /// The last look, and how it found it.
    last: Option<(u64, bool)>,
}

impl Usable {
    /// Takes in a look. Where nobody looked for longer than `unseen_ms`, the span is returned.
    pub(super) fn observe(&mut self, at_ms: u64, usable: bool, unseen_ms: u64) -> Option<(u64, u64)> {
        let Some((from, was)) = self.last else {
            self.last = Some((at_ms, usable));
            return None;
        };
        // A clock that went back stands still here.
        let at_ms = at_ms.max(from);
        self.last = Some((at_ms, usable));
        let unseen = at_ms - from > unseen_ms;
        if was && (usable || !unseen) {
            match self.runs.last_mut().filter(|run| run.1 == from) {
                Some(run) => run.1 = at_ms,
                None => self.runs.push((from, at_ms)),
            }
        }
        unseen.then_some((from, at_ms))
    }

    /// How long of a span it could be used.
    pub(super) fn within(&self, from: u64, to: u64) -> u64 {
        self.runs.iter().map(|run| run.1.min(to).saturating_sub(run.0.max(from))).sum()
    }

    /// Forgets what was before.
    pub(super) fn forget_before(&mut self, ms: u64) {
        self.runs.retain(|run| run.1 > ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_holds_until_the_next() {
        let mut usable = Usable::default();
        for (at, is) in [(10, true), (20, true), (30, false), (40, true), (50, true)] {
            assert_eq!(usable.observe(at, is, 15), None);
        }
        assert_eq!(usable.within(0, 100), 20 + 10);
        assert_eq!(usable.within(15, 45), 15 + 5);
        usable.forget_before(35);
        assert_eq!(usable.within(0, 100), 10);
    }

    #[test]
    fn where_nobody_looked_both_ends_must_be_well() {
        for (before, after, counted) in [(true, true, 90), (true, false, 0), (false, true, 0)] {
            let mut usable = Usable::default();
            usable.observe(10, before, 15);
            assert_eq!(usable.observe(100, after, 15), Some((10, 100)));
            assert_eq!(usable.within(0, 200), counted, "{before} {after}");
        }
    }

    #[test]
    fn a_clock_that_goes_back_adds_nothing_twice() {
        let mut usable = Usable::default();
        for at in [10, 20, 5, 15, 25] {
            assert_eq!(usable.observe(at, true, 15), None);
        }
        assert_eq!(usable.within(0, 100), 15);
    }
}
