//! What a group waits for, as it is told; and whether that is news.

use std::collections::HashMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use plasma_api::gang::Blocker as ApiBlocker;
use plasma_scheduler_core::{Aside, Blocker};

/// The reason of a gang that hasn't all its pods yet.
const GATHERING: &str = "Gathering";

/// How long a group is left in peace when nothing but numbers has changed.
const PEACE: SignedDuration = SignedDuration::from_secs(10);

/// Why a gang, or a pod of no gang, has no place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Waits {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) blockers: Vec<ApiBlocker>,
    pub(crate) bound: usize,
    /// More nodes would help.
    pub(crate) wants_room: bool,
}

impl Waits {
    /// There is no room.
    pub(crate) fn for_room(message: String, blockers: &[Blocker], bound: usize) -> Self {
        let blockers = blockers.iter().map(api_blocker).collect();
        Self { reason: "Unschedulable", message, blockers, bound, wants_room: true }
    }

    /// It isn't planned over.
    pub(crate) fn aside(why: &Aside, bound: usize) -> Self {
        let blocker = |reason: &str, subject: &String| ApiBlocker {
            reason: reason.to_owned(),
            subject: subject.clone(),
            nodes: 0,
            needed: None,
            free: None,
        };
        let (reason, message, blockers) = match why {
            Aside::Gathering { there, needed } => {
                (GATHERING, format!("{there} of {needed} pods exist"), Vec::new())
            }
            Aside::Gated { gate, pods, of } => {
                let message = format!("{pods} of {of} pods wait for scheduling gate {gate} to be taken off");
                ("SchedulingGated", message, vec![blocker("SchedulingGated", gate)])
            }
            Aside::Refused(why) => {
                ("UnsupportedField", why.to_string(), vec![blocker("UnsupportedField", &why.field)])
            }
        };
        Self { reason, message, blockers, bound, wants_room: false }
    }

    /// Its volumes couldn't be had as planned: it is planned anew.
    pub(crate) fn for_volumes(why: &str, bound: usize) -> Self {
        let message = format!("its volumes can't be had as planned, so it is planned anew: {why}");
        Self { reason: "VolumesNotBound", message, blockers: Vec::new(), bound, wants_room: false }
    }

    pub(crate) fn is_gathering(&self) -> bool {
        self.reason == GATHERING
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.reason == "UnsupportedField"
    }

    /// Whether both say the same but for numbers.
    fn is_like(&self, other: &Self) -> bool {
        let kinds = |waits: &Self| -> Vec<(String, String)> {
            waits.blockers.iter().map(|blocker| (blocker.reason.clone(), blocker.subject.clone())).collect()
        };
        self.reason == other.reason && self.bound == other.bound && kinds(self) == kinds(other)
    }
}

/// What was said last about each group that isn't placed.
#[derive(Default)]
pub(crate) struct Said(HashMap<String, (Waits, Timestamp)>);

impl Said {
    /// Whether this is news: it is remembered as said then.
    pub(crate) fn is_news(&mut self, key: &str, waits: &Waits, now: Timestamp) -> bool {
        if let Some((said, at)) = self.0.get(key) {
            let is_peace = said.is_like(waits) && !waits.is_gathering() && now.duration_since(*at) < PEACE;
            if said == waits || is_peace {
                return false;
            }
        }
        self.0.insert(key.to_owned(), (waits.clone(), now));
        true
    }

    /// It couldn't be said, or doesn't hold any more.
    pub(crate) fn forget(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// How many groups wait for room, and how many are refused.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let count = |is: fn(&Waits) -> bool| self.0.values().filter(|(waits, _)| is(waits)).count();
        (count(|waits| waits.wants_room), count(Waits::is_refused))
    }

    /// Forgets the groups for which this doesn't hold.
    pub(crate) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.0.retain(|key, _| is_there(key));
    }
}

fn api_blocker(blocker: &Blocker) -> ApiBlocker {
    ApiBlocker {
        reason: blocker.reason.to_owned(),
        subject: blocker.subject.clone(),
        nodes: i32::try_from(blocker.nodes).unwrap_or(i32::MAX),
        needed: blocker.needed.map(|amount| amount.to_string()),
        free: blocker.free.map(|amount| amount.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(message: &str, subject: &str) -> Waits {
        let blocker = Blocker {
            reason: "InsufficientResource",
            subject: subject.to_owned(),
            nodes: 1,
            needed: None,
            free: None,
        };
        Waits::for_room(message.to_owned(), &[blocker], 0)
    }

    #[test]
    fn other_numbers_are_news_after_a_while_and_another_reason_at_once() {
        let (mut said, now) = (Said::default(), Timestamp::now());
        assert!(said.is_news("g", &waits("needs 4, 2 free", "gpu"), now));
        assert!(!said.is_news("g", &waits("needs 4, 2 free", "gpu"), now + PEACE));
        let other = now + SignedDuration::from_secs(3);
        assert!(!said.is_news("g", &waits("needs 4, 1 free", "gpu"), other));
        assert!(said.is_news("g", &waits("needs 4, 1 free", "cpu"), other));
        assert!(said.is_news("g", &waits("needs 4, 0 free", "cpu"), other + PEACE));
        assert_eq!(said.counts(), (1, 0));
        said.forget("g");
        assert!(said.is_news("g", &waits("needs 4, 0 free", "cpu"), other + PEACE));
    }
}
