//! Names, addresses and folders of the local cluster's one node.

use std::path::PathBuf;

use anyhow::Result;

use crate::paths;

/// The node's name, also its host name.
pub(crate) const NODE: &str = "plasma-node-0";
/// The node's own address; the API server listens there.
pub(crate) const NODE_ADDRESS: &str = "10.240.0.1";
/// The pods' addresses.
pub(crate) const POD_SUBNET: &str = "10.244.0.0/16";
/// The services' addresses.
pub(crate) const SERVICE_SUBNET: &str = "10.96.0.0/16";
/// The API server's service address.
pub(crate) const API_SERVICE: &str = "10.96.0.1";
/// The DNS service's address.
pub(crate) const DNS_SERVICE: &str = "10.96.0.10";
/// Where the host reaches the API server.
pub(crate) const API_ON_HOST: &str = "127.0.0.1:16443";
/// The cgroup under which all pods are, so that nothing of it is left behind.
pub(crate) const CGROUP: &str = "plasma-dev";

/// The folders of a cluster's state.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Everything that `cluster down` removes.
    pub(crate) state: PathBuf,
    /// containerd's image store: a cache, kept.
    pub(crate) containerd: PathBuf,
}

impl Layout {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { state: paths::cluster()?, containerd: paths::cache()?.join("containerd") })
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.state.join("pki")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.state.join("config")
    }

    /// Every daemon's log.
    pub(crate) fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    /// The administrator's kubeconfig, for the host.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.state.join("kubeconfig")
    }

    /// The process id, on the host, of the node's first process.
    pub(crate) fn init_pid(&self) -> PathBuf {
        self.state.join("init.pid")
    }

    /// This program, as it was when the node was started: cargo may replace the original while the node lives. Every
    /// process outside the node that belongs to it runs this file, and is known by it.
    pub(crate) fn program(&self) -> PathBuf {
        self.state.join("xtask")
    }

    /// What the running node was made of.
    pub(crate) fn fingerprint(&self) -> PathBuf {
        self.state.join("fingerprint")
    }

    /// The commands of the node's daemons, which its first process reads.
    pub(crate) fn daemons(&self) -> PathBuf {
        self.state.join("daemons.json")
    }
}
