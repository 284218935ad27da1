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
