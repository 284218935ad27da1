//! Which settled batches can be released: passed, in order, so that what they drew becomes the provider's credit.

use std::collections::HashMap;

use plasma_types::{Hash, UnixSeconds};

use crate::standing::Span;

/// So many batches are released by one transaction at most: each takes some thousand gas.
const MOST_HEADS: usize = 50;

/// A settled batch that isn't released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreleased {
    /// The head that it led to.
    pub head: Hash,
    /// Its number: a rental's first batch has 1.
    pub number: u32,
}

/// What the chain says of a rental's batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The head.
    pub head: Hash,
    /// The number of the last batch that was settled: the one that led to the head.
    pub settled: u32,
    /// Of the last one that the payer accepted.
    pub acknowledged: u32,
    /// Of the last one that was released.
    pub released: u32,
}

/// The batches that come next, oldest first, as many as one transaction may pass; `None` where one of them isn't recorded
/// here, so that its head isn't known.
pub fn unreleased(recorded: &[Span], chain: &Progress) -> Option<Vec<Unreleased>> {
    let follows: HashMap<Hash, Hash> = recorded.iter().map(|span| (span.to.head, span.from.head)).collect();
    let (mut head, mut found) = (chain.head, Vec::new());
    for number in (chain.released.saturating_add(1)..=chain.settled).rev() {
        found.push(Unreleased { head, number });
        head = *follows.get(&head)?;
    }
    found.reverse();
    found.truncate(MOST_HEADS);
    Some(found)
}

/// What the contract keeps of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its number; 0 where it has none such.
    pub number: u32,
    /// When its window is over.
    pub matures_at: UnixSeconds,
}

/// Whether it may be released by now. Its window is over on the clock that stands still in a pause; one that the payer
/// accepted waits for no window.
pub fn is_ripe(batch: &Unreleased, chain: &Progress, kept: Kept, clock: UnixSeconds) -> bool {
    kept.number == batch.number && (batch.number <= chain.acknowledged || kept.matures_at <= clock)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Position;

    fn at(number: u32) -> Position {
        let mut head = [0; 32];
        head[..4].copy_from_slice(&number.to_be_bytes());
        Position { head: Hash(head), next_sequence: u64::from(number), through: UnixSeconds(0) }
    }

    /// The batches with these numbers.
    fn spans(numbers: impl IntoIterator<Item = u32>) -> Vec<Span> {
        numbers.into_iter().map(|number| Span { from: at(number - 1), to: at(number) }).collect()
    }

    fn chain(settled: u32, released: u32) -> Progress {
        Progress { head: at(settled).head, settled, acknowledged: 0, released }
    }

    #[test]
    fn a_batch_that_is_not_recorded_here_ends_it_and_one_that_is_released_is_not_missed() {
        assert_eq!(unreleased(&spans([1, 2, 4]), &chain(4, 1)), None, "the third is missing");
        assert_eq!(unreleased(&spans([3, 4]), &chain(4, 2)).map(|batches| batches.len()), Some(2));
        assert_eq!(unreleased(&[], &chain(4, 4)), Some(vec![]), "there is none");
        assert_eq!(unreleased(&spans([1, 2]), &chain(3, 0)), None, "the chain is ahead");
    }

    #[test]
    fn one_is_ripe_when_its_window_is_over_or_its_payer_accepted_it() {
        let (batch, chain) = (Unreleased { head: Hash([1; 32]), number: 3 }, chain(4, 2));
        let kept = Kept { number: 3, matures_at: UnixSeconds(100) };
        assert!(!is_ripe(&batch, &chain, kept, UnixSeconds(99)));
        assert!(is_ripe(&batch, &chain, kept, UnixSeconds(100)));
        let accepted = Progress { acknowledged: 3, ..chain };
        assert!(is_ripe(&batch, &accepted, kept, UnixSeconds(0)));
        let unknown = Kept { number: 0, matures_at: UnixSeconds(0) };
        assert!(!is_ripe(&batch, &accepted, unknown, UnixSeconds(100)), "the contract has no such batch");
    }

    proptest! {
        #[test]
        fn batches_are_released_in_the_contracts_order_and_none_beyond_the_chains_head(
            recorded in 1_u32..90, settled in 0_u32..90, released in 0_u32..90,
        ) {
            let (settled, released) = (settled.min(recorded), released.min(settled));
            let found = unreleased(&spans(1..=recorded), &chain(settled, released)).expect("all are recorded");
            prop_assert_eq!(found.len(), MOST_HEADS.min((settled.max(released) - released) as usize));
            for (batch, number) in found.iter().zip(released + 1..) {
                prop_assert_eq!((batch.number, batch.head), (number, at(number).head));
            }
        }
    }
}
