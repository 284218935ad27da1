//! Objects about storage: how each kind of them is told to the core.

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment},
};
use kube::core::DeserializeGuard;
use plasma_scheduler_core::{
    AttachmentDocument, CapacityDocument, ClaimDocument, ClassDocument, Cluster, CsiDriverDocument,
    CsiNodeDocument, Fault, StorageKind, StorageMeta, VolumeDocument,
};

use crate::{
    object::{Document, Identity, Object},
    observe::Change,
};

/// An object about storage. One that can't be read keeps nobody but the pods that need it from being placed.
pub(crate) type Seen<D> = Change<DeserializeGuard<Object<D>>>;

/// What a watch of storage tells.
#[derive(Debug)]
pub(crate) enum Stored {
    Claim(Box<Seen<ClaimDocument>>),
    Volume(Box<Seen<VolumeDocument>>),
    Class(Box<Seen<ClassDocument>>),
    CsiNode(Box<Seen<CsiNodeDocument>>),
    CsiDriver(Box<Seen<CsiDriverDocument>>),
    Capacity(Box<Seen<CapacityDocument>>),
    Attachment(Box<Seen<AttachmentDocument>>),
}

/// Every kind.
pub(crate) const KINDS: [StorageKind; 7] = [
    StorageKind::Claim,
    StorageKind::Volume,
    StorageKind::Class,
    StorageKind::CsiNode,
    StorageKind::CsiDriver,
    StorageKind::Capacity,
    StorageKind::Attachment,
];

/// A document about storage.
pub(crate) trait StorageDocument: Document {
    const KIND: StorageKind;

    /// Tells the core; answers what of it makes no sense.
    fn put(&self, cluster: &mut Cluster) -> Vec<Fault>;
}

macro_rules! storage_document {
    ($document:ty, $kind:ty, $name:ident, |$object:ident, $cluster:ident| $put:expr) => {
        impl Document for $document {
            type Kind = $kind;

            fn identity(&self) -> Identity<'_> {
                let StorageMeta { name, namespace, uid, resource_version, .. } = &self.metadata;
                Identity { name, namespace, uid, version: resource_version }
            }
        }

        impl StorageDocument for $document {
            const KIND: StorageKind = StorageKind::$name;

            fn put(&self, $cluster: &mut Cluster) -> Vec<Fault> {
                let $object = self;
                $put
            }
        }
    };
}

storage_document!(ClaimDocument, PersistentVolumeClaim, Claim, |object, cluster| cluster.set_claim(object));
storage_document!(VolumeDocument, PersistentVolume, Volume, |object, cluster| cluster.set_volume(object));
storage_document!(ClassDocument, StorageClass, Class, |object, cluster| {
    cluster.set_class(object);
    Vec::new()
});
storage_document!(CsiNodeDocument, CSINode, CsiNode, |object, cluster| {
    cluster.set_csi_node(object);
    Vec::new()
});
storage_document!(CsiDriverDocument, CSIDriver, CsiDriver, |object, cluster| {
    cluster.set_csi_driver(object);
    Vec::new()
});
storage_document!(CapacityDocument, CSIStorageCapacity, Capacity, |object, cluster| {
    cluster.set_capacity(object)
});
storage_document!(AttachmentDocument, VolumeAttachment, Attachment, |object, cluster| {
    cluster.set_attachment(object);
    Vec::new()
});
