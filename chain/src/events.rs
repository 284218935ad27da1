//! What the contract's events say, on the canonical chain.

use plasma_types::{Hash, RentalId};
use serde_json::{Value, json};

use crate::{
    abi::{self, SettledBatch, SettledPod},
    client::{Chain, data, hash, nonsense, number},
    error::ChainError,
};

const METHOD: &str = "eth_getLogs";
/// How many blocks are searched at once: many endpoints refuse more.
const SPAN: u64 = 10_000;

/// Where a batch was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledAt {
    /// The batch.
    pub batch: SettledBatch,
    /// The transaction.
    pub transaction: Hash,
    /// The block's number.
    pub number: u64,
    /// The block's hash.
    pub block: Hash,
}

impl Chain {
    /// Where the batch with this head was settled, looking back from a block.
    ///
    /// # Errors
    /// When the events can't be read.
    pub async fn settled_batch(
        &self,
        rental: RentalId,
        head: Hash,
        newest: u64,
    ) -> Result<Option<SettledAt>, ChainError> {
        let topics = [json!(abi::topic("BatchSettled")), json!(rental), json!(head)];
        for span in spans(self.contract_block, newest).into_iter().rev() {
            if let Some(log) = self.logs(span, &topics).await?.last() {
                return read_batch(log).map(Some);
            }
        }
        Ok(None)
    }

    /// Every batch of a rental that was settled, oldest first.
    ///
    /// # Errors
    /// When the events can't be read.
    pub async fn settled_batches(&self, rental: RentalId) -> Result<Vec<SettledAt>, ChainError> {
        let logs = self.all_logs(&[json!(abi::topic("BatchSettled")), json!(rental)]).await?;
        logs.iter().map(read_batch).collect()
    }

    /// Every pod of a rental that was settled, oldest first.
    ///
    /// # Errors
    /// When the events can't be read.
    pub async fn settled_pods(&self, rental: RentalId) -> Result<Vec<SettledPod>, ChainError> {
        let logs = self.all_logs(&[json!(abi::topic("PodSettled")), json!(rental)]).await?;
        let read = |log: &Value| {
            let (topics, bytes) = (topics_of(log)?, data(METHOD, &log["data"])?);
            abi::decode_pod(&topics, &bytes).ok_or_else(|| nonsense(METHOD, "it isn't PodSettled"))
        };
        logs.iter().map(read).collect()
    }

    async fn all_logs(&self, topics: &[Value]) -> Result<Vec<Value>, ChainError> {
        let newest = self.newest_block().await?.number;
        let mut logs = Vec::new();
        for span in spans(self.contract_block, newest) {
            logs.extend(self.logs(span, topics).await?);
        }
        Ok(logs)
    }

    async fn logs(&self, (from, to): (u64, u64), topics: &[Value]) -> Result<Vec<Value>, ChainError> {
        let (from, to) = (format!("{from:#x}"), format!("{to:#x}"));
        let filter = json!({
            "fromBlock": from, "toBlock": to, "address": self.endpoint().contract, "topics": topics,
        });
        match self.ask(METHOD, vec![filter]).await? {
            Value::Array(logs) => Ok(logs),
            _ => Err(nonsense(METHOD, "it isn't a list")),
        }
    }
}

/// The blocks from the first to the last, in spans that endpoints take.
fn spans(first: u64, last: u64) -> Vec<(u64, u64)> {
    let mut spans = Vec::new();
    let mut from = first;
    while from <= last {
        let to = from.saturating_add(SPAN - 1).min(last);
        spans.push((from, to));
        from = to.saturating_add(1);
        if to == u64::MAX {
            break;
        }
    }
    spans
}

fn read_batch(log: &Value) -> Result<SettledAt, ChainError> {
    let (topics, bytes) = (topics_of(log)?, data(METHOD, &log["data"])?);
    let batch =
        abi::decode_batch(&topics, &bytes).ok_or_else(|| nonsense(METHOD, "it isn't BatchSettled"))?;
    Ok(SettledAt {
        batch,
        transaction: hash(METHOD, &log["transactionHash"])?,
        number: number(METHOD, &log["blockNumber"])?,
        block: hash(METHOD, &log["blockHash"])?,
    })
}

fn topics_of(log: &Value) -> Result<Vec<Hash>, ChainError> {
    let topics = log["topics"].as_array().map(Vec::as_slice).unwrap_or_default();
    topics.iter().map(|topic| hash(METHOD, topic)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_cover_every_block_once() {
        assert_eq!(spans(0, 0), [(0, 0)]);
        assert_eq!(spans(5, 10_004), [(5, 10_004)]);
        assert_eq!(spans(5, 10_005), [(5, 10_004), (10_005, 10_005)]);
        assert_eq!(spans(9, 8), []);
    }
}
