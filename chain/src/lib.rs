//! The one door to the chain: JSON-RPC, the contract's ABI, keys, nonces, fees, finality.
//!
//! What goes in and out are Plasma's own words; nothing of the EVM library is seen outside. Nothing here decides to
//! pay: [`Chain`] reads and sends bytes, [`Key`] signs what it is given.

mod abi;
mod client;
mod error;
mod events;
mod key;

pub use abi::{Opening, RentalState, SettledBatch, SettledPod, Settlement};
pub use client::{BlockRef, Chain, Endpoint, Fees, Finality, Sent};
pub use error::ChainError;
pub use events::SettledAt;
pub use key::{Key, KeyError, Signed, Unsigned};
