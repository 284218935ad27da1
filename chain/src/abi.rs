//! The contracts' calls and events, encoded and decoded by the ABIs that their build wrote.

use std::sync::LazyLock;

use ethers_core::{
    abi::{Abi, RawLog, Token, ethabi::AbiError},
    types::{H256, U256},
};
use plasma_types::{Address, Duration, Hash, JobUid, PodUid, RentalId, UnixSeconds, Xpl};
use serde::Deserialize;

#[derive(Deserialize)]
struct Artifact {
    abi: Abi,
    bytecode: String,
}

/// One of the contracts that are deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contract {
    Providers,
    Rental,
    Faults,
}

impl Contract {
    fn artifact(self) -> &'static Artifact {
        let [providers, rental, faults] = &*ARTIFACTS;
        match self {
            Self::Providers => providers,
            Self::Rental => rental,
            Self::Faults => faults,
        }
    }

    /// Fails only for a name or arguments that the committed ABI doesn't have, which this crate's tests would show.
    pub(crate) fn encode(self, function: &str, arguments: &[Token]) -> Vec<u8> {
        let function = self.artifact().abi.function(function);
        function.and_then(|function| function.encode_input(arguments)).unwrap_or_default()
    }

    pub(crate) fn decode(self, function: &str, output: &[u8]) -> Option<Vec<Token>> {
        self.artifact().abi.function(function).ok()?.decode_output(output).ok()
    }

    /// The data of the transaction that creates it.
    pub(crate) fn creation(self, arguments: &[Token]) -> Vec<u8> {
        let code = hex::decode(self.artifact().bytecode.trim_start_matches("0x")).unwrap_or_default();
        match &self.artifact().abi.constructor {
            Some(constructor) => constructor.encode_input(code, arguments).unwrap_or_default(),
            None => code,
        }
    }
}

#[allow(clippy::expect_used)] // Committed files; the tests of this crate read them.
static ARTIFACTS: LazyLock<[Artifact; 3]> = LazyLock::new(|| {
    [
        include_str!("../abi/Providers.json"),
        include_str!("../abi/Rental.json"),
        include_str!("../abi/Faults.json"),
    ]
    .map(|text| serde_json::from_str(text).expect("a committed ABI"))
});

/// Every error that any of the contracts has.
pub(crate) fn errors() -> impl Iterator<Item = &'static AbiError> {
    ARTIFACTS.iter().flat_map(|artifact| artifact.abi.errors())
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
    /// The longest time that one receipt may bill.
    pub period: Duration,
    /// How many batches were settled: the last one's number.
    pub settled_batch: u32,
    /// The number of the last batch that the payer accepted.
    pub acknowledged_batch: u32,
    /// The number of the last batch that was released.
    pub released_batch: u32,
}

/// What the contract keeps of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptBatch {
    /// Its number; a rental's first one has 1.
    pub number: u32,
    /// When its window is over, on the clock that stands still in a pause.
    pub matures_at: UnixSeconds,
}

/// One pod's payment, as the contract's events have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledPod {
    /// The rental.
    pub rental: RentalId,
    /// The pod.
    pub pod_uid: PodUid,
    /// The job.
    pub job_uid: JobUid,
    /// The receipt's sequence: its batch's first one, and its place in the batch.
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

pub(crate) fn word(bytes: [u8; 32]) -> Token {
    Token::FixedBytes(bytes.to_vec())
}

pub(crate) fn uint(value: impl Into<u128>) -> Token {
    Token::Uint(U256::from(value.into()))
}

pub(crate) fn address(address: Address) -> Token {
    Token::Address(address.0.into())
}

pub(crate) fn encode_rental_of(rental: RentalId) -> Vec<u8> {
    Contract::Rental.encode("rentalOf", &[word(rental.0)])
}

pub(crate) fn decode_rental(output: &[u8]) -> Option<RentalState> {
    let fields = Contract::Rental.decode("rentalOf", output)?.into_iter().next()?.into_tuple()?;
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
        period: Duration(number(field("period")?)?.checked_mul(1000)?),
        settled_batch: small(field("settledBatch")?)?,
        acknowledged_batch: small(field("acknowledgedBatch")?)?,
        released_batch: small(field("releasedBatch")?)?,
    })
}

