//! The one door to the chain: JSON-RPC, the contracts' ABIs, keys, nonces, fees, finality.
//!
//! What goes in and out are Plasma's own words; nothing of the EVM library is seen outside. Nothing here decides to
//! pay: [`Chain`] reads and sends bytes, [`Key`] signs what it is given.

mod abi;
mod calls;
mod client;
mod error;
mod events;
mod key;
mod revert;

pub use abi::{KeptBatch, RentalState, SettledBatch, SettledPod};
pub use calls::{Deployed, Deployment, Opening, Parameters, ProviderCall, Release, Settlement};
pub use client::{BlockRef, Chain, Endpoint, Fees, Finality, Sent};
pub use error::ChainError;
pub use events::SettledAt;
pub use key::{Key, KeyError, Signature, Signed, Unsigned};
pub use revert::Revert;
