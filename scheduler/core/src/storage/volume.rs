//! A volume: what it offers, where it can be had, and whose it is.

use super::{claim::Wants, taken_over};
use crate::{
    document::VolumeDocument,
    labels::{Labels, Text, Texts},
    pod::Affinity,
    quantity::Quantity,
    requests,
};

/// A PersistentVolume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) class: Text,
    pub(crate) size: Quantity,
    pub(crate) access_modes: Vec<Text>,
    pub(crate) offers: Wants,
    pub(crate) labels: Labels,
    /// The nodes that reach it.
    affinity: Option<Box<Affinity>>,
    /// The same, for nodes on which a driver has taken over from Kubernetes' own code; where that makes a difference.
    affinity_of_driver: Option<Box<Affinity>>,
    /// The claim that has it, or for which it is kept.
    pub(crate) owner: Option<Owner>,
    pub(crate) is_available: bool,
    pub(crate) is_terminating: bool,
    /// What attaches it.
    pub(crate) source: Option<Source>,
}

/// The claim that has a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// `namespace/name`.
    pub(crate) claim: Text,
    /// Its UID; empty where the volume is kept for any claim of that name.
    pub(crate) uid: Text,
}

impl Owner {
    /// Whether the claim of this name and UID is meant.
    pub(crate) fn is(&self, claim: &str, uid: &str) -> bool {
        *self.claim == *claim && (self.uid.is_empty() || *self.uid == *uid)
    }
}

/// What attaches a volume: what counts towards a driver's limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    pub(crate) driver: Text,
    pub(crate) handle: Text,
    /// The part of Kubernetes from which the driver has taken over.
    pub(crate) plugin: Option<&'static str>,
}

impl Source {
    /// Whether the driver that has taken over can't make sense of the volume: it attaches it nowhere.
    pub(super) fn is_unreadable(&self) -> bool {
        self.plugin.is_some() && self.handle.is_empty()
    }
}

impl Volume {
    /// Reads a volume; answers what of it can't be read, too.
    pub(crate) fn read(document: &VolumeDocument, texts: &mut Texts) -> (Self, Option<String>) {
        let VolumeDocument { metadata, spec, status } = document;
        let (capacity, fault) = match requests::read(&spec.capacity) {
            Ok(amounts) => (amounts.0.get("storage").copied().unwrap_or_default(), None),
            Err(why) => (Quantity::default(), Some(format!("spec.capacity: {why}; it is given to nobody"))),
        };
        let csi = spec.csi.as_ref().map(|csi| Source {
            driver: texts.share(&csi.driver),
            handle: csi.volume_handle.as_str().into(),
            plugin: None,
        });
        let owner = spec.claim_ref.as_ref().map(|claim| Owner {
            claim: texts.share(&format!("{}/{}", claim.namespace, claim.name)),
            uid: claim.uid.as_str().into(),
        });
        let source = csi.or_else(|| taken_over::volume(document, texts));
        let is_unreadable = source.as_ref().is_some_and(Source::is_unreadable);
        // No terms, no node.
        let affinity_of_driver =
            if is_unreadable { Some(Affinity::default()) } else { taken_over::affinity(document) };
        let volume = Self {
            class: texts.share(metadata.class(spec.storage_class_name.as_ref())),
            size: capacity,
            access_modes: spec.access_modes.iter().map(|mode| texts.share(mode)).collect(),
            offers: Wants::read(spec.volume_mode.as_ref(), spec.volume_attributes_class_name.as_ref(), texts),
            labels: texts.labels(&metadata.labels),
            affinity: spec.node_affinity.required.clone().map(Box::new),
            affinity_of_driver: affinity_of_driver.map(Box::new),
            owner,
            is_available: status.phase.as_deref() == Some("Available") && fault.is_none(),
            is_terminating: metadata.deletion_timestamp.is_some(),
            source,
        };
        (volume, fault)
    }

    /// Which nodes reach it; every node where nothing is said.
    pub(crate) fn affinity(&self, driver_has_taken_over: bool) -> Option<&Affinity> {
        let of_driver = self.affinity_of_driver.as_deref().filter(|_| driver_has_taken_over);
        of_driver.or(self.affinity.as_deref())
    }
}
