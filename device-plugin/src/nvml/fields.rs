//! Field values: many numbers of a GPU in one call.
//!
//! The library is asked itself: the wrapper can't say that all of a GPU's links are meant.

use nvml_wrapper::{
    Device,
    error::{NvmlError, nvml_try},
    sys_exports::field_id,
};
use nvml_wrapper_sys::bindings::nvmlFieldValue_t;

/// A field's number in NVML, and of what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// NVML's number. Between 251 and 273 drivers disagree what a number means: none of those is asked for.
    pub(super) id: u32,
    scope: u32,
    /// Its number and its name, for people.
    pub(super) question: &'static str,
}

/// Of the whole GPU.
const GPU: u32 = 0;
/// All links together.
const ALL_LINKS: u32 = u32::MAX;

macro_rules! fields {
    ($($constant:ident = $number:literal as $id:ident of $scope:ident),* $(,)?) => {
        $(
            pub(super) const $constant: Field = Field {
                id: field_id::$id,
                scope: $scope,
                question: concat!("field ", $number, ": ", stringify!($constant)),
            };
            const _: () = assert!(field_id::$id == $number, "a field has another number");
        )*
        /// All that are ever asked for.
        pub(super) const ALL: &[Field] = &[$($constant),*];
    };
}

fields! {
    GET_GPU_RECOVERY_ACTION = 230 as NVML_FI_DEV_GET_GPU_RECOVERY_ACTION of GPU,
    ECC_SBE_VOL_TOTAL = 3 as NVML_FI_DEV_ECC_SBE_VOL_TOTAL of GPU,
    ECC_DBE_VOL_TOTAL = 4 as NVML_FI_DEV_ECC_DBE_VOL_TOTAL of GPU,
    ECC_SBE_AGG_TOTAL = 5 as NVML_FI_DEV_ECC_SBE_AGG_TOTAL of GPU,
    ECC_DBE_AGG_TOTAL = 6 as NVML_FI_DEV_ECC_DBE_AGG_TOTAL of GPU,
    PERF_POLICY_POWER = 74 as NVML_FI_DEV_PERF_POLICY_POWER of GPU,
    PERF_POLICY_THERMAL = 75 as NVML_FI_DEV_PERF_POLICY_THERMAL of GPU,
    PERF_POLICY_SYNC_BOOST = 76 as NVML_FI_DEV_PERF_POLICY_SYNC_BOOST of GPU,
    PERF_POLICY_BOARD_LIMIT = 77 as NVML_FI_DEV_PERF_POLICY_BOARD_LIMIT of GPU,
    PERF_POLICY_LOW_UTILIZATION = 78 as NVML_FI_DEV_PERF_POLICY_LOW_UTILIZATION of GPU,
    PERF_POLICY_RELIABILITY = 79 as NVML_FI_DEV_PERF_POLICY_RELIABILITY of GPU,
    MEMORY_TEMP = 82 as NVML_FI_DEV_MEMORY_TEMP of GPU,
    PCIE_REPLAY_COUNTER = 94 as NVML_FI_DEV_PCIE_REPLAY_COUNTER of GPU,
    REMAPPED_COR = 142 as NVML_FI_DEV_REMAPPED_COR of GPU,
    REMAPPED_UNC = 143 as NVML_FI_DEV_REMAPPED_UNC of GPU,
    REMAPPED_PENDING = 144 as NVML_FI_DEV_REMAPPED_PENDING of GPU,
    REMAPPED_FAILURE = 145 as NVML_FI_DEV_REMAPPED_FAILURE of GPU,
    NVLINK_THROUGHPUT_DATA_TX = 138 as NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX of ALL_LINKS,
    NVLINK_THROUGHPUT_DATA_RX = 139 as NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX of ALL_LINKS,
}

/// What a GPU told; what it didn't isn't here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told(Vec<(u32, u64)>);

impl Told {
    pub(super) fn get(&self, field: Field) -> Option<u64> {
        self.0.iter().find(|(id, _)| *id == field.id).map(|(_, value)| *value)
    }
}

/// Asks for all of them at once.
///
/// # Errors
/// When the call itself fails. A field that a GPU doesn't have is only left out.
pub(super) fn ask(device: &Device<'_>, fields: &[Field]) -> Result<Told, NvmlError> {
    let ask = device.nvml().lib().nvmlDeviceGetFieldValues.as_ref();
    let ask = ask.map_err(|fault| NvmlError::FailedToLoadSymbol(fault.to_string()))?;
    let question = |field: &Field| {
        // SAFETY: the structure is made of numbers, for which zero is a value.
        let mut question: nvmlFieldValue_t = unsafe { std::mem::zeroed() };
        (question.fieldId, question.scopeId) = (field.id, field.scope);
        question
    };
    let mut values: Vec<nvmlFieldValue_t> = fields.iter().map(question).collect();
    let count = i32::try_from(values.len()).map_err(|_| NvmlError::InvalidArg)?;
    // SAFETY: the handle lives as long as its borrow, and there are as many values as the library is told.
    nvml_try(unsafe { ask(device.handle(), count, values.as_mut_ptr()) })?;
    Ok(Told(values.iter().filter_map(|value| Some((value.fieldId, number(value)?))).collect()))
}

/// `nvmlValueType_t`: what the bits of a value are.
fn number(value: &nvmlFieldValue_t) -> Option<u64> {
    nvml_try(value.nvmlReturn).ok()?;
    // SAFETY: the structure was zeroed before the library wrote into it, so each reading is of numbers.
    unsafe {
        match value.valueType {
            1 => Some(value.value.uiVal.into()),
            2 | 3 => Some(value.value.ullVal),
            4 => u64::try_from(value.value.sllVal).ok(),
            _ => None,
        }
    }
}
