//! The Rental contract's calls and events, encoded and decoded by the ABI that the contract's build wrote.

use std::sync::LazyLock;

use ethers_core::{
    abi::{Abi, RawLog, Token},
    types::{H256, U256},
};
use plasma_types::{Address, Hash, JobUid, PodUid, RentalId, UnixSeconds, WeiPerGpuSecond, Xpl};
use serde::Deserialize;

#[derive(Deserialize)]
struct Artifact {
    abi: Abi,
    bytecode: String,
}

#[allow(clippy::expect_used)] // A committed file; the tests of this crate read it.
static ARTIFACT: LazyLock<Artifact> =
    LazyLock::new(|| serde_json::from_str(include_str!("../abi/Rental.json")).expect("the committed ABI"));

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
}

/// A rental to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Who supplies and is paid.
    pub provider: Address,
    /// When it ends by itself.
    pub end: UnixSeconds,
    /// How long it goes on after the payer closes it, in seconds.
    pub notice: u64,
    /// How long after its end the provider may settle, in seconds.
    pub claim_window: u64,
    /// The hash of its prices.
    pub price_hash: Hash,
    /// The hash of everything else that was agreed.
    pub terms_hash: Hash,
    /// The payer's choice, once.
    pub salt: Hash,
}

/// A rental as the contract holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RentalState {
    /// Who pays.
    pub payer: Address,
    /// Who is paid.
    pub provider: Address,
    /// What can still be drawn.
    pub balance: Xpl,
    /// What was earned beyond it.
    pub owed: Xpl,
    /// When it ends.
    pub end: UnixSeconds,
    /// Until when the provider may settle.
    pub claim_deadline: UnixSeconds,
    /// The watermark.
    pub through: UnixSeconds,
    /// The next receipt's sequence.
    pub next_sequence: u64,
    /// The head.
    pub head: Hash,
    /// The hash of its prices.
    pub price_hash: Hash,
}

/// One pod's payment, as the contract's event has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledPod {
    /// The rental.
    pub rental: RentalId,
    /// The pod.
    pub pod_uid: PodUid,
    /// The job.
    pub job_uid: JobUid,
    /// The receipt's sequence.
    pub sequence: u64,
    /// What it is worth.
    pub amount: Xpl,
}

/// One batch, as the contract's event has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledBatch {
    /// The rental.
    pub rental: RentalId,
    /// The head after it.
    pub head: Hash,
    /// The head before it.
    pub prev_head: Hash,
    /// Its first receipt's sequence.
    pub first_sequence: u64,
    /// How many receipts.
    pub count: u32,
    /// What they are worth.
    pub total: Xpl,
    /// The watermark after it.
    pub to: UnixSeconds,
}

fn word(bytes: [u8; 32]) -> Token {
    Token::FixedBytes(bytes.to_vec())
}

fn uint(value: impl Into<u128>) -> Token {
    Token::Uint(U256::from(value.into()))
}

fn address(address: Address) -> Token {
    Token::Address(address.0.into())
}

/// Fails only for a name or arguments that the committed ABI doesn't have, which this crate's tests would show.
fn encode(function: &str, arguments: &[Token]) -> Vec<u8> {
    let encoded = ARTIFACT.abi.function(function).and_then(|function| function.encode_input(arguments));
    encoded.unwrap_or_default()
}

/// The code that creates the contract.
pub(crate) fn creation_code() -> Vec<u8> {
    hex::decode(ARTIFACT.bytecode.trim_start_matches("0x")).unwrap_or_default()
}

impl Settlement {
    /// The call's data.
    pub fn encode(&self) -> Vec<u8> {
        let prices = Token::Array(self.prices.iter().map(|price| uint(price.0)).collect());
        let arguments = [
            word(self.rental.0),
            word(self.prev_head.0),
            uint(self.to.0),
            prices,
            Token::Bytes(self.leaves.clone()),
        ];
        encode("settle", &arguments)
    }
}

impl Opening {
    /// The call's data; the deposit is the transaction's value.
    pub fn encode(&self) -> Vec<u8> {
        let terms = Token::Tuple(vec![
            address(self.provider),
            uint(self.end.0),
            uint(self.notice),
            uint(self.claim_window),
            word(self.price_hash.0),
            word(self.terms_hash.0),
        ]);
        encode("open", &[terms, word(self.salt.0)])
    }

    /// The rental's id: `keccak256(abi.encode(chainid, contract, payer, salt))`.
    pub fn rental(&self, chain_id: u64, contract: Address, payer: Address) -> RentalId {
        let encoded =
            ethers_core::abi::encode(&[uint(chain_id), address(contract), address(payer), word(self.salt.0)]);
        RentalId(plasma_types::keccak256(&encoded).0)
    }
}

pub(crate) fn encode_rental_of(rental: RentalId) -> Vec<u8> {
    encode("rentalOf", &[word(rental.0)])
}

pub(crate) fn decode_rental(output: &[u8]) -> Option<RentalState> {
    let tokens = ARTIFACT.abi.function("rentalOf").ok()?.decode_output(output).ok()?;
    let fields = tokens.into_iter().next()?.into_tuple()?;
    // By name, so that two numbers can't be swapped silently; a test holds the names to the contract's order.
    let field =
        |name: &str| FIELDS.iter().position(|known| *known == name).and_then(|at| fields.get(at).cloned());
    Some(RentalState {
        payer: Address(field("payer")?.into_address()?.0),
        provider: Address(field("provider")?.into_address()?.0),
        balance: amount(field("balance")?)?,
        owed: amount(field("owed")?)?,
        end: UnixSeconds(number(field("end")?)?),
        claim_deadline: UnixSeconds(number(field("claimDeadline")?)?),
        through: UnixSeconds(number(field("through")?)?),
        next_sequence: number(field("nextSequence")?)?,
        head: Hash(bytes(field("head")?)?),
        price_hash: Hash(bytes(field("priceHash")?)?),
    })
}

