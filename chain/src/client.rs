//! Asking the chain: JSON-RPC over HTTP, with time-outs and size limits.

use std::time::Duration;

use jsonrpsee_core::{
    client::{ClientT as _, Error as RpcError},
    params::ArrayParams,
};
use jsonrpsee_http_client::{HttpClient, HttpClientBuilder};
use plasma_types::{Address, Hash, RentalId, UnixSeconds, Xpl};
use serde_json::{Value, json};

use crate::{
    abi::{self, Contract, KeptBatch, RentalState},
    error::ChainError,
    revert::Revert,
};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How large an answer may be, in bytes.
const MAX_ANSWER: u32 = 16 << 20;
/// What a tip is where the node doesn't say, in wei.
const DEFAULT_TIP: u128 = 1_000_000_000;

/// Where the chain is, and which one it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// An HTTP address.
    pub url: String,
    /// The chain's id.
    pub chain_id: u64,
    /// The Rental contract.
    pub contract: Address,
}

/// A client for one chain and one contract.
#[derive(Clone, Debug)]
pub struct Chain {
    client: HttpClient,
    endpoint: Endpoint,
    pub(crate) contract_block: u64,
}

/// A block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRef {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: Hash,
    /// Its time.
    pub timestamp: UnixSeconds,
}

/// When a block counts as one that can't be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finality {
    /// When the chain's own `finalized` block has reached it.
    Finalized,
    /// When so many blocks stand on top of it.
    Depth(u64),
}

impl std::str::FromStr for Finality {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "finalized" => Ok(Self::Finalized),
            _ => text
                .parse()
                .map(Self::Depth)
                .map_err(|_| format!("{text:?} is neither a number of blocks nor the word finalized")),
        }
    }
}

/// What a transaction pays for a unit of gas, in wei.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fees {
    /// At most.
    pub max: u128,
    /// Of that to whoever makes the block.
    pub tip: u128,
}

impl Fees {
    /// An eighth more of both: what nodes ask of a replacement is a tenth. What a node suggested is no reason to panic,
    /// so at the largest number it stays.
    #[must_use]
    pub fn raised(self) -> Self {
        let raise = |wei: u128| wei.saturating_add(wei / 8).saturating_add(1);
        Self { max: raise(self.max), tip: raise(self.tip) }
    }

    /// What these must be for a transaction to replace one that paid so much, if there is one.
    #[must_use]
    pub fn replacing(self, before: Option<Self>) -> Self {
        let Some(raised) = before.map(Self::raised) else { return self };
        Self { max: raised.max.max(self.max), tip: raised.tip.max(self.tip) }
    }
}

/// What a node said to bytes that it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It has them, now or from before.
    Taken,
    /// The nonce is behind the account's: look what became of it, never send another.
    NonceUsed,
    /// Another transaction with this nonce pays as much or more.
    Underpriced,
}

impl Chain {
    /// Prepares a client; nothing is asked yet.
    ///
    /// # Errors
    /// When the address isn't one.
    pub fn new(endpoint: Endpoint) -> Result<Self, ChainError> {
        let builder = HttpClientBuilder::default().request_timeout(TIMEOUT).max_response_size(MAX_ANSWER);
        let client = builder.build(&endpoint.url).map_err(|_| ChainError::Endpoint(endpoint.url.clone()))?;
        Ok(Self { client, endpoint, contract_block: 0 })
    }

    /// The same, looking for events only from the block in which the contract was made.
    #[must_use]
    pub fn since_block(self, contract_block: u64) -> Self {
        Self { contract_block, ..self }
    }

    /// Which chain and contract it is for.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Makes sure that the endpoint serves the chain that is meant.
    ///
    /// # Errors
    /// When it serves another one, or can't be asked.
    pub async fn check_chain_id(&self) -> Result<(), ChainError> {
        let found = self.ask_number("eth_chainId", vec![]).await?;
        let expected = self.endpoint.chain_id;
        if found == expected { Ok(()) } else { Err(ChainError::WrongChain { expected, found }) }
    }

