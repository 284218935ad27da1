//! A control plane of its own, on loopback, thrown away afterwards: etcd, an API server without nodes, and who may use it.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use kube::{
    Client, Config,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
    core::Request,
};
use tempfile::TempDir;

use super::daemon::Daemon;
use crate::{
    cluster::{config, pki},
    debian, tools,
};

/// How long etcd and the API server may take to begin.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often one looks whether they have.
const LOOK: Duration = Duration::from_millis(100);
/// What Go's profiling of the heap begins with is a collection; with `debug` it answers with text.
const COLLECT: &str = "/debug/pprof/heap?gc=1&debug=1";
/// They are at rest when they use less than this share of one CPU.
const REST: f64 = 0.1;
/// For so long.
const REST_FOR: Duration = Duration::from_millis(500);
/// Where they aren't after that, the turn begins all the same.
const REST_WITHIN: Duration = Duration::from_secs(20);
/// An address that nobody has (RFC 5737): the API server refuses to advertise a loopback one, and nobody is told it anyhow.
const ADVERTISED: &str = "192.0.2.1";
/// So many requests at once are served, of either kind: no scheduler shall wait for the API server's own limit.
const AT_ONCE: u32 = 3000;

/// Who writes what: the schedulers' writes, and nobody else's.
const AUDIT_POLICY: &str = r#"{
  "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
  "rules": [
    { "level": "Metadata", "users": ["plasma-scheduler", "kube-scheduler"],
      "verbs": ["create", "update", "patch", "delete", "deletecollection"] },
    { "level": "None" }
  ]
}"#;

/// etcd and an API server.
pub(super) struct ControlPlane {
    // Dropped in this order: who needs another goes first.
    pub(super) api_server: Daemon,
    pub(super) etcd: Daemon,
    authority: pki::Authority,
    server: String,
    folder: TempDir,
}

/// Folders with their programs.
pub(super) struct Programs {
    pub(super) kubernetes: PathBuf,
    node: PathBuf,
}

impl Programs {
    /// Builds what isn't built.
    ///
    /// # Errors
    /// Go is missing, or a build fails: its log is named.
    pub(super) fn build() -> Result<Self> {
        debian::require_go()?;
        Ok(Self { kubernetes: tools::build(&tools::KUBERNETES)?, node: tools::build(&tools::NODE)? })
    }
}

/// Whether etcd waits for the disk at each write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fsync(pub(super) bool);

impl ControlPlane {
    /// Starts them, and waits until the API server is ready.
    ///
    /// # Errors
    /// A program doesn't start: its log is shown.
    pub(super) async fn start(programs: &Programs, fsync: Fsync) -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for the control plane")?;
        let pki = folder.path().join("pki");
        fs::create_dir(&pki).with_context(|| format!("create {}", pki.display()))?;
        let authority = pki::write_all(&pki, "none", "127.0.0.1", "127.0.0.1")?;
        let policy = folder.path().join("audit-policy.json");
        fs::write(&policy, AUDIT_POLICY).with_context(|| format!("write {}", policy.display()))?;

