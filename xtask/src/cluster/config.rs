//! What the daemons read: kubeconfigs, and the settings of kubelet, kube-proxy, containerd and the pod network.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    layout::{CGROUP, DNS_SERVICE, Layout, NODE, NODE_ADDRESS, POD_SUBNET},
    pki::Identity,
};

/// A kubeconfig for one identity, with everything inside.
pub(crate) fn kubeconfig(server: &str, authority: &str, identity: &Identity) -> String {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "plasma-dev", "cluster": { "server": server, "certificate-authority-data": base64(authority) } }],
        "users": [{ "name": "plasma-dev", "user": {
            "client-certificate-data": base64(&identity.certificate),
            "client-key-data": base64(&identity.key),
        } }],
        "contexts": [{ "name": "plasma-dev", "context": { "cluster": "plasma-dev", "user": "plasma-dev" } }],
        "current-context": "plasma-dev",
    })
    .to_string()
}

/// The settings that aren't identities: each file with its text.
pub(crate) fn all(layout: &Layout) -> Vec<(PathBuf, String)> {
    let folder = layout.config();
    let mut files = vec![
        (folder.join("kubelet.yaml"), kubelet(&layout.pki())),
        (folder.join("kube-proxy.yaml"), kube_proxy(&folder)),
        (folder.join("containerd.toml"), containerd(layout)),
        (folder.join("cni/10-plasma.conflist"), POD_NETWORK.to_owned()),
        (folder.join("hosts"), format!("127.0.0.1 localhost\n{NODE_ADDRESS} {NODE}\n")),
        (folder.join("dns.yaml"), include_str!("dns.yaml").to_owned()),
    ];
    for (setting, value) in KERNEL {
        files.push((folder.join("kernel").join(setting), format!("{value}\n")));
    }
    files
}

/// The kernel's settings that a kubelet wants to have (`setupKernelTunables` in its `pkg/kubelet/cm`), below `/proc/sys`.
/// They are the whole machine's: the node shows its kubelet these values, so that it changes nothing.
pub(crate) const KERNEL: &[(&str, &str)] = &[
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Writes a file; what holds a private key is its owner's alone.
pub(crate) fn write(file: &Path, text: &str) -> Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    if !file.to_string_lossy().ends_with("kubeconfig") {
        return Ok(());
    }
    fs::set_permissions(file, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("protect {}", file.display()))
}

fn kubelet(pki: &Path) -> String {
    let pki = pki.display();
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {{ enabled: false }}
  webhook: {{ enabled: true }}
  x509: {{ clientCAFile: {pki}/ca.crt }}
authorization: {{ mode: Webhook }}
tlsCertFile: {pki}/kubelet.crt
tlsPrivateKeyFile: {pki}/kubelet.key
cgroupDriver: cgroupfs
cgroupRoot: /{CGROUP}
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
clusterDNS: [{DNS_SERVICE}]
clusterDomain: cluster.local
resolvConf: ''
staticPodPath: ''
evictionHard: {{ memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1% }}
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 5s
registerWithTaints: []
crashLoopBackOff: {{ maxContainerRestartPeriod: 1s }}
shutdownGracePeriod: 0s
"
    )
}

fn kube_proxy(folder: &Path) -> String {
    let kubeconfig = folder.join("kube-proxy.kubeconfig");
    // Connection tracking limits belong to the host's network namespace and can't be set from ours.
    format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {{ kubeconfig: {} }}
clusterCIDR: {POD_SUBNET}
conntrack: {{ maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s }}
",
        kubeconfig.display()
    )
}

fn containerd(layout: &Layout) -> String {
    format!(
        "version = 3
root = '{}'
state = '/run/containerd'
disabled_plugins = ['io.containerd.internal.v1.opt', 'io.containerd.nri.v1.nri']

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{}'

[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  cdi_spec_dirs = ['/run/cdi']

[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['/usr/lib/cni']
  conf_dir = '{}'
",
        layout.containerd.display(),
        super::images::PAUSE,
        layout.config().join("cni").display()
    )
}

/// Routed pairs instead of a bridge: every packet passes the node, so service replies find their way back
/// without the kernel's bridge filter. The version is one that the plugins of older distributions know, too.
const POD_NETWORK: &str = r#"{
  "cniVersion": "0.4.0",
  "name": "plasma-dev",
  "plugins": [
    { "type": "ptp", "ipMasq": false,
      "ipam": { "type": "host-local", "subnet": "10.244.0.0/24", "dataDir": "/run/cni-ipam", "routes": [{ "dst": "0.0.0.0/0" }] } }
  ]
}
"#;

/// RFC 4648, as kubeconfigs want it.
fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let group =
            chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = char::from(ALPHABET[(group >> (18 - 6 * place) & 63) as usize]);
            encoded.push(if place <= chunk.len() { letter } else { '=' });
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_matches_the_examples_of_rfc_4648() {
        for (plain, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(super::base64(plain), encoded);
        }
    }
}
