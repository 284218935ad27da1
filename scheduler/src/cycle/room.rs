//! What a cycle does about nodes that were to be kept for a group, or were for too long.

use k8s_openapi::jiff::Timestamp;

use super::Scheduler;
use crate::outcome::Outcome;

impl Scheduler {
    /// The room that was to be made for a group isn't, for now: it is looked at again after a pause.
    pub(super) fn make_no_room<'a>(
        &mut self,
        group: String,
        spared: impl Iterator<Item = &'a str>,
        now: Timestamp,
    ) {
        let cluster = &mut self.state.cluster;
        spared.for_each(|uid| cluster.spare(uid));
        cluster.cancel_reservation(&group);
        cluster.set_busy(&group, true);
        self.pauses.begin(&group, now);
    }

    /// Gives nodes back that were kept for too long, and says so on the pods.
    pub(super) fn end_reservations(&mut self, now: Timestamp) {
        let owed = self.uncleared.due(now);
        owed.iter().for_each(|uid| self.state.cluster.is_still_nominated(uid));
        let seconds = i64::from(self.args.nomination_seconds);
        let ended = self.state.cluster.end_reservations(now.as_second(), seconds);
        if !ended.is_empty() {
            let otherwise = Outcome::Cleared { failed: ended.clone() };
            self.spawn(otherwise, |work| work.clear(ended));
        }
    }
}
