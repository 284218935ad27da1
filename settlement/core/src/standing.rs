//! Whether the batches that are recorded here are those that the chain knows: asked before anything new is numbered.
//!
//! A cluster that was restored from a backup may have lost its newest batches, and with them the receipts' numbers.

use crate::batch::Position;

/// A recorded batch: where the rental stood before it, and where after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// What the batch follows.
    pub from: Position,
    /// What the next one follows.
    pub to: Position,
}

/// What a rental's next batch follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The chain stands at a place that is recorded here: go on after the last recorded batch.
    Recorded(Position),
    /// The chain is ahead of what is recorded here: go on where the chain stands, and never number again a pod that its
    /// events name.
    ChainAhead(Position),
    /// The chain stands at a head that is not recorded here, and not beyond what is: two histories of one rental.
    Forked,
}

/// Compares a rental's recorded batches, in order, with where the chain stands.
pub fn standing(recorded: &[Span], chain: Position) -> Standing {
    let Some(last) = recorded.last() else { return Standing::ChainAhead(chain) };
    // Also where a batch begins: after lost ones, that is where the chain stood when they were found missing.
    if recorded.iter().any(|span| span.from.head == chain.head || span.to.head == chain.head) {
        return Standing::Recorded(last.to);
    }
    if last.to.next_sequence < chain.next_sequence { Standing::ChainAhead(chain) } else { Standing::Forked }
}

/// Whether every receipt of the rental is recorded here, from its very first. Where some aren't, only the chain's events
/// name the pods that were settled with them.
pub fn is_whole(recorded: &[Span]) -> bool {
    let mut next = 0;
    recorded.iter().all(|span| std::mem::replace(&mut next, span.to.next_sequence) == span.from.next_sequence)
}

#[cfg(test)]
mod tests {
    use plasma_types::{Hash, UnixSeconds};

    use super::*;

    fn at(head: u8, next_sequence: u64) -> Position {
        Position { head: Hash([head; 32]), next_sequence, through: UnixSeconds(1000 + next_sequence) }
    }

    fn span(from: Position, to: Position) -> Span {
        Span { from, to }
    }

    #[test]
    fn a_chain_that_lags_behind_what_is_recorded_changes_nothing() {
        let recorded = [span(at(0, 0), at(1, 3)), span(at(1, 3), at(2, 7))];
        for chain in [at(0, 0), at(1, 3), at(2, 7)] {
            assert_eq!(standing(&recorded, chain), Standing::Recorded(at(2, 7)));
        }
        assert!(is_whole(&recorded));
    }

    #[test]
    fn a_new_install_on_a_used_rental_goes_on_where_the_chain_stands() {
        assert_eq!(standing(&[], at(5, 40)), Standing::ChainAhead(at(5, 40)));
    }

    #[test]
    fn a_backup_that_lost_batches_goes_on_where_the_chain_stands() {
        let recorded = [span(at(0, 0), at(1, 3))];
        assert_eq!(standing(&recorded, at(9, 8)), Standing::ChainAhead(at(9, 8)));
        // Once the next one is recorded, and before it is settled, the chain stands where that one begins.
        let after = [recorded[0], span(at(9, 8), at(10, 9))];
        assert_eq!(standing(&after, at(9, 8)), Standing::Recorded(at(10, 9)));
        assert!(!is_whole(&after), "what was lost is known to the chain alone");
        assert!(!is_whole(&after[1..]));
    }

    #[test]
    fn two_histories_are_told_and_nothing_is_numbered() {
        let recorded = [span(at(0, 0), at(1, 3))];
        assert_eq!(standing(&recorded, at(9, 3)), Standing::Forked);
        assert_eq!(standing(&recorded, at(9, 2)), Standing::Forked);
    }
}
