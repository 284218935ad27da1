//! A client whose requests share a few connections, by HTTP/2: for a program with hundreds of requests under way at once.
//!
//! kube's own client speaks HTTP/1.1, where each request that is under way has a connection of its own: in a burst the API
//! server is busier with their TLS handshakes than with what is asked of it.

use std::{sync::Arc, time::Duration};

use axum::http::Request;
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt as _},
};
use tower::{BoxError, ServiceBuilder};

use crate::{CONNECT_TIMEOUT, StartError, bounded};

/// After so much silence the API server is asked whether it is still there, as Kubernetes' own clients ask it.
const SILENCE: Duration = Duration::from_secs(30);
/// So long it has to answer that, or the connection is given up and its requests with it.
const ANSWER: Duration = Duration::from_secs(15);

/// How many requests wait on one connection before the next one is taken: fewer than an API server takes, and enough for many
/// to be written and read at once, which is cheaper for both sides.
const ON_ONE: usize = 64;

/// A client for that cluster with so many connections, each of whose requests ends within that time, watches aside. A server
/// that doesn't speak HTTP/2 is spoken to as kube's own client does.
///
/// An API server takes so many requests on one connection at once (100, if it isn't told otherwise), and what is beyond that
/// waits for those, also where they aren't answered. So a request takes the first connection on which not too many wait.
///
/// Unlike that it tries nothing again by itself: who asks learns what the server says (429, 503), and decides.
///
/// # Errors
/// What the configuration names can't be used.
pub(crate) fn client(config: &Config, connections: usize, within: Duration) -> Result<Client, StartError> {
    let unusable = |fault: kube::Error| StartError::Client(Box::new(fault));
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config().map_err(unusable)?)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(tcp);
    let connect = || {
        HttpClient::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .http2_keep_alive_interval(SILENCE)
            .http2_keep_alive_timeout(ANSWER)
            // Kept: a burst that finds none makes one for each of its requests.
            .pool_idle_timeout(None)
            .build::<_, Body>(connector.clone())
    };
    // Each with how many requests wait on it for an answer.
    let all: Arc<[_]> = (0..connections.max(1)).map(|_| (connect(), Arc::new(()))).collect();
    let first_free = tower::service_fn(move |request: Request<Body>| {
        let all = all.clone();
        async move {
            // The first of those on which so few wait, else the one with fewest.
            let chosen = all.iter().min_by_key(|(_, waits)| Arc::strong_count(waits).max(ON_ONE));
            // There is one at least.
            let Some((http, waits)) = chosen else { return Err(BoxError::from("no connection")) };
            let _waits = waits.clone();
            http.request(request).await.map_err(BoxError::from)
        }
    });
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(unusable)?)
        .layer(config.extra_headers_layer().map_err(unusable)?)
        .service(first_free);
    Ok(bounded::bounded(Client::new(service, config.default_namespace.clone()), within))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        sync::{Arc, mpsc},
        thread,
    };

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};

    use super::*;

    /// A server that answers nothing, and of each connection tells how the client begins to speak.
    fn server() -> (u16, mpsc::Receiver<String>) {
        let certificate = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        let mut config = config.with_single_cert(vec![certificate.cert.der().clone()], key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (told, tell) = mpsc::channel();
        thread::spawn(move || {
            let config = Arc::new(config);
            for tcp in listener.incoming() {
                let mut stream =
                    StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), tcp.unwrap());
                let told = told.clone();
                thread::spawn(move || {
                    let mut begins = [0; 14];
                    stream.read_exact(&mut begins).unwrap();
                    told.send(String::from_utf8_lossy(&begins).into_owned()).unwrap();
                    // Whatever else it says, until it goes.
                    let _ = stream.read_to_end(&mut Vec::new());
                });
            }
        });
        (port, tell)
    }

    #[tokio::test]
    async fn what_the_server_says_is_told_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = Config::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
        let asked = tokio::task::spawn_blocking(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let _ = connection.read(&mut [0; 4096]).unwrap();
            let says = r#"{"kind":"Status","status":"Failure","message":"too busy","code":503}"#;
            let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json";
            write!(connection, "{head}\r\ncontent-length: {}\r\n\r\n{says}", says.len()).unwrap();
            // Whether it is asked once more.
            connection.read(&mut [0; 4096]).unwrap()
        });
        let client = client(&config, 1, Duration::from_secs(60)).unwrap();
        let fault = Api::<ConfigMap>::default_namespaced(client.clone()).get("one").await.unwrap_err();
        assert!(matches!(&fault, kube::Error::Api(status) if status.message == "too busy"), "{fault}");
        drop(client);
        assert_eq!(asked.await.unwrap(), 0);
    }

    #[tokio::test]
    async fn requests_that_are_under_way_together_share_a_connection_until_many_wait_on_it() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (port, connections) = server();
        let mut config = Config::new(format!("https://127.0.0.1:{port}").parse().unwrap());
        config.accept_invalid_certs = true;
        let client = client(&config, 2, Duration::from_secs(60)).unwrap();
        let ask = || {
            let maps = Api::<ConfigMap>::default_namespaced(client.clone());
            tokio::spawn(async move { maps.get("one").await })
        };
        let mut asked = vec![ask()];
        let first = tokio::task::spawn_blocking(move || (connections.recv().unwrap(), connections));
        let (first, connections) = first.await.unwrap();
        assert_eq!(first, "PRI * HTTP/2.0");
        asked.extend((1..ON_ONE).map(|_| ask()));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(connections.try_iter().count(), 0, "another connection was made");
        asked.push(ask());
        let next = tokio::task::spawn_blocking(move || connections.recv_timeout(Duration::from_secs(20)));
        assert_eq!(
            next.await.unwrap().as_deref(),
            Ok("PRI * HTTP/2.0"),
            "they would wait for those before them"
        );
        assert!(asked.iter().all(|asked| !asked.is_finished()), "they wait for their answers");
    }
}
