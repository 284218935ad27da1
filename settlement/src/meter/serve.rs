//! The meter's server: mutual TLS, renewed when its files change. Nothing that goes wrong here ends settlement.

use std::{io, net::SocketAddr, path::Path, time::Duration};

use plasma_proto::meter::meter_server::MeterServer;
use plasma_runtime::CancellationToken;
use tokio::{fs, net::TcpListener, time::sleep};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig, server::TcpIncoming};

use super::stream::Service;

/// No message is longer: a record has a few hundred bytes.
const LONGEST_MESSAGE: usize = 16 * 1024;
/// A call is begun anew so often, and its token reviewed anew with it.
const LONGEST_CALL: Duration = Duration::from_secs(3600);
/// How long a handshake, and the end of a call, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the certificates' files are looked at, and how soon what failed is tried again.
const LOOK: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// A node that is gone is noticed after two of these.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// What the server shows, and whom it believes.
#[derive(Clone, PartialEq, Eq)]
struct Files {
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// Why the server doesn't serve.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("cannot read {0}: {1}")]
    File(String, io::Error),
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    #[error("ca.crt, tls.crt and tls.key don't make a server: {0}")]
    Tls(tonic::transport::Error),
    #[error("it ended: {0}")]
    Ended(tonic::transport::Error),
}

/// Serves until told to end.
pub(crate) async fn serve(address: SocketAddr, folder: &Path, service: Service, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        match serve_once(address, folder, &service, &shutdown).await {
            Ok(()) => {}
            Err(fault) => {
                tracing::error!("the meter's server: {fault}; tried again in {LOOK:?}");
                let _ = shutdown.run_until_cancelled(sleep(LOOK)).await;
            }
        }
    }
}

/// Serves until told to end, or until the files change.
async fn serve_once(
    address: SocketAddr,
    folder: &Path,
    service: &Service,
    shutdown: &CancellationToken,
) -> Result<(), Fault> {
    let files = Files::read(folder).await?;
    let listener = TcpListener::bind(address).await.map_err(|fault| Fault::Listen(address, fault))?;
    let ending = CancellationToken::new();
    let serving = listen(listener, &files, Service { ending: ending.clone(), ..service.clone() });
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return ended,
        () = shutdown.cancelled() => {}
        () = change(folder, &files) => tracing::info!("the meter's certificates changed: serving with the new ones"),
    }
    ending.cancel();
    // Whoever doesn't take the end of its call is left.
    let _ = tokio::time::timeout(PATIENCE, serving).await;
    Ok(())
}

/// Serves on a socket until the service is ending.
async fn listen(listener: TcpListener, files: &Files, service: Service) -> Result<(), Fault> {
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(&files.certificate, &files.key))
        .client_ca_root(Certificate::from_pem(&files.ca))
        .timeout(PATIENCE);
    let ending = service.ending.clone();
    let service = MeterServer::new(service).max_decoding_message_size(LONGEST_MESSAGE);
    Server::builder()
        .tls_config(tls)
        .map_err(Fault::Tls)?
        .max_concurrent_streams(4)
        .http2_max_header_list_size(u32::try_from(2 * LONGEST_MESSAGE).unwrap_or(u32::MAX))
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .max_connection_age(LONGEST_CALL)
        .max_connection_age_grace(PATIENCE)
        .add_service(service)
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            ending.cancelled_owned(),
        )
        .await
        .map_err(Fault::Ended)
}

/// Ends when other files are there than these. While they can't be read, the old ones serve.
async fn change(folder: &Path, files: &Files) {
    loop {
        sleep(LOOK).await;
        if Files::read(folder).await.is_ok_and(|now| now != *files) {
            return;
        }
    }
}

impl Files {
    async fn read(folder: &Path) -> Result<Self, Fault> {
        let read = async |name: &str| {
            let path = folder.join(name);
            fs::read(&path).await.map_err(|fault| Fault::File(path.display().to_string(), fault))
        };
        Ok(Self {
            ca: read("ca.crt").await?,
            certificate: read("tls.crt").await?,
            key: read("tls.key").await?,
        })
    }
}

#[cfg(test)]
mod tests;
