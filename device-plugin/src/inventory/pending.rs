//! Devices for which the container runtime has yet to be told what they are, and for how long.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// It takes some milliseconds; after this long it is a fault, and is said.
pub(crate) const PREPARED_WITHIN: Duration = Duration::from_secs(10);

/// Since when each is pending.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending(BTreeMap<String, Instant>);

impl Pending {
    /// Takes in which are now.
    pub(super) fn note(&mut self, devices: BTreeSet<String>) {
        let before = std::mem::take(&mut self.0);
        let since = |device: String| {
            let since = before.get(&device).copied().unwrap_or_else(Instant::now);
            (device, since)
        };
        self.0 = devices.into_iter().map(since).collect();
    }

    #[cfg(test)]
    pub(super) fn grow_old(&mut self) {
        let long_ago = Instant::now().checked_sub(2 * PREPARED_WITHIN).unwrap();
        self.0.values_mut().for_each(|since| *since = long_ago);
    }

    pub(super) fn has(&self, device: &str) -> bool {
        self.0.contains_key(device)
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Why the device isn't given to pods, where it has been pending for too long.
    pub(super) fn why_late(&self, device: &str) -> Option<String> {
        self.0.get(device).filter(|since| is_late(since))?;
        Some(format!(
            "it isn't ready for containers: for more than {PREPARED_WITHIN:?} the container runtime hasn't been told what it \
             is now; the plugin's log says why"
        ))
    }

    pub(super) fn late(&self) -> Vec<String> {
        let late = self.0.iter().filter(|(_, since)| is_late(since));
        late.map(|(device, _)| device.clone()).collect()
    }
}

fn is_late(since: &Instant) -> bool {
    since.elapsed() > PREPARED_WITHIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_gets_ready_is_said_after_a_while_and_counts_from_when_it_began() {
        let all = || BTreeSet::from(["A".to_owned(), "B".to_owned()]);
        let mut pending = Pending::default();
        pending.note(all());
        assert!(pending.has("A") && pending.why_late("A").is_none() && pending.late().is_empty());
        pending.note(BTreeSet::from(["A".to_owned()]));
        pending.grow_old();
        pending.note(all());
        assert_eq!((pending.count(), pending.late()), (2, vec!["A".to_owned()]));
        assert!(pending.why_late("A").unwrap().contains("isn't ready") && pending.why_late("B").is_none());
        pending.note(BTreeSet::new());
        pending.note(all());
        assert!(pending.late().is_empty(), "it was ready in between");
    }
}
