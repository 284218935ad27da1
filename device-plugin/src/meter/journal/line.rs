//! One line of the journal: a checksum, a blank, JSON.

use std::{fmt::Write as _, io};

use plasma_device_plugin_core::{Ledger, Record};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The newest version of the file that this program knows.
pub(super) const VERSION: u64 = 1;
/// How much of the checksum is written: enough to see damage.
const CHECKSUM_BYTES: usize = 8;

/// What a line says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Line {
    /// The first line.
    Header(Header),
    /// The first line of a later version.
    #[serde(skip)]
    Newer {
        version: u64,
    },
    Commit(Commit),
    /// All records up to this one are durable elsewhere.
    Acknowledged {
        sequence: u64,
    },
}

/// What the file is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Header {
    pub(super) version: u64,
    /// Names the journal.
    pub(super) journal: String,
    pub(super) node: String,
    pub(super) since_ms: u64,
}

/// Records, and the ledger after them; none where the file was written anew, and a later commit has it.
#[derive(Serialize, Deserialize)]
pub(super) struct Commit {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) records: Vec<Record>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ledger: Option<Ledger>,
}

/// Of a first line, all that any version has.
#[derive(Deserialize)]
struct AnyHeader {
    header: AnyVersion,
}

#[derive(Deserialize)]
struct AnyVersion {
    version: u64,
}

/// A line as it is written.
pub(super) fn write(line: &Line) -> io::Result<Vec<u8>> {
    let json = serde_json::to_string(line)?;
    Ok(format!("{} {json}\n", checksum(json.as_bytes())).into_bytes())
}

/// What a line says; `None` where it isn't whole.
pub(super) fn parse(bytes: &[u8]) -> Option<Line> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let (sum, json) = text.split_once(' ')?;
    if sum != checksum(json.as_bytes()) {
        return None;
    }
    let newer = serde_json::from_str::<AnyHeader>(json).ok().filter(|any| any.header.version > VERSION);
    match newer {
        Some(any) => Some(Line::Newer { version: any.header.version }),
        None => serde_json::from_str(json).ok(),
    }
}

fn checksum(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(bytes).iter().take(CHECKSUM_BYTES) {
        // Writing to a string never fails.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
