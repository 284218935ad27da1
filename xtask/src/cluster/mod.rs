//! The local cluster: one real Kubernetes node, in network, mount, PID, UTS and IPC namespaces of its own.
//!
//! Nothing of it touches the host: its first process holds everything, and ending that process ends all of it.
//! `docs/development/cluster.md` says how to look around.

mod cgroups;
mod config;
mod daemons;
mod forward;
mod images;
mod init;
mod layout;
mod node;
mod pki;
mod traces;

use std::{fs, path::PathBuf, process::Command, thread, time::Duration, time::Instant};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;

use crate::{command, debian, progress, tools};
use layout::{API_ON_HOST, Layout};
pub(crate) use traces::Traces;

/// How long a healthy start takes at the very most.
const START_TIMEOUT: Duration = Duration::from_secs(180);

/// What can be done with the local cluster.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Bring it up; a cluster that is up stays as it is.
    Up,
    /// End it, and remove everything but its caches.
    Down,
    /// Say whether it is up, and where its logs are.
    Status,
    /// Print the path of the administrator's kubeconfig.
    Kubeconfig,
    /// The node's first process.
    #[command(hide = true)]
    NodeInit,
    /// A loopback port of the host that leads into the node.
    #[command(hide = true)]
    Forward {
        /// Where to listen on the host.
        listen: String,
        /// Where to dial inside the node.
        target: String,
    },
}

/// The running cluster.
pub(crate) struct Cluster {
    layout: Layout,
}

/// Does what the command line asks.
pub(crate) fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Up => {
            let cluster = up()?;
            progress::say(format!("kubectl is {}", Cluster::kubectl_path()?.display()));
            progress::say(format!("export KUBECONFIG={}", cluster.kubeconfig().display()));
            Ok(())
        }
        Verb::Down => down(),
        Verb::Status => status(),
        Verb::Kubeconfig => {
            println!("{}", Layout::new()?.kubeconfig().display());
            Ok(())
        }
        Verb::NodeInit => init::run(),
        Verb::Forward { listen, target } => forward::run(&Layout::new()?, &listen, &target),
    }
}

/// Brings the cluster up, or finds it up. What is half dead is ended first.
pub(crate) fn up() -> Result<Cluster> {
    debian::require_root()?;
    debian::require_toolchains()?;
    debian::require(&[debian::NODE])?;
    let cluster = Cluster { layout: Layout::new()? };
    if node::init_pid(&cluster.layout).is_some() {
        if cluster.becomes_ready(Duration::from_secs(20)) {
            progress::say("the cluster is up");
            return Ok(cluster);
        }
        progress::say("the cluster is there but doesn't answer: making it anew");
    }
    down()?;
    let kubernetes = tools::build(&tools::KUBERNETES)?;
    let programs = tools::build(&tools::NODE)?;
    let archives = progress::step("images of the cluster", None, images::all)?;
    let logs = cluster.layout.logs();
    progress::step("start the cluster", Some(&logs), || {
        node::start(&cluster.layout, &daemons::Programs { kubernetes: &kubernetes, node: &programs })?;
        forward::start(&cluster.layout, API_ON_HOST, &format!("{}:6443", layout::NODE_ADDRESS))?;
        for archive in &archives {
            cluster.import_image(archive)?;
        }
        cluster.wait_for_api()?;
        let dns = cluster.layout.config().join("dns.yaml");
        config::write(&dns, include_str!("dns.yaml"))?;
        command::output(cluster.kubectl()?.args(["apply", "--server-side", "-f"]).arg(&dns))?;
        if cluster.becomes_ready(START_TIMEOUT) {
            return Ok(());
        }
        bail!("the node or its DNS isn't ready after {START_TIMEOUT:?}: see the logs in {}", logs.display())
    })?;
    Ok(cluster)
}

/// Ends the cluster and removes its state; its caches stay. Nothing there is no fault.
pub(crate) fn down() -> Result<()> {
    let layout = Layout::new()?;
    forward::stop_all(&layout);
    node::stop(&layout)?;
    cgroups::remove();
    for created in ["/var/lib/kubelet", "/var/lib/cni"] {
        // Mount points on the host, empty there; what others put into them keeps them.
        let _ = fs::remove_dir(created);
    }
    if layout.state.exists() {
        fs::remove_dir_all(&layout.state).with_context(|| format!("remove {}", layout.state.display()))?;
    }
    Ok(())
}

