//! The stand-in as an older driver has it: without functions that came later.

use std::{fs, io, path::Path};

/// Writes a copy of the library that doesn't export these functions: the loader looks for names, and theirs are changed.
///
/// # Errors
/// When a file can't be read or written, or the library has no such function.
pub fn without(library: &Path, functions: &[&str], copy: &Path) -> io::Result<()> {
    let mut bytes = fs::read(library)?;
    for function in functions {
        // A name in a table of names: ended by a zero, and the end of the name before it is one too.
        let name: Vec<u8> = [b"\0", function.as_bytes(), b"\0"].concat();
        let places = bytes.windows(name.len()).enumerate().filter(|(_, window)| *window == name);
        let places: Vec<usize> = places.map(|(place, _)| place + 1).collect();
        if places.is_empty() {
            let why = format!("{} has no function {function}", library.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, why));
        }
        places.into_iter().for_each(|place| bytes[place] = b'-');
    }
    fs::write(copy, bytes)
}
