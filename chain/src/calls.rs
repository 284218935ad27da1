//! Calls that change something: what they say, and what a provider's key signs.

use ethers_core::{
    abi::Token,
    types::{H160, U256},
    utils::get_contract_address,
};
use plasma_types::{Address, Hash, RentalId, UnixSeconds, WeiPerGpuSecond, Xpl, keccak256};

use crate::{
    abi::{Contract, address, uint, word},
    key::Signature,
};

/// Bytes of one leaf.
const LEAF: usize = 64;
/// What a key of the provider signs, as EIP-712 writes it.
const BATCH_TYPE: &str = "Batch(bytes32 rental,bytes32 prevHead,uint64 to,bytes32 pricesHash,bytes32 leavesHash,uint256 count,uint256 total)";
const DOMAIN_TYPE: &str =
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";

/// A batch as `settle` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The rental.
    pub rental: RentalId,
    /// The head that the batch follows.
    pub prev_head: Hash,
    /// The watermark after it.
    pub to: UnixSeconds,
    /// The rental's prices.
    pub prices: Vec<WeiPerGpuSecond>,
    /// Packed leaves, 64 bytes each.
    pub leaves: Vec<u8>,
    /// What they are worth: signed, and computed anew by the contract.
    pub total: Xpl,
}

impl Settlement {
    /// What a key of the provider signs: EIP-712 over everything that the batch's head commits to, the rental and its prices,
    /// for one contract on one chain.
    pub fn digest(&self, chain_id: u64, contract: Address) -> Hash {
        let text = |text: &str| word(keccak256(text.as_bytes()).0);
        let domain = [text(DOMAIN_TYPE), text("Plasma Rental"), text("1"), uint(chain_id), address(contract)];
        let prices = ethers_core::abi::encode(&[prices(&self.prices)]);
        let batch = [
            text(BATCH_TYPE),
            word(self.rental.0),
            word(self.prev_head.0),
            uint(self.to.0),
            word(keccak256(&prices).0),
            word(keccak256(&self.leaves).0),
            uint((self.leaves.len() / LEAF) as u128),
            uint(self.total.wei()),
        ];
        let hash = |words: &[Token]| keccak256(&ethers_core::abi::encode(words)).0;
        keccak256(&[b"\x19\x01".as_slice(), &hash(&domain), &hash(&batch)].concat())
    }

    /// The call's data.
    pub fn encode(&self, signature: &Signature) -> Vec<u8> {
        let arguments = [
            word(self.rental.0),
            word(self.prev_head.0),
            uint(self.to.0),
            prices(&self.prices),
            Token::Bytes(self.leaves.clone()),
            Token::Bytes(signature.0.to_vec()),
        ];
        Contract::Rental.encode("settle", &arguments)
    }
}

fn prices(prices: &[WeiPerGpuSecond]) -> Token {
    Token::Array(prices.iter().map(|price| uint(price.0)).collect())
}

/// Batches that are mature or acknowledged, as `release` takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The rental.
    pub rental: RentalId,
    /// The heads that the next batches led to, in order.
    pub heads: Vec<Hash>,
}

impl Release {
    /// The call's data.
    pub fn encode(&self) -> Vec<u8> {
        let heads = Token::Array(self.heads.iter().map(|head| word(head.0)).collect());
        Contract::Rental.encode("release", &[word(self.rental.0), heads])
    }
}

/// A rental to be opened. Lengths of time are in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Who supplies and is paid.
    pub provider: Address,
    /// A key that may acknowledge for the payer; all zero: the payer alone.
    pub acknowledger: Address,
    /// The most that may be drawn of it in a second, over time.
    pub ceiling: Xpl,
    /// When it ends by itself.
    pub end: UnixSeconds,
    /// For how long what may be drawn adds up; at least `period`.
    pub max_lateness: u32,
    /// How long it goes on after the payer closes it.
    pub notice: u32,
    /// How long after its end the provider may settle.
    pub claim_window: u32,
    /// How long a batch may be contested.
    pub window: u32,
    /// The longest time that one receipt bills.
    pub period: u32,
    /// The hash of its prices.
    pub price_hash: Hash,
    /// The hash of everything else that was agreed.
    pub terms_hash: Hash,
    /// The payer's choice, once.
    pub salt: Hash,
}

