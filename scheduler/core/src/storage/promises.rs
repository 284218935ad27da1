//! What is promised to claims whose pods are on their way, until the watch shows it.

use std::collections::HashMap;

use crate::{cluster::Step, labels::Text};

/// How a claim gets its volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// It is bound to this volume.
    Volume(Text),
    /// A volume is made for it that this node reaches.
    Node(Text),
}

#[derive(Debug)]
struct Promised {
    uid: Text,
    what: Promise,
    /// How many pods count on it.
    holders: u32,
    /// Whether the API server has been seen to know of it.
    was_seen: bool,
}

/// Promises by claim, and which claim a volume is promised to.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    by_claim: HashMap<Text, Promised>,
    by_volume: HashMap<Text, Text>,
}

impl Promises {
    /// One more pod counts on a claim's getting its volume in this way. The first one has said how.
    pub(crate) fn add(&mut self, step: &Step) {
        let Step { claim, uid, what, was_seen } = step;
        let is_stale = self.by_claim.get(claim).is_some_and(|promised| promised.uid != *uid);
        if is_stale {
            self.drop_all(claim);
        }
        let new = || Promised { uid: uid.clone(), what: what.clone(), holders: 0, was_seen: false };
        let promised = self.by_claim.entry(claim.clone()).or_insert_with(new);
        promised.holders += 1;
        promised.was_seen |= was_seen;
        if let Promise::Volume(volume) = &promised.what {
            self.by_volume.insert(volume.clone(), claim.clone());
        }
    }

    /// One pod fewer does.
    pub(crate) fn remove(&mut self, claim: &Text, uid: &Text) {
        let Some(promised) = self.by_claim.get_mut(claim).filter(|promised| promised.uid == *uid) else {
            return;
        };
        promised.holders = promised.holders.saturating_sub(1);
        if promised.holders == 0 {
            self.drop_all(claim);
        }
    }

    fn drop_all(&mut self, claim: &Text) {
        if let Some(Promised { what: Promise::Volume(volume), .. }) = self.by_claim.remove(claim) {
            self.by_volume.remove(&volume);
        }
    }

    /// What is promised to a claim.
    pub(crate) fn to(&self, claim: &str, uid: &str) -> Option<&Promise> {
        let promised = self.by_claim.get(claim).filter(|promised| *promised.uid == *uid)?;
        Some(&promised.what)
    }

    /// The claim that a volume is promised to, and its UID.
    pub(crate) fn owner_of(&self, volume: &str) -> Option<(&Text, &Text)> {
        let claim = self.by_volume.get(volume)?;
        Some((claim, &self.by_claim.get(claim)?.uid))
    }

    /// The API server knows of it.
    pub(crate) fn see(&mut self, claim: &str) {
        if let Some(promised) = self.by_claim.get_mut(claim) {
            promised.was_seen = true;
        }
    }

    /// Whether it has.
    pub(crate) fn was_seen(&self, claim: &str) -> bool {
        self.by_claim.get(claim).is_some_and(|promised| promised.was_seen)
    }
}
