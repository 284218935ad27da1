//! Which devices are billed already, and when: no two pods are billed for one device at one time.

use std::collections::HashMap;

use plasma_settlement_core::{Leaf, beside, flag};
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

    /// The leaf as it may be billed, and what a person should know: one that bills a device at a time at which another one
    /// does is worth nothing.
    pub(crate) fn admit(&mut self, node: &str, leaf: Leaf) -> (Leaf, Option<String>) {
        let others = self.by_node.entry(node.to_owned()).or_default();
        if let Some(other) = beside(&leaf, others.iter()) {
            let note = format!(
                "worth nothing: the meter of node {node} says that it held a GPU while pod {} did, which is billed",
                other.pod_uid
            );
            let void = Leaf {
                duration: Duration(0),
                device_ms: 0,
                device_mask: 0,
                flags: leaf.flags | flag::VOID,
                ..leaf
            };
            return (void, Some(note));
        }
        others.push(leaf);
        (leaf, None)
    }
}

#[cfg(test)]
mod tests {
    use plasma_types::{JobUid, PodUid, UnixMillis};

    use super::*;

    fn leaf(pod: u8, end: u64) -> Leaf {
        Leaf {
            pod_uid: PodUid([pod; 16]),
            job_uid: JobUid([9; 16]),
            end: UnixMillis(end),
            duration: Duration(1000),
            device_ms: 1000,
            price_class: 2,
            node_index: 0,
            device_mask: 1,
            flags: flag::METERED,
        }
    }

    #[test]
    fn a_second_pod_on_a_device_at_one_time_is_worth_nothing_on_that_node_alone() {
        let recorded = HashMap::from([("n".to_owned(), vec![leaf(1, 5000)])]);
        let mut occupied = Occupied { by_node: recorded };
        let (void, note) = occupied.admit("n", leaf(2, 5500));
        assert_eq!((void.flags, void.device_ms, void.device_mask), (flag::METERED | flag::VOID, 0, 0));
        assert!(note.is_some_and(|note| note.contains(&PodUid([1; 16]).to_string())));
        assert_eq!(occupied.admit("m", leaf(2, 5500)), (leaf(2, 5500), None), "another node's GPU");
        assert_eq!(
            occupied.admit("n", leaf(3, 6000)),
            (leaf(3, 6000), None),
            "after the first, and the void one"
        );
        assert!(occupied.admit("n", leaf(4, 6500)).1.is_some(), "of those that wait together, too");
        assert_eq!(occupied.admit("n", leaf(3, 6000)).1, None, "a pod never excludes itself");
    }
}
