//! Which devices are billed already, and when: no two pods are billed for one device at one time.

use std::collections::HashMap;

use plasma_settlement_core::{Beside, CLOCKS, Leaf, beside, flag};
use plasma_types::Duration;

use crate::batches::Batches;

/// Leaves that bill devices, by node.
pub(crate) struct Occupied {
    by_node: HashMap<String, Vec<Leaf>>,
}

impl Occupied {
    /// What is recorded.
    pub(crate) fn recorded(batches: &Batches) -> Self {
        let mut by_node: HashMap<String, Vec<Leaf>> = HashMap::new();
        let receipts = batches.all().flat_map(|batch| &batch.spec.receipts);
        for receipt in receipts.filter(|receipt| receipt.device_mask != 0) {
            by_node.entry(receipt.node.clone()).or_default().push(receipt.leaf());
        }
        Self { by_node }
    }

    /// The leaf as it may be billed, and what a person should know: of the time at which another one bills one of its devices,
    /// it bills nothing.
    pub(crate) fn admit(&mut self, node: &str, leaf: Leaf) -> (Leaf, Option<String>) {
        let others = self.by_node.entry(node.to_owned()).or_default();
        let (admitted, note) = match beside(&leaf, others.iter()) {
            Beside::All => (leaf, None),
            Beside::Clipped(part, other) => {
                let cut = leaf.duration.0.saturating_sub(part.duration.0);
                let note = format!(
                    "billed for {cut} ms less than the meter of node {node} told: pod {} held a GPU of it then, too, and is \
                     billed",
                    other.pod_uid
                );
                (part, Some(note))
            }
            Beside::Nothing(other) => {
                let note = format!(
                    "worth nothing: the meter of node {node} says that it held a GPU for more than {} s while pod {} did, \
                     which is billed",
                    CLOCKS.0 / 1000,
                    other.pod_uid
                );
                (
                    Leaf { duration: Duration(0), device_ms: 0, flags: leaf.flags | flag::VOID, ..leaf },
                    Some(note),
                )
            }
        };
        // What bills no time holds no device.
        let device_mask = if admitted.device_ms > 0 { admitted.device_mask } else { 0 };
        let admitted = Leaf { device_mask, ..admitted };
        others.push(admitted);
        (admitted, note)
    }
}

#[cfg(test)]
mod tests {
    use plasma_types::{JobUid, PodUid, UnixMillis};

    use super::*;

    /// Two minutes that end then.
    fn leaf(pod: u8, end: u64) -> Leaf {
        Leaf {
            pod_uid: PodUid([pod; 16]),
            job_uid: JobUid([9; 16]),
            end: UnixMillis(end),
            duration: Duration(120_000),
            device_ms: 120_000,
            price_class: 2,
            node_index: 0,
            device_mask: 1,
            flags: flag::METERED,
        }
    }

    #[test]
    fn a_second_pod_on_a_device_at_one_time_is_billed_for_the_rest_or_for_nothing_on_that_node_alone() {
        let recorded = HashMap::from([("n".to_owned(), vec![leaf(1, 500_000)])]);
        let mut occupied = Occupied { by_node: recorded };
        let (void, note) = occupied.admit("n", leaf(2, 550_000));
        assert_eq!((void.flags, void.device_ms, void.device_mask), (flag::METERED | flag::VOID, 0, 0));
        assert!(note.is_some_and(|note| note.contains(&PodUid([1; 16]).to_string())));
        assert_eq!(occupied.admit("m", leaf(2, 550_000)), (leaf(2, 550_000), None), "another node's GPU");
        let (clipped, note) = occupied.admit("n", leaf(3, 619_990));
        let expected = Leaf { duration: Duration(119_990), device_ms: 119_990, ..leaf(3, 619_990) };
        assert_eq!(clipped, expected, "after the first, and the void one");
        assert!(note.is_some_and(|note| note.contains("10 ms less")));
        assert!(occupied.admit("n", leaf(4, 660_000)).1.is_some(), "of those that wait together, too");
        assert_eq!(occupied.admit("n", leaf(3, 619_990)).0, expected, "a pod never excludes itself");
    }
}
