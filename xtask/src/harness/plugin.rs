//! A process of our plugin.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::{Node, eventually};

/// How long it may take to begin, and to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// The process; it is killed when this goes.
pub(crate) struct Plugin {
    child: Child,
    address: String,
}

impl Plugin {
    /// Starts it with the node's GPUs.
    ///
    /// # Errors
    /// It can't be started.
    pub(super) fn start(
        node: &Node,
        sockets: &Path,
        registry: &Path,
        log: &Path,
        arguments: &[&str],
    ) -> Result<Self> {
        // The port is free again at once, and whoever takes it meanwhile is very unlucky.
        let address =
            TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).context("a port")?;
        let mut plugin = Command::new(&node.programs().plugin);
        plugin.env_clear().env("HOME", node.folder()).env("PLASMA_FAKE_NVML_STATE", node.state());
        // As the chart has it.
        plugin.env("MALLOC_ARENA_MAX", "1");
        plugin.envs(node.cluster()).env("METER_DIR", node.meter());
        plugin.args(["--node-name", "node", "--metrics-address", &address.to_string()]);
        plugin.arg("--nvml-library").arg(&node.programs().nvml);
        plugin.arg("--device-plugin-dir").arg(sockets).arg("--plugins-registry-dir").arg(registry);
        plugin.arg("--cdi-dir").arg(node.cdi());
        let kubelet = node.folder().join("kubelet");
        plugin.arg("--pod-resources-socket").arg(kubelet.join("pod-resources/kubelet.sock"));
        plugin.arg("--pods-api-socket").arg(kubelet.join("pods-api/pods-api.sock"));
        let log = File::create(log).with_context(|| format!("create {}", log.display()))?;
        let child =
            plugin.args(arguments).stdin(Stdio::null()).stderr(log).spawn().context("start the plugin")?;
        Ok(Self { child, address: address.to_string() })
    }

    /// Waits until it is ready: it has seen its GPUs and the kubelet took it.
    ///
    /// # Errors
    /// It never is.
    pub(crate) fn is_ready(&self) -> Result<()> {
        eventually(PATIENCE, || {
            let answer = self.get("/readyz")?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "the plugin isn't ready: {answer}");
            Ok(())
        })
    }

    /// A page of its metrics server, with its head.
    ///
    /// # Errors
    /// It doesn't answer.
    pub(crate) fn get(&self, page: &str) -> Result<String> {
        let mut stream = TcpStream::connect(&self.address).context("connect to the plugin's metrics")?;
        write!(stream, "GET {page} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n").context("ask it")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("read its answer")?;
        Ok(answer)
    }

    /// What the system says of the process: a number in kibibytes of `/proc/<pid>/<file>`.
    ///
    /// # Errors
    /// There is no such line.
    pub(crate) fn memory_kib(&self, file: &str, line: &str) -> Result<u64> {
        let text =
            fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).context("ask the system")?;
        let found = text.lines().find_map(|found| found.strip_prefix(line));
        let number = found.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok());
        number.with_context(|| format!("{file} has no {line}"))
    }

    /// Seconds of CPU time that it used.
    ///
    /// # Errors
    /// The system doesn't tell.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let text =
            fs::read_to_string(format!("/proc/{}/schedstat", self.child.id())).context("ask the system")?;
        let mut threads = 0;
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).context("list its threads")?;
        for task in tasks.flatten() {
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            threads += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
        }
        ensure!(!text.is_empty(), "the system tells no CPU time");
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds of seconds")]
        Ok(threads as f64 / 1e9)
    }

    /// Asks it to end, and waits.
    ///
    /// # Errors
    /// It doesn't.
    pub(crate) fn terminate(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        eventually(PATIENCE, || {
            let status = self.child.try_wait().context("wait for the plugin")?;
            let status = status.context("the plugin doesn't end")?;
            ensure!(status.success(), "the plugin ended with {status}");
            Ok(())
        })
    }

    /// Ends it without asking.
    pub(crate) fn kill(self) {
        drop(self);
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(id, signal).context("signal the plugin")
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
