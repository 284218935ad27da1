//! The node's daemons: which program, with which arguments.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::layout::{Layout, NODE, NODE_ADDRESS, SERVICE_SUBNET};

/// Upstream Workloads and PodGroups, which 1.37 has and leaves off.
const UPSTREAM_GROUPS: &str = "--feature-gates=GenericWorkload=true";

/// A program that the node's first process keeps running.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Daemon {
    /// Its name, also its log's.
    pub(crate) name: String,
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
}

impl Daemon {
    fn new(name: &str, bin: &Path, arguments: &[String]) -> Self {
        let program = bin.join(name).display().to_string();
        Self {
            name: name.to_owned(),
            command: std::iter::once(program).chain(arguments.iter().cloned()).collect(),
        }
    }
}

/// Folders with the programs.
pub(crate) struct Programs<'a> {
    pub(crate) kubernetes: &'a Path,
    pub(crate) node: &'a Path,
}

/// Every daemon, in the order in which they are started.
pub(crate) fn all(layout: &Layout, programs: &Programs<'_>) -> Vec<Daemon> {
    let pki = layout.pki().display().to_string();
    let config = layout.config().display().to_string();
    let data = layout.state.join("etcd").display().to_string();
    vec![
        Daemon { name: "etcd".to_owned(), ..Daemon::new("server", programs.node, &etcd(&pki, &data)) },
        Daemon::new("containerd", programs.node, &[format!("--config={config}/containerd.toml")]),
        Daemon::new("kube-apiserver", programs.kubernetes, &api_server(&pki)),
        Daemon::new("kube-controller-manager", programs.kubernetes, &controller_manager(&pki, &config)),
        Daemon::new("kube-scheduler", programs.kubernetes, &scheduler(&config)),
        Daemon::new(
            "kube-proxy",
            programs.kubernetes,
            &[format!("--config={config}/kube-proxy.yaml"), format!("--hostname-override={NODE}")],
        ),
        Daemon::new("kubelet", programs.kubernetes, &kubelet(&config)),
    ]
}

fn etcd(pki: &str, data: &str) -> Vec<String> {
    vec![
        format!("--data-dir={data}"),
        "--listen-client-urls=https://127.0.0.1:2379".to_owned(),
        "--advertise-client-urls=https://127.0.0.1:2379".to_owned(),
        "--listen-peer-urls=https://127.0.0.1:2380".to_owned(),
        "--initial-advertise-peer-urls=https://127.0.0.1:2380".to_owned(),
        "--initial-cluster=default=https://127.0.0.1:2380".to_owned(),
        "--peer-client-cert-auth".to_owned(),
        format!("--peer-trusted-ca-file={pki}/etcd-ca.crt"),
        format!("--peer-cert-file={pki}/etcd.crt"),
        format!("--peer-key-file={pki}/etcd.key"),
        "--client-cert-auth".to_owned(),
        format!("--trusted-ca-file={pki}/etcd-ca.crt"),
        format!("--cert-file={pki}/etcd.crt"),
        format!("--key-file={pki}/etcd.key"),
        // The state is thrown away with the cluster: a power cut may lose it.
        "--unsafe-no-fsync".to_owned(),
    ]
}

fn api_server(pki: &str) -> Vec<String> {
    vec![
        format!("--advertise-address={NODE_ADDRESS}"),
        "--secure-port=6443".to_owned(),
        "--etcd-servers=https://127.0.0.1:2379".to_owned(),
        format!("--etcd-cafile={pki}/etcd-ca.crt"),
        format!("--etcd-certfile={pki}/apiserver-etcd-client.crt"),
        format!("--etcd-keyfile={pki}/apiserver-etcd-client.key"),
        format!("--tls-cert-file={pki}/apiserver.crt"),
        format!("--tls-private-key-file={pki}/apiserver.key"),
        format!("--client-ca-file={pki}/ca.crt"),
        format!("--kubelet-certificate-authority={pki}/ca.crt"),
        format!("--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt"),
        format!("--kubelet-client-key={pki}/apiserver-kubelet-client.key"),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        format!("--requestheader-client-ca-file={pki}/front-proxy-ca.crt"),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        format!("--proxy-client-cert-file={pki}/front-proxy-client.crt"),
        format!("--proxy-client-key-file={pki}/front-proxy-client.key"),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={pki}/sa.pub"),
        format!("--service-account-signing-key-file={pki}/sa.key"),
        format!("--service-cluster-ip-range={SERVICE_SUBNET}"),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        UPSTREAM_GROUPS.to_owned(),
        "--runtime-config=scheduling.k8s.io/v1beta1=true".to_owned(),
        "--profiling=false".to_owned(),
    ]
}

fn controller_manager(pki: &str, config: &str) -> Vec<String> {
    let mut arguments = with_kubeconfig(config, "kube-controller-manager");
    arguments.extend([
        // One replica needs no leader election.
        "--leader-elect=false".to_owned(),
        "--use-service-account-credentials=true".to_owned(),
        format!("--service-account-private-key-file={pki}/sa.key"),
        format!("--root-ca-file={pki}/ca.crt"),
        format!("--service-cluster-ip-range={SERVICE_SUBNET}"),
        UPSTREAM_GROUPS.to_owned(),
    ]);
    arguments
}

/// It leads by its lease: another scheduler of its name takes its place by that.
fn scheduler(config: &str) -> Vec<String> {
    let mut arguments = with_kubeconfig(config, "kube-scheduler");
    arguments.push(UPSTREAM_GROUPS.to_owned());
    arguments
}

/// What kube-controller-manager and kube-scheduler have in common.
fn with_kubeconfig(config: &str, name: &str) -> Vec<String> {
    let kubeconfig = format!("{config}/{name}.kubeconfig");
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--bind-address=127.0.0.1".to_owned(),
    ]
}

fn kubelet(config: &str) -> Vec<String> {
    vec![
        format!("--config={config}/kubelet.yaml"),
        format!("--kubeconfig={config}/kubelet.kubeconfig"),
        format!("--hostname-override={NODE}"),
        format!("--node-ip={NODE_ADDRESS}"),
    ]
}
