//! What settlement says of a journal's records: shared by who sends them and who writes them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Up to which record settlement has all.
#[derive(Default)]
pub(crate) struct Acknowledged {
    sequence: AtomicU64,
    /// It can have records up to this one, and no more: those that lay there when the journal was opened, which an earlier
    /// process may have sent, and those that this one sent.
    told: AtomicU64,
    /// What it said to have beyond that; 0 where it didn't.
    beyond: AtomicU64,
}

impl Acknowledged {
    /// For a journal with so many records, of which so many are acknowledged.
    pub(crate) fn new(sequence: u64, last: u64) -> Self {
        Self { sequence: sequence.into(), told: last.into(), beyond: AtomicU64::default() }
    }

    pub(crate) fn get(&self) -> u64 {
        self.sequence.load(Ordering::Acquire)
    }

    /// A record is about to be sent.
    pub(crate) fn sends(&self, sequence: u64) {
        self.told.fetch_max(sequence, Ordering::AcqRel);
    }

    /// Takes in what settlement said.
    ///
    /// # Errors
    /// In words, when it has more than it can have been told.
    pub(crate) fn take(&self, sequence: u64) -> Result<(), String> {
        let told = self.told.load(Ordering::Acquire);
        if sequence > told {
            self.beyond.fetch_max(sequence, Ordering::AcqRel);
            return Err(format!(
                "settlement has this journal's records up to {sequence}, of which it was told up to {told}: this disk \
                 lost what was on it"
            ));
        }
        self.sequence.fetch_max(sequence, Ordering::AcqRel);
        Ok(())
    }

    /// What settlement said to have and can't have from this journal.
    pub(crate) fn beyond(&self) -> Option<u64> {
        Some(self.beyond.load(Ordering::Acquire)).filter(|beyond| *beyond > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_settlement_cannot_have_is_noticed() {
        let acknowledged = Acknowledged::new(3, 7);
        acknowledged.take(7).unwrap();
        acknowledged.take(5).unwrap();
        assert_eq!((acknowledged.get(), acknowledged.beyond()), (7, None), "an earlier process sent them");
        acknowledged.sends(8);
        acknowledged.take(8).unwrap();
        let fault = acknowledged.take(9).unwrap_err();
        assert!(fault.contains("up to 9") && fault.contains("up to 8"), "{fault}");
        assert_eq!((acknowledged.get(), acknowledged.beyond()), (8, Some(9)));
    }
}
