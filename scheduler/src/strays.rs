//! Pods that were left on their way to their nodes: the plan that sent them there is gone, and nobody told how they ended.
//! They keep their room while a binding may still arrive; then they are read, and wait again where they aren't bound.

use std::collections::{HashMap, HashSet};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use plasma_scheduler_core::{Cluster, Placement};

/// How often they are looked for.
const EVERY: SignedDuration = SignedDuration::from_secs(5);
/// For how long a request whose end isn't known may still be carried out by the API server: its own limit (`--request-timeout`,
/// 60 seconds if nothing else is said), and some more.
pub(crate) const LAST_WORD: SignedDuration = SignedDuration::from_secs(70);

/// The pods, by UID, that tasks are working on, and those that were left.
#[derive(Default)]
pub(crate) struct Strays {
    in_hand: HashSet<String>,
    /// Since when.
    left: HashMap<String, Timestamp>,
    looked: Option<Timestamp>,
}

impl Strays {
    /// These are being worked on.
    pub(crate) fn take<'a>(&mut self, placements: impl IntoIterator<Item = &'a Placement>) {
        for placement in placements {
            self.left.remove(&placement.uid);
            self.in_hand.insert(placement.uid.clone());
        }
    }

    /// They aren't any more: whatever is sent for them was sent by now.
    pub(crate) fn let_go<'a>(&mut self, uids: impl IntoIterator<Item = &'a str>) {
        uids.into_iter().for_each(|uid| {
            self.in_hand.remove(uid);
        });
    }

    /// Those of which now can be read for sure whether they are bound, each with its namespace.
    pub(crate) fn due(&mut self, cluster: &Cluster, now: Timestamp) -> Vec<(String, Placement)> {
        if self
            .looked
            .is_some_and(|looked| (SignedDuration::ZERO..EVERY).contains(&now.duration_since(looked)))
        {
            return Vec::new();
        }
        self.looked = Some(now);
        let strays: Vec<_> =
            cluster.strays().filter(|(_, place)| !self.in_hand.contains(&place.uid)).collect();
        let since = |uid: &String| (uid.clone(), self.left.get(uid).copied().unwrap_or(now));
        self.left = strays.iter().map(|(_, place)| since(&place.uid)).collect();
        let is_due = |place: &Placement| {
            self.left.get(&place.uid).is_some_and(|since| now.duration_since(*since) >= LAST_WORD)
        };
        strays.into_iter().filter(|(_, place)| is_due(place)).collect()
    }

    /// Whether nobody has worked on the pod since it was found to be left.
    pub(crate) fn is_left(&self, uid: &str) -> bool {
        self.left.contains_key(uid)
    }
}

#[cfg(test)]
mod tests {
    use plasma_scheduler_core::Names;
    use serde_json::json;

    use super::*;

    fn on_its_way(uid: &str) -> (Cluster, Placement) {
        let text = str::to_owned;
        let names = Names { scheduler: text("s"), gang_label: text("gang"), job_label: text("job") };
        let mut cluster = Cluster::new(names);
        let pod = json!({
            "metadata": { "name": "p", "namespace": "ns", "uid": uid }, "spec": { "schedulerName": "s" },
        });
        cluster.set_pod(&serde_json::from_value(pod).unwrap());
        cluster.assume(uid, "n");
        let placement = Placement { pod: text("p"), uid: text(uid), node: text("n"), volumes: Vec::new() };
        (cluster, placement)
    }

    #[test]
    fn who_is_worked_on_is_not_left_and_who_is_not_is_read_after_the_last_word() {
        let (cluster, placement) = on_its_way("u");
        let (mut strays, begin) = (Strays::default(), Timestamp::now());
        let due = |strays: &mut Strays, seconds: i64| {
            strays.due(&cluster, begin + SignedDuration::from_secs(seconds)).len()
        };
        strays.take([&placement]);
        assert_eq!((due(&mut strays, 0), due(&mut strays, 1000)), (0, 0));
        assert!(!strays.is_left("u"));
        strays.let_go(["u"]);
        assert_eq!((due(&mut strays, 1005), due(&mut strays, 1074)), (0, 0));
        assert_eq!((due(&mut strays, 1075), due(&mut strays, 1080)), (0, 1), "looked for every five seconds");
        strays.take([&placement]);
        assert!(!strays.is_left("u"), "what was read before doesn't count any more");
        strays.let_go(["u"]);
        assert_eq!(due(&mut strays, 1085), 0, "it is waited for anew");
    }
}