    /// The newest block.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn newest_block(&self) -> Result<BlockRef, ChainError> {
        self.block("latest").await
    }

    /// The number of the newest block that can't be undone, given the newest one.
    ///
    /// # Errors
    /// When it can't be read, or the chain doesn't say what is final.
    pub async fn final_number(&self, newest: &BlockRef, finality: Finality) -> Result<u64, ChainError> {
        match finality {
            // A node may have finalised a block that came after the look at the newest one.
            Finality::Finalized => Ok(self.block("finalized").await?.number.min(newest.number)),
            Finality::Depth(depth) => Ok(newest.number.saturating_sub(depth)),
        }
    }

    async fn block(&self, tag: &str) -> Result<BlockRef, ChainError> {
        const METHOD: &str = "eth_getBlockByNumber";
        let block = self.ask(METHOD, vec![json!(tag), json!(false)]).await?;
        Ok(BlockRef {
            number: number(METHOD, &block["number"])?,
            hash: hash(METHOD, &block["hash"])?,
            timestamp: UnixSeconds(number(METHOD, &block["timestamp"])?),
        })
    }

    /// The account's next nonce as of a block.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn nonce(&self, account: Address, block: u64) -> Result<u64, ChainError> {
        self.ask_number("eth_getTransactionCount", vec![json!(account), json!(format!("{block:#x}"))]).await
    }

    /// An account's coins.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn balance(&self, account: Address) -> Result<Xpl, ChainError> {
        const METHOD: &str = "eth_getBalance";
        let answer = self.ask(METHOD, vec![json!(account), json!("latest")]).await?;
        wide_number(METHOD, &answer).map(Xpl::from_wei)
    }

    /// What a transaction should pay now: twice the base fee, and the tip that the node suggests.
    ///
    /// # Errors
    /// When the newest block can't be read.
    pub async fn fees(&self) -> Result<Fees, ChainError> {
        const METHOD: &str = "eth_getBlockByNumber";
        let block = self.ask(METHOD, vec![json!("latest"), json!(false)]).await?;
        let base = wide_number(METHOD, &block["baseFeePerGas"])?;
        let tip = match self.ask("eth_maxPriorityFeePerGas", vec![]).await {
            Ok(tip) => wide_number("eth_maxPriorityFeePerGas", &tip)?,
            // Not every node knows the method.
            Err(ChainError::Refused { .. }) => DEFAULT_TIP,
            Err(fault) => return Err(fault),
        };
        Ok(Fees { max: base.saturating_mul(2).saturating_add(tip), tip })
    }

    /// The gas that a call to the contract would use at the newest block, or why it would be refused. Not at the pending
    /// one, where our own transaction may already have settled the batch.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] in the contract's words, or no answer.
    pub async fn estimate_gas(&self, from: Address, data: &[u8]) -> Result<u64, ChainError> {
        let data = format!("0x{}", hex::encode(data));
        let call = json!({ "from": from, "to": self.endpoint.contract, "data": data });
        self.ask_number("eth_estimateGas", vec![call, json!("latest")]).await
    }

    /// The rental, as of a block.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] where there is none, or no answer.
    pub async fn rental(&self, rental: RentalId, block: u64) -> Result<RentalState, ChainError> {
        const METHOD: &str = "eth_call";
        let output = self.view(self.endpoint.contract, &abi::encode_rental_of(rental), block).await?;
        abi::decode_rental(&output).ok_or_else(|| nonsense(METHOD, "it isn't a rental"))
    }

    /// What the contract keeps of the batch that led to a head, as of a block; number 0 where it has none.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn kept_batch(
        &self,
        rental: RentalId,
        head: Hash,
        block: u64,
    ) -> Result<KeptBatch, ChainError> {
        const METHOD: &str = "eth_call";
        let output = self.view(self.endpoint.contract, &abi::encode_batch_of(rental, head), block).await?;
        abi::decode_kept_batch(&output).ok_or_else(|| nonsense(METHOD, "it isn't a batch"))
    }

    /// Whether a key signs for a provider, by the Providers contract, as of a block.
    ///
    /// # Errors
    /// When it can't be read, or the account isn't that contract.
    pub async fn is_signer(
        &self,
        providers: Address,
        (provider, key): (Address, Address),
        block: u64,
    ) -> Result<bool, ChainError> {
        let call = Contract::Providers.encode("isSigner", &[abi::address(provider), abi::address(key)]);
        let output = self.view(providers, &call, block).await?;
        abi::decode_is_signer(&output).ok_or(ChainError::NotProviders(providers))
    }

    /// The clock of the contracts' deadlines, which stands still in a pause, as of a block.
    ///
    /// # Errors
    /// When it can't be read, or the account isn't the Providers contract.
    pub async fn deadline_clock(&self, providers: Address, block: u64) -> Result<UnixSeconds, ChainError> {
        let output = self.view(providers, &Contract::Providers.encode("clock", &[]), block).await?;
        abi::decode_clock(&output).ok_or(ChainError::NotProviders(providers))
    }

    async fn view(&self, contract: Address, call: &[u8], block: u64) -> Result<Vec<u8>, ChainError> {
        const METHOD: &str = "eth_call";
        let call = json!({ "to": contract, "data": format!("0x{}", hex::encode(call)) });
        data(METHOD, &self.ask(METHOD, vec![call, json!(format!("{block:#x}"))]).await?)
    }

    /// Gives the node signed bytes.
    ///
    /// # Errors
    /// No answer, which says nothing about what became of them; or a refusal that isn't about nonce or fee.
    pub async fn send(&self, raw: &[u8]) -> Result<Sent, ChainError> {
        let sent = self.ask("eth_sendRawTransaction", vec![json!(format!("0x{}", hex::encode(raw)))]).await;
        let Err(ChainError::Refused { method, message }) = sent else { return sent.map(|_| Sent::Taken) };
        let lower = message.to_lowercase();
        let says = |words: &[&str]| words.iter().any(|words| lower.contains(words));
        if says(&["already known", "already imported", "known transaction"]) {
            Ok(Sent::Taken)
        } else if says(&["nonce too low", "nonce is too low"]) {
            Ok(Sent::NonceUsed)
        } else if says(&["underpriced"]) {
            Ok(Sent::Underpriced)
        } else {
            Err(ChainError::Refused { method, message })
        }
    }

    async fn ask_number(&self, method: &'static str, params: Vec<Value>) -> Result<u64, ChainError> {
        number(method, &self.ask(method, params).await?)
    }

    pub(crate) async fn ask(&self, method: &'static str, params: Vec<Value>) -> Result<Value, ChainError> {
        let mut array = ArrayParams::new();
        for param in params {
            array.insert(param).map_err(|fault| nonsense(method, &fault.to_string()))?;
        }
        self.client.request(method, array).await.map_err(|fault| self.classify(method, fault))
    }

    fn classify(&self, method: &'static str, fault: RpcError) -> ChainError {
        match fault {
            RpcError::Call(error) => match revert_data(error.data().map(|data| data.get())) {
                Some(data) => ChainError::Reverted(Revert::decode(&data)),
                None if error.message().contains("revert") => {
                    ChainError::Reverted(Revert::told(error.message()))
                }
                None => ChainError::Refused { method, message: error.message().to_owned() },
            },
            RpcError::ParseError(fault) => nonsense(method, &fault.to_string()),
            other => ChainError::Unreachable { endpoint: host(&self.endpoint.url), why: other.to_string() },
        }
    }
}

