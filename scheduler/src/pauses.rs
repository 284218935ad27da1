//! Groups that wait a while before they are planned for again: after a refusal, or after a plan that came to nothing.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// After a refusal a group waits this long, then twice as long, up to the longest.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_millis(500);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_secs(10);

/// Groups that wait a while after a refusal, and how long they have waited each time.
#[derive(Default)]
pub(crate) struct Pauses {
    until: BTreeSet<(Timestamp, String)>,
    /// When each group's pause ends.
    ends: BTreeMap<String, Timestamp>,
    last: BTreeMap<String, SignedDuration>,
}

impl Pauses {
    /// The group waits from now on: twice as long as the last time.
    pub(crate) fn begin(&mut self, key: &str, now: Timestamp) {
        let pause = self.last.get(key).map_or(FIRST_PAUSE, |last| (*last * 2).min(LONGEST_PAUSE));
        self.last.insert(key.to_owned(), pause);
        self.begin_until(key, now + pause);
    }

    /// It waits until then.
    pub(crate) fn begin_until(&mut self, key: &str, end: Timestamp) {
        self.interrupt(key);
        self.until.insert((end, key.to_owned()));
        self.ends.insert(key.to_owned(), end);
    }

    /// Something else begins for the group: whoever ends that says when it is over. Whether it waited.
    pub(crate) fn interrupt(&mut self, key: &str) -> bool {
        let end = self.ends.remove(key);
        end.is_some_and(|end| self.until.remove(&(end, key.to_owned())))
    }

    /// The group has come so far that its next pause is a first one.
    pub(crate) fn forget(&mut self, key: &str) {
        self.last.remove(key);
    }

    /// Forgets the groups for which this doesn't hold.
    pub(crate) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.last.retain(|key, _| is_there(key));
    }

    /// The groups that have waited long enough.
    pub(crate) fn over(&mut self, now: Timestamp) -> Vec<String> {
        let mut over = Vec::new();
        while self.until.first().is_some_and(|(end, _)| *end <= now) {
            over.extend(self.until.pop_first().map(|(_, key)| key));
        }
        for key in &over {
            self.ends.remove(key);
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest_and_begin_anew_after_a_success() {
        let (mut pauses, mut now) = (Pauses::default(), Timestamp::now());
        let mut lasts = Vec::new();
        for _ in 0..6 {
            pauses.begin("g", now);
            assert_eq!(pauses.over(now), [""; 0]);
            let begun = now;
            while pauses.over(now).is_empty() {
                now += SignedDuration::from_millis(500);
            }
            lasts.push(now.duration_since(begun).as_millis());
        }
        assert_eq!(lasts, [500, 1000, 2000, 4000, 8000, 10_000]);
        pauses.forget("g");
        pauses.begin("g", now);
        assert_eq!(pauses.over(now + FIRST_PAUSE), ["g"]);
    }

    #[test]
    fn a_pause_ends_nothing_that_began_after_it() {
        let (mut pauses, now) = (Pauses::default(), Timestamp::now());
        pauses.begin("g", now);
        pauses.interrupt("g");
        assert_eq!(pauses.over(now + FIRST_PAUSE), [""; 0]);
        pauses.forget("g");
        pauses.begin("g", now);
        pauses.begin("g", now + FIRST_PAUSE);
        assert_eq!(pauses.over(now + FIRST_PAUSE), [""; 0], "it was tried again, and waits anew");
        assert_eq!(pauses.over(now + FIRST_PAUSE * 3), ["g"]);
    }
}
