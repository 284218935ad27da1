//! The stand-in as an older driver has it: without functions that came later.

use std::{collections::BTreeMap, fs, io, path::Path};

/// Writes a copy of the library that doesn't export these functions: the loader looks for names, and theirs are changed.
///
/// # Errors
/// When a file can't be read or written, or the library has no such function.
pub fn without(library: &Path, functions: &[&str], copy: &Path) -> io::Result<()> {
    let mut bytes = fs::read(library)?;
    let mut places = BTreeMap::new();
    let mut at = 0;
    // Names in a table of names: each is ended by a zero, and so is the one before it.
    for name in bytes.split(|byte| *byte == 0) {
        if let Some(function) = functions.iter().find(|function| function.as_bytes() == name) {
            places.insert(at, *function);
        }
        at += name.len() + 1;
    }
    if let Some(function) = functions.iter().find(|function| !places.values().any(|found| found == *function))
    {
        let why = format!("{} has no function {function}", library.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, why));
    }
    places.into_keys().for_each(|place| bytes[place] = b'-');
    fs::write(copy, bytes)
}
