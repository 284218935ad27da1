//! What a GPU says about its health, beside its events: what it needs, and how its memory is.

use nvml_wrapper::error::NvmlError;
use plasma_device_plugin_core::{Recovery, Signs, Silence, Xid};

use super::fields::{self, Field, Told};

/// What has to be asked at each look.
pub(super) const FIELDS: [Field; 4] = [
    fields::GET_GPU_RECOVERY_ACTION,
    fields::ECC_DBE_VOL_TOTAL,
    fields::REMAPPED_PENDING,
    fields::REMAPPED_FAILURE,
];

/// The signs as they are now, and these XIDs. What a GPU doesn't tell is no sign; and whatever isn't a clear answer of what
/// it needs is none: it must not heal a GPU.
pub(super) fn signs(told: &Told, xids: Vec<Xid>) -> Signs {
    let is_set = |field| told.get(field).is_some_and(|flag| flag != 0);
    Signs {
        recovery: told.get(fields::GET_GPU_RECOVERY_ACTION).map_or(Recovery::NotTold, recovery),
        uncorrectable_errors: told.get(fields::ECC_DBE_VOL_TOTAL),
        remapping_pending: is_set(fields::REMAPPED_PENDING),
        remapping_failed: is_set(fields::REMAPPED_FAILURE),
        xids,
    }
}

/// `nvmlDeviceGpuRecoveryAction_t`.
fn recovery(action: u64) -> Recovery {
    match action {
        0 => Recovery::NotNeeded,
        1 => Recovery::Needed("a GPU reset"),
        2 => Recovery::Needed("a node reboot"),
        3 => Recovery::Needed("an end of all peer-to-peer traffic"),
        4 => Recovery::Needed("a drained node and a GPU reset"),
        _ => Recovery::Needed("something that this version doesn't know"),
    }
}

/// Why a GPU didn't answer. Only what NVML says of the GPU itself is certain; anything else may pass.
pub(super) fn silence(fault: &NvmlError) -> Silence {
    Silence { why: fault.to_string(), certain: matches!(fault, NvmlError::GpuLost) }
}
