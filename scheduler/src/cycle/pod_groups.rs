//! What a cycle does for upstream PodGroups: gangs are made for them, and they are told when their pods have their places.

use k8s_openapi::jiff::Timestamp;

use super::Scheduler;
use crate::{
    outcome::Outcome,
    pod_groups::{Made, Wanted},
    waits::Waits,
};

impl Scheduler {
    /// Has a gang made for the pods of a PodGroup, which nothing is planned for meanwhile.
    pub(super) fn make_gang(&mut self, group: String, (uid, min_count, priority): (String, usize, i32)) {
        let found = self.state.pod_groups.find(&group).filter(|found| found.uid == uid);
        let Some(pod_group) = found else { return };
        self.pauses.interrupt(&group);
        self.state.cluster.set_busy(&group, true);
        let wanted = Wanted { pod_group, min_count, priority };
        let made = Made::Not("making it failed".to_owned());
        let otherwise = Outcome::GangMade { group: group.clone(), made };
        self.spawn(otherwise, |work| work.make_gang(group, wanted));
    }

    /// A gang was made for the pods of a PodGroup, or can't be; then it is tried again after a pause.
    pub(super) fn gang_made(&mut self, group: String, made: Made, now: Timestamp) {
        match made {
            Made::Is(gang) => {
                self.state.made(*gang);
                self.pauses.forget(&group);
                self.state.cluster.set_busy(&group, false);
            }
            Made::Not(why) => {
                self.pauses.begin(&group, now);
                self.tell(group, Waits::for_gang(why), now);
            }
        }
    }

    /// Says on PodGroups that their pods have their places.
    pub(super) fn confirm_pod_groups(&mut self, now: Timestamp) {
        for (pod_group, pods) in self.state.pod_groups.placed(&self.state.cluster, now) {
            self.spawn(Outcome::Confirmed, |work| work.confirm(pod_group, pods));
        }
    }
}
