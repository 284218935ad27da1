//! What was said last to whom, so that only news is said.

use std::collections::{HashMap, HashSet};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use plasma_scheduler_core::{NotScheduled, Unplaced};

use crate::waits::{Waits, Why, Word};

/// How long a gang's status is left in peace when nothing but numbers has changed.
const PEACE: SignedDuration = SignedDuration::from_secs(10);
/// How long a pod's condition is: there are many of them.
pub(crate) const PODS_PEACE: SignedDuration = SignedDuration::from_secs(60);

/// How long is waited for what may be over in a moment: a gang and its pods are made one after the other, and what is left
/// of an earlier job goes.
const GRACE: SignedDuration = SignedDuration::from_secs(10);

/// For how long a group that couldn't be sent to its places isn't said to have none: while it tries again, others may have
/// them, and more nodes wouldn't help.
const OBSTRUCTED: SignedDuration = SignedDuration::from_secs(60);

/// What is to be said of a group now.
#[derive(Debug, PartialEq)]
pub(crate) struct News {
    pub(crate) waits: Waits,
    /// The gang's status is to say so.
    pub(crate) is_for_gang: bool,
    /// An event is to say so, where nothing shows that it was said before.
    pub(crate) alarms: bool,
    pub(crate) pods: Vec<Recipient>,
}

/// A pod whose condition is to say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recipient {
    pub(crate) pod: String,
    pub(crate) uid: String,
    pub(crate) version: String,
    pub(crate) generation: Option<i64>,
    pub(crate) said: Option<NotScheduled>,
    /// Why; nothing where it is to say nothing.
    pub(crate) reason: Option<&'static str>,
}

/// What was said last about each group that isn't placed.
#[derive(Default)]
pub(crate) struct Said {
    entries: HashMap<String, Entry>,
    /// What may be over in a moment.
    early: HashMap<String, Early>,
    /// Which groups couldn't be sent to their places, and when that was last so.
    obstructed: HashMap<String, Timestamp>,
}

/// What wasn't said at once.
struct Early {
    waits: Waits,
    since: Timestamp,
    is_said: bool,
}

struct Entry {
    waits: Waits,
    at: Timestamp,
    /// It couldn't be said to everybody.
    is_owed: bool,
    /// What the last event said.
    alarmed: Option<Waits>,
    /// To which pods it was said, by UID, and when their numbers were looked at.
    pods: HashSet<String>,
    pods_at: Timestamp,
}

