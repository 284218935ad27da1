//! A node with pretended GPUs, and the plugin's process on it.

use std::{
    env,
    fs::{self, File},
    io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use plasma_fake_nvml::{Gpu, STATE_VARIABLE, State};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::kubelet::PATIENCE;

/// Folders, a state file, and where NVML's stand-in is.
pub(crate) struct Node {
    folder: TempDir,
    pub(crate) library: PathBuf,
    /// The folder in which a kubelet looks for plugins. It isn't there unless a test makes it: not every kubelet looks.
    pub(crate) registry: PathBuf,
}

pub(crate) fn gpu(index: usize) -> Gpu {
    Gpu {
        uuid: format!("GPU-00000000-0000-0000-0000-{index:012}"),
        name: "NVIDIA H100 80GB HBM3".to_owned(),
        memory_mib: 81_559,
        ..Gpu::default()
    }
}

impl Node {
    pub(crate) fn new(gpus: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let registry = folder.path().join("registry");
        let node = Self { folder, library: stand_in(), registry };
        fs::create_dir(node.sockets()).unwrap();
        let gpus = (0..gpus).map(gpu).collect();
        node.write(&State { driver_version: "580.95.05".to_owned(), gpus, ..State::default() });
        node
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The kubelet's folder for device plugins.
    pub(crate) fn sockets(&self) -> PathBuf {
        self.folder().join("sockets")
    }

    /// The container runtime's folder for CDI specs. It isn't there before the plugin makes it.
    pub(crate) fn cdi(&self) -> PathBuf {
        self.folder().join("cdi")
    }

    /// What plugins have put there.
    pub(crate) fn plugin_sockets(&self) -> Vec<String> {
        names(&self.sockets()).into_iter().filter(|name| name != "kubelet.sock").collect()
    }

    /// The kubelet's socket that tells of pods. It isn't there unless a test makes it.
    pub(crate) fn pods_api(&self) -> PathBuf {
        self.folder().join("pods-api.sock")
    }

    /// The kubelet's socket that tells of the pods' devices. It isn't there unless a test makes it.
    pub(crate) fn pod_resources(&self) -> PathBuf {
        self.folder().join("pod-resources.sock")
    }

    /// The meter's folder.
    pub(crate) fn meter(&self) -> PathBuf {
        self.folder().join("meter")
    }

    /// A folder for what the meter and settlement know each other by.
    pub(crate) fn settlement(&self) -> PathBuf {
        let folder = self.folder().join("settlement");
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// What NVML says.
    pub(crate) fn state(&self) -> State {
        serde_json::from_slice(&fs::read(self.state_file()).unwrap()).unwrap()
    }

    pub(crate) fn state_file(&self) -> PathBuf {
        self.folder().join("state.json")
    }

    /// Changes what NVML says.
    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        self.write(&state);
    }

    fn write(&self, state: &State) {
        // Never half written.
        let new = self.folder().join("state.json.new");
        fs::write(&new, serde_json::to_vec(state).unwrap()).unwrap();
        fs::rename(new, self.state_file()).unwrap();
    }

    /// Starts the plugin, with no cluster to report to.
    pub(crate) fn plugin(&self) -> Plugin {
        self.plugin_with(&["--scan-seconds", "1"])
    }

    /// The same with these arguments.
    pub(crate) fn plugin_with(&self, arguments: &[&str]) -> Plugin {
        let library = self.library.to_str().unwrap();
        self.plugin_as(&[&["--nvml-library", library], arguments].concat())
    }

    /// The same without naming NVML's library.
    pub(crate) fn plugin_as(&self, arguments: &[&str]) -> Plugin {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = self.folder().join(format!("plugin-{}.log", port.port()));
        let child = Command::new(env!("CARGO_BIN_EXE_plasma-device-plugin"))
            .env_clear()
            .env("HOME", self.folder())
            .env(STATE_VARIABLE, self.state_file())
            .args(["--node-name", "node"])
            .arg("--metrics-address")
            .arg(port.to_string())
            .arg("--device-plugin-dir")
            .arg(self.sockets())
            .arg("--plugins-registry-dir")
            .arg(&self.registry)
            .arg("--pods-api-socket")
            .arg(self.pods_api())
            .arg("--pod-resources-socket")
            .arg(self.pod_resources())
            .arg("--meter-dir")
            .arg(self.meter())
            .arg("--cdi-dir")
            .arg(self.cdi())
            // This kubelet never tells old news, and nobody has half a minute for each start.
            .args(["--settle-seconds", "1"])
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Plugin { child, log, address: port.to_string() }
    }
}

/// What lies in a folder.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

/// The stand-in lies beside the tests: it is built for them, being a dev-dependency.
fn stand_in() -> PathBuf {
    let tests = env::current_exe().unwrap();
    let library = tests.parent().unwrap().join("libplasma_fake_nvml.so");
    assert!(library.exists(), "{} was not built", library.display());
    library
}

/// The plugin's process; it is killed when this goes.
pub(crate) struct Plugin {
    child: Child,
    log: PathBuf,
    address: String,
}

impl Plugin {
    /// Whether the log has that text.
    pub(crate) fn said(&self, text: &str) -> bool {
        fs::read_to_string(&self.log).unwrap().contains(text)
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// How many lines of the log have that text.
    pub(crate) fn times_said(&self, text: &str) -> usize {
        fs::read_to_string(&self.log).unwrap().lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until the log has that text.
    pub(crate) async fn must_say(&self, text: &str) {
        let said = async {
            while !self.log().contains(text) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let said = tokio::time::timeout(PATIENCE, said).await;
        assert!(said.is_ok(), "{text:?} was never said:\n{}", self.log());
    }

    /// Waits until the page has that text.
    pub(crate) async fn becomes(&self, page: &str, text: &str) {
        let mut last = String::new();
        let becomes = async {
            loop {
                // It may not listen yet.
                if let Ok((_, body)) = self.try_get(page).await {
                    last = body;
                }
                if last.contains(text) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let became = tokio::time::timeout(PATIENCE, becomes).await;
        assert!(became.is_ok(), "{page} never had {text:?}:\n{last}");
    }

    /// Waits until the metric is at least so much.
    pub(crate) async fn counts(&self, metric: &str, at_least: u64) {
        let value = |page: &str| {
            let line = page.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '))?;
            line.parse::<u64>().ok()
        };
        let counts = async {
            while value(&self.get("/metrics").await.1).is_none_or(|value| value < at_least) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let counted = tokio::time::timeout(PATIENCE, counts).await;
        assert!(counted.is_ok(), "{metric} is never {at_least}: {:?}", value(&self.get("/metrics").await.1));
    }

    /// Status and body of a page.
    pub(crate) async fn get(&self, page: &str) -> (u16, String) {
        self.try_get(page).await.unwrap()
    }

    async fn try_get(&self, page: &str) -> io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(&self.address).await?;
        let request = format!("GET {page} HTTP/1.1\r\nHost: plugin\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()))
    }

    /// Asks it to end, and waits.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.ended().await
    }

    /// Waits until it ends.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.expect("it ends")
    }

    /// Ends it without asking.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
