//! What is known of storage: claims, volumes, classes, and what CSI drivers say of nodes; and which volumes and claims
//! are promised to pods that are on their way.

mod claim;
mod csi;
mod promises;
mod taken_over;
mod volume;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{labels::Text, node::PodId};

pub(crate) use claim::{BindingMode, Claim, Class};
pub(crate) use csi::{Attachment, Capacity, CsiNode, Driver};
pub(crate) use promises::{Promise, Promises};
pub(crate) use taken_over::{driver_of_plugin, inline};
pub(crate) use volume::{Source, Volume};

/// Everything that is known of storage.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    /// By `namespace/name`.
    pub(crate) claims: HashMap<Text, Claim>,
    pub(crate) volumes: HashMap<Text, Volume>,
    /// The volumes of each class, by name.
    by_class: HashMap<Text, BTreeSet<Text>>,
    pub(crate) classes: HashMap<Text, Class>,
    /// By the node's name.
    pub(crate) nodes: HashMap<Text, CsiNode>,
    pub(crate) drivers: HashMap<Text, Driver>,
    pub(crate) capacities: BTreeMap<Text, Capacity>,
    attachments: HashMap<Text, Attachment>,
    /// The volumes that are being attached to each node, by attachment.
    attached: HashMap<Text, BTreeSet<Text>>,
    /// The pods on nodes that use a claim.
    users: HashMap<Text, Vec<PodId>>,
    pub(crate) promises: Promises,
}

impl Storage {
    /// The pods on nodes that use a claim.
    pub(crate) fn users(&self, claim: &str) -> &[PodId] {
        self.users.get(claim).map_or(&[], |users| users)
    }

    /// A pod on a node uses the claim from now on.
    pub(crate) fn use_claim(&mut self, claim: &Text, pod: PodId) {
        self.users.entry(claim.clone()).or_default().push(pod);
    }

    /// It doesn't any more.
    pub(crate) fn leave_claim(&mut self, claim: &str, pod: PodId) {
        if let Some(users) = self.users.get_mut(claim) {
            users.retain(|user| *user != pod);
            if users.is_empty() {
                self.users.remove(claim);
            }
        }
    }

    pub(crate) fn set_volume(&mut self, name: Text, volume: Volume) {
        self.remove_volume(&name);
        self.by_class.entry(volume.class.clone()).or_default().insert(name.clone());
        self.volumes.insert(name, volume);
    }

    pub(crate) fn remove_volume(&mut self, name: &str) {
        if let Some(volume) = self.volumes.remove(name) {
            remove_from(&mut self.by_class, &volume.class, name);
        }
    }

    /// The volumes of a class, by name.
    pub(crate) fn volumes_of(&self, class: &str) -> impl Iterator<Item = (&Text, &Volume)> {
        let names = self.by_class.get(class).into_iter().flatten();
        names.filter_map(|name| Some((name, self.volumes.get(name)?)))
    }

    pub(crate) fn set_attachment(&mut self, name: Text, attachment: Attachment) {
        self.remove_attachment(&name);
        self.attached.entry(attachment.node.clone()).or_default().insert(name.clone());
        self.attachments.insert(name, attachment);
    }

    pub(crate) fn remove_attachment(&mut self, name: &str) {
        if let Some(attachment) = self.attachments.remove(name) {
            remove_from(&mut self.attached, &attachment.node, name);
        }
    }

    /// What is being attached to a node.
    pub(crate) fn attached_to(&self, node: &str) -> impl Iterator<Item = &Attachment> {
        self.attached.get(node).into_iter().flatten().filter_map(|name| self.attachments.get(name))
    }

    /// The names of all attachments.
    pub(crate) fn attachment_names(&self) -> impl Iterator<Item = &Text> {
        self.attachments.keys()
    }
}

fn remove_from(index: &mut HashMap<Text, BTreeSet<Text>>, key: &Text, name: &str) {
    if let Some(names) = index.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            index.remove(key);
        }
    }
}
