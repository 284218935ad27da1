//! From waiting receipts to the next batch of a rental.

use std::collections::BTreeMap;

use plasma_types::{Duration, Hash, PodUid, UnixMillis, UnixSeconds, WeiPerGpuSecond, Xpl};

use crate::{Leaf, LeafError, flag, head::next_head};

/// So many receipts a batch may have at most: more wouldn't fit the object that holds them.
const MOST_LEAVES: usize = 512;
/// The contract takes no batch that is worth more than 2^96 wei. If none of its receipts is worth more than this, some 150
/// million XPL, no batch is.
const MOST_WORTH: Xpl = Xpl::from_wei(((1 << 96) - 1) / MOST_LEAVES as u128);
/// The contract takes no leaf of it.
const NOBODY: PodUid = PodUid([0; 16]);

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
    /// Pods whose leaf is void because it can't be billed as it is, and why.
    pub unbilled: Vec<(PodUid, Unbilled)>,
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

/// What a rental holds that decides which leaves its contract takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms<'a> {
    /// Its prices, by class.
    pub prices: &'a [WeiPerGpuSecond],
    /// The longest time that one receipt may bill.
    pub period: Duration,
}

/// Why a leaf can't be billed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unbilled {
    /// It breaks a rule of its format, or has no price.
    #[error("{0}")]
    Leaf(#[from] LeafError),
    /// It lasted too long for one receipt.
    #[error(
        "pod {0}: it lasted {1} milliseconds, and one receipt of its rental bills at most {2}: agree on a longer period"
    )]
    TooOld(PodUid, u64, u64),
    /// It is worth so much that a batch of such leaves could be refused as a whole.
    #[error("pod {0}: it would be worth {1} XPL, more than one receipt may: look at the price")]
    TooDear(PodUid, Xpl),
}