/// The fields of `RentalView` in the contract's order.
const FIELDS: [&str; 29] = [
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
    "acknowledger",
    "ceiling",
    "maxLateness",
    "claimWindow",
    "window",
    "period",
    "allowance",
    "earned",
    "drawn",
    "matured",
    "withheld",
    "released",
    "settledBatch",
    "acknowledgedBatch",
    "releasedBatch",
];

pub(crate) fn encode_batch_of(rental: RentalId, head: Hash) -> Vec<u8> {
    Contract::Rental.encode("batchOf", &[word(rental.0), word(head.0)])
}

pub(crate) fn decode_kept_batch(output: &[u8]) -> Option<KeptBatch> {
    let fields = Contract::Rental.decode("batchOf", output)?.into_iter().next()?.into_tuple()?;
    let [_total, _contested, matures_at, batch] = fields.try_into().ok()?;
    Some(KeptBatch { number: small(batch)?, matures_at: UnixSeconds(number(matures_at)?) })
}

pub(crate) fn decode_clock(output: &[u8]) -> Option<UnixSeconds> {
    let time = Contract::Providers.decode("clock", output)?.into_iter().next()?;
    number(time).map(UnixSeconds)
}

pub(crate) fn decode_is_signer(output: &[u8]) -> Option<bool> {
    Contract::Providers.decode("isSigner", output)?.into_iter().next()?.into_bool()
}

fn number(token: Token) -> Option<u64> {
    token.into_uint().filter(|number| number.bits() <= 64).map(|number| number.as_u64())
}

fn small(token: Token) -> Option<u32> {
    number(token).and_then(|number| u32::try_from(number).ok())
}

fn amount(token: Token) -> Option<Xpl> {
    token.into_uint().filter(|number| number.bits() <= 128).map(|number| Xpl::from_wei(number.as_u128()))
}

fn bytes<const N: usize>(token: Token) -> Option<[u8; N]> {
    token.into_fixed_bytes()?.try_into().ok()
}

/// The topic of one of the rental contract's events.
pub(crate) fn topic(event: &str) -> Hash {
    Hash(Contract::Rental.artifact().abi.event(event).map(|event| event.signature()).unwrap_or_default().0)
}

fn parse(event: &str, topics: &[Hash], data: &[u8]) -> Option<Vec<Token>> {
    let topics = topics.iter().map(|topic| H256(topic.0)).collect();
    let log = Contract::Rental
        .artifact()
        .abi
        .event(event)
        .ok()?
        .parse_log(RawLog { topics, data: data.to_vec() })
        .ok()?;
    Some(log.params.into_iter().map(|param| param.value).collect())
}

/// A pod's event doesn't say its sequence: the caller knows its place.
pub(crate) fn decode_pod(topics: &[Hash], data: &[u8]) -> Option<SettledPod> {
    let [rental, pod, job, worth] = parse("PodSettled", topics, data)?.try_into().ok()?;
    Some(SettledPod {
        rental: RentalId(bytes(rental)?),
        pod_uid: PodUid(bytes(pod)?),
        job_uid: JobUid(bytes(job)?),
        sequence: 0,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rentals_fields_are_in_the_contracts_order() {
        let artifact: serde_json::Value =
            serde_json::from_str(include_str!("../abi/Rental.json")).expect("JSON");
        let entry =
            artifact["abi"].as_array().expect("a list").iter().find(|entry| entry["name"] == "rentalOf");
        let components =
            entry.expect("rentalOf")["outputs"][0]["components"].as_array().expect("a struct").clone();
        let names: Vec<_> = components.iter().filter_map(|component| component["name"].as_str()).collect();
        assert_eq!(names, FIELDS);
    }

    #[test]
    fn the_committed_abis_have_every_name_that_is_used() {
        for event in ["PodSettled", "BatchSettled"] {
            assert_ne!(topic(event), Hash([0; 32]), "{event}");
        }
        for contract in [Contract::Providers, Contract::Rental, Contract::Faults] {
            assert!(contract.artifact().bytecode.len() > 1000, "{contract:?}");
        }
    }
}
