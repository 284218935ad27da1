//! The API server's audit log: who wrote what, and when that was done. It costs the API server the same whoever writes,
//! and no watch of ours gets in the schedulers' way.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;

/// A request of a scheduler's that changes something.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Write {
    /// When it was answered.
    pub(super) at: Timestamp,
    /// Who asked.
    pub(super) user: String,
    pub(super) kind: Kind,
}

/// What it was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A pod was bound.
    Bound,
    /// An event, of either API.
    Event,
    /// A gang, or its status.
    Gang,
    /// Anything else, or what was refused.
    Other,
}

/// The log, read on from where it was read to.
pub(super) struct Audit {
    path: PathBuf,
    file: File,
    /// The beginning of a line whose end isn't written yet.
    rest: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    stage_timestamp: Timestamp,
    user: User,
    verb: String,
    object_ref: Option<Object>,
    response_status: Option<Status>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
struct Object {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    subresource: String,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
}

impl Audit {
    /// Opens the log.
    ///
    /// # Errors
    /// It isn't there.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file, rest: Vec::new() })
    }

    /// What was written since the last time.
    ///
    /// # Errors
    /// The log can't be read, or a line isn't what an API server writes.
    pub(super) fn news(&mut self) -> Result<Vec<Write>> {
        self.file.read_to_end(&mut self.rest).with_context(|| format!("read {}", self.path.display()))?;
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Ok(Vec::new()) };
        let lines: Vec<u8> = self.rest.drain(..=end).collect();
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| write(line).with_context(|| format!("a line of {}", self.path.display()))).collect()
    }
}

fn write(line: &[u8]) -> Result<Write> {
    let line: Line = serde_json::from_slice(line).context("understand it")?;
    let object = line.object_ref.unwrap_or_default();
    let is_done = line.response_status.is_some_and(|status| (200..300).contains(&status.code));
    let kind = match (object.resource.as_str(), object.subresource.as_str()) {
        ("pods", "binding") if is_done && line.verb == "create" => Kind::Bound,
        ("events", _) => Kind::Event,
        ("gangs", _) => Kind::Gang,
        _ => Kind::Other,
    };
    Ok(Write { at: line.stage_timestamp, user: line.user.username, kind })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn line(resource: &str, subresource: &str, code: u16) -> String {
        format!(
            r#"{{"kind":"Event","stage":"ResponseComplete","verb":"create","user":{{"username":"u","groups":[]}},"objectRef":{{"resource":"{resource}","subresource":"{subresource}","namespace":"n","name":"p"}},"responseStatus":{{"metadata":{{}},"code":{code}}},"stageTimestamp":"2026-01-02T03:04:05.000006Z"}}"#
        )
    }

    #[test]
    fn what_was_written_is_told_once_and_half_a_line_later() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let mut log = File::create(&path).expect("a log");
        let mut audit = Audit::open(&path).expect("it opens");
        assert_eq!(audit.news().expect("nothing"), []);
        let (whole, half) = (line("pods", "binding", 201), line("events", "", 201));
        write!(log, "{whole}\n{}", &half[..40]).expect("written");
        let news = audit.news().expect("one");
        assert_eq!(news.iter().map(|write| write.kind).collect::<Vec<_>>(), [Kind::Bound]);
        assert_eq!((news[0].user.as_str(), news[0].at.subsec_microsecond()), ("u", 6));
        writeln!(log, "{}\n{}", &half[40..], line("pods", "binding", 409)).expect("written");
        let news = audit.news().expect("two");
        assert_eq!(news.iter().map(|write| write.kind).collect::<Vec<_>>(), [Kind::Event, Kind::Other]);
        writeln!(log, "nonsense").expect("written");
        assert!(audit.news().is_err());
    }
}