/// The host alone: paths of endpoints often hold an access key.
fn host(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}")
}

/// Bytes of a revert: nodes put them into `data` as text, or into an object around it.
fn revert_data(data: Option<&str>) -> Option<Vec<u8>> {
    let value: Value = serde_json::from_str(data?).ok()?;
    let text = value.as_str().or_else(|| value["data"].as_str())?;
    hex::decode(text.strip_prefix("0x")?).ok().filter(|bytes| !bytes.is_empty())
}

pub(crate) fn nonsense(method: &'static str, why: &str) -> ChainError {
    ChainError::Nonsense { method, why: why.to_owned() }
}

fn wide_number(method: &'static str, value: &Value) -> Result<u128, ChainError> {
    let digits = value.as_str().and_then(|text| text.strip_prefix("0x"));
    let parsed = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok());
    parsed.ok_or_else(|| nonsense(method, &format!("{value} is no number")))
}

pub(crate) fn number(method: &'static str, value: &Value) -> Result<u64, ChainError> {
    u64::try_from(wide_number(method, value)?).map_err(|_| nonsense(method, &format!("{value} is too large")))
}

pub(crate) fn hash(method: &'static str, value: &Value) -> Result<Hash, ChainError> {
    let parsed = value.as_str().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| nonsense(method, &format!("{value} is no hash")))
}

pub(crate) fn data(method: &'static str, value: &Value) -> Result<Vec<u8>, ChainError> {
    let digits = value.as_str().and_then(|text| text.strip_prefix("0x"));
    let bytes = digits.and_then(|digits| hex::decode(digits).ok());
    bytes.ok_or_else(|| nonsense(method, &format!("{value} is no data")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_named_without_its_secrets() {
        assert_eq!(host("https://user:pass@rpc.example/v1/SECRET?key=1"), "https://rpc.example");
        assert_eq!(host("http://127.0.0.1:8545"), "http://127.0.0.1:8545");
    }

    #[test]
    fn a_replacement_pays_more_than_a_tenth_more() {
        let raised = Fees { max: 8, tip: 1 }.raised();
        assert_eq!(raised, Fees { max: 10, tip: 2 });
        let dearest = Fees { max: u128::MAX, tip: u128::MAX - 1 };
        assert_eq!(dearest.raised(), Fees { max: u128::MAX, tip: u128::MAX }, "whatever a node suggests");
    }

    #[test]
    fn the_bytes_of_a_revert_are_found_where_nodes_put_them() {
        assert_eq!(revert_data(Some("\"0x0102\"")), Some(vec![1, 2]));
        assert_eq!(revert_data(Some("{\"data\":\"0x03\"}")), Some(vec![3]));
        assert_eq!(revert_data(Some("\"0x\"")), None);
        assert_eq!(revert_data(None), None);
    }
}
