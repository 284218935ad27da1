//! From waiting receipts to the next batch of a rental.

use std::collections::BTreeMap;

use plasma_types::{Hash, PodUid, UnixMillis, UnixSeconds, WeiPerGpuSecond, Xpl};

use crate::{Leaf, LeafError, flag, head::next_head};

/// Where a rental's chain of batches stands: what the next batch follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The head.
    pub head: Hash,
    /// The next receipt's sequence.
    pub next_sequence: u64,
    /// The watermark.
    pub through: UnixSeconds,
}

/// A batch that follows a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// What it follows.
    pub from: Position,
    /// The watermark after it.
    pub to: UnixSeconds,
    /// Its leaves, in ascending order of pod UID, with their amounts.
    pub leaves: Vec<(Leaf, Xpl)>,
    /// Σ amounts.
    pub total: Xpl,
    /// The head after it.
    pub head: Hash,
}

impl Batch {
    /// What the next batch follows.
    pub fn position(&self) -> Position {
        let count = self.leaves.len() as u64;
        Position {
            head: self.head,
            next_sequence: self.from.next_sequence.saturating_add(count),
            through: self.to,
        }
    }

    /// The packed leaves, as they go on chain.
    ///
    /// # Errors
    /// When a number doesn't fit; a planned batch has none such.
    pub fn packed(&self) -> Result<Vec<u8>, LeafError> {
        let packed: Result<Vec<_>, _> = self.leaves.iter().map(|(leaf, _)| leaf.pack()).collect();
        Ok(packed?.concat())
    }
}

/// The next batch from the waiting leaves, at most `limit` of them, oldest end first; `None` where none waits.
///
/// A pod that ended before the watermark was seen late: its leaf ends just after the watermark, and says so.
/// A leaf that the contract would refuse is replaced by a void one, so that one receipt never blocks the rest.
///
/// # Errors
/// When even a void leaf can't be packed: an end beyond the year 10 000.
pub fn plan_batch(
    from: Position,
    waiting: &[Leaf],
    prices: &[WeiPerGpuSecond],
    limit: usize,
) -> Result<Option<Batch>, LeafError> {
    let mut oldest: Vec<Leaf> = waiting.to_vec();
    oldest.sort_by_key(|leaf| (leaf.end, leaf.pod_uid));
    // By pod UID: ascending order, and each pod once.
    let mut chosen: BTreeMap<PodUid, Leaf> = BTreeMap::new();
    for leaf in oldest {
        if chosen.len() < limit {
            chosen.entry(leaf.pod_uid).or_insert_with(|| after_watermark(leaf, from.through));
        }
    }
    let Some(last) = chosen.values().map(|leaf| leaf.end).max() else { return Ok(None) };
    let leaves: Vec<(Leaf, Xpl)> = chosen.into_values().map(|leaf| priced(leaf, prices)).collect();
    let total = leaves.iter().map(|(_, amount)| *amount).sum();
    let mut batch = Batch { from, to: last.ceil_seconds(), leaves, total, head: from.head };
    batch.head = next_head(from.head, &batch.packed()?, batch.leaves.len() as u64, total, batch.to);
    Ok(Some(batch))
}

fn after_watermark(leaf: Leaf, through: UnixSeconds) -> Leaf {
    let first = UnixMillis(UnixMillis::from(through).0.saturating_add(1));
    if first <= leaf.end {
        return leaf;
    }
    // Its devices may have been somebody else's at the time that it says now: it says nothing of them.
    Leaf { end: first, device_mask: 0, flags: leaf.flags | flag::LATE, ..leaf }
}

fn priced(leaf: Leaf, prices: &[WeiPerGpuSecond]) -> (Leaf, Xpl) {
    match leaf.amount(prices).and_then(|amount| leaf.pack().map(|_| amount)) {
        Ok(amount) => (leaf, amount),
        Err(_) => {
            let void = Leaf {
                duration: plasma_types::Duration(0),
                device_ms: 0,
                price_class: 0,
                flags: leaf.flags | flag::VOID,
                ..leaf
            };
            (void, Xpl::ZERO)
        }
    }
}

#[cfg(test)]
mod tests {
    use plasma_types::{Duration, JobUid};
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const START: Position = Position { head: Hash([7; 32]), next_sequence: 5, through: UnixSeconds(1000) };
    const PRICES: &[WeiPerGpuSecond] = &[WeiPerGpuSecond(1000)];

    fn leaf(pod: u8, end: u64) -> Leaf {
        Leaf {
            pod_uid: PodUid([pod; 16]),
            job_uid: JobUid([9; 16]),
            end: UnixMillis(end),
            duration: Duration(1000),
            device_ms: 1000,
            price_class: 0,
            node_index: 0,
            device_mask: 0,
            flags: flag::FROM_POD_STATUS,
        }
    }

    fn plan(waiting: &[Leaf], limit: usize) -> Batch {
        plan_batch(START, waiting, PRICES, limit).expect("packs").expect("a batch")
    }

    #[test]
    fn a_pod_seen_late_ends_just_after_the_watermark_and_keeps_its_duration() {
        let batch = plan(&[Leaf { device_mask: 3, ..leaf(1, 999_000) }], 10);
        let (late, amount) = &batch.leaves[0];
        assert_eq!(late.device_mask, 0, "who had its devices at that time is somebody else's to say");
        assert_eq!((late.end, late.flags & flag::LATE), (UnixMillis(1_000_001), flag::LATE));
        assert_eq!((late.duration, *amount), (Duration(1000), Xpl::from_wei(1000)));
        assert_eq!(batch.to, UnixSeconds(1001));
    }

    #[test]
    fn a_leaf_that_the_contract_would_refuse_becomes_void_and_blocks_nothing() {
        let bad = Leaf { price_class: 3, ..leaf(2, 2_000_000) };
        let batch = plan(&[leaf(1, 2_000_000), bad], 10);
        assert_eq!(batch.total, Xpl::from_wei(1000));
        assert_eq!(batch.leaves[1].0.flags & flag::VOID, flag::VOID);
    }

    #[test]
    fn nothing_waiting_is_no_batch() {
        assert_eq!(plan_batch(START, &[], PRICES, 10), Ok(None));
    }

    proptest! {
        #[test]
        fn every_batch_is_one_that_the_contract_takes(ends in vec(0_u64..4_000_000, 1..40), limit in 1_usize..50) {
            let waiting: Vec<Leaf> =
                ends.iter().enumerate().map(|(at, end)| leaf(u8::try_from(at % 20).unwrap(), *end)).collect();
            let batch = plan(&waiting, limit);
            prop_assert!(batch.leaves.len() <= limit);
            prop_assert!(batch.leaves.windows(2).all(|pair| pair[0].0.pod_uid < pair[1].0.pod_uid));
            prop_assert!(START.through < batch.to);
            for (leaf, _) in &batch.leaves {
                prop_assert!(START.through.0 * 1000 < leaf.end.0 && leaf.end.0 <= batch.to.0 * 1000);
            }
            prop_assert_eq!(batch.position().next_sequence, 5 + batch.leaves.len() as u64);
        }
    }
}
