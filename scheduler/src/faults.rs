//! What objects say that makes no sense: told once on the object itself, as an event, until it says something else.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::ObjectReference,
    jiff::{SignedDuration, Timestamp},
};

use crate::kept::{Kind, Wrong};

/// How long is waited until something is told again that couldn't be told.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// What doesn't make sense, by object; and what of it isn't told yet.
#[derive(Default)]
pub(crate) struct Faults {
    known: BTreeMap<(Kind, String), String>,
    untold: Vec<(ObjectReference, String)>,
    /// What couldn't be told, and when it is to be tried again.
    owed: Vec<(Timestamp, ObjectReference, String)>,
}

impl Faults {
    /// What is wrong with an object now; nothing where all of it makes sense, or it is gone.
    pub(crate) fn set(&mut self, kind: Kind, key: &str, wrong: Wrong) {
        let Some((about, why)) = wrong else {
            if !self.known.is_empty() {
                self.known.remove(&(kind, key.to_owned()));
            }
            return;
        };
        let before = self.known.insert((kind, key.to_owned()), why.clone());
        if before.as_ref() != Some(&why) {
            tracing::warn!("{kind:?} {key}: {why}");
            self.untold.push((about, why));
        }
    }

    /// Forgets the objects of a kind for which this doesn't hold.
    pub(crate) fn retain(&mut self, kind: Kind, is_there: impl Fn(&str) -> bool) {
        self.known.retain(|(of, key), _| *of != kind || is_there(key));
    }

    /// Whether something is wrong with an object.
    pub(crate) fn knows(&self, kind: Kind, key: &str) -> bool {
        self.known.contains_key(&(kind, key.to_owned()))
    }

    /// What is to be told now.
    pub(crate) fn take(&mut self, now: Timestamp) -> Vec<(ObjectReference, String)> {
        let mut told = std::mem::take(&mut self.untold);
        let due = self.owed.extract_if(.., |(at, ..)| *at <= now);
        let still = |why: &String| self.known.values().any(|known| known == why);
        told.extend(due.map(|(_, about, why)| (about, why)).filter(|(_, why)| still(why)));
        told
    }

    /// It couldn't be told: it is to be told again after a while, if it is still so.
    pub(crate) fn owes(&mut self, about: ObjectReference, why: String, now: Timestamp) {
        self.owed.push((now + AGAIN, about, why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(why: &str) -> Wrong {
        (!why.is_empty()).then(|| (ObjectReference::default(), why.to_owned()))
    }

    fn told(faults: &mut Faults, now: Timestamp) -> Vec<String> {
        faults.take(now).into_iter().map(|(_, why)| why).collect()
    }

    #[test]
    fn what_is_wrong_is_told_once_and_again_when_it_is_something_else() {
        let mut faults = Faults::default();
        let mut say = |why: &str| {
            faults.set(Kind::Node, "n", wrong(why));
            told(&mut faults, Timestamp::now())
        };
        assert_eq!(say("a"), ["a"]);
        assert_eq!(say("a"), [""; 0]);
        assert_eq!(say("b"), ["b"]);
        assert_eq!(say(""), [""; 0]);
        assert_eq!(say("b"), ["b"], "it was well in between");
    }

    #[test]
    fn what_is_gone_is_forgotten_and_what_could_not_be_told_is_told_again_later() {
        let now = Timestamp::now();
        let mut faults = Faults::default();
        faults.set(Kind::Node, "n", wrong("a"));
        faults.set(Kind::Pod, "n", wrong("b"));
        faults.retain(Kind::Node, |_| false);
        assert!(!faults.knows(Kind::Node, "n") && faults.knows(Kind::Pod, "n"));
        faults.set(Kind::Pod, "well", wrong("c"));
        let untold = faults.take(now);
        untold.into_iter().for_each(|(about, why)| faults.owes(about, why, now));
        faults.set(Kind::Pod, "well", None);
        assert_eq!(told(&mut faults, now), [""; 0], "not at once");
        assert_eq!(told(&mut faults, now + AGAIN), ["b"], "what is well by then is not told");
        assert_eq!(told(&mut faults, now + AGAIN), [""; 0]);
    }
}
