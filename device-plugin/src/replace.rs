//! A whole file in the place of another.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

/// Writes it so that after a crash either it or the one before is there. Only one may do so at a time: it is written beside
/// its place at first, with `.new` after its name.
///
/// # Errors
/// When the disk doesn't take it; the file before stays.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