fn status() -> Result<()> {
    let cluster = Cluster { layout: Layout::new()? };
    let Some(pid) = node::init_pid(&cluster.layout) else { bail!("the cluster is down") };
    println!("node's first process  {pid}");
    println!("logs                  {}", cluster.layout.logs().display());
    println!("kubeconfig            {}", cluster.kubeconfig().display());
    print!("{}", command::output(cluster.kubectl()?.args(["get", "nodes,pods", "-A", "-o", "wide"]))?);
    Ok(())
}

impl Cluster {
    /// The cluster that is up, or an error that says how to bring it up.
    pub(crate) fn running() -> Result<Self> {
        let cluster = Self { layout: Layout::new()? };
        node::init_pid(&cluster.layout).context("the cluster is down: cargo xtask cluster up")?;
        Ok(cluster)
    }

    /// The administrator's kubeconfig, for the host.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig()
    }

    /// A folder for whatever belongs to this cluster and goes with it.
    pub(crate) fn state(&self) -> PathBuf {
        self.layout.state.clone()
    }

    /// Every daemon's log, and those of programs started beside them.
    pub(crate) fn logs(&self) -> PathBuf {
        self.layout.logs()
    }

    /// kubectl, of the cluster's own version.
    pub(crate) fn kubectl_path() -> Result<PathBuf> {
        Ok(tools::build(&tools::KUBERNETES)?.join("kubectl"))
    }

    /// kubectl as the administrator.
    pub(crate) fn kubectl(&self) -> Result<Command> {
        let mut kubectl = Command::new(Self::kubectl_path()?);
        kubectl.env("KUBECONFIG", self.kubeconfig());
        Ok(kubectl)
    }

    /// A command inside the node's namespaces.
    pub(crate) fn enter(&self, program: &str) -> Result<Command> {
        node::enter(&self.layout, program)
    }

    /// Puts an image archive into the node's containerd.
    pub(crate) fn import_image(&self, archive: &std::path::Path) -> Result<()> {
        let ctr = tools::build(&tools::NODE)?.join("ctr");
        // containerd may have started only now.
        retry(Duration::from_secs(30), || {
            let mut import = self.enter(&ctr.display().to_string())?;
            command::output(import.args(["-n", "k8s.io", "images", "import", "--digests"]).arg(archive))
                .map(drop)
        })
        .with_context(|| format!("import {}", archive.display()))
    }

    /// A loopback port of the host that leads to an address inside the node.
    pub(crate) fn forward(&self, listen: &str, target: &str) -> Result<()> {
        forward::start(&self.layout, listen, target)
    }

    fn wait_for_api(&self) -> Result<()> {
        retry(START_TIMEOUT, || {
            command::output(self.kubectl()?.args(["get", "--raw", "/readyz", "--request-timeout=2s"]))
                .map(drop)
        })
        .context("the API server isn't ready")
    }

    /// Waits until the node is ready and its DNS answers.
    fn becomes_ready(&self, timeout: Duration) -> bool {
        retry(timeout, || {
            let jsonpath = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
            let node = command::output(self.kubectl()?.args(["get", "node", layout::NODE, "-o", jsonpath]))?;
            let dns = [
                "-n",
                "kube-system",
                "get",
                "deployment",
                "coredns",
                "-o",
                "jsonpath={.status.availableReplicas}",
            ];
            let dns = command::output(self.kubectl()?.args(dns))?;
            if node == "True" && dns == "1" {
                Ok(())
            } else {
                bail!("node ready: {node}, DNS replicas: {dns}")
            }
        })
        .is_ok()
    }
}

/// Tries until it succeeds or time is up; then the last failure is the answer.
pub(crate) fn retry<T>(timeout: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(failure) if begun.elapsed() > timeout => return Err(failure),
            Err(_) => thread::sleep(Duration::from_millis(300)),
        }
    }
}
