//! Whether what was recorded is what stands on chain: for anyone who has the batches and an endpoint.

use std::collections::BTreeSet;

use plasma_types::{Hash, PodUid, RentalId, UnixSeconds, WeiPerGpuSecond, Xpl};

use crate::{Leaf, LeafError, head::next_head};

/// A batch as the cluster recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The object's name.
    pub name: String,
    /// The rental.
    pub rental: RentalId,
    /// Its first receipt's sequence.
    pub first_sequence: u64,
    /// The head that it says it follows.
    pub prev_head: Hash,
    /// The head that it says comes after it.
    pub head: Hash,
    /// The watermark after it.
    pub to: UnixSeconds,
    /// The rental's prices.
    pub prices: Vec<WeiPerGpuSecond>,
    /// Its leaves with the amounts that it says they are worth.
    pub leaves: Vec<(Leaf, Xpl)>,
}

/// A pod as the contract's event has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainPod {
    /// Its UID.
    pub pod_uid: PodUid,
    /// Its sequence.
    pub sequence: u64,
    /// What it was paid.
    pub amount: Xpl,
}

/// A batch as the contract's events have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainBatch {
    /// The head after it.
    pub head: Hash,
    /// The head before it.
    pub prev_head: Hash,
    /// Its pods, in order.
    pub pods: Vec<ChainPod>,
}

/// The first thing that differs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// A leaf isn't worth what the batch says.
    #[error("batch {batch}, pod {pod}: recorded as {recorded} XPL, but its leaf is worth {computed} XPL")]
    Amount {
        /// The batch.
        batch: String,
        /// The pod.
        pod: PodUid,
        /// What the batch says.
        recorded: Xpl,
        /// What the formula gives.
        computed: Xpl,
    },
    /// A leaf can't be packed or priced.
    #[error("batch {0}: {1}")]
    Leaf(String, LeafError),
    /// The head doesn't follow from the leaves.
    #[error("batch {batch}: recorded head {recorded}, but its leaves give {computed}")]
    Head {
        /// The batch.
        batch: String,
        /// What the batch says.
        recorded: Hash,
        /// What its leaves give.
        computed: Hash,
    },
    /// The chain has no such batch.
    #[error(
        "batch {batch}: the chain has no batch with head {head}: it isn't settled yet, or on another chain"
    )]
    NotOnChain {
        /// The batch.
        batch: String,
        /// The head that was looked for.
        head: Hash,
    },
    /// The chain says something else of a pod.
    #[error("batch {batch}, receipt {sequence}: recorded {recorded}, on chain {on_chain}")]
    Pod {
        /// The batch.
        batch: String,
        /// The receipt's sequence.
        sequence: u64,
        /// Pod and amount as recorded.
        recorded: String,
        /// Pod and amount on chain.
        on_chain: String,
    },
    /// The chain paid for a pod that no batch records.
    #[error(
        "receipt {sequence} of rental {rental}: the chain paid {amount} XPL for pod {pod}, which no SettlementBatch records: one was deleted, or is in another cluster"
    )]
    Unrecorded {
        /// The rental.
        rental: RentalId,
        /// The pod.
        pod: PodUid,
        /// The receipt's sequence.
        sequence: u64,
        /// What it was paid.
        amount: Xpl,
    },
}

/// Recomputes amounts and head from the leaves, and compares with the chain's events.
///
/// # Errors
/// The first thing that differs.
pub fn verify(recorded: &Recorded, on_chain: &[ChainBatch]) -> Result<(), Difference> {
    let batch = recorded.name.clone();
    let mut packed = Vec::new();
    let mut total = Xpl::ZERO;
    for (leaf, amount) in &recorded.leaves {
        let of_batch = |fault| Difference::Leaf(batch.clone(), fault);
        let computed = leaf.amount(&recorded.prices).map_err(of_batch)?;
        if computed != *amount {
            return Err(Difference::Amount { batch, pod: leaf.pod_uid, recorded: *amount, computed });
        }
        packed.extend(leaf.pack().map_err(of_batch)?);
        total = [total, computed].into_iter().sum();
    }
    let count = recorded.leaves.len() as u64;
    let computed = next_head(recorded.prev_head, &packed, count, total, recorded.to);
    if computed != recorded.head {
        return Err(Difference::Head { batch, recorded: recorded.head, computed });
    }
    let found =
        on_chain.iter().find(|there| there.head == recorded.head && there.prev_head == recorded.prev_head);
    let Some(there) = found else { return Err(Difference::NotOnChain { batch, head: recorded.head }) };
    compare_pods(recorded, there)
}

