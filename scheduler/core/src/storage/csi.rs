//! What CSI drivers say of themselves and of nodes.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    document::{AttachmentDocument, CapacityDocument, CsiDriverDocument, CsiNodeDocument},
    labels::{Labels, Selector, Text, Texts},
    quantity::Quantity,
    requests,
};

/// A node's CSI drivers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CsiNode {
    /// The drivers that it has, each with how many volumes it can attach there where that is limited.
    pub(crate) drivers: Vec<(Text, Option<i64>)>,
    /// The parts of Kubernetes from which drivers have taken over on this node.
    taken_over: BTreeSet<Text>,
}

impl CsiNode {
    pub(crate) fn read(document: &CsiNodeDocument, texts: &mut Texts) -> Self {
        let annotation = document.metadata.annotations.get("storage.alpha.kubernetes.io/migrated-plugins");
        let plugins = annotation.map_or("", |plugins| plugins).split(',');
        let drivers = document.spec.drivers.iter().flatten().map(|driver| {
            let count = driver.allocatable.as_ref().and_then(|room| room.count);
            (texts.share(&driver.name), count)
        });
        let drivers = drivers.collect();
        let taken_over = plugins.filter(|plugin| !plugin.is_empty()).map(|name| texts.share(name)).collect();
        Self { drivers, taken_over }
    }

    /// How many volumes a driver can attach there; nothing where there is no limit.
    pub(crate) fn limit(&self, driver: &str) -> Option<i64> {
        self.drivers.iter().rev().find(|(name, count)| **name == *driver && count.is_some())?.1
    }

    /// Whether any driver has a limit there.
    pub(crate) fn has_limits(&self) -> bool {
        self.drivers.iter().any(|(_, count)| count.is_some())
    }

    pub(crate) fn has(&self, driver: &str) -> bool {
        self.drivers.iter().any(|(name, _)| **name == *driver)
    }

    /// Whether a driver has taken over from that part of Kubernetes.
    pub(crate) fn has_taken_over(&self, plugin: &str) -> bool {
        self.taken_over.contains(plugin)
    }
}

/// A CSI driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Driver {
    /// Whether it tells how much it can provision where.
    pub(crate) tells_capacity: bool,
    /// Whether pods that need it must not go to a node that hasn't got it.
    pub(crate) must_be_there: bool,
}

impl Driver {
    pub(crate) fn read(document: &CsiDriverDocument) -> Self {
        Self {
            tells_capacity: document.spec.storage_capacity == Some(true),
            must_be_there: document.spec.prevent_pod_scheduling_if_missing == Some(true),
        }
    }
}

/// How much can be provisioned of a class, and for which nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) class: Text,
    /// The labels of the nodes. None are no node.
    nodes: Option<Selector>,
    /// The largest volume; nothing where that isn't known.
    largest: Option<Quantity>,
}

impl Capacity {
    /// Reads a capacity; answers what of it can't be read, too: that is taken for nothing.
    pub(crate) fn read(document: &CapacityDocument, texts: &mut Texts) -> (Self, Option<String>) {
        let mut fault = None;
        let largest = document.maximum_volume_size.as_ref().or(document.capacity.as_ref());
        let largest = largest.and_then(|value| {
            let read = requests::read(&BTreeMap::from([("capacity".to_owned(), value.clone())]));
            let read = read.map_err(|why| fault = Some(format!("capacity: {why}; none of it is counted on")));
            read.ok()?.0.get("capacity").copied()
        });
        let nodes = Selector::read(document.node_topology.as_ref(), texts).unwrap_or_else(|operator| {
            fault = Some(format!("nodeTopology: operator {operator} isn't known; it is taken for no node"));
            None
        });
        (Self { class: texts.share(&document.storage_class_name), nodes, largest }, fault)
    }

    /// Whether a volume of that size can be made for nodes with these labels.
    pub(crate) fn suffices(&self, size: Quantity, labels: &Labels) -> bool {
        self.largest.is_some_and(|largest| in_bytes(largest) >= in_bytes(size))
            && self.nodes.as_ref().is_some_and(|nodes| nodes.matches(labels))
    }
}

fn in_bytes(size: Quantity) -> i128 {
    size.0.div_euclid(1000) + i128::from(size.0.rem_euclid(1000) != 0)
}

/// A volume that is being attached to a node, or is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub(crate) driver: Text,
    pub(crate) node: Text,
    pub(crate) volume: Option<Text>,
}

impl Attachment {
    pub(crate) fn read(document: &AttachmentDocument, texts: &mut Texts) -> Self {
        let spec = &document.spec;
        Self {
            driver: texts.share(&spec.attacher),
            node: texts.share(&spec.node_name),
            volume: spec.source.persistent_volume_name.as_ref().map(|name| texts.share(name)),
        }
    }
}
