//! An API server over TLS that says who asked it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};
use tempfile::TempDir;

use super::*;

/// The pod's folder, and a server that an authority vouches for: both can be changed.
struct Pod {
    account: ServiceAccount,
    folder: TempDir,
    certificates: std::sync::mpsc::Sender<ServerConfig>,
}

/// An authority as PEM, and a server that it vouches for.
fn authority() -> (String, ServerConfig) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer);
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![server.unwrap().der().clone()], key).unwrap();
    (issuer.pem(), config)
}

impl Pod {
    fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (listener, folder) = (TcpListener::bind("127.0.0.1:0").unwrap(), tempfile::tempdir().unwrap());
        let account = ServiceAccount {
            folder: folder.path().to_owned(),
            host: Some("127.0.0.1".to_owned()),
            port: listener.local_addr().unwrap().port(),
        };
        let (certificates, they_are) = std::sync::mpsc::channel();
        thread::spawn(move || serve(&listener, &they_are));
        let pod = Self { account, folder, certificates };
        pod.write("token", "first\n");
        pod
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.folder.path().join(file), text).unwrap();
    }

    /// The next connection is answered by a server of this authority.
    fn next(&self, (pem, server): (String, ServerConfig)) -> String {
        self.certificates.send(server).unwrap();
        pem
    }
}

/// One request a connection. Each answer is a ConfigMap whose name is what the request said of who asks.
fn serve(listener: &TcpListener, certificates: &std::sync::mpsc::Receiver<ServerConfig>) {
    for server in certificates {
        let connection = ServerConnection::new(Arc::new(server)).unwrap();
        let mut stream = StreamOwned::new(connection, listener.accept().unwrap().0);
        let mut asked = [0; 4096];
        // A client that trusts nobody here hangs up.
        let Ok(length) = stream.read(&mut asked) else { continue };
        let asked = String::from_utf8_lossy(&asked[..length]).into_owned();
        let who = asked.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or("nobody");
        let map = format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{who}"}}}}"#);
        let head =
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: ";
        write!(stream, "{head}{}\r\n\r\n{map}", map.len()).unwrap();
        stream.conn.send_close_notify();
        let _ = stream.flush();
    }
}

/// Who asks, as the server heard it.
async fn who(client: &Client) -> Result<String, String> {
    let map = Api::<ConfigMap>::default_namespaced(client.clone()).get("who").await;
    map.map(|map| map.metadata.name.unwrap()).map_err(|fault| fault.to_string())
}

#[tokio::test]
async fn a_token_and_an_authority_that_are_replaced_are_used() {
    let pod = Pod::new();
    pod.write("ca.crt", &pod.next(authority()));
    let client = pod.account.client().unwrap();
    assert_eq!(who(&client).await.unwrap(), "Bearer first");
    pod.write("token", "second");
    pod.write("ca.crt", &pod.next(authority()));
    assert_eq!(who(&client).await.unwrap(), "Bearer second");
}

#[tokio::test]
async fn a_server_of_another_authority_is_told_nothing() {
    let pod = Pod::new();
    pod.write("ca.crt", &authority().0);
    pod.next(authority());
    let fault = who(&pod.account.client().unwrap()).await.unwrap_err();
    assert!(fault.contains("invalid peer certificate"), "{fault}");
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let pod = Pod::new();
    let why = |account: &ServiceAccount| account.client().err().map(|fault| fault.to_string()).unwrap();
    assert!(why(&pod.account).contains("ca.crt can't be used: No such file"), "{}", why(&pod.account));
    pod.write("ca.crt", "none");
    assert!(why(&pod.account).contains("no certificate is in it"), "{}", why(&pod.account));
    pod.write("ca.crt", &authority().0);
    pod.write("token", "\u{1}");
    assert!(why(&pod.account).contains("token can't be used: it is no token"), "{}", why(&pod.account));
    let nowhere = ServiceAccount { host: None, ..pod.account.clone() };
    assert!(why(&nowhere).contains("KUBERNETES_SERVICE_HOST"), "{}", why(&nowhere));
    let sixth = ServiceAccount { host: Some("fd00::1".to_owned()), port: 6443, ..pod.account.clone() };
    assert_eq!(sixth.server().unwrap(), "https://[fd00::1]:6443/");
}
