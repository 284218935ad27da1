//! No two pods are billed for one device at one time: whoever has both receipts could prove that of the provider.

use plasma_types::{Duration, UnixMillis};

use crate::{CLOCKS, Leaf, flag};

/// What of a leaf may be billed beside others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside<'a> {
    /// All of it.
    All,
    /// This: at its ends it met another one, by no more than clocks explain.
    Clipped(Leaf, &'a Leaf),
    /// Nothing: another one is billed for its devices, for longer than clocks explain.
    Nothing(&'a Leaf),
}

/// What of a leaf may be billed beside leaves of the same node that are. None of its devices is billed for a moment twice.
pub fn beside<'a>(leaf: &Leaf, others: impl IntoIterator<Item = &'a Leaf>) -> Beside<'a> {
    let (mut clipped, mut met) = (*leaf, None);
    for other in others.into_iter().filter(|other| shares(leaf, other)) {
        if both(leaf, other) > CLOCKS.0 {
            return Beside::Nothing(other);
        }
        if both(&clipped, other) > 0 {
            clipped = clip(&clipped, other);
            met = Some(other);
        }
    }
    met.map_or(Beside::All, |other| Beside::Clipped(clipped, other))
}

/// Whether both bill, and both one device.
fn shares(leaf: &Leaf, other: &Leaf) -> bool {
    let is_billed = |leaf: &Leaf| leaf.flags & flag::VOID == 0 && leaf.device_ms > 0;
    let is_other = other.pod_uid != leaf.pod_uid;
    is_other && is_billed(leaf) && is_billed(other) && leaf.device_mask & other.device_mask != 0
}

/// For how long both last.
fn both(leaf: &Leaf, other: &Leaf) -> u64 {
    leaf.end.min(other.end).0.saturating_sub(begin(leaf).max(begin(other)))
}

/// The longer of what is left of a leaf before another one and after it. When in its time its devices were healthy isn't
/// known: of what is cut off, they were.
fn clip(leaf: &Leaf, other: &Leaf) -> Leaf {
    let before = begin(other).saturating_sub(begin(leaf));
    let after = leaf.end.0.saturating_sub(other.end.0);
    let (end, left) = if before > after { (begin(other), before) } else { (leaf.end.0, after) };
    let cut = leaf.duration.0.saturating_sub(left);
    let devices = u64::from(leaf.device_mask.count_ones());
    let healthy = leaf.device_ms.saturating_sub(cut.saturating_mul(devices));
    let in_proportion = u128::from(leaf.device_ms) * u128::from(left) / u128::from(leaf.duration.0.max(1));
    let device_ms = healthy.min(u64::try_from(in_proportion).unwrap_or(u64::MAX));
    Leaf { end: UnixMillis(end), duration: Duration(left), device_ms, ..*leaf }
}

fn begin(leaf: &Leaf) -> u64 {
    leaf.end.0.saturating_sub(leaf.duration.0)
}

#[cfg(test)]
mod tests {
    use plasma_types::{JobUid, PodUid};
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn leaf(pod: u8, (start, end): (u64, u64), device_mask: u64) -> Leaf {
        Leaf {
            pod_uid: PodUid([pod; 16]),
            job_uid: JobUid([9; 16]),
            end: UnixMillis(end),
            duration: Duration(end - start),
            device_ms: end - start,
            price_class: 0,
            node_index: 0,
            device_mask,
            flags: flag::METERED,
        }
    }

    #[test]
    fn two_pods_on_one_device_at_once_are_found() {
        let one = leaf(1, (100_000, 200_000), 0b0110);
        let meets = |other: Leaf| beside(&one, [&other]) != Beside::All;
        assert!(meets(leaf(2, (199_999, 300_000), 0b0100)));
        assert!(meets(leaf(2, (0, 900_000), 0b0010)), "all of its time");
        assert!(!meets(leaf(2, (200_000, 300_000), 0b0110)), "one after the other");
        assert!(!meets(leaf(2, (0, 100_000), 0b0110)), "one before the other");
        assert!(!meets(leaf(2, (100_000, 200_000), 0b1001)), "other devices");
        assert!(!meets(leaf(2, (100_000, 200_000), 0)), "which devices isn't known");
        assert!(!meets(leaf(1, (100_000, 200_000), 0b0110)), "it is itself");
        assert!(
            !meets(Leaf { flags: flag::VOID, ..leaf(2, (100_000, 200_000), 0b0110) }),
            "nothing is billed"
        );
        assert!(!meets(Leaf { device_ms: 0, ..leaf(2, (100_000, 200_000), 0b0110) }), "nothing is billed");
    }

    #[test]
    fn what_clocks_explain_is_cut_off_and_what_they_do_not_is_worth_nothing() {
        let one = leaf(1, (100_000, 200_000), 1);
        let (before, after) = (leaf(2, (0, 100_001), 1), leaf(3, (190_000, 400_000), 1));
        let left = leaf(1, (100_001, 190_000), 1);
        assert_eq!(beside(&one, [&before, &after]), Beside::Clipped(left, &after));
        let within = leaf(4, (150_000, 150_010), 1);
        assert_eq!(beside(&one, [&within]), Beside::Clipped(leaf(1, (100_000, 150_000), 1), &within));
        let long = leaf(5, (0, 100_001 + CLOCKS.0), 1);
        assert_eq!(beside(&one, [&before, &long]), Beside::Nothing(&long));
        let short = leaf(6, (120_000, 121_000), 1);
        let Beside::Clipped(nothing, _) = beside(&short, [&one]) else { panic!("it is short") };
        assert_eq!((nothing.duration, nothing.device_ms), (Duration(0), 0));
        let sick = Leaf { device_ms: 50_000, ..one };
        let Beside::Clipped(sick, _) = beside(&sick, [&after]) else { panic!("clocks explain it") };
        assert_eq!(sick.device_ms, 40_000, "it may have been healthy in just what is cut off");
    }

    proptest! {
        #[test]
        fn no_device_is_billed_for_a_moment_twice(
            spans in vec((0_u64..300_000, 1_u64..200_000, 1_u64..8, 0_u64..=100), 1..12),
        ) {
            let mut billed: Vec<Leaf> = Vec::new();
            for (pod, (start, length, mask, percent)) in spans.into_iter().enumerate() {
                let whole = leaf(u8::try_from(pod).unwrap(), (start, start + length), mask);
                let most = length * u64::from(mask.count_ones());
                let whole = Leaf { device_ms: most * percent / 100, ..whole };
                let admitted = match beside(&whole, &billed) {
                    Beside::All => whole,
                    Beside::Clipped(part, _) => part,
                    Beside::Nothing(_) => continue,
                };
                let ends_within = begin(&whole) <= begin(&admitted) && admitted.end <= whole.end;
                prop_assert!(ends_within && admitted.device_ms <= whole.device_ms);
                let devices = u64::from(mask.count_ones());
                prop_assert!(admitted.device_ms <= admitted.duration.0 * devices);
                for other in billed.iter().filter(|other| shares(&admitted, other)) {
                    prop_assert_eq!(both(&admitted, other), 0, "{:?} {:?}", admitted, other);
                }
                billed.push(admitted);
            }
        }
    }
}
