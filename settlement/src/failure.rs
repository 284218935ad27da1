//! What can go wrong around settling. None of it loses a receipt.

use plasma_chain::{ChainError, KeyError};
use plasma_runtime::StartError;
use plasma_settlement_core::LeafError;
use plasma_types::RentalId;

/// What went wrong, with the object that it went wrong with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The program can't start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// There is no usable key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The chain gave no answer, or refused.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A setting that must not be.
    #[error("{0}")]
    Setting(String),
    /// A rental that isn't what its queue says.
    #[error("rental {0}: {1}")]
    Rental(RentalId, String),
    /// A rental with two histories.
    #[error(
        "rental {0}: its head on chain isn't among the batches recorded here, and isn't beyond them: nothing is recorded. \
         Restore the SettlementBatches that are missing, or delete those that the chain never settled"
    )]
    Forked(RentalId),
    /// Something in the cluster couldn't be read or written.
    #[error("{0}: {1}")]
    Kube(String, Box<kube::Error>),
    /// A batch that can't be packed.
    #[error("batch {0}: {1}")]
    Leaf(String, LeafError),
    /// A stored batch that isn't what this program writes.
    #[error("SettlementBatch {0}: {1}: it isn't ours, or was changed by hand")]
    Batch(String, String),
}

impl Failure {
    /// Says which object it was.
    pub(crate) fn kube(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |fault| Self::Kube(what, Box::new(fault))
    }
}