/// The fields of `RentalView` in the contract's order.
const FIELDS: [&str; 14] = [
    "payer",
    "provider",
    "balance",
    "owed",
    "opened",
    "end",
    "notice",
    "claimDeadline",
    "through",
    "nextSequence",
    "refunded",
    "head",
    "priceHash",
    "termsHash",
];

fn number(token: Token) -> Option<u64> {
    token.into_uint().filter(|number| number.bits() <= 64).map(|number| number.as_u64())
}

fn amount(token: Token) -> Option<Xpl> {
    token.into_uint().filter(|number| number.bits() <= 128).map(|number| Xpl::from_wei(number.as_u128()))
}

fn bytes<const N: usize>(token: Token) -> Option<[u8; N]> {
    token.into_fixed_bytes()?.try_into().ok()
}

/// The topic of one of the contract's events.
pub(crate) fn topic(event: &str) -> Hash {
    Hash(ARTIFACT.abi.event(event).map(|event| event.signature()).unwrap_or_default().0)
}

fn parse(event: &str, topics: &[Hash], data: &[u8]) -> Option<Vec<Token>> {
    let topics = topics.iter().map(|topic| H256(topic.0)).collect();
    let log = ARTIFACT.abi.event(event).ok()?.parse_log(RawLog { topics, data: data.to_vec() }).ok()?;
    Some(log.params.into_iter().map(|param| param.value).collect())
}

pub(crate) fn decode_pod(topics: &[Hash], data: &[u8]) -> Option<SettledPod> {
    let [rental, pod, job, sequence, worth] = parse("PodSettled", topics, data)?.try_into().ok()?;
    Some(SettledPod {
        rental: RentalId(bytes(rental)?),
        pod_uid: PodUid(bytes(pod)?),
        job_uid: JobUid(bytes(job)?),
        sequence: number(sequence)?,
        amount: amount(worth)?,
    })
}

pub(crate) fn decode_batch(topics: &[Hash], data: &[u8]) -> Option<SettledBatch> {
    let [rental, head, prev_head, first, count, total, to] =
        parse("BatchSettled", topics, data)?.try_into().ok()?;
    Some(SettledBatch {
        rental: RentalId(bytes(rental)?),
        head: Hash(bytes(head)?),
        prev_head: Hash(bytes(prev_head)?),
        first_sequence: number(first)?,
        count: u32::try_from(number(count)?).ok()?,
        total: amount(total)?,
        to: UnixSeconds(number(to)?),
    })
}

/// A value as people write it: numbers in decimal, bytes and accounts with `0x`.
fn shown(value: Token) -> String {
    match value {
        Token::Uint(number) => number.to_string(),
        Token::Address(account) => Address(account.0).to_string(),
        Token::FixedBytes(bytes) | Token::Bytes(bytes) => format!("0x{}", hex::encode(bytes)),
        other => other.to_string(),
    }
}

/// A revert in the contract's own words: the error's name with its values.
pub(crate) fn decode_revert(data: &[u8]) -> String {
    let selector = data.get(..4).unwrap_or_default();
    let rest = data.get(4..).unwrap_or_default();
    for error in ARTIFACT.abi.errors() {
        let signature = error.signature();
        if signature.as_bytes().starts_with(selector) && selector.len() == 4 {
            let values = error.decode(rest).unwrap_or_default();
            let named = error
                .inputs
                .iter()
                .zip(values)
                .map(|(input, value)| format!("{}: {}", input.name, shown(value)));
            return format!("{}({})", error.name, named.collect::<Vec<_>>().join(", "));
        }
    }
    format!("reverted with 0x{}", hex::encode(data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_abi_has_every_name_that_is_used() {
        for function in ["settle", "open", "rentalOf", "close", "claim", "refund", "topUp"] {
            assert!(ARTIFACT.abi.function(function).is_ok(), "{function}");
        }
        for event in ["PodSettled", "BatchSettled"] {
            assert_ne!(topic(event), Hash([0; 32]), "{event}");
        }
        assert!(creation_code().len() > 1000);
    }

    #[test]
    fn the_rentals_fields_are_in_the_contracts_order() {
        let function = ARTIFACT.abi.function("rentalOf").expect("a function");
        let json = serde_json::to_value(include_str!("../abi/Rental.json")).expect("text");
        let artifact: serde_json::Value = serde_json::from_str(json.as_str().expect("text")).expect("JSON");
        let entry =
            artifact["abi"].as_array().expect("a list").iter().find(|entry| entry["name"] == "rentalOf");
        let components =
            entry.expect("rentalOf")["outputs"][0]["components"].as_array().expect("a struct").clone();
        let names: Vec<_> = components.iter().filter_map(|component| component["name"].as_str()).collect();
        assert_eq!(names, FIELDS);
        assert_eq!(function.outputs.len(), 1);
    }

    #[test]
    fn a_revert_is_told_by_name_and_values() {
        let error =
            ARTIFACT.abi.errors().find(|error| error.name == "ClaimDeadlinePassed").expect("an error");
        let mut data = error.signature().as_bytes()[..4].to_vec();
        data.extend(ethers_core::abi::encode(&[word([0x11; 32]), uint(77_u64)]));
        let told = decode_revert(&data);
        assert_eq!(told, format!("ClaimDeadlinePassed(rental: 0x{}, deadline: 77)", "11".repeat(32)));
        assert_eq!(decode_revert(&[1, 2]), "reverted with 0x0102");
    }
}
