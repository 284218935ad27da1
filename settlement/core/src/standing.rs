//! Whether the batches that are recorded here are those that the chain knows: asked before anything new is numbered.
//!
//! A cluster that was restored from a backup may have lost its newest batches, and with them the receipts' numbers.

use crate::batch::Position;

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

/// Compares a rental's recorded positions with the chain's: `recorded` are those before the first and after each batch,
/// in order; empty where none is recorded.
pub fn standing(recorded: &[Position], chain: Position) -> Standing {
    let Some(last) = recorded.last() else { return Standing::ChainAhead(chain) };
    if recorded.iter().any(|position| position.head == chain.head) {
        return Standing::Recorded(*last);
    }
    if last.next_sequence < chain.next_sequence { Standing::ChainAhead(chain) } else { Standing::Forked }
}

#[cfg(test)]
mod tests {
    use plasma_types::{Hash, UnixSeconds};

    use super::*;

    fn at(head: u8, next_sequence: u64) -> Position {
        Position { head: Hash([head; 32]), next_sequence, through: UnixSeconds(1000 + next_sequence) }
    }

    #[test]
    fn a_chain_that_lags_behind_what_is_recorded_changes_nothing() {
        let recorded = [at(0, 0), at(1, 3), at(2, 7)];
        for chain in recorded {
            assert_eq!(standing(&recorded, chain), Standing::Recorded(at(2, 7)));
        }
    }

    #[test]
    fn a_new_install_on_a_used_rental_goes_on_where_the_chain_stands() {
        assert_eq!(standing(&[], at(5, 40)), Standing::ChainAhead(at(5, 40)));
    }

    #[test]
    fn a_backup_that_lost_batches_goes_on_where_the_chain_stands() {
        assert_eq!(standing(&[at(0, 0), at(1, 3)], at(9, 8)), Standing::ChainAhead(at(9, 8)));
    }

    #[test]
    fn two_histories_are_told_and_nothing_is_numbered() {
        assert_eq!(standing(&[at(0, 0), at(1, 3)], at(9, 3)), Standing::Forked);
        assert_eq!(standing(&[at(0, 0), at(1, 3)], at(9, 2)), Standing::Forked);
    }
}
