//! A node: its folders, its pretended GPUs, and the plugins on it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, Result, anyhow};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Plugin, Programs};

/// How the plugin and the kubelet get to know each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The kubelet's plugin watcher finds the plugin's socket.
    Watched,
    /// The plugin calls the kubelet's socket.
    Classic,
}

impl Way {
    /// As a table names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Watched => "watched",
            Self::Classic => "classic",
        }
    }
}

/// Everything that lies on a node; it goes when this does.
pub(crate) struct Node {
    folder: TempDir,
    programs: Programs,
    way: Way,
    plugins: AtomicUsize,
    cluster: OnceLock<[(&'static str, String); 3]>,
}

/// An API server: where it is, and who vouches for it, as PEM.
#[derive(Deserialize)]
pub(crate) struct Cluster {
    host: String,
    port: u16,
    authority: String,
}

impl Node {
    /// A node with that many healthy GPUs.
    ///
    /// # Errors
    /// There is no place for it.
    pub(crate) fn new(programs: &Programs, way: Way, gpus: usize) -> Result<Self> {
        // A socket's path may have 107 bytes, so not below a TMPDIR of any length.
        let folder =
            tempfile::Builder::new().prefix("plasma-node-").tempdir_in("/tmp").context("a folder")?;
        let node = Self {
            folder,
            programs: programs.clone(),
            way,
            plugins: AtomicUsize::new(0),
            cluster: OnceLock::new(),
        };
        for folder in [node.device_plugins(), node.registry(), node.cdi()] {
            fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        }
        let gpus: Vec<Value> = (0..gpus).map(gpu).collect();
        node.write(&json!({ "driverVersion": "580.95.05", "cudaVersion": 13000, "gpus": gpus }))?;
        Ok(node)
    }

    /// What the kubelet has as /var/lib.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }

    pub(crate) fn device_plugins(&self) -> PathBuf {
        self.folder().join("kubelet/device-plugins")
    }

    fn registry(&self) -> PathBuf {
        self.folder().join("kubelet/plugins_registry")
    }

    /// Where CDI specs are.
    pub(crate) fn cdi(&self) -> PathBuf {
        self.folder().join("cdi")
    }

    /// Where the meter's journal is.
    pub(crate) fn meter(&self) -> PathBuf {
        self.folder().join("meter")
    }

    pub(crate) fn log(&self, of: &str) -> PathBuf {
        self.folder().join(format!("{of}.log"))
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder().join("gpus.json")
    }

    /// Changes what NVML says.
    ///
    /// # Errors
    /// Its file can't be read or written.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Value)) -> Result<()> {
        let text = fs::read_to_string(self.state()).context("read what NVML says")?;
        let mut state = serde_json::from_str(&text).context("understand what NVML says")?;
        change(&mut state);
        self.write(&state)
    }

    /// Plugins that are started from now on know of a cluster, as pods do.
    ///
    /// # Errors
    /// A file can't be written.
    pub(crate) fn has_cluster(&self, cluster: &Cluster) -> Result<()> {
        let account = self.folder().join("serviceaccount");
        fs::create_dir_all(&account).context("a folder for the service account")?;
        fs::write(account.join("token"), "anybody").context("write the token")?;
        fs::write(account.join("ca.crt"), &cluster.authority).context("write the authority")?;
        let environment = [
            ("SERVICE_ACCOUNT_DIR", account.display().to_string()),
            ("KUBERNETES_SERVICE_HOST", cluster.host.clone()),
            ("KUBERNETES_SERVICE_PORT", cluster.port.to_string()),
        ];
        // Once: a node has one cluster.
        self.cluster.set(environment).map_err(|_| anyhow!("the node has a cluster already"))
    }

    /// What plugins are told of the cluster, where the node has one.
    pub(super) fn cluster(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.cluster.get().cloned().into_iter().flatten()
    }

    /// The socket of the plugin that the kubelet found, as the kubelet names it.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn plugin_socket(&self) -> Result<String> {
        let files = fs::read_dir(self.registry()).context("list the registry folder")?;
        let name = files.flatten().map(|file| file.file_name().to_string_lossy().into_owned()).next();
        Ok(format!(
            "/var/lib/kubelet/plugins_registry/{}",
            name.context("no plugin is in the registry folder")?
        ))
    }

    /// A GPU falls off the bus, or is back.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub(crate) fn lose(&self, gpu: usize, lost: bool) -> Result<()> {
        self.change(|state| state["gpus"][gpu]["lost"] = json!(lost))
    }

    fn write(&self, state: &Value) -> Result<()> {
        // Never half written.
        let new = self.folder().join("gpus.json.new");
        fs::write(&new, state.to_string()).context("write what NVML says")?;
        fs::rename(&new, self.state()).context("write what NVML says")
    }

    /// Starts a plugin in the node's way.
    ///
    /// # Errors
    /// It can't be started.
    pub(crate) fn plugin(&self, arguments: &[&str]) -> Result<Plugin> {
        // Without that folder the plugin knows that nobody looks.
        let registry = match self.way {
            Way::Watched => self.registry(),
            Way::Classic => self.folder().join("nobody-looks"),
        };
        self.plugin_at(&self.device_plugins(), &registry, arguments)
    }

    /// Starts a plugin that sees the kubelet in another folder, and calls it there.
    ///
    /// # Errors
    /// It can't be started.
    pub(crate) fn plugin_behind(&self, folder: &Path) -> Result<Plugin> {
        self.plugin_at(folder, &self.folder().join("nobody-looks"), &[])
    }

    fn plugin_at(&self, sockets: &Path, registry: &Path, arguments: &[&str]) -> Result<Plugin> {
        let number = self.plugins.fetch_add(1, Ordering::Relaxed);
        Plugin::start(self, sockets, registry, &self.log(&format!("plugin-{number}")), arguments)
    }

    /// The last lines of every log, for whoever asks why something failed.
    pub(crate) fn logs(&self) -> String {
        let mut files: Vec<PathBuf> = fs::read_dir(self.folder())
            .map(|files| files.flatten().map(|file| file.path()).collect())
            .unwrap_or_default();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "log"));
        files.sort();
        files.iter().map(|file| format!("--- {}\n{}\n", file.display(), crate::command::tail(file))).collect()
    }
}

fn gpu(index: usize) -> Value {
    json!({
        "uuid": format!("GPU-00000000-0000-0000-0000-{index:012}"), "name": "NVIDIA H100 80GB HBM3",
        "memoryMib": 81_559, "computeCapability": [9, 0], "recoveryAction": 0, "energyMillijoules": 1_000_000,
        "powerMilliwatts": 70_000, "temperatureCelsius": 30, "uncorrectableErrors": 0, "remappingPending": false,
        "remappingFailed": false,
    })
}
