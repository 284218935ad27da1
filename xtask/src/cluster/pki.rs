//! The cluster's certificates: three authorities, and an identity for each daemon.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// An authority that signs certificates, its own among the files of the state folder.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The authority's certificate, in PEM.
    pub(crate) certificate: String,
}

/// A certificate and its key, in PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().context("generate an authority's key")?;
        let certificate =
            params.self_signed(&key).with_context(|| format!("sign the authority {name}"))?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// A certificate for `user`, in `groups`, valid for the names and addresses of `hosts`, as client and server.
    pub(crate) fn issue(&self, user: &str, groups: &[&str], hosts: &[&str]) -> Result<Identity> {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params =
            CertificateParams::new(hosts).with_context(|| format!("name the certificate of {user}"))?;
        params.distinguished_name.push(DnType::CommonName, user);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().with_context(|| format!("generate the key of {user}"))?;
        let certificate = params.signed_by(&key, &self.issuer).with_context(|| format!("sign for {user}"))?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

impl Identity {
    /// Writes `<name>.crt` and `<name>.key`.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> Result<()> {
        write(folder, &format!("{name}.crt"), &self.certificate)?;
        write(folder, &format!("{name}.key"), &self.key)
    }
}

/// Writes every certificate and key that the daemons read, and returns the authority of users.
pub(crate) fn write_all(
    folder: &Path,
    node: &str,
    node_address: &str,
    service_address: &str,
) -> Result<Authority> {
    let users = Authority::new("plasma-dev")?;
    let store = Authority::new("plasma-dev-etcd")?;
    let front_proxy = Authority::new("plasma-dev-front-proxy")?;
    write(folder, "ca.crt", &users.certificate)?;
    write(folder, "etcd-ca.crt", &store.certificate)?;
    write(folder, "front-proxy-ca.crt", &front_proxy.certificate)?;

    store.issue("etcd", &[], &["127.0.0.1", "localhost"])?.write(folder, "etcd")?;
    store.issue("kube-apiserver", &[], &[])?.write(folder, "apiserver-etcd-client")?;
    front_proxy.issue("front-proxy-client", &[], &[])?.write(folder, "front-proxy-client")?;
    let service_names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let hosts: Vec<&str> =
        service_names.into_iter().chain(["localhost", "127.0.0.1", service_address, node_address]).collect();
    users.issue("kube-apiserver", &[], &hosts)?.write(folder, "apiserver")?;
    users
        .issue("kube-apiserver-kubelet-client", &["system:masters"], &[])?
        .write(folder, "apiserver-kubelet-client")?;
    users
        .issue(&format!("system:node:{node}"), &["system:nodes"], &[node, node_address])?
        .write(folder, "kubelet")?;

    let tokens = KeyPair::generate().context("generate the key of service account tokens")?;
    write(folder, "sa.key", &tokens.serialize_pem())?;
    write(folder, "sa.pub", &tokens.public_key_pem())?;
    Ok(users)
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let file = folder.join(name);
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    let mode = if name.ends_with(".key") { 0o600 } else { 0o644 };
    fs::set_permissions(&file, fs::Permissions::from_mode(mode))
        .with_context(|| format!("protect {}", file.display()))
}
