//! What a GPU says about its health, beside its events: what it needs, and how its memory is.

use nvml_wrapper::{
    Device,
    enums::device::SampleValue,
    error::NvmlError,
    structs::device::FieldId,
    sys_exports::field_id::{
        NVML_FI_DEV_ECC_DBE_VOL_TOTAL, NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, NVML_FI_DEV_REMAPPED_FAILURE,
        NVML_FI_DEV_REMAPPED_PENDING,
    },
};
use plasma_device_plugin_core::{Recovery, Signs, Silence, Xid};

const FIELDS: [FieldId; 4] = [
    FieldId(NVML_FI_DEV_GET_GPU_RECOVERY_ACTION),
    FieldId(NVML_FI_DEV_ECC_DBE_VOL_TOTAL),
    FieldId(NVML_FI_DEV_REMAPPED_PENDING),
    FieldId(NVML_FI_DEV_REMAPPED_FAILURE),
];

/// The signs as they are now, and these XIDs. What a GPU doesn't tell is no sign; and whatever isn't a clear answer of what
/// it needs is none: it must not heal a GPU.
pub(crate) fn signs(device: &Device<'_>, xids: Vec<Xid>) -> Signs {
    let told = device.field_values_for(&FIELDS).unwrap_or_default();
    let mut told = told.into_iter().map(|field| field.ok().and_then(|field| number(field.value.ok()?)));
    let mut next = || told.next().flatten();
    Signs {
        recovery: next().map_or(Recovery::NotTold, recovery),
        uncorrectable_errors: next(),
        remapping_pending: next().is_some_and(|flag| flag != 0),
        remapping_failed: next().is_some_and(|flag| flag != 0),
        xids,
    }
}

fn number(value: SampleValue) -> Option<u64> {
    match value {
        SampleValue::U32(number) => Some(number.into()),
        SampleValue::U64(number) => Some(number),
        SampleValue::I64(number) => u64::try_from(number).ok(),
        SampleValue::F64(_) => None,
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
pub(crate) fn silence(fault: &NvmlError) -> Silence {
    Silence { why: fault.to_string(), certain: matches!(fault, NvmlError::GpuLost) }
}