impl Opening {
    /// The call's data; the deposit is the transaction's value.
    pub fn encode(&self) -> Vec<u8> {
        let terms = Token::Tuple(vec![
            address(self.provider),
            address(self.acknowledger),
            uint(self.ceiling.wei()),
            uint(self.end.0),
            uint(self.max_lateness),
            uint(self.notice),
            uint(self.claim_window),
            uint(self.window),
            uint(self.period),
            word(self.price_hash.0),
            word(self.terms_hash.0),
        ]);
        Contract::Rental.encode("open", &[terms, word(self.salt.0)])
    }

    /// The rental's id: `keccak256(abi.encode(chainid, contract, payer, salt))`.
    pub fn rental(&self, chain_id: u64, contract: Address, payer: Address) -> RentalId {
        let encoded =
            ethers_core::abi::encode(&[uint(chain_id), address(contract), address(payer), word(self.salt.0)]);
        RentalId(keccak256(&encoded).0)
    }
}

/// What a provider says of itself, to the Providers contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderCall {
    /// It is there; the transaction's value is stake.
    Register {
        /// Who gets what it earns.
        payee: Address,
    },
    /// A key signs its batches, or no longer.
    SetSigner {
        /// The key's account.
        key: Address,
        /// Whether it signs.
        allowed: bool,
    },
    /// How many devices a node has.
    SetNode {
        /// The node's index.
        index: u32,
        /// How many; none retires it.
        devices: u8,
    },
}

impl ProviderCall {
    /// The call's data.
    pub fn encode(&self) -> Vec<u8> {
        let (function, arguments) = match *self {
            Self::Register { payee } => ("register", vec![address(payee)]),
            Self::SetSigner { key, allowed } => ("setSigner", vec![address(key), Token::Bool(allowed)]),
            Self::SetNode { index, devices } => ("setNode", vec![uint(index), uint(devices)]),
        };
        Contract::Providers.encode(function, &arguments)
    }
}

/// Numbers that are fixed when the contracts are created. Lengths of time are in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// What must be bonded for each device on offer.
    pub stake_per_device: Xpl,
    /// How long stake stays slashable after it was asked back.
    pub unbonding_period: u32,
    /// How long before a new payee counts.
    pub payee_delay: u32,
    /// How long an arbiter has for a contest.
    pub contest_period: u32,
    /// The least bond for each contested receipt.
    pub contest_bond: Xpl,
}

/// The three contracts, as one account creates them by three transactions in a row: each names the others, so their addresses
/// are known beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// The account.
    pub deployer: Address,
    /// Its nonce at the first of the three.
    pub nonce: u64,
    /// Who names arbiter and pauser.
    pub owner: Address,
    /// What is fixed.
    pub parameters: Parameters,
}

/// Where the contracts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// Providers, their stake and the pause.
    pub providers: Address,
    /// Rentals.
    pub rental: Address,
    /// Faults.
    pub faults: Address,
}

impl Deployment {
    /// Where they will be.
    pub fn addresses(&self) -> Deployed {
        let at = |later: u64| {
            let nonce = U256::from(self.nonce).saturating_add(later.into());
            Address(get_contract_address(H160(self.deployer.0), nonce).0)
        };
        Deployed { providers: at(0), rental: at(1), faults: at(2) }
    }

    /// The data of the three transactions, in order.
    pub fn creations(&self) -> [Vec<u8>; 3] {
        let Deployed { providers, rental, faults } = self.addresses();
        let fixed = Token::Tuple(vec![
            uint(self.parameters.stake_per_device.wei()),
            uint(self.parameters.unbonding_period),
            uint(self.parameters.payee_delay),
            uint(self.parameters.contest_period),
            uint(self.parameters.contest_bond.wei()),
        ]);
        [
            Contract::Providers.creation(&[address(self.owner), address(faults), fixed]),
            Contract::Rental.creation(&[address(providers)]),
            Contract::Faults.creation(&[address(providers), address(rental)]),
        ]
    }
}
