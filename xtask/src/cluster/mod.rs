//! The local cluster: one real Kubernetes node, in network, mount, PID, UTS and IPC namespaces of its own.
//!
//! Its first process holds everything, and ending that process ends all of it: nothing is left on the host, and nothing of
//! the host is changed.
//! `docs/development/cluster.md` says how to look around.

mod cgroups;
pub(crate) mod config;
mod daemons;
mod forward;
mod images;
mod init;
mod layout;
mod node;
pub(crate) mod pki;
mod processes;
mod traces;

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Subcommand;

use crate::{command, debian, image, progress, tools};
use layout::{API_ON_HOST, Layout};
pub(crate) use traces::Traces;

/// How long a healthy start takes at the very most.
const START_TIMEOUT: Duration = Duration::from_secs(180);

/// What can be done with the local cluster.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Bring it up; one that is up and of this version stays as it is.
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

/// Brings the cluster up, or finds it up. What is half dead, or was made otherwise, is ended first.
pub(crate) fn up() -> Result<Cluster> {
    debian::require_root()?;
    debian::require_toolchains()?;
    debian::require(&[debian::NODE])?;
    let cluster = Cluster { layout: Layout::new()? };
    let kubernetes = tools::build(&tools::KUBERNETES)?;
    let programs = tools::build(&tools::NODE)?;
    let programs = daemons::Programs { kubernetes: &kubernetes, node: &programs };
    let archives = progress::step("images of the cluster", Some(&image::log()?), images::all)?;
    let fingerprint = node::fingerprint(&cluster.layout, &programs, &archives)?;
    if node::init_pid(&cluster.layout).is_some() && cluster.stays(&fingerprint) {
        progress::say("the cluster is up");
        return Ok(cluster);
    }
    down()?;
    let logs = cluster.layout.logs();
    progress::step("start the cluster", Some(&logs.join("node.log")), || {
        node::start(&cluster.layout, &programs)?;
        forward::start(&cluster.layout, API_ON_HOST, &format!("{}:6443", layout::NODE_ADDRESS))?;
        for archive in &archives {
            cluster.import_image(archive)?;
        }
        cluster.wait_for_api()?;
        let dns = cluster.layout.config().join("dns.yaml");
        command::output(cluster.kubectl()?.args(["apply", "--server-side", "-f"]).arg(&dns))?;
        cluster
            .becomes_ready(START_TIMEOUT)
            .with_context(|| format!("not up after {START_TIMEOUT:?}, see the logs in {}", logs.display()))?;
        config::write(&cluster.layout.fingerprint(), &fingerprint)
    })?;
    Ok(cluster)
}

/// Ends the cluster and removes its state; its caches stay. Nothing there is no fault.
pub(crate) fn down() -> Result<()> {
    let layout = Layout::new()?;
    processes::end_all(&layout)?;
    cgroups::remove()?;
    for created in ["/var/lib/kubelet", "/var/lib/cni", "/var/lib/plasma"] {
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

    /// The namespaces that the node has for itself.
    pub(crate) fn namespaces(&self) -> BTreeSet<PathBuf> {
        node::namespaces(&self.layout)
    }

    /// Whether a cluster that is there can be used as it is; says why not.
    fn stays(&self, fingerprint: &str) -> bool {
        if fs::read_to_string(self.layout.fingerprint()).unwrap_or_default() != fingerprint {
            progress::say("the cluster that is up was made otherwise: making it anew");
            return false;
        }
        let ready = self.becomes_ready(Duration::from_secs(20));
        if let Err(fault) = &ready {
            progress::say(format!("the cluster is there but doesn't answer ({fault:#}): making it anew"));
        }
        ready.is_ok()
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
        self.wait(&format!("import {}", archive.display()), Duration::from_secs(30), || {
            let mut import = self.enter(&ctr.display().to_string())?;
            command::output(import.args(["-n", "k8s.io", "images", "import"]).arg(archive)).map(drop)
        })
    }

    /// Removes what the node has of other versions of these images.
    pub(crate) fn forget_older_images(&self, kept: &[&str]) -> Result<()> {
        let ctr = tools::build(&tools::NODE)?.join("ctr").display().to_string();
        let verb = ["-n", "k8s.io", "images"];
        let listing = command::output(self.enter(&ctr)?.args(verb).arg("ls"))?;
        let older = images::older(&listing, &[kept, &images::NAMES].concat());
        if older.is_empty() {
            return Ok(());
        }
        command::output(self.enter(&ctr)?.args(verb).arg("rm").args(&older)).map(drop)
    }

    /// A loopback port of the host that leads to an address inside the node.
    pub(crate) fn forward(&self, listen: &str, target: &str) -> Result<()> {
        forward::start(&self.layout, listen, target)
    }

    fn wait_for_api(&self) -> Result<()> {
        self.wait("the API server isn't ready", START_TIMEOUT, || {
            command::output(self.kubectl()?.args(["get", "--raw", "/readyz", "--request-timeout=2s"]))
                .map(drop)
        })
    }

    /// Waits until the node is ready and its DNS answers.
    fn becomes_ready(&self, timeout: Duration) -> Result<()> {
        self.wait("the node or its DNS isn't ready", timeout, || {
            let ready = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
            let node = command::output(self.kubectl()?.args(["get", "node", layout::NODE, "-o", ready]))?;
            let replicas = "jsonpath={.status.availableReplicas}";
            let dns = ["-n", "kube-system", "get", "deployment", "coredns", "-o", replicas];
            let dns = command::output(self.kubectl()?.args(dns))?;
            ensure!(node == "True" && dns == "1", "node ready: {node:?}, DNS replicas: {dns:?}");
            Ok(())
        })
    }

    /// Tries for so long as the node lives; why it doesn't is in its log.
    fn wait(&self, what: &str, timeout: Duration, mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
        let begun = Instant::now();
        loop {
            let Err(fault) = attempt() else { return Ok(()) };
            let Some(_) = node::init_pid(&self.layout) else {
                let log = command::tail(&self.layout.logs().join("node.log"));
                bail!("the node has ended; its log:\n{log}")
            };
            if begun.elapsed() > timeout {
                return Err(fault.context(what.to_owned()));
            }
            thread::sleep(Duration::from_millis(300));
        }
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
