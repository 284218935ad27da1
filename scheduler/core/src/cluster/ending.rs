//! Pods that are ending, and how long they are waited for: what is said to be gone soon, and is, needs nobody to be evicted.

use super::{Cluster, Known};
use crate::node::{NodeId, PodId};

/// Whoever is to be gone within so many seconds is waited for, rather than that others are evicted.
const SOON: i64 = 300;
/// Who is so many seconds late isn't waited for any more: a finalizer that nobody takes off, or a kubelet that hangs.
const LATE: i64 = 60;

impl Known {
    /// Whether the pod, which is ending or is to, is to be gone soon, at that time. One that we evict counts as such however
    /// long it takes: that others are evicted, too, makes it no faster.
    fn is_soon_gone(&self, now: Option<i64>) -> bool {
        let is_soon = |ends: i64| now.is_none_or(|now| ends <= now.saturating_add(SOON));
        self.is_waited_for(now) && (self.is_leaving || self.pod.stage.ends.is_some_and(is_soon))
    }

    /// Whether it isn't late, or can't tell.
    fn is_waited_for(&self, now: Option<i64>) -> bool {
        let is_due = |ends: i64| now.is_none_or(|now| now <= ends.saturating_add(LATE));
        !self.pod.stage.is_terminating || self.pod.stage.ends.is_some_and(is_due)
    }
}

impl Cluster {
    /// So late is it now, in seconds. Who was to be gone soon and isn't frees nothing any more that could be counted on; who
    /// was to be gone much later may be waited for by now.
    pub fn pass_time(&mut self, now: i64) {
        let before = self.now.replace(now);
        if before == Some(now) {
            return;
        }
        let mut ending = self.ending.iter().filter_map(|id| self.known(*id));
        let has_turned = |known: &Known| {
            known.is_soon_gone(before) != known.is_soon_gone(Some(now))
                || known.is_waited_for(before) != known.is_waited_for(Some(now))
        };
        if ending.any(has_turned) {
            self.changes.prey(Some(i32::MIN));
            self.rouse_reserved();
        }
    }

    /// Whether a pod that is ending, or is to, is to be gone soon.
    pub(super) fn is_soon_gone(&self, known: &Known) -> bool {
        known.is_soon_gone(self.now)
    }

    /// The pods on nodes that are ending, or are to, for which a group waits rather than evicting others: those that are to be
    /// gone soon, and on nodes that are kept for the group, where somebody ends for it, all that aren't late.
    pub(crate) fn awaited(&self, kept: &[(PodId, NodeId)]) -> Vec<PodId> {
        let is_kept = |on: NodeId| kept.iter().any(|(_, node)| *node == on);
        let is_awaited = |known: &Known| {
            known.is_soon_gone(self.now) || known.is_waited_for(self.now) && known.on.is_some_and(is_kept)
        };
        let ending = self.ending.iter().copied();
        ending.filter(|id| self.known(*id).is_some_and(is_awaited)).collect()
    }
}
