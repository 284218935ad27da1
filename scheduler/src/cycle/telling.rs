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
        if self.said.is_early(&group, waits.why, now) {
            return;
        }
        let State { cluster, pod_groups, .. } = &self.state;
        let news = if waits.why == Why::OfAnotherJob {
            self.said.news(&group, waits, cluster.strangers(&group), now)
        } else {
            // Of pods that are on their way, only their volumes are news.
            let is_on_its_way = waits.why == Why::VolumesPending;
            let pods = cluster.unplaced(&group).filter(|pod| pod.is_on_its_way == is_on_its_way);
            self.said.news(&group, waits, pods, now)
        };
        let Some(news) = news else { return };
        let pod_group = cluster.pod_group_of(&group).and_then(|key| pod_groups.find(&key));
        let has_gang = self.state.find_gang(&group).is_some();
        let otherwise =
            Outcome::Told { group: group.clone(), is_told: false, has_alarmed: false, gang: None };
        let telling = Telling { group, news, has_gang, pod_group };
        self.spawn(otherwise, |work| work.tell(telling));
    }
}
