//! Keccak-256, the chain's hash.

use tiny_keccak::{Hasher, Keccak};

use crate::id::bytes_newtype;

bytes_newtype! {
    /// A Keccak-256 hash, a head, a transaction or a block hash: 32 bytes, `0x…` as text.
    Hash, 32
}

/// Keccak-256 of the bytes, as the EVM computes it.
pub fn keccak256(bytes: &[u8]) -> Hash {
    let mut hasher = Keccak::v256();
    hasher.update(bytes);
    let mut hash = [0; 32];
    hasher.finalize(&mut hash);
    Hash(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_input_has_the_published_hash() {
        let expected = "0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470";
        assert_eq!(keccak256(b"").to_string(), expected);
    }
}
