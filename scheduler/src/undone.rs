//! Gangs whose pods were undone. Each time they wait twice as long before they are planned again, and say so, until a plan
//! stands or their owner changes something.

use std::collections::{BTreeMap, HashSet};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::state::State;

/// How long is waited after pods were undone for the first time; then twice as long, up to the longest. Each time the other
/// pods were started and killed.
const FIRST: SignedDuration = SignedDuration::from_secs(10);
const LONGEST: SignedDuration = SignedDuration::from_mins(10);

/// The gangs that were undone and of which no plan stood since.
#[derive(Default)]
pub(crate) struct Undone(BTreeMap<String, Entry>);

/// How a gang was undone last.
struct Entry {
    times: u32,
    until: Timestamp,
    why: String,
    owned: Owned,
}

/// A gang that waits because it was undone.
pub(crate) struct Paused {
    pub(crate) key: String,
    /// How often it was undone since a plan of it stood.
    pub(crate) times: u32,
    pub(crate) until: Timestamp,
    pub(crate) why: String,
}

/// What of a gang is its owner's: of the Gang all but its status, and the pods that were neither bound nor undone.
struct Owned {
    uid: Option<String>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    needed: usize,
    /// Their generations, by UID.
    pods: BTreeMap<String, Option<i64>>,
}

impl Owned {
    fn of(state: &State, key: &str, is_meant: impl Fn(&str) -> bool) -> Self {
        let meta = state.find_gang(key).map(|gang| gang.metadata.clone()).unwrap_or_default();
        let pods = state.cluster.unplaced(key).filter(|pod| is_meant(pod.uid));
        Self {
            uid: meta.uid,
            generation: meta.generation,
            labels: meta.labels,
            annotations: meta.annotations,
            needed: state.cluster.needed_of(key),
            pods: pods.map(|pod| (pod.uid.to_owned(), pod.generation)).collect(),
        }
    }

    /// Whether it is another by now. A pod that is gone changes nothing: many owners make all pods anew when some are undone.
    fn has_changed(&self, state: &State, key: &str) -> bool {
        let Some(gang) = state.find_gang(key) else { return true };
        let meta = &gang.metadata;
        let is_another = |uid: &str, generation| self.pods.get(uid).is_some_and(|known| *known != generation);
        (&self.uid, &self.labels, &self.annotations) != (&meta.uid, &meta.labels, &meta.annotations)
            || self.generation != meta.generation
            || self.needed != state.cluster.needed_of(key)
            || state.cluster.unplaced(key).any(|pod| is_another(pod.uid, pod.generation))
    }
}

impl Undone {
    /// The pods of a gang were undone, but for those, by UID, that were never bound. Answers until when it waits.
    pub(crate) fn again(
        &mut self,
        key: &str,
        (state, unbound): (&State, &[String]),
        why: String,
        now: Timestamp,
    ) -> Timestamp {
        let times = self.0.get(key).map_or(0, |entry| entry.times).saturating_add(1);
        let until = now + (FIRST * (1 << (times - 1).min(10))).min(LONGEST);
        let unbound: HashSet<&str> = unbound.iter().map(String::as_str).collect();
        let owned = Owned::of(state, key, |uid| unbound.contains(uid));
        self.0.insert(key.to_owned(), Entry { times, until, why, owned });
        until
    }

    /// A plan of the gang stands.
    pub(crate) fn stands(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// Forgets the gangs that are gone or of which their owner has changed something, and answers which.
    pub(crate) fn changed(&mut self, state: &State) -> Vec<String> {
        self.0.extract_if(.., |key, entry| entry.owned.has_changed(state, key)).map(|(key, _)| key).collect()
    }

    /// Those that wait for it now.
    pub(crate) fn paused(&self, now: Timestamp) -> Vec<Paused> {
        let paused = self.0.iter().filter(|(_, entry)| now < entry.until);
        let paused = paused.map(|(key, Entry { times, until, why, .. })| Paused {
            key: key.clone(),
            times: *times,
            until: *until,
            why: why.clone(),
        });
        paused.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pause_is_twice_the_last_up_to_the_longest_until_a_plan_stands() {
        let (mut undone, state, now) = (Undone::default(), State::new("s"), Timestamp::now());
        let mut again =
            || undone.again("ns/g", (&state, &[]), String::new(), now).duration_since(now).as_secs();
        let pauses: Vec<i64> = (0..9).map(|_| again()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
        undone.stands("ns/g");
        assert_eq!(undone.again("ns/g", (&state, &[]), String::new(), now), now + FIRST);
        assert_eq!(undone.paused(now)[0].times, 1);
        assert!(undone.paused(now + FIRST).is_empty());
    }

    #[test]
    fn a_gang_that_is_gone_is_forgotten() {
        let (mut undone, state, now) = (Undone::default(), State::new("s"), Timestamp::now());
        undone.again("ns/g", (&state, &[]), String::new(), now);
        assert_eq!(undone.changed(&state), ["ns/g"]);
        assert!(undone.paused(now).is_empty());
    }
}
