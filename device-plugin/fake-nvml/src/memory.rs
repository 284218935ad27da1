//! Writing into the caller's memory.

use std::ffi::{c_char, c_uint};

use nvml_wrapper_sys::bindings::nvmlReturn_t;

use crate::code;

/// # Safety
/// `place` is null or can be written.
pub(crate) unsafe fn write_value<T>(value: T, place: *mut T) -> nvmlReturn_t {
    if place.is_null() {
        return code::INVALID_ARGUMENT;
    }
    // SAFETY: not null, and the caller promises that it can be written.
    unsafe { place.write(value) };
    code::SUCCESS
}

/// Writes the value, or says that there is none.
///
/// # Safety
/// `place` is null or can be written.
pub(crate) unsafe fn write_option<T>(value: Option<T>, place: *mut T) -> nvmlReturn_t {
    match value {
        // SAFETY: the caller promises it.
        Some(value) => unsafe { write_value(value, place) },
        None => code::NOT_SUPPORTED,
    }
}

/// # Safety
/// `place` is null or has room for `length` bytes.
pub(crate) unsafe fn write_text(text: &str, place: *mut c_char, length: c_uint) -> nvmlReturn_t {
    if place.is_null() {
        return code::INVALID_ARGUMENT;
    }
    // The terminator is the only zero.
    let bytes: Vec<u8> = text.bytes().filter(|byte| *byte != 0).chain([0]).collect();
    if bytes.len() > length as usize {
        return code::INSUFFICIENT_SIZE;
    }
    // SAFETY: not null, the caller promises the room, and the bytes fit.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), place, bytes.len()) };
    code::SUCCESS
}
