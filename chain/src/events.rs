//! What the contract's events say, on the canonical chain.

use std::collections::HashMap;

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
/// How many blocks are searched in all: thirty years of a block a second. The newest block's number is the endpoint's
/// word, and a search that never ends is worse than a refusal.
const FARTHEST: u64 = 1_000_000_000;

/// How many rentals are asked for at once.
const RENTALS: usize = 100;

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
        for span in spans(self.contract_block, newest)?.rev() {
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
        Ok(self.settled(&[rental]).await?.1)
    }

    /// Every batch and every pod of these rentals that was settled, oldest first: one search for them all.
    ///
    /// # Errors
    /// When the events can't be read.
    pub async fn settled(
        &self,
        rentals: &[RentalId],
    ) -> Result<(Vec<SettledBatch>, Vec<SettledPod>), ChainError> {
        let (of_batch, of_pod) = (abi::topic("BatchSettled"), abi::topic("PodSettled"));
        let (mut batches, mut pods) = (Vec::new(), Vec::new());
        // In groups, as a filter may name only so many; none at all would mean each and every rental.
        for group in rentals.chunks(RENTALS) {
            let mut unnumbered = Unnumbered::default();
            for log in self.all_logs(&[json!([of_batch, of_pod]), json!(group)]).await? {
                let transaction = hash(METHOD, &log["transactionHash"])?;
                if topics_of(&log)?.first() == Some(&of_batch) {
                    let batch = read_batch(&log)?.batch;
                    pods.extend(unnumbered.number(&batch, transaction)?);
                    batches.push(batch);
                } else {
                    unnumbered.put(read_pod(&log)?, transaction);
                }
            }
            unnumbered.end()?;
        }
        Ok((batches, pods))
    }

    async fn all_logs(&self, topics: &[Value]) -> Result<Vec<Value>, ChainError> {
        let newest = self.newest_block().await?.number;
        let mut logs = Vec::new();
        for span in spans(self.contract_block, newest)? {
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
fn spans(
    first: u64,
    last: u64,
) -> Result<impl DoubleEndedIterator<Item = (u64, u64)> + ExactSizeIterator, ChainError> {
    let beyond = last.saturating_sub(first);
    if beyond > FARTHEST {
        return Err(ChainError::TooFar { first, newest: last });
    }
    // No more than FARTHEST: the numbers fit.
    let count = if last < first { 0 } else { u32::try_from(beyond / SPAN + 1).unwrap_or(u32::MAX) };
    Ok((0..count).map(move |at| {
        let from = first + u64::from(at) * SPAN;
        (from, from.saturating_add(SPAN - 1).min(last))
    }))
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

fn read_pod(log: &Value) -> Result<SettledPod, ChainError> {
    let (topics, bytes) = (topics_of(log)?, data(METHOD, &log["data"])?);
    abi::decode_pod(&topics, &bytes).ok_or_else(|| nonsense(METHOD, "it isn't PodSettled"))
}

fn topics_of(log: &Value) -> Result<Vec<Hash>, ChainError> {
    let topics = log["topics"].as_array().map(Vec::as_slice).unwrap_or_default();
    topics.iter().map(|topic| hash(METHOD, topic)).collect()
}

/// Pods whose batch hasn't come yet: a batch's pods come in their order, right before its own event, in its transaction.
#[derive(Default)]
struct Unnumbered {
    by_rental: HashMap<RentalId, Vec<(SettledPod, Hash)>>,
}

impl Unnumbered {
    fn put(&mut self, pod: SettledPod, transaction: Hash) {
        self.by_rental.entry(pod.rental).or_default().push((pod, transaction));
    }

    /// The batch's pods, each with its sequence.
    fn number(&mut self, batch: &SettledBatch, transaction: Hash) -> Result<Vec<SettledPod>, ChainError> {
        let pods = self.by_rental.remove(&batch.rental).unwrap_or_default();
        let is_all = usize::try_from(batch.count) == Ok(pods.len());
        if !is_all || pods.iter().any(|(_, of)| *of != transaction) {
            let (count, found) = (batch.count, pods.len());
            let why = format!(
                "the batch that led to {} has {count} pods, of which {found} came before it",
                batch.head
            );
            return Err(nonsense(METHOD, &why));
        }
        let numbered = pods.into_iter().zip(batch.first_sequence..);
        Ok(numbered.map(|((pod, _), sequence)| SettledPod { sequence, ..pod }).collect())
    }

    /// No pod may be left.
    fn end(&self) -> Result<(), ChainError> {
        match self.by_rental.keys().next() {
            None => Ok(()),
            Some(rental) => {
                Err(nonsense(METHOD, &format!("pods of rental {rental} come without their batch")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use plasma_types::{JobUid, PodUid, UnixSeconds, Xpl};

    use super::*;

    #[test]
    fn spans_cover_every_block_once() {
        let all = |first, last| spans(first, last).map(Iterator::collect::<Vec<_>>);
        assert_eq!(all(0, 0), Ok(vec![(0, 0)]));
        assert_eq!(all(5, 10_004), Ok(vec![(5, 10_004)]));
        assert_eq!(all(5, 10_005), Ok(vec![(5, 10_004), (10_005, 10_005)]));
        assert_eq!(all(9, 8), Ok(vec![]));
        assert_eq!(all(u64::MAX, u64::MAX), Ok(vec![(u64::MAX, u64::MAX)]));
    }

    #[test]
    fn a_chain_that_claims_endless_blocks_is_refused_rather_than_searched() {
        let refused = |first, last| spans(first, last).err();
        let too_far = |first, newest| Some(ChainError::TooFar { first, newest });
        assert_eq!(refused(0, u64::MAX), too_far(0, u64::MAX));
        assert_eq!(refused(7, FARTHEST + 8), too_far(7, FARTHEST + 8));
        assert_eq!(spans(7, FARTHEST + 7).map(|spans| spans.len()), Ok(100_001));
    }

    #[test]
    fn a_pods_sequence_is_its_batchs_first_one_and_its_place() {
        let (one, other) = (RentalId([1; 32]), RentalId([2; 32]));
        let pod = |rental, uid| SettledPod {
            rental,
            pod_uid: PodUid([uid; 16]),
            job_uid: JobUid([9; 16]),
            sequence: 0,
            amount: Xpl::from_wei(1),
        };
        let batch = |rental, first_sequence, count| SettledBatch {
            rental,
            head: Hash([4; 32]),
            prev_head: Hash([5; 32]),
            first_sequence,
            count,
            total: Xpl::from_wei(1),
            to: UnixSeconds(9),
        };
        let (first, second) = (Hash([7; 32]), Hash([8; 32]));
        let mut unnumbered = Unnumbered::default();
        // Two rentals, settled by one transaction.
        for (rental, uid) in [(one, 1), (one, 2), (other, 3)] {
            unnumbered.put(pod(rental, uid), first);
        }
        let sequences = |pods: Result<Vec<SettledPod>, _>| {
            pods.map(|pods| pods.iter().map(|pod| (pod.pod_uid.0[0], pod.sequence)).collect::<Vec<_>>())
        };
        assert_eq!(sequences(unnumbered.number(&batch(one, 40, 2), first)), Ok(vec![(1, 40), (2, 41)]));
        assert_eq!(sequences(unnumbered.number(&batch(other, 7, 1), first)), Ok(vec![(3, 7)]));
        assert_eq!(unnumbered.end(), Ok(()));
        // An endpoint that leaves events out, or mixes them up, is found out.
        unnumbered.put(pod(one, 4), first);
        assert!(unnumbered.end().is_err(), "a pod without its batch");
        assert!(unnumbered.number(&batch(one, 42, 2), first).is_err(), "a pod is missing");
        unnumbered.put(pod(one, 4), first);
        assert!(unnumbered.number(&batch(one, 42, 1), second).is_err(), "it was another transaction's");
    }
}
