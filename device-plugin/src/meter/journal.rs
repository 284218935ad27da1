//! The meter's journal: what was recorded and isn't acknowledged yet, and the ledger that goes on from there.
//!
//! A file of lines, each a checksum and JSON. The first says what the file is; each later one is a commit, with new records
//! and the ledger after them, or an acknowledgement. A line counts when it is whole, so records and the ledger that they
//! came from are never apart. Nothing is sent before its line is on the disk. What a crash left of a last line is cut
//! off: nobody was told of it, and the ledger before it says the same again. What is acknowledged goes when the file
//! is written anew, beside the old one, and takes its place.

mod file;
mod line;

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use plasma_device_plugin_core::{Ledger, Record};

pub(crate) use file::since_ms;
use file::{FILE, put_aside, write_anew};
use line::{Commit, Header, Line, VERSION};

/// Held by the one process that writes.
const LOCK: &str = "lock";
/// A file that grew by this much since it was written anew is written anew.
const GROWS_BY: u64 = 4 << 20;

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("another process of this node has the journal")]
    Held,
    #[error(
        "{} is of version {version}, and this program knows versions up to {VERSION}: it is left as it is. Run the \
         version of the device plugin that wrote it, or move the file away to begin a new journal, which loses what \
         it has not told settlement yet",
        .file.display()
    )]
    Newer { file: PathBuf, version: u64 },
    #[error("{}: {source}", .file.display())]
    Unusable { file: PathBuf, source: io::Error },
}

/// An open journal.
pub(crate) struct Journal {
    folder: PathBuf,
    file: File,
    header: Header,
    /// Where the commits lie that have records which aren't acknowledged.
    commits: VecDeque<Place>,
    acknowledged: u64,
    /// What of that is written.
    acknowledged_on_disk: u64,
    last: u64,
    length: u64,
    length_when_written_anew: u64,
    /// Whether the first line says something else by now.
    has_another_header: bool,
    /// Whether a write that failed left something behind the last whole line.
    has_half_a_line: bool,
    /// Others wait for it as long as this is open.
    lock: File,
}

/// Where a commit lies in the file, and the numbers of its records.
#[derive(Clone, Copy)]
struct Place {
    first: u64,
    last: u64,
    /// When the last of them ended.
    ended_ms: u64,
    offset: u64,
    length: u64,
}

