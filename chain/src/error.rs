//! What the chain can answer instead of what was asked.

use plasma_types::Address;

use crate::revert::Revert;

/// Why an answer is missing. None of these says anything about what is on the chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// No answer: down, too slow, too large, or not JSON-RPC. What was asked may have been done all the same.
    #[error("the chain at {endpoint} can't be reached: {why}")]
    Unreachable {
        /// Which endpoint, without what may be secret in its path.
        endpoint: String,
        /// What happened.
        why: String,
    },
    /// The contract refuses, in its own words.
    #[error("{0}")]
    Reverted(Revert),
    /// The node answered with an error.
    #[error("the chain refused {method}: {message}")]
    Refused {
        /// The JSON-RPC method.
        method: &'static str,
        /// The node's message.
        message: String,
    },
    /// The node answered with something else than the method's answer.
    #[error("the chain's answer to {method} is not understood: {why}")]
    Nonsense {
        /// The JSON-RPC method.
        method: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The endpoint serves another chain than the one that is meant.
    #[error("the endpoint serves chain {found}, not {expected}: check the chain id or the endpoint")]
    WrongChain {
        /// What is meant.
        expected: u64,
        /// What it serves.
        found: u64,
    },
    /// More blocks than anybody waits for, or than a chain has.
    #[error(
        "the endpoint says that its newest block is {newest}, too far beyond block {first} to look for events in between: say in which block the contract was made, or ask another endpoint"
    )]
    TooFar {
        /// Where the search begins.
        first: u64,
        /// The newest block, as the endpoint has it.
        newest: u64,
    },
    /// An account that should be the Providers contract answers otherwise.
    #[error(
        "{0} doesn't answer as the Providers contract does: check its address, and that this is its chain"
    )]
    NotProviders(Address),
    /// The endpoint's address isn't one.
    #[error("{0:?} is no HTTP address of a JSON-RPC endpoint")]
    Endpoint(String),
}

impl ChainError {
    /// Whether the right chain answered all the same, and what it said was no.
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Reverted(_) | Self::Refused { .. })
    }
}