/// Whether each payment that the chain made of this rental is recorded: what `verify` can't see, since it begins with the
/// records.
///
/// # Errors
/// The first payment that no batch records.
pub fn each_is_recorded(
    rental: RentalId,
    recorded: &[Recorded],
    paid: &[ChainPod],
) -> Result<(), Difference> {
    let of_rental = || recorded.iter().filter(|batch| batch.rental == rental);
    let receipts = |batch: &Recorded| {
        let sequences = batch.first_sequence..;
        let pods = batch.leaves.iter().map(|(leaf, _)| leaf.pod_uid);
        sequences.zip(pods).collect::<Vec<_>>()
    };
    let known: BTreeSet<(u64, PodUid)> = of_rental().flat_map(receipts).collect();
    match paid.iter().find(|pod| !known.contains(&(pod.sequence, pod.pod_uid))) {
        None => Ok(()),
        Some(&ChainPod { pod_uid: pod, sequence, amount }) => {
            Err(Difference::Unrecorded { rental, pod, sequence, amount })
        }
    }
}

fn compare_pods(recorded: &Recorded, there: &ChainBatch) -> Result<(), Difference> {
    let count = recorded.leaves.len().max(there.pods.len());
    for at in 0..count {
        let sequence = recorded.first_sequence + at as u64;
        let ours = recorded.leaves.get(at).map(|(leaf, amount)| ChainPod {
            pod_uid: leaf.pod_uid,
            sequence,
            amount: *amount,
        });
        let theirs = there.pods.get(at).copied();
        if ours != theirs {
            let describe = |pod: Option<ChainPod>| match pod {
                Some(pod) => {
                    format!("pod {} for {} XPL as receipt {}", pod.pod_uid, pod.amount, pod.sequence)
                }
                None => "nothing".to_owned(),
            };
            let (recorded_as, on_chain) = (describe(ours), describe(theirs));
            return Err(Difference::Pod {
                batch: recorded.name.clone(),
                sequence,
                recorded: recorded_as,
                on_chain,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use plasma_types::{Duration, JobUid, UnixMillis};

    use super::*;

    fn recorded() -> (Recorded, Vec<ChainBatch>) {
        let leaf = Leaf {
            pod_uid: PodUid([1; 16]),
            job_uid: JobUid([2; 16]),
            end: UnixMillis(5000),
            duration: Duration(2000),
            device_ms: 2000,
            price_class: 0,
            node_index: 0,
            device_mask: 0,
            flags: 2,
        };
        let (amount, to, prev_head) = (Xpl::from_wei(14), UnixSeconds(5), Hash([3; 32]));
        let head = next_head(prev_head, &leaf.pack().unwrap(), 1, amount, to);
        let recorded = Recorded {
            name: "b".to_owned(),
            rental: RentalId([4; 32]),
            first_sequence: 7,
            prev_head,
            head,
            to,
            prices: vec![WeiPerGpuSecond(7)],
            leaves: vec![(leaf, amount)],
        };
        let pods = vec![ChainPod { pod_uid: leaf.pod_uid, sequence: 7, amount }];
        (recorded, vec![ChainBatch { head, prev_head, pods }])
    }

    #[test]
    fn what_agrees_is_verified() {
        let (recorded, chain) = recorded();
        assert_eq!(verify(&recorded, &chain), Ok(()));
    }

    #[test]
    fn the_first_thing_that_differs_is_named() {
        let (good, chain) = recorded();
        let mut dear = good.clone();
        dear.leaves[0].1 = Xpl::from_wei(15);
        assert!(matches!(verify(&dear, &chain), Err(Difference::Amount { .. })));
        let mut longer = good.clone();
        longer.leaves[0].0.end = UnixMillis(5001);
        assert!(matches!(verify(&longer, &chain), Err(Difference::Head { .. })));
        assert!(matches!(verify(&good, &[]), Err(Difference::NotOnChain { .. })));
        let mut paid_less = chain.clone();
        paid_less[0].pods[0].amount = Xpl::from_wei(13);
        assert!(matches!(verify(&good, &paid_less), Err(Difference::Pod { sequence: 7, .. })));
        let mut more = chain;
        more[0].pods.push(ChainPod { pod_uid: PodUid([9; 16]), sequence: 8, amount: Xpl::ZERO });
        assert!(matches!(verify(&good, &more), Err(Difference::Pod { sequence: 8, .. })));
    }

    #[test]
    fn a_payment_that_no_batch_of_its_rental_records_is_named() {
        let (good, chain) = recorded();
        let (rental, paid) = (good.rental, chain[0].pods.clone());
        assert_eq!(each_is_recorded(rental, std::slice::from_ref(&good), &paid), Ok(()));
        let unrecorded = |recorded: &[Recorded], paid: &[ChainPod]| {
            matches!(each_is_recorded(rental, recorded, paid), Err(Difference::Unrecorded { .. }))
        };
        assert!(unrecorded(&[], &paid), "its batch is gone");
        let elsewhere = Recorded { rental: RentalId([5; 32]), ..good.clone() };
        assert!(unrecorded(&[elsewhere], &paid), "another rental's records say nothing of this one");
        let twice = [paid[0], ChainPod { sequence: 8, ..paid[0] }];
        assert!(unrecorded(&[good], &twice), "paid a second time");
    }
}