/// The next batch from the waiting leaves, at most `limit` of them, oldest end first; `None` where none waits.
///
/// A pod that ended before the watermark was seen late: its leaf ends just after the watermark, and says so.
/// A leaf that the contract would refuse is replaced by a void one, so that one receipt never blocks the rest. A pod whose
/// UID is zero, which no API server gives, has no place in any batch.
///
/// # Errors
/// When even a void leaf can't be packed: an end beyond the year 10 000.
pub fn plan_batch(
    from: Position,
    waiting: &[Leaf],
    terms: Terms<'_>,
    limit: usize,
) -> Result<Option<Batch>, LeafError> {
    let mut oldest: Vec<Leaf> = waiting.iter().filter(|leaf| leaf.pod_uid != NOBODY).copied().collect();
    oldest.sort_by_key(|leaf| (leaf.end, leaf.pod_uid));
    // By pod UID: ascending order, and each pod once.
    let mut chosen: BTreeMap<PodUid, Leaf> = BTreeMap::new();
    for leaf in oldest {
        if chosen.len() < limit.min(MOST_LEAVES) {
            chosen.entry(leaf.pod_uid).or_insert_with(|| after_watermark(leaf, from.through));
        }
    }
    let Some(last) = chosen.values().map(|leaf| leaf.end).max() else { return Ok(None) };
    let (mut leaves, mut unbilled) = (Vec::with_capacity(chosen.len()), Vec::new());
    for leaf in chosen.into_values() {
        leaves.push(match worth(&leaf, terms) {
            Ok(amount) => (leaf, amount),
            Err(why) => {
                unbilled.push((leaf.pod_uid, why));
                (void(leaf), Xpl::ZERO)
            }
        });
    }
    let total = leaves.iter().map(|(_, amount)| *amount).sum();
    let mut batch = Batch { from, to: last.ceil_seconds(), leaves, unbilled, total, head: from.head };
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

/// What the contract pays for it.
fn worth(leaf: &Leaf, terms: Terms<'_>) -> Result<Xpl, Unbilled> {
    leaf.pack()?;
    if leaf.duration > terms.period && !leaf.is_void() {
        return Err(Unbilled::TooOld(leaf.pod_uid, leaf.duration.0, terms.period.0));
    }
    let amount = leaf.amount(terms.prices)?;
    if amount > MOST_WORTH { Err(Unbilled::TooDear(leaf.pod_uid, amount)) } else { Ok(amount) }
}

fn void(leaf: Leaf) -> Leaf {
    Leaf { duration: Duration(0), device_ms: 0, price_class: 0, flags: leaf.flags | flag::VOID, ..leaf }
}

#[cfg(test)]
mod tests {
    use plasma_types::JobUid;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const START: Position = Position { head: Hash([7; 32]), next_sequence: 5, through: UnixSeconds(1000) };
    /// A price that people agree on, one that is absurd, and the highest.
    const PRICES: &[WeiPerGpuSecond] =
        &[WeiPerGpuSecond(1000), WeiPerGpuSecond(1 << 90), WeiPerGpuSecond(u128::MAX)];
    const TERMS: Terms<'_> = Terms { prices: PRICES, period: Duration(3_600_000) };

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
        plan_batch(START, waiting, TERMS, limit).expect("packs").expect("a batch")
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
        let good = leaf(1, 2_000_000);
        let two_devices = Leaf { device_mask: 0b11, device_ms: 2000, ..leaf(2, 2_000_000) };
        let bad = [
            Leaf { price_class: 3, ..leaf(3, 2_000_000) },
            Leaf { device_ms: 2001, device_mask: 0b11, ..leaf(4, 2_000_000) },
            Leaf { device_ms: 64_001, ..leaf(5, 2_000_000) },
            Leaf { duration: Duration(3_600_001), ..leaf(6, 2_000_000) },
            Leaf { price_class: 1, ..leaf(7, 2_000_000) },
            Leaf { price_class: 2, ..leaf(8, 2_000_000) },
        ];
        let batch = plan(&[&[good, two_devices], &bad[..]].concat(), 10);
        assert_eq!(batch.total, Xpl::from_wei(3000));
        let void: Vec<u8> = batch
            .leaves
            .iter()
            .filter(|(leaf, _)| leaf.is_void())
            .map(|(leaf, _)| leaf.pod_uid.0[0])
            .collect();
        assert_eq!(void, [3, 4, 5, 6, 7, 8]);
        let why: Vec<&Unbilled> = batch.unbilled.iter().map(|(_, why)| why).collect();
        assert!(
            matches!(
                why[..],
                [
                    Unbilled::Leaf(LeafError::UnknownClass(..)),
                    Unbilled::Leaf(LeafError::TooLong(_, 2001, 1000, 2)),
                    Unbilled::Leaf(LeafError::TooLong(_, 64_001, 1000, 64)),
                    Unbilled::TooOld(_, 3_600_001, 3_600_000),
                    Unbilled::TooDear(..),
                    Unbilled::Leaf(LeafError::TooLarge(..)),
                ]
            ),
            "{why:?}"
        );
        let told = plan(&[Leaf { flags: flag::VOID, ..bad[3] }], 10);
        assert_eq!(told.unbilled, [], "it was void already, for a reason that was said");
    }

    #[test]
    fn a_pod_without_a_uid_has_no_place_in_a_batch() {
        assert_eq!(plan_batch(START, &[leaf(0, 2_000_000)], TERMS, 10), Ok(None));
    }

    #[test]
    fn nothing_waiting_is_no_batch() {
        assert_eq!(plan_batch(START, &[], TERMS, 10), Ok(None));
    }

    fn any_leaf() -> impl Strategy<Value = Leaf> {
        let mask = prop_oneof![Just(0), 1_u64..16, any::<u64>()];
        // What a pod's times may come to, and beyond every bound.
        let duration = prop_oneof![4 => 0_u64..4_000_000, 1 => any::<u64>()];
        let times = (0_u64..4_000_000, duration, 0_u64..=80, 0_u64..=1);
        let rest = (0_u8..20, 0_u16..4, mask, 0_u8..32);
        (times, rest).prop_map(|((end, duration, devices, more), (pod, price_class, device_mask, flags))| {
            Leaf {
                pod_uid: PodUid([pod; 16]),
                job_uid: JobUid([9; 16]),
                end: UnixMillis(end),
                duration: Duration(duration),
                device_ms: duration.saturating_mul(devices).saturating_add(more),
                price_class,
                node_index: 7,
                device_mask,
                flags,
            }
        })
    }

    /// What the contract does with a leaf of a batch, in its own words: `Rental._checkTimes` and `Leaf.amount`, on the
    /// packed bytes.
    fn contract_pays(packed: &[u8], (through, to): (UnixSeconds, UnixSeconds)) -> Result<u128, &'static str> {
        let number = |from: usize, length: usize| {
            packed[from..from + length].iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte))
        };
        let (end, duration, billed) = (number(32, 6), number(38, 5), number(43, 6));
        let (class, mask, flags) = (number(49, 2), number(55, 8), number(63, 1));
        if end <= u128::from(through.0) * 1000 || u128::from(to.0) * 1000 < end {
            return Err("LeafEndOutside");
        }
        let void = flags & 4 != 0;
        if duration > u128::from(TERMS.period.0) && !void {
            return Err("LeafTooOld");
        }
        if void {
            return Ok(0);
        }
        let devices = if mask == 0 { 64 } else { u128::from(mask.count_ones()) };
        if billed > duration * devices {
            return Err("LeafTooLong");
        }
        let price = PRICES.get(usize::try_from(class).unwrap()).ok_or("UnknownPriceClass")?;
        // 176 bits in the contract; a price for which that matters never comes this far.
        Ok(billed.checked_mul(price.0).ok_or("more than 2^128")? / 1000)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn every_batch_is_one_that_the_contract_takes(
            waiting in vec(any_leaf(), 1..40), limit in 1_usize..50,
        ) {
            let Some(batch) = plan_batch(START, &waiting, TERMS, limit).expect("packs") else {
                prop_assert!(waiting.iter().all(|leaf| leaf.pod_uid == NOBODY));
                return Ok(());
            };
            prop_assert!(batch.leaves.len() <= limit);
            prop_assert!(batch.leaves.windows(2).all(|pair| pair[0].0.pod_uid < pair[1].0.pod_uid));
            prop_assert!(START.through < batch.to && batch.leaves[0].0.pod_uid != NOBODY);
            let mut total = 0;
            for ((leaf, amount), packed) in batch.leaves.iter().zip(batch.packed().expect("packs").chunks(64)) {
                let paid = contract_pays(packed, (START.through, batch.to));
                prop_assert_eq!(paid, Ok(amount.wei()), "{:?}", leaf);
                total += amount.wei();
            }
            prop_assert_eq!(batch.total.wei(), total);
            prop_assert!(total < 1 << 96);
            prop_assert_eq!(batch.position().next_sequence, 5 + batch.leaves.len() as u64);
        }
    }
}
