//! No two pods are billed for one device at one time: whoever has both receipts could prove that of the provider.

use crate::{Leaf, flag};

/// A leaf that bills one of the same node's devices at a moment at which this one does, too. `others` are the receipts of
/// that node alone.
pub fn beside<'a>(leaf: &Leaf, others: impl IntoIterator<Item = &'a Leaf>) -> Option<&'a Leaf> {
    others.into_iter().find(|other| {
        let is_billed = |leaf: &Leaf| leaf.flags & flag::VOID == 0 && leaf.device_ms > 0;
        other.pod_uid != leaf.pod_uid
            && is_billed(leaf)
            && is_billed(other)
            && leaf.device_mask & other.device_mask != 0
            && begin(leaf) < other.end.0
            && begin(other) < leaf.end.0
    })
}

fn begin(leaf: &Leaf) -> u64 {
    leaf.end.0.saturating_sub(leaf.duration.0)
}

#[cfg(test)]
mod tests {
    use plasma_types::{Duration, JobUid, PodUid, UnixMillis};

    use super::*;

    fn leaf(pod: u8, (start, end): (u64, u64), device_mask: u64) -> Leaf {
        Leaf {
            pod_uid: PodUid([pod; 16]),
            job_uid: JobUid([9; 16]),
            end: UnixMillis(end),
            duration: Duration(end - start),
            device_ms: 1,
            price_class: 0,
            node_index: 0,
            device_mask,
            flags: flag::METERED,
        }
    }

    #[test]
    fn two_pods_on_one_device_at_once_are_found() {
        let one = leaf(1, (1000, 2000), 0b0110);
        let meets = |other: Leaf| beside(&one, [&other]).is_some();
        assert!(meets(leaf(2, (1999, 3000), 0b0100)));
        assert!(meets(leaf(2, (0, 9000), 0b0010)), "all of its time");
        assert!(!meets(leaf(2, (2000, 3000), 0b0110)), "one after the other");
        assert!(!meets(leaf(2, (0, 1000), 0b0110)), "one before the other");
        assert!(!meets(leaf(2, (1000, 2000), 0b1001)), "other devices");
        assert!(!meets(leaf(2, (1000, 2000), 0)), "which devices isn't known");
        assert!(!meets(leaf(1, (1000, 2000), 0b0110)), "it is itself");
        assert!(!meets(Leaf { flags: flag::VOID, ..leaf(2, (1000, 2000), 0b0110) }), "nothing is billed");
        assert!(!meets(Leaf { device_ms: 0, ..leaf(2, (1000, 2000), 0b0110) }), "nothing is billed");
    }
}
