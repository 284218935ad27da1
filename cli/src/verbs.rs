//! What can be asked for.

pub(crate) mod receipts;
pub(crate) mod release;
pub(crate) mod verify;
