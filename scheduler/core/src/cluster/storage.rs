//! Claims, volumes, classes and what drivers say come, change and go. Whatever of that changes, pods that wait for volumes
//! are looked at again.

use super::{Cluster, Fault};
use crate::{
    document::{
        AttachmentDocument, CapacityDocument, ClaimDocument, ClassDocument, CsiDriverDocument,
        CsiNodeDocument, VolumeDocument,
    },
    labels::Text,
    storage::{Attachment, Capacity, Claim, Class, CsiNode, Driver, Promise, Volume},
};

/// The kinds of objects about storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StorageKind {
    /// PersistentVolumeClaim, by `namespace/name`.
    Claim,
    /// PersistentVolume, by name.
    Volume,
    /// StorageClass, by name.
    Class,
    /// CSINode, by name.
    CsiNode,
    /// CSIDriver, by name.
    CsiDriver,
    /// CSIStorageCapacity, by `namespace/name`.
    Capacity,
    /// VolumeAttachment, by name.
    Attachment,
}

impl Cluster {
    /// A claim is there, or has changed. Answers what of it makes no sense.
    pub fn set_claim(&mut self, document: &ClaimDocument) -> Vec<Fault> {
        let key = self.shared.texts.share(&document.metadata.key());
        let claim = Claim::read(document, &mut self.shared.texts);
        let why = claim.fault.clone();
        if let Some(Promise::Node(node)) = self.storage.promises.to(&key, &claim.uid)
            && claim.selected_node.as_ref() == Some(node)
        {
            self.storage.promises.see(&key);
        }
        let is_new = self.storage.claims.get(&key) != Some(&claim);
        let object = format!("persistentvolumeclaim {key}");
        self.storage.claims.insert(key, claim);
        self.storage_changed(is_new);
        faults(object, why)
    }

    /// A volume is there, or has changed. Answers what of it makes no sense.
    pub fn set_volume(&mut self, document: &VolumeDocument) -> Vec<Fault> {
        let name = self.shared.texts.share(&document.metadata.name);
        let (volume, why) = Volume::read(document, &mut self.shared.texts);
        if let Some((claim, uid)) = self.storage.promises.owner_of(&name)
            && volume.owner.as_ref().is_some_and(|owner| owner.claim == *claim && owner.uid == *uid)
        {
            let claim = claim.clone();
            self.storage.promises.see(&claim);
        }
        let object = format!("persistentvolume {name}");
        let is_new = self.storage.volumes.get(&name) != Some(&volume);
        self.storage.set_volume(name, volume);
        self.storage_changed(is_new);
        faults(object, why)
    }

    /// A storage class is there, or has changed.
    pub fn set_class(&mut self, document: &ClassDocument) {
        let name = self.shared.texts.share(&document.metadata.name);
        let class = Class::read(document, &mut self.shared.texts);
        let is_new = self.storage.classes.get(&name) != Some(&class);
        self.storage.classes.insert(name, class);
        self.storage_changed(is_new);
    }

    /// What CSI drivers say of a node is there, or has changed.
    pub fn set_csi_node(&mut self, document: &CsiNodeDocument) {
        let name = self.shared.texts.share(&document.metadata.name);
        let node = CsiNode::read(document, &mut self.shared.texts);
        let is_new = self.storage.nodes.get(&name) != Some(&node);
        self.storage.nodes.insert(name, node);
        self.storage_changed(is_new);
    }

    /// A CSI driver is there, or has changed.
    pub fn set_csi_driver(&mut self, document: &CsiDriverDocument) {
        let name = self.shared.texts.share(&document.metadata.name);
        let driver = Driver::read(document);
        let is_new = self.storage.drivers.get(&name) != Some(&driver);
        self.storage.drivers.insert(name, driver);
        self.storage_changed(is_new);
    }

    /// How much can be provisioned somewhere is known, or has changed. Answers what of it makes no sense.
    pub fn set_capacity(&mut self, document: &CapacityDocument) -> Vec<Fault> {
        let key = self.shared.texts.share(&document.metadata.key());
        let (capacity, why) = Capacity::read(document, &mut self.shared.texts);
        let object = format!("csistoragecapacity {key}");
        let is_new = self.storage.capacities.get(&key) != Some(&capacity);
        self.storage.capacities.insert(key, capacity);
        self.storage_changed(is_new);
        faults(object, why)
    }

    /// A volume is being attached to a node, or is. That can't make room for anybody.
    pub fn set_attachment(&mut self, document: &AttachmentDocument) {
        let name = self.shared.texts.share(&document.metadata.name);
        let attachment = Attachment::read(document, &mut self.shared.texts);
        self.storage.set_attachment(name, attachment);
    }

    /// An object about storage is gone.
    pub fn remove_storage(&mut self, kind: StorageKind, key: &str) {
        let storage = &mut self.storage;
        match kind {
            StorageKind::Claim => drop(storage.claims.remove(key)),
            StorageKind::Volume => storage.remove_volume(key),
            StorageKind::Class => drop(storage.classes.remove(key)),
            StorageKind::CsiNode => drop(storage.nodes.remove(key)),
            StorageKind::CsiDriver => drop(storage.drivers.remove(key)),
            StorageKind::Capacity => drop(storage.capacities.remove(key)),
            StorageKind::Attachment => storage.remove_attachment(key),
        }
        self.storage_changed(true);
    }

    /// Keeps the objects of a complete list, and takes the others for gone.
    pub fn retain_storage(&mut self, kind: StorageKind, is_listed: impl Fn(&str) -> bool) {
        let storage = &self.storage;
        let keys: Vec<Text> = match kind {
            StorageKind::Claim => storage.claims.keys().cloned().collect(),
            StorageKind::Volume => storage.volumes.keys().cloned().collect(),
            StorageKind::Class => storage.classes.keys().cloned().collect(),
            StorageKind::CsiNode => storage.nodes.keys().cloned().collect(),
            StorageKind::CsiDriver => storage.drivers.keys().cloned().collect(),
            StorageKind::Capacity => storage.capacities.keys().cloned().collect(),
            StorageKind::Attachment => storage.attachment_names().cloned().collect(),
        };
        keys.iter().filter(|key| !is_listed(key)).for_each(|key| self.remove_storage(kind, key));
    }

    /// Whoever waits for volumes has new hope.
    fn storage_changed(&mut self, is_new: bool) {
        if is_new {
            self.changes.storage();
        }
    }
}

fn faults(object: String, why: Option<String>) -> Vec<Fault> {
    why.into_iter().map(|why| Fault { object: object.clone(), why }).collect()
}
