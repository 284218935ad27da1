//! A pod's volumes, as far as they say where it may run.

use crate::{
    document::{Meta, PodSpec, TakenOver, Volume},
    labels::Texts,
    pod::{Disk, KindVolumes, PodClaim},
    storage,
};

/// The claims of a pod: those that it names, and those that are made for it, which are called after it.
pub(super) fn claims(spec: &PodSpec, meta: &Meta, texts: &mut Texts) -> Box<[PodClaim]> {
    let claims = spec.volumes.iter().filter_map(|volume| {
        let (name, is_ephemeral) = match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(claim), _) => (claim.claim_name.clone(), false),
            (None, Some(_)) => (format!("{}-{}", meta.name, volume.name), true),
            (None, None) => return None,
        };
        Some(PodClaim { key: texts.share(&format!("{}/{name}", meta.namespace)), is_ephemeral })
    });
    claims.collect()
}

/// What pods like it want of volumes; nothing where every node has that.
pub(super) fn of_kind(spec: &PodSpec, texts: &mut Texts) -> Option<KindVolumes> {
    let volumes = KindVolumes {
        has_claims: spec
            .volumes
            .iter()
            .any(|volume| volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some()),
        disks: spec.volumes.iter().filter_map(|volume| disk(volume, texts)).collect(),
        inline: spec
            .volumes
            .iter()
            .filter_map(|volume| storage::inline(&taken_over(volume), texts))
            .collect(),
    };
    (volumes != KindVolumes::default()).then_some(volumes)
}

fn disk(volume: &Volume, texts: &mut Texts) -> Option<Disk> {
    if let Some(disk) = &volume.aws_elastic_block_store {
        return Some(Disk::Aws { id: texts.share(&disk.volume_id) });
    }
    if let Some(disk) = &volume.gce_persistent_disk {
        let read_only = disk.read_only == Some(true);
        return Some(Disk::Gce { name: texts.share(&disk.pd_name), read_only });
    }
    if let Some(disk) = &volume.iscsi {
        return Some(Disk::Iscsi { iqn: texts.share(&disk.iqn), read_only: disk.read_only == Some(true) });
    }
    volume.rbd.as_ref().map(|disk| Disk::Rbd {
        monitors: disk.monitors.iter().map(|monitor| texts.share(monitor)).collect(),
        image: texts.share(&format!("{}/{}", disk.pool, disk.image)),
        read_only: disk.read_only == Some(true),
    })
}

fn taken_over(volume: &Volume) -> TakenOver {
    TakenOver {
        aws_elastic_block_store: volume.aws_elastic_block_store.clone(),
        gce_persistent_disk: volume.gce_persistent_disk.clone(),
        azure_disk: volume.azure_disk.clone(),
        cinder: volume.cinder.clone(),
        portworx_volume: volume.portworx_volume.clone(),
    }
}
