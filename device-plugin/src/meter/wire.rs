//! Records as the protocol has them.

use plasma_device_plugin_core as core;
use plasma_proto::meter::{Device, Energy, Holder, Quality, Record};

/// A record of the ledger's on the wire.
pub(crate) fn record(record: core::Record) -> Record {
    let over = record.pod_is_over;
    Record {
        sequence: record.sequence,
        device: Some(Device {
            uuid: record.uuid,
            id: record.id,
            gpu_uuid: record.gpu_uuid,
            product: record.product,
            instance_product: record.instance_product,
            milli_gpu: record.milli_gpu,
        }),
        holder: record.holder.map(|holder| Holder {
            pod_uid: holder.pod_uid,
            namespace: holder.namespace,
            pod: holder.pod,
            container: holder.container,
            pod_is_over: over,
        }),
        start_ms: record.start_ms,
        end_ms: record.end_ms,
        healthy_ms: record.healthy_ms,
        time_quality: quality(record.time_quality).into(),
        energy: record.energy.map(|energy| Energy {
            start_mj: energy.start_mj,
            end_mj: energy.end_mj,
            quality: quality(energy.quality).into(),
            driver_epoch: energy.driver_epoch,
        }),
        last: record.last,
        simulated: record.simulated,
        gaps: record.gaps,
    }
}

fn quality(quality: core::Quality) -> Quality {
    match quality {
        core::Quality::Exact => Quality::Exact,
        core::Quality::Sampled => Quality::Sampled,
        core::Quality::Apportioned => Quality::Apportioned,
    }
}
