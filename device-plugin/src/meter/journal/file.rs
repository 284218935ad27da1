//! The journal's file as a whole: written anew, put aside, and looked at by who waits for it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _},
    path::Path,
    time::SystemTime,
};

use super::line::{self, Line};
use crate::replace::replace;

pub(super) const FILE: &str = "journal.jsonl";
/// No first line has more bytes.
const LONGEST_HEADER: u64 = 64 << 10;

/// Since when the journal in that folder is, whoever has it; `None` where it doesn't say.
pub(crate) fn since_ms(folder: &Path) -> Option<u64> {
    let file = File::open(folder.join(FILE)).ok()?;
    let mut bytes = Vec::new();
    BufReader::new(file.take(LONGEST_HEADER)).read_until(b'\n', &mut bytes).ok()?;
    match line::parse(&bytes)? {
        Line::Header(header) => Some(header.since_ms),
        _ => None,
    }
}

/// Renames the file, and says so loudly.
pub(super) fn put_aside(folder: &Path, why: &str) -> io::Result<()> {
    let file = folder.join(FILE);
    let aside = folder
        .join(format!("{FILE}.corrupt-{}", SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis()));
    fs::rename(&file, &aside)?;
    tracing::error!(
        "{} is not a meter's journal any more: {why}. It is kept as {}; a new journal begins, and what the old one had \
         not told settlement is lost",
        file.display(),
        aside.display()
    );
    Ok(())
}

/// Writes a whole file so that after a crash either it or the one before is there. Each line's length comes back.
pub(super) fn write_anew(folder: &Path, lines: &[Line]) -> io::Result<(File, Vec<u64>)> {
    let path = folder.join(FILE);
    let written: io::Result<Vec<Vec<u8>>> = lines.iter().map(line::write).collect();
    let written = written?;
    replace(&path, &written.concat())?;
    let lengths = written.iter().map(|line| line.len() as u64).collect();
    Ok((OpenOptions::new().read(true).append(true).open(&path)?, lengths))
}
