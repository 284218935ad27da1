//! What a cycle says of groups that have no place.

use k8s_openapi::jiff::Timestamp;

use super::Scheduler;
use crate::{
    outcome::{Outcome, Telling},
    state::State,
    waits::{Waits, Why},
};

impl Scheduler {
    /// Says what a group waits for, where that is news.
    pub(super) fn tell(&mut self, group: String, waits: Waits, now: Timestamp) {
        // While a group waits to be told something, nothing else is put beside that: what holds then is told in its turn.
        let waits_for_that = self.being_told.contains(&group) && !waits.why.is_obstacle();
        if waits_for_that || self.said.is_early(&group, &waits, now) {
            return;
        }
        let State { cluster, pod_groups, .. } = &self.state;
        let news = if waits.why == Why::OfAnotherJob {
            self.said.news(&group, waits, cluster.strangers(&group), now)
        } else {
            // Of pods that are on their way, only what keeps them from arriving is news.
            let why = waits.why;
            let is_meant = |on_its_way: bool| match why {
                Why::BindingRefused | Why::BindingFailed => true,
                Why::VolumesPending => on_its_way,
                _ => !on_its_way,
            };
            let pods = cluster.unplaced(&group).filter(|pod| is_meant(pod.is_on_its_way));
            self.said.news(&group, waits, pods, now)
        };
        let Some(news) = news else { return };
        let pod_group = cluster.pod_group_of(&group).and_then(|key| pod_groups.find(&key));
        let gang = self.state.find_gang(&group).cloned();
        let otherwise =
            Outcome::Told { group: group.clone(), is_told: false, has_alarmed: false, gang: None };
        self.being_told.insert(group.clone());
        let telling = Telling { group, news, gang, pod_group };
        self.spawn(otherwise, |work| work.tell(telling));
    }
}