impl Journal {
    /// Opens the journal, or begins one, now that it is `now_ms`. One that isn't understood is put aside under another name, and said loudly.
    ///
    /// # Errors
    /// When it can't be read or written, is of a later version, or another process has it.
    pub(crate) fn open(folder: &Path, node: &str, now_ms: u64) -> Result<(Self, Ledger), OpenError> {
        let file = folder.join(FILE);
        let unusable = |source| OpenError::Unusable { file: file.clone(), source };
        fs::create_dir_all(folder).map_err(unusable)?;
        let lock = OpenOptions::new().create(true).append(true).open(folder.join(LOCK)).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(OpenError::Held),
            Err(fs::TryLockError::Error(source)) => return Err(unusable(source)),
        }
        match Self::read(folder, lock)? {
            Ok(journal) => Ok(journal),
            Err((lock, why)) => {
                if file.exists() {
                    put_aside(folder, &why).map_err(unusable)?;
                }
                Self::begin(folder, (node, now_ms), lock).map_err(unusable)
            }
        }
    }

    fn begin(folder: &Path, (node, since_ms): (&str, u64), lock: File) -> io::Result<(Self, Ledger)> {
        let journal = format!("{node}-{since_ms:x}-{:x}", std::process::id());
        let header = Header { version: VERSION, journal, node: node.to_owned(), since_ms };
        let (file, lengths) = write_anew(folder, &[Line::Header(header.clone())])?;
        Ok((Self::empty(folder, (file, lock), header, lengths.iter().sum()), Ledger::default()))
    }

    /// One that has its first line.
    fn empty(folder: &Path, (file, lock): (File, File), header: Header, length: u64) -> Self {
        Self {
            folder: folder.to_owned(),
            file,
            header,
            commits: VecDeque::new(),
            acknowledged: 0,
            acknowledged_on_disk: 0,
            last: 0,
            length,
            length_when_written_anew: length,
            has_another_header: false,
            has_half_a_line: false,
            lock,
        }
    }

    /// What lies there, or why that is nothing.
    #[allow(clippy::type_complexity, reason = "the lock goes back where there is no journal")]
    fn read(folder: &Path, lock: File) -> Result<Result<(Self, Ledger), (File, String)>, OpenError> {
        let path = folder.join(FILE);
        let unusable = |source| OpenError::Unusable { file: path.clone(), source };
        let file = match OpenOptions::new().read(true).append(true).open(&path) {
            Ok(file) => file,
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
                return Ok(Err((lock, "there is none".to_owned())));
            }
            Err(fault) => return Err(unusable(fault)),
        };
        let mut reader = BufReader::new(&file);
        let mut bytes = Vec::new();
        reader.read_until(b'\n', &mut bytes).map_err(unusable)?;
        let header = match line::parse(&bytes) {
            Some(Line::Header(header)) => header,
            Some(Line::Newer { version }) => return Err(OpenError::Newer { file: path.clone(), version }),
            _ => return Ok(Err((lock, "its first line isn't one".to_owned()))),
        };
        let files = (file.try_clone().map_err(unusable)?, lock);
        let mut journal = Self::empty(folder, files, header, bytes.len() as u64);
        match journal.read_lines(reader).map_err(unusable)? {
            Ok(ledger) => Ok(Ok((journal, ledger))),
            Err(why) => Ok(Err((journal.lock, why))),
        }
    }

    /// Reads all lines after the first. A last line without an end is what a crash left of it: nobody was told of it.
    /// One that has its end was on the disk, and may have been told: where it doesn't count any more, nothing does.
    fn read_lines(&mut self, mut reader: BufReader<&File>) -> io::Result<Result<Ledger, String>> {
        let (mut ledger, mut torn_at) = (Ledger::default(), None);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let length = reader.read_until(b'\n', &mut bytes)? as u64;
            if length == 0 {
                break;
            }
            match line::parse(&bytes) {
                None if bytes.ends_with(b"\n") => {
                    return Ok(Err(format!("the line at byte {} is damaged", self.length)));
                }
                None => torn_at = Some(self.length),
                Some(Line::Header(_) | Line::Newer { .. }) => {
                    return Ok(Err(format!("it begins a second time at byte {}", self.length)));
                }
                Some(one) => {
                    self.place(&one, length);
                    match one {
                        Line::Acknowledged { sequence } => self.forget_until(sequence),
                        Line::Commit(Commit { ledger: Some(now), .. }) => ledger = now,
                        _ => {}
                    }
                }
            }
        }
        if let Some(torn) = torn_at {
            tracing::warn!(
                "the meter's journal ends in the middle of a line, which nobody was told of; it is cut off"
            );
            self.file.set_len(torn)?;
            self.file.sync_all()?;
        }
        self.acknowledged_on_disk = self.acknowledged;
        self.last = self.last.max(ledger.last_sequence());
        Ok(Ok(ledger))
    }

    /// A line is at the end of the file.
    fn place(&mut self, line: &Line, length: u64) {
        if let Line::Commit(commit) = line
            && let (Some(first), Some(last)) = (commit.records.first(), commit.records.last())
        {
            let (first, last) = (first.sequence, last.sequence);
            let ended_ms = commit.records.iter().map(|record| record.end_ms).max().unwrap_or_default();
            self.commits.push_back(Place { first, last, ended_ms, offset: self.length, length });
            self.last = last;
        }
        self.length += length;
    }

    fn forget_until(&mut self, sequence: u64) {
        self.acknowledged = self.acknowledged.max(sequence);
        while self.commits.front().is_some_and(|commit| commit.last <= self.acknowledged) {
            self.commits.pop_front();
        }
    }

    /// Names the journal: another name means that the one before is lost.
    pub(crate) fn name(&self) -> &str {
        &self.header.journal
    }

    /// From when on it has everything, or had until it was acknowledged. Milliseconds since 1970, by the meter's clock.
    pub(crate) fn since_ms(&self) -> u64 {
        self.header.since_ms
    }

    /// Up to which record all are acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The last record's number.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Puts it aside, since it can't be trusted; the next that opens a journal begins a new one.
    ///
    /// # Errors
    /// When the file can't be renamed.
    pub(crate) fn put_aside(&self, why: &str) -> io::Result<()> {
        put_aside(&self.folder, why)?;
        self.let_go();
        Ok(())
    }

    /// Lets others open it, though somebody still reads from this one. Nothing may be written to it any more.
    pub(crate) fn let_go(&self) {
        if let Err(fault) = self.lock.unlock() {
            tracing::warn!("the meter's journal stays locked until this process ends: {fault}");
        }
    }

    /// How many records aren't.
    pub(crate) fn unacknowledged(&self) -> u64 {
        self.last.saturating_sub(self.acknowledged)
    }

    /// Writes records and the ledger after them down. When this returns they are on the disk, or nothing is.
    ///
    /// # Errors
    /// When the disk doesn't take it.
    pub(crate) fn commit(&mut self, records: &[Record], ledger: &Ledger) -> io::Result<()> {
        let commit = Line::Commit(Commit { records: records.to_vec(), ledger: Some(ledger.clone()) });
        let file = self.folder.join(FILE);
        let named = |fault: io::Error| io::Error::new(fault.kind(), format!("{}: {fault}", file.display()));
        if self.has_another_header
            || self.length > self.length_when_written_anew.saturating_mul(2).max(GROWS_BY)
        {
            return self.write_anew(commit).map_err(named);
        }
        self.append(commit).map_err(named)
    }

    fn append(&mut self, commit: Line) -> io::Result<()> {
        if self.has_half_a_line {
            self.file.set_len(self.length)?;
            self.has_half_a_line = false;
        }
        let mut lines = Vec::new();
        if self.acknowledged > self.acknowledged_on_disk {
            lines = line::write(&Line::Acknowledged { sequence: self.acknowledged })?;
        }
        let before = lines.len() as u64;
        lines.extend(line::write(&commit)?);
        if let Err(fault) = self.file.write_all(&lines).and_then(|()| self.file.sync_data()) {
            // What of it is there goes before anything else is written.
            self.has_half_a_line = self.file.set_len(self.length).is_err();
            return Err(fault);
        }
        self.acknowledged_on_disk = self.acknowledged;
        self.length += before;
        self.place(&commit, lines.len() as u64 - before);
        Ok(())
    }

    /// All records up to this one are durable elsewhere. It is written with the next commit: an acknowledgement that is
    /// lost is given again.
    pub(crate) fn acknowledge(&mut self, sequence: u64) {
        self.forget_until(sequence.min(self.last));
    }

    /// Forgets the oldest records where there are more, a tenth at once: the file is then written anew. Of what was held
    /// before a forgotten record ended not all is here any more, so this journal is since then.
    pub(crate) fn keep_at_most(&mut self, records: u64) {
        if self.unacknowledged() <= records {
            return;
        }
        let until = self.last.saturating_sub(records - records / 10);
        let forgotten = self.commits.iter().filter(|commit| commit.first <= until);
        let ended_ms = forgotten.map(|commit| commit.ended_ms).max().unwrap_or_default();
        self.header.since_ms = self.header.since_ms.max(ended_ms.saturating_add(1));
        self.has_another_header = true;
        self.acknowledge(until);
    }

    /// The next records after that one, at most about so many; none where there are none.
    ///
    /// # Errors
    /// When they can't be read any more.
    pub(crate) fn read_after(&self, sequence: u64, at_most: usize) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        for place in self.commits.iter().filter(|place| place.last > sequence) {
            if records.len() >= at_most {
                break;
            }
            let commit = self.read_commit(place)?;
            records.extend(commit.records.into_iter().filter(|record| record.sequence > sequence));
        }
        Ok(records)
    }

    fn read_commit(&self, place: &Place) -> io::Result<Commit> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(place.offset))?;
        let mut bytes = Vec::new();
        file.take(place.length).read_to_end(&mut bytes)?;
        match line::parse(&bytes) {
            Some(Line::Commit(commit)) => Ok(commit),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the records {} to {} are damaged on the disk", place.first, place.last),
            )),
        }
    }

    /// The file without what is acknowledged and with one more commit, beside the old one, which it then replaces.
    fn write_anew(&mut self, commit: Line) -> io::Result<()> {
        let mut lines = vec![Line::Header(self.header.clone())];
        lines.push(Line::Acknowledged { sequence: self.acknowledged });
        for place in &self.commits {
            let records = self.read_commit(place)?.records;
            let records = records.into_iter().filter(|record| record.sequence > self.acknowledged);
            lines.push(Line::Commit(Commit { records: records.collect(), ledger: None }));
        }
        lines.push(commit);
        let (file, lengths) = write_anew(&self.folder, &lines)?;
        (self.file, self.length, self.has_half_a_line) = (file, 0, false);
        self.commits.clear();
        for (one, length) in lines.iter().zip(lengths) {
            self.place(one, length);
        }
        (self.length_when_written_anew, self.acknowledged_on_disk) = (self.length, self.acknowledged);
        self.has_another_header = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
