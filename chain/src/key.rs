//! The key that pays, and what it signs.

use std::path::Path;

use ethers_core::types::{
    Eip1559TransactionRequest, NameOrAddress, U256, transaction::eip2718::TypedTransaction,
};
use ethers_signers::{LocalWallet, Signer as _};
use plasma_types::{Address, Hash, Xpl, keccak256};

use crate::client::Fees;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file can't be read.
    #[error("the key file {0} can't be read: {1}")]
    Read(String, std::io::Error),
    /// The file holds something else. The content is never shown.
    #[error(
        "the key file {0} doesn't hold a private key of 32 bytes in hex; an encrypted keystore needs its password's file"
    )]
    Malformed(String),
    /// The keystore and the password don't belong together.
    #[error("the keystore {0} can't be opened with the password that was given, or isn't a keystore")]
    Locked(String),
    /// The library refused to sign.
    #[error("signing: {0}")]
    Sign(String),
}

/// A private key. Never printed.
pub struct Key {
    wallet: LocalWallet,
}

/// An EIP-1559 transaction before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsigned {
    /// The chain's id.
    pub chain_id: u64,
    /// The account's nonce.
    pub nonce: u64,
    /// Whom it calls; `None` creates a contract.
    pub to: Option<Address>,
    /// Coins that go with it.
    pub value: Xpl,
    /// The call's data.
    pub data: Vec<u8>,
    /// The most gas that it may use.
    pub gas: u64,
    /// What it pays for gas.
    pub fees: Fees,
}

/// A signed transaction: sending it twice does nothing that sending it once doesn't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The bytes.
    pub raw: Vec<u8>,
    /// Their hash.
    pub hash: Hash,
}

/// A signature of a hash: r, s and v, as the contracts take them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 65]);

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

impl Key {
    /// Reads a private key from a file, as a mounted Secret has it: in hex, or an encrypted keystore in JSON, for which
    /// another file holds the password.
    ///
    /// # Errors
    /// When a file isn't there or holds something else.
    pub fn from_file(path: &Path, password: Option<&Path>) -> Result<Self, KeyError> {
        let text = read(path)?;
        let malformed = || KeyError::Malformed(path.display().to_string());
        let wallet = match password {
            Some(password) => {
                let password = read(password)?;
                let password = password.trim_end_matches(['\r', '\n']);
                LocalWallet::decrypt_keystore(path, password)
                    .map_err(|_| KeyError::Locked(path.display().to_string()))?
            }
            None => {
                let bytes = hex::decode(text.trim().trim_start_matches("0x")).map_err(|_| malformed())?;
                LocalWallet::from_bytes(&bytes).map_err(|_| malformed())?
            }
        };
        Ok(Self { wallet })
    }

    /// The account.
    pub fn address(&self) -> Address {
        Address(self.wallet.address().0)
    }

    /// Signs a hash: the same one twice gives the same bytes.
    ///
    /// # Errors
    /// When the library refuses, which it has no reason to.
    pub fn sign_hash(&self, hash: Hash) -> Result<Signature, KeyError> {
        let signed =
            self.wallet.sign_hash(hash.0.into()).map_err(|fault| KeyError::Sign(fault.to_string()))?;
        Ok(Signature(signed.into()))
    }

    /// Signs a transaction.
    ///
    /// # Errors
    /// When the library refuses, which it has no reason to.
    pub fn sign(&self, transaction: &Unsigned) -> Result<Signed, KeyError> {
        let request = Eip1559TransactionRequest {
            from: Some(self.wallet.address()),
            to: transaction.to.map(|to| NameOrAddress::Address(to.0.into())),
            gas: Some(U256::from(transaction.gas)),
            value: Some(U256::from(transaction.value.wei())),
            data: Some(transaction.data.clone().into()),
            nonce: Some(U256::from(transaction.nonce)),
            access_list: ethers_core::types::transaction::eip2930::AccessList::default(),
            max_priority_fee_per_gas: Some(U256::from(transaction.fees.tip)),
            max_fee_per_gas: Some(U256::from(transaction.fees.max)),
            chain_id: Some(transaction.chain_id.into()),
        };
        let typed = TypedTransaction::Eip1559(request);
        let wallet = self.wallet.clone().with_chain_id(transaction.chain_id);
        let signature =
            wallet.sign_transaction_sync(&typed).map_err(|fault| KeyError::Sign(fault.to_string()))?;
        let raw = typed.rlp_signed(&signature).to_vec();
        Ok(Signed { hash: keccak256(&raw), raw })
    }
}

fn read(path: &Path) -> Result<String, KeyError> {
    std::fs::read_to_string(path).map_err(|fault| KeyError::Read(path.display().to_string(), fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_that_is_none_is_refused_without_showing_it() {
        let folder = std::env::temp_dir().join(format!("plasma-key-{}", std::process::id()));
        std::fs::write(&folder, "not a key").expect("written");
        let fault = Key::from_file(&folder, None).err().expect("refused").to_string();
        std::fs::remove_file(&folder).expect("removed");
        assert!(fault.contains("doesn't hold a private key") && !fault.contains("not a key"), "{fault}");
    }
}