        let store = format!("http://127.0.0.1:{}", free_port()?);
        let etcd = Daemon::start("etcd", &etcd(&programs.node, folder.path(), &store, fsync)?, &[])?;
        let port = free_port()?;
        let command = api_server(&programs.kubernetes, folder.path(), &store, port);
        let api_server = Daemon::start("kube-apiserver", &command, &[])?;
        let server = format!("https://127.0.0.1:{port}");
        let mut plane = Self { api_server, etcd, authority, server, folder };
        plane.wait_until_ready().await?;
        Ok(plane)
    }

    /// A client with every right, which no audit log names.
    ///
    /// # Errors
    /// It can't be made.
    pub(super) async fn client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::from_yaml(&self.identity("bench")?).context("the bench's kubeconfig")?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        Client::try_from(config.context("the bench's configuration")?).context("the bench's client")
    }

    /// A kubeconfig of that user, in a file.
    ///
    /// # Errors
    /// It can't be written.
    pub(super) fn kubeconfig(&self, user: &str) -> Result<PathBuf> {
        let file = self.folder.path().join(format!("{user}.kubeconfig"));
        config::write(&file, &self.identity(user)?)?;
        Ok(file)
    }

    /// Where files of this run may lie.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The log of the schedulers' writes.
    pub(super) fn audit_log(&self) -> PathBuf {
        audit_log(self.folder.path())
    }

    /// # Errors
    /// etcd or the API server has ended.
    pub(super) fn is_running(&mut self) -> Result<()> {
        self.etcd.is_running()?;
        self.api_server.is_running()
    }

    /// Has the API server collect its garbage, and waits until it and etcd are done with all that was asked of them before:
    /// of a turn of a few seconds, a collection that is due anyway, or the end of much deleting, would be a large part.
    ///
    /// # Errors
    /// The API server doesn't answer, or the system doesn't tell what they use.
    pub(super) async fn rest(&self) -> Result<()> {
        let collect = Request::new(COLLECT).list(&ListParams::default());
        let mut collect = collect.context("ask for a collection")?;
        *collect.uri_mut() = COLLECT.parse().context("ask for a collection")?;
        self.client()
            .await?
            .request_text(collect)
            .await
            .context("have the API server collect its garbage")?;
        let begun = Instant::now();
        let mut before = self.cpu_seconds()?;
        while begun.elapsed() < REST_WITHIN {
            tokio::time::sleep(REST_FOR).await;
            let now = self.cpu_seconds()?;
            if now - before < REST * REST_FOR.as_secs_f64() {
                break;
            }
            before = now;
        }
        Ok(())
    }

    /// Seconds of CPU time that the API server and etcd used so far.
    ///
    /// # Errors
    /// The system doesn't tell.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        Ok(self.api_server.cpu_seconds()? + self.etcd.cpu_seconds()?)
    }

    fn identity(&self, user: &str) -> Result<String> {
        let identity = self.authority.issue(user, &[], &[])?;
        Ok(config::kubeconfig(&self.server, &self.authority.certificate, &identity))
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let client = self.client().await?;
        let begun = Instant::now();
        loop {
            self.is_running()?;
            let ready = Request::new("/readyz").list(&ListParams::default());
            let answer = client.request_text(ready.context("ask whether it is ready")?).await;
            match answer {
                Ok(_) => return Ok(()),
                Err(fault) if begun.elapsed() > PATIENCE => {
                    bail!("the API server isn't ready: {fault}\n{}", self.api_server.last_words())
                }
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }
}

fn audit_log(folder: &Path) -> PathBuf {
    folder.join("audit.log")
}

/// Whoever takes it before the program does is very unlucky.
fn free_port() -> Result<u16> {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr());
    Ok(port.context("a free port")?.port())
}

fn etcd(bin: &Path, folder: &Path, url: &str, fsync: Fsync) -> Result<Vec<String>> {
    let peers = format!("http://127.0.0.1:{}", free_port()?);
    let mut command = vec![
        bin.join("server").display().to_string(),
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
        // Tens of thousands of pods in several versions.
        "--quota-backend-bytes=8589934592".to_owned(),
    ];
    if fsync == Fsync(false) {
        command.push("--unsafe-no-fsync".to_owned());
    }
    Ok(command)
}

fn api_server(bin: &Path, folder: &Path, store: &str, port: u16) -> Vec<String> {
    let pki = folder.join("pki").display().to_string();
    let folder = folder.display();
    vec![
        bin.join("kube-apiserver").display().to_string(),
        format!("--advertise-address={ADVERTISED}"),
        "--endpoint-reconciler-type=none".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--etcd-servers={store}"),
        format!("--tls-cert-file={pki}/apiserver.crt"),
        format!("--tls-private-key-file={pki}/apiserver.key"),
        format!("--client-ca-file={pki}/ca.crt"),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={pki}/sa.pub"),
        format!("--service-account-signing-key-file={pki}/sa.key"),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--authorization-mode=AlwaysAllow".to_owned(),
        // No controller makes service accounts, and none would take a new node's taint away.
        "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition".to_owned(),
        "--enable-priority-and-fairness=false".to_owned(),
        format!("--max-requests-inflight={AT_ONCE}"),
        format!("--max-mutating-requests-inflight={AT_ONCE}"),
        "--delete-collection-workers=32".to_owned(),
        format!("--audit-policy-file={folder}/audit-policy.json"),
        format!("--audit-log-path={folder}/audit.log"),
        "--audit-log-maxsize=1000000".to_owned(),
        // For its collections alone: nothing is profiled.
        "--profiling=true".to_owned(),
    ]
}