impl Said {
    /// What of this is news, and to whom. It is remembered as said now.
    pub(crate) fn news<'a>(
        &mut self,
        key: &str,
        waits: Waits,
        pods: impl Iterator<Item = Unplaced<'a>>,
        now: Timestamp,
    ) -> Option<News> {
        let before = self.entries.remove(key);
        let is_for_gang = before.as_ref().is_none_or(|before| before.is_old(&waits, now));
        let judge = Judge { waits: &waits, before: before.as_ref(), now };
        let (mut told, mut recipients, mut is_new) = (HashSet::new(), Vec::new(), false);
        for pod in pods {
            is_new |= !judge.was_told(&pod) && pod.said.is_none_or(|said| !judge.is_same(said));
            recipients.extend(judge.recipient(&pod));
            told.insert(pod.uid.to_owned());
        }
        let alarmed = before.as_ref().and_then(|before| before.alarmed.as_ref());
        let alarms = waits.why.alarms() && (is_new || alarmed.is_none_or(|alarmed| !alarmed.is_like(&waits)));
        let renews = judge.renews() || before.as_ref().is_none_or(|before| before.waits.why != waits.why);
        let speaks = is_for_gang || !recipients.is_empty();
        let entry = Entry {
            at: before.as_ref().filter(|_| !is_for_gang).map_or(now, |before| before.at),
            is_owed: false,
            alarmed: if alarms && speaks { Some(waits.clone()) } else { alarmed.cloned() },
            pods: told,
            pods_at: before.as_ref().filter(|_| !renews).map_or(now, |before| before.pods_at),
            waits: before.filter(|_| !is_for_gang).map_or_else(|| waits.clone(), |before| before.waits),
        };
        self.entries.insert(key.to_owned(), entry);
        speaks.then_some(News { waits, is_for_gang, alarms, pods: recipients })
    }

    /// Whether it is too early to say this.
    pub(crate) fn is_early(&mut self, key: &str, waits: &Waits, now: Timestamp) -> bool {
        let why = waits.why;
        if why.is_obstacle() {
            self.obstructed.insert(key.to_owned(), now);
        }
        if !why.passes() {
            self.early.remove(key);
            let obstructed = self.obstructed.get(key).filter(|_| why == Why::NoRoom);
            return obstructed.is_some_and(|since| now.duration_since(*since) < OBSTRUCTED);
        }
        let before = self.early.get(key).filter(|before| before.waits.why == why);
        let since = before.map_or(now, |before| before.since);
        let is_said = now.duration_since(since) >= GRACE;
        self.early.insert(key.to_owned(), Early { waits: waits.clone(), since, is_said });
        !is_said
    }

    /// Who couldn't be sent to its place so long ago that it is to be said by now. The next attempt, if there is one, may come
    /// much later.
    pub(crate) fn lasting(&mut self, now: Timestamp) -> Vec<(String, Waits)> {
        let is_due = |early: &Early| {
            early.waits.why.is_obstacle() && !early.is_said && now.duration_since(early.since) >= GRACE
        };
        let due = self.early.iter().filter(|(_, early)| is_due(early));
        due.map(|(key, early)| (key.clone(), early.waits.clone())).collect()
    }

    /// It couldn't be said to everybody; whether the event was written.
    pub(crate) fn owes(&mut self, key: &str, has_alarmed: bool) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.is_owed = true;
        entry.pods.clear();
        if !has_alarmed {
            entry.alarmed = None;
        }
    }

    /// It doesn't hold any more.
    pub(crate) fn forget(&mut self, key: &str) {
        self.entries.remove(key);
        self.early.remove(key);
    }

    /// How many of the groups for which this holds wait for room, and how many are refused.
    pub(crate) fn counts(&self, waits: impl Fn(&str) -> bool) -> (usize, usize) {
        let count = |why: Why| {
            self.entries.iter().filter(|(key, entry)| entry.waits.why == why && waits(key)).count()
        };
        (count(Why::NoRoom), count(Why::Refused))
    }

    /// Forgets the groups for which this doesn't hold.
    pub(crate) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.entries.retain(|key, _| is_there(key));
        self.early.retain(|key, _| is_there(key));
        self.obstructed.retain(|key, _| is_there(key));
    }
}

impl Entry {
    /// Whether the gang's status is to be written anew.
    fn is_old(&self, waits: &Waits, now: Timestamp) -> bool {
        let is_peace =
            self.waits.is_like(waits) && waits.why != Why::Gathering && now.duration_since(self.at) < PEACE;
        self.is_owed || (self.waits != *waits && !is_peace)
    }
}

/// Decides which pods are told.
struct Judge<'a> {
    waits: &'a Waits,
    before: Option<&'a Entry>,
    now: Timestamp,
}

impl Judge<'_> {
    fn was_told(&self, pod: &Unplaced<'_>) -> bool {
        self.before.is_some_and(|before| before.pods.contains(pod.uid))
    }

    /// Whether a pod says it already, but perhaps in other words.
    fn is_same(&self, said: &NotScheduled) -> bool {
        match self.waits.why.word(Some(&said.reason)) {
            Word::Says(reason) => said.reason == reason,
            Word::SaysNothing => false,
            Word::AsItIs => true,
        }
    }

    /// Whether it is time to say other words for the same.
    fn renews(&self) -> bool {
        self.before.is_some_and(|before| self.now.duration_since(before.pods_at) >= PODS_PEACE)
    }

    fn recipient(&self, pod: &Unplaced<'_>) -> Option<Recipient> {
        let has_turned = self.before.is_some_and(|before| before.waits.why != self.waits.why);
        // What the watch shows of a pod that was told may be old.
        let is_due = !self.was_told(pod) || has_turned || self.renews();
        let said = pod.said.map(|said| said.reason.as_str());
        let reason = match self.waits.why.word(said) {
            _ if !is_due => return None,
            Word::AsItIs => return None,
            Word::SaysNothing => None,
            Word::Says(reason) => Some(reason),
        };
        let is_said = said.is_some() && said == reason;
        let is_in_words = pod.said.is_some_and(|said| said.message == self.waits.message);
        if is_said && (is_in_words || !(has_turned || self.renews())) {
            return None;
        }
        let (name, uid, version) = (pod.pod.to_owned(), pod.uid.to_owned(), pod.version.to_owned());
        Some(Recipient {
            pod: name,
            uid,
            version,
            generation: pod.generation,
            said: pod.said.cloned(),
            reason,
        })
    }
}

#[cfg(test)]
mod tests;
