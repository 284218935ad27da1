//! A pod's way to its API server, for a program whose memory counts: the service account's files and nothing else.
//!
//! What kube's own client can be made of besides, kubeconfigs and the commands and documents by which they name
//! credentials, is more than a tenth of a small program. Both files are read whenever they are used, since the kubelet
//! replaces the token within the hour, and the authority when it is rotated.

use std::{
    error::Error as StdError,
    fmt::Write as _,
    io,
    net::Ipv6Addr,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::http::{HeaderValue, Request, Uri, header};
use clap::Args;
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Client,
    client::{Body, middleware::BaseUriLayer, retry::RetryPolicy},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tower::{BoxError, Service as _, ServiceBuilder, retry::RetryLayer};

use crate::{CONNECT_TIMEOUT, REQUEST_TIMEOUT, StartError, bounded};

/// Where a pod's API server is, and as who it is asked. Flatten this into a program's own arguments.
#[derive(Args, Clone, Debug)]
pub struct ServiceAccount {
    /// The folder of the service account: `token` and `ca.crt`.
    #[arg(
        long = "service-account-dir",
        env = "SERVICE_ACCOUNT_DIR",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount"
    )]
    folder: PathBuf,

    /// The API server's address or name. A pod is told by the kubelet.
    #[arg(long = "api-server-host", env = "KUBERNETES_SERVICE_HOST")]
    host: Option<String>,

    /// The API server's port.
    #[arg(long = "api-server-port", env = "KUBERNETES_SERVICE_PORT", default_value_t = 443)]
    port: u16,
}

impl ServiceAccount {
    /// A client for the cluster, each of whose requests ends within half a minute, watches aside. To be made in a
    /// runtime.
    ///
    /// # Errors
    /// The API server's address isn't known, or a file can't be used.
    pub fn client(&self) -> Result<Client, StartError> {
        let server = self.server()?;
        // For a clear word at the start. Each is read again when it is used.
        self.bearer().and_then(|_| self.tls()).map_err(StartError::ServiceAccount)?;
        let (this, connecting) = (self.clone(), self.clone());
        let connector = tower::service_fn(move |uri| Box::pin(connect(connecting.clone(), uri)));
        let http = HttpClient::builder(TokioExecutor::new()).build::<_, Body>(connector);
        let service = tower::service_fn(move |mut request: Request<Body>| {
            let (http, bearer) = (http.clone(), this.bearer());
            async move {
                request.headers_mut().insert(header::AUTHORIZATION, bearer?);
                let answer = http.request(request).await;
                answer.map_err(|fault| BoxError::from(io::Error::other(with_causes(&fault))))
            }
        });
        let service = ServiceBuilder::new()
            .layer(BaseUriLayer::new(server))
            .layer(RetryLayer::new(RetryPolicy::server_retry()))
            .service(service);
        Ok(bounded::bounded(Client::new(service, "default"), REQUEST_TIMEOUT))
    }

    fn server(&self) -> Result<Uri, StartError> {
        let host = self.host.as_deref().ok_or_else(|| {
            StartError::ServiceAccount(io::Error::other(
                "--api-server-host (KUBERNETES_SERVICE_HOST) isn't given, as it is in every pod",
            ))
        })?;
        let host = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() };
        let server = format!("https://{host}:{}", self.port);
        server.parse().map_err(|fault| {
            StartError::ServiceAccount(io::Error::other(format!(
                "--api-server-host {host} is no address: {fault}"
            )))
        })
    }

    /// What a request says of who asks.
    fn bearer(&self) -> io::Result<HeaderValue> {
        let file = self.folder.join("token");
        let token = String::from_utf8(read(&file)?).unwrap_or_default();
        let bearer = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
        let mut bearer = bearer.map_err(|_| unusable(&file, "it is no token"))?;
        bearer.set_sensitive(true);
        Ok(bearer)
    }

    /// Who is believed to be the API server: whom the cluster's authority vouches for.
    fn tls(&self) -> io::Result<ClientConfig> {
        let file = self.folder.join("ca.crt");
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&read(&file)?) {
            let certificate = certificate.map_err(|fault| unusable(&file, &fault))?;
            roots.add(certificate).map_err(|fault| unusable(&file, &fault))?;
        }
        if roots.is_empty() {
            return Err(unusable(&file, "no certificate is in it"));
        }
        Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
    }
}

type Connection = <hyper_rustls::HttpsConnector<HttpConnector> as tower::Service<Uri>>::Response;

async fn connect(account: ServiceAccount, uri: Uri) -> Result<Connection, BoxError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    let mut connector = hyper_rustls::HttpsConnector::from((tcp, Arc::new(account.tls()?)));
    let connection = tokio::time::timeout(CONNECT_TIMEOUT, connector.call(uri)).await;
    connection.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing within {CONNECT_TIMEOUT:?}")).into())
    })
}

/// The client says "client error (Connect)"; why is further down.
fn with_causes(fault: &dyn StdError) -> String {
    let (mut words, mut cause) = (fault.to_string(), fault.source());
    while let Some(deeper) = cause {
        let _ = write!(words, ": {deeper}");
        cause = deeper.source();
    }
    words
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(file).map_err(|fault| unusable(file, &fault))
}

fn unusable(file: &Path, why: &(impl std::fmt::Display + ?Sized)) -> io::Error {
    io::Error::other(format!("the service account's {} can't be used: {why}", file.display()))
}

#[cfg(test)]
mod tests;
