//! Field values: many numbers of a GPU in one call.

use std::ffi::{c_int, c_uint};

use nvml_wrapper_sys::bindings::{
    field_id::{
        NVML_FI_DEV_ECC_DBE_VOL_TOTAL, NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, NVML_FI_DEV_REMAPPED_COR,
        NVML_FI_DEV_REMAPPED_FAILURE, NVML_FI_DEV_REMAPPED_PENDING, NVML_FI_DEV_REMAPPED_UNC,
        NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION,
    },
    nvmlDevice_t, nvmlFieldValue_t, nvmlReturn_t, nvmlValue_t,
};

use crate::{FieldValue, Gpu, code, session::ask_gpu};

/// How NVML tags an unsigned number of 64 bits among its field values.
const UNSIGNED_LONG_LONG: c_uint = 3;

/// As NVML's; what a state file doesn't have isn't supported.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetFieldValues(
    device: nvmlDevice_t,
    count: c_int,
    values: *mut nvmlFieldValue_t,
) -> nvmlReturn_t {
    ask_gpu("nvmlDeviceGetFieldValues", device, |gpu, _| {
        let Ok(count) = usize::try_from(count) else { return code::INVALID_ARGUMENT };
        if values.is_null() {
            return code::INVALID_ARGUMENT;
        }
        // SAFETY: not null, and the caller promises that there are as many.
        let values = unsafe { std::slice::from_raw_parts_mut(values, count) };
        for value in values {
            let known = known(gpu, value.fieldId);
            (value.nvmlReturn, value.valueType, value.value) = match known {
                Some((kind, known)) => (code::SUCCESS, kind, nvmlValue_t { ullVal: known }),
                None => (code::NOT_SUPPORTED, UNSIGNED_LONG_LONG, nvmlValue_t { ullVal: 0 }),
            };
        }
        code::SUCCESS
    })
}

/// Type and value of a field: as the file lists it, or by the name that the file has for it.
fn known(gpu: &Gpu, field: u32) -> Option<(c_uint, u64)> {
    let rows = |which: usize| gpu.telemetry.remapped_rows.map(|rows| u64::from(rows[which]));
    let named = || match field {
        NVML_FI_DEV_GET_GPU_RECOVERY_ACTION => gpu.recovery_action.map(u64::from),
        NVML_FI_DEV_ECC_DBE_VOL_TOTAL => gpu.uncorrectable_errors,
        NVML_FI_DEV_REMAPPED_COR => rows(0),
        NVML_FI_DEV_REMAPPED_UNC => rows(1),
        NVML_FI_DEV_REMAPPED_PENDING => gpu.remapping_pending.map(u64::from).or_else(|| rows(2)),
        NVML_FI_DEV_REMAPPED_FAILURE => gpu.remapping_failed.map(u64::from).or_else(|| rows(3)),
        NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION => gpu.energy_millijoules,
        _ => None,
    };
    match gpu.telemetry.fields.get(&field) {
        Some(FieldValue::Number(value)) => Some((UNSIGNED_LONG_LONG, *value)),
        Some(FieldValue::Tagged { kind, value }) => Some((*kind, *value)),
        None => named().map(|value| (UNSIGNED_LONG_LONG, value)),
    }
}
