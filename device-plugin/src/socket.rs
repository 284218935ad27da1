//! Our socket in the kubelet's folder: a fresh name each time, and gone when we no longer serve it.

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::{Channel, Endpoint, Uri};

const PREFIX: &str = "plasma-gpu-";
const SUFFIX: &str = ".sock";

/// Bytes of a socket's path, of which the last is a zero: Linux's `sockaddr_un`.
const LONGEST_PATH: usize = 107;
/// Bytes of the longest name that [`bind`] makes: a process id of 7 digits, milliseconds of 13, a number of 10.
const LONGEST_NAME: usize = PREFIX.len() + 7 + 1 + 13 + 1 + 10 + SUFFIX.len();

/// Whether there is room for our sockets' names in the path of a folder that a flag names.
///
/// # Errors
/// In words: it names the flag, the folder and how long it may be.
pub(crate) fn fits(flag: &str, folder: &Path) -> Result<(), String> {
    let (length, longest) = (folder.as_os_str().len(), LONGEST_PATH - LONGEST_NAME - 1);
    if length <= longest {
        return Ok(());
    }
    Err(format!(
        "{flag} {} has {length} bytes, and may have {longest}: with our socket's name a path may be no longer than \
         {LONGEST_PATH}; mount the kubelet's folder under a shorter path",
        folder.display()
    ))
}

/// A fresh number for each socket of this process.
static INCARNATION: AtomicU64 = AtomicU64::new(0);

/// Listens under a name that no process used before: two plugins beside each other, as during an upgrade, are two
/// endpoints to the kubelet, and capacity doesn't dip. The same name again would be refused by the kubelet.
pub(crate) fn bind(folder: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let incarnation = INCARNATION.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::UNIX_EPOCH.elapsed().map(|time| time.as_millis()).unwrap_or_default();
    let path = folder.join(format!("{PREFIX}{}-{now}-{incarnation}{SUFFIX}", process::id()));
    let listener = UnixListener::bind(&path)?;
    Ok((listener, SocketFile { path }))
}

/// Removes what plugins left that were killed: our sockets on which nobody listens.
pub(crate) async fn sweep(folder: &Path) -> io::Result<()> {
    let mut files = tokio::fs::read_dir(folder).await?;
    while let Some(file) = files.next_entry().await? {
        let name = file.file_name();
        let ours = name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
        if !ours {
            continue;
        }
        if let Err(fault) = UnixStream::connect(file.path()).await
            && fault.kind() == io::ErrorKind::ConnectionRefused
        {
            tracing::info!("removing {}, on which nobody listens", file.path().display());
            tokio::fs::remove_file(file.path()).await?;
        }
    }
    Ok(())
}

/// Another vendor's plugin of GPUs that serves in this folder: NVIDIA's names its sockets after the resource.
pub(crate) async fn other_plugin(folder: &Path) -> Option<PathBuf> {
    let mut files = tokio::fs::read_dir(folder).await.ok()?;
    while let Ok(Some(file)) = files.next_entry().await {
        let name = file.file_name();
        let of_gpus = |name: &str| name.starts_with("nvidia-gpu") || name.starts_with("nvidia-mig");
        let is_theirs = name.to_str().is_some_and(|name| of_gpus(name) && name.ends_with(SUFFIX));
        // A socket that a plugin left behind serves nobody.
        if is_theirs && UnixStream::connect(file.path()).await.is_ok() {
            return Some(file.path());
        }
    }
    None
}

/// Removes the socket's file when we no longer serve it.
pub(crate) struct SocketFile {
    path: PathBuf,
}

impl SocketFile {
    /// How the kubelet is told of it: the name in its folder.
    pub(crate) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Whether it is still there: a kubelet that starts removes every socket.
    pub(crate) fn exists(&self) -> bool {
        self.path.exists()
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The kubelet may have removed it first.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A gRPC connection to one of the kubelet's sockets. `answer` is how long a single call may take.
///
/// Nothing keeps it alive: a local socket ends with the process behind it, and the kubelet's server cuts whoever pings it
/// more often than every five minutes.
///
/// # Errors
/// In words: nobody listens there.
pub(crate) async fn dial(socket: &Path, answer: Option<Duration>) -> Result<Channel, String> {
    let path = socket.to_owned();
    let connect = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    // The address is never dialled: the connector knows where the kubelet is.
    let mut endpoint = Endpoint::from_static("http://localhost");
    if let Some(answer) = answer {
        endpoint = endpoint.connect_timeout(answer).timeout(answer);
    }
    let channel = endpoint.connect_with_connector(connect).await;
    channel.map_err(|fault| format!("{}: {}", socket.display(), innermost(&fault)))
}

/// The transport's own words are "transport error"; what lies beneath says more.
pub(crate) fn innermost(fault: &dyn std::error::Error) -> String {
    let mut fault = fault;
    while let Some(source) = fault.source() {
        fault = source;
    }
    fault.to_string()
}

/// What tells one kubelet's socket from the next one's.
pub(crate) fn identity(socket: &Path) -> io::Result<(u64, i64, i64)> {
    let metadata = std::fs::metadata(socket)?;
    Ok((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_fits_can_be_bound_and_what_does_not_is_told_with_its_flag_and_the_limit() {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let below = |length: usize| {
            let name = "x".repeat(length - folder.path().as_os_str().len() - 1);
            let folder = folder.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            folder
        };
        let longest = LONGEST_PATH - LONGEST_NAME - 1;
        assert!(fits("--flag", &below(longest)).is_ok());
        let full = folder.path().join("x".repeat(LONGEST_PATH - folder.path().as_os_str().len() - 1));
        assert!(UnixListener::bind(&full).is_ok(), "just so long it may be");
        let fault = fits("--flag", &below(longest + 1)).unwrap_err();
        for part in ["--flag", &format!("may have {longest}"), "107"] {
            assert!(fault.contains(part), "{fault}");
        }
        assert!(bind(&below(LONGEST_PATH - PREFIX.len())).is_err(), "the system refuses it too");
    }
}
