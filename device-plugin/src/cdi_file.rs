//! Our spec file in the runtimes' folder: whole or not there, and ours alone.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Vendor and class, as the format's own advice for names is. Runtimes read what ends in `.json` or `.yaml`.
const NAME: &str = "compute.plasma.dev-gpu.json";
/// How the names of unfinished files begin and end: no runtime reads them.
const UNFINISHED: (&str, &str) = (".compute.plasma.dev-gpu.", ".tmp");
/// An unfinished file this old was left by a plugin that was killed.
const LEFT_BEHIND: Duration = Duration::from_secs(60);

/// What became of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It already said that.
    Unchanged,
    /// There was none, or it said something else.
    Anew,
}

/// Sees to it that the folder has our file with this text. Whatever lies under our name is replaced, nothing else touched.
///
/// # Errors
/// In words: the folder can't be made or written. What was there before is then still there.
pub(crate) fn ensure(folder: &Path, text: &str) -> Result<Written, String> {
    let path = folder.join(NAME);
    if says(&path, text) {
        return Ok(Written::Unchanged);
    }
    let written = fs::create_dir_all(folder)
        .and_then(|()| replace(folder, &path, |file| file.write_all(text.as_bytes())));
    written.map_err(|fault| format!("{} can't be written: {fault}", path.display()))?;
    Ok(Written::Anew)
}

/// Whether the file has just this text. One of another length isn't read: it may be anything.
fn says(path: &Path, text: &str) -> bool {
    let is_as_long = |file: fs::Metadata| file.is_file() && usize::try_from(file.len()) == Ok(text.len());
    fs::metadata(path).is_ok_and(is_as_long) && fs::read(path).is_ok_and(|found| found == text.as_bytes())
}

/// Sees to it that the folder has no file of ours: there is no device to name.
///
/// # Errors
/// In words: it can't be removed.
pub(crate) fn remove(folder: &Path) -> Result<(), String> {
    let path = folder.join(NAME);
    match fs::remove_file(&path) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => {
            Err(format!("{} can't be removed: {fault}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Writes a new file beside it, and puts it in its place when all of it is on the disk.
fn replace(folder: &Path, path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    sweep(folder);
    let new = unfinished(folder);
    let written =
        OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new).and_then(|mut file| {
            write(&mut file)?;
            file.sync_all()
        });
    let placed = written.and_then(|()| fs::rename(&new, path)).and_then(|()| File::open(folder)?.sync_all());
    if placed.is_err() {
        // It may never have been made, or be in its place already.
        let _ = fs::remove_file(&new);
    }
    placed
}

/// A name that no other plugin uses: two run during an upgrade, each as the first process of its container.
fn unfinished(folder: &Path) -> PathBuf {
    let now = SystemTime::UNIX_EPOCH.elapsed().map(|now| now.as_nanos()).unwrap_or_default();
    folder.join(format!("{}{now}-{}{}", UNFINISHED.0, std::process::id(), UNFINISHED.1))
}

/// Removes what plugins left that were killed while they wrote. What can't be removed harms nobody.
fn sweep(folder: &Path) {
    for file in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = file.file_name();
        let ours =
            name.to_str().is_some_and(|name| name.starts_with(UNFINISHED.0) && name.ends_with(UNFINISHED.1));
        let age = file.metadata().and_then(|file| file.modified()).ok().and_then(|then| then.elapsed().ok());
        if ours && age.is_some_and(|age| age > LEFT_BEHIND) {
            let _ = fs::remove_file(file.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_file_is_made_once_and_again_when_somebody_spoils_it() {
        let folder = tempfile::tempdir().unwrap();
        let cdi = folder.path().join("run/cdi");
        assert_eq!(ensure(&cdi, "one"), Ok(Written::Anew));
        assert_eq!(ensure(&cdi, "one"), Ok(Written::Unchanged));
        let path = cdi.join(NAME);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        fs::remove_file(&path).unwrap();
        assert_eq!(ensure(&cdi, "one"), Ok(Written::Anew));
        fs::write(&path, "{\"half").unwrap();
        assert_eq!(ensure(&cdi, "one"), Ok(Written::Anew));
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        assert_eq!(names(&cdi), [NAME]);
    }

    #[test]
    fn a_link_under_our_name_is_replaced_and_what_it_led_to_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let theirs = folder.path().join("theirs.yaml");
        fs::write(&theirs, "theirs").unwrap();
        symlink(&theirs, folder.path().join(NAME)).unwrap();
        assert_eq!(ensure(folder.path(), "ours"), Ok(Written::Anew));
        assert_eq!(fs::read_to_string(&theirs).unwrap(), "theirs");
        assert_eq!(fs::read_to_string(folder.path().join(NAME)).unwrap(), "ours");
        remove(folder.path()).unwrap();
        assert_eq!((names(folder.path()), remove(folder.path())), (vec!["theirs.yaml".to_owned()], Ok(())));
    }

    #[test]
    fn a_disk_that_fills_up_leaves_what_was_there_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        ensure(folder.path(), "before").unwrap();
        let full =
            |file: &mut File| file.write_all(b"ha").and_then(|()| Err(io::ErrorKind::StorageFull.into()));
        assert!(replace(folder.path(), &folder.path().join(NAME), full).is_err());
        assert_eq!(fs::read_to_string(folder.path().join(NAME)).unwrap(), "before");
        assert_eq!(names(folder.path()), [NAME]);
    }

    #[test]
    fn a_folder_that_cannot_be_is_said_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let fault = ensure(&file.join("cdi"), "text").unwrap_err();
        assert!(fault.contains("/file/cdi/compute.plasma.dev-gpu.json can't be written"), "{fault}");
        fs::create_dir_all(folder.path().join("cdi").join(NAME)).unwrap();
        assert!(ensure(&folder.path().join("cdi"), "text").is_err(), "a folder under our name");
    }

    #[test]
    fn what_a_killed_plugin_left_is_swept_and_what_another_writes_now_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (unfinished(folder.path()), folder.path().join(".compute.plasma.dev-gpu.now.tmp"));
        let long_ago = SystemTime::now() - 2 * LEFT_BEHIND;
        File::create(&old).unwrap().set_modified(long_ago).unwrap();
        File::create(&new).unwrap();
        File::create(folder.path().join("other.tmp")).unwrap().set_modified(long_ago).unwrap();
        ensure(folder.path(), "text").unwrap();
        assert_eq!(names(folder.path()), [".compute.plasma.dev-gpu.now.tmp", NAME, "other.tmp"]);
    }
}
