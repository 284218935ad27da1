//! A settlement, as far as a meter can tell: it takes records over mutual TLS, and acknowledges them or doesn't.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use plasma_proto::meter::{
    Hello, Record, ReportRequest, ReportResponse,
    meter_server::{Meter, MeterServer},
    report_request::Message,
};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc, watch},
};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};

/// What was told, over all calls.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) hellos: Vec<Hello>,
    /// By journal and sequence. The same number twice must be the same record.
    pub(crate) records: BTreeMap<(String, u64), Record>,
    pub(crate) repeated: usize,
    pub(crate) until_ms: u64,
    pub(crate) tokens: Vec<String>,
}

/// A settlement at an address that stays the same when it is started again.
pub(crate) struct Settlement {
    pub(crate) address: SocketAddr,
    folder: PathBuf,
    pub(crate) heard: Arc<Mutex<Heard>>,
    acknowledges: watch::Sender<bool>,
    runtime: Option<Runtime>,
}

impl Settlement {
    /// Makes certificates and a token in the folder, and starts.
    pub(crate) fn start(folder: &Path) -> Self {
        write_certificates(folder);
        std::fs::write(folder.join("token"), "first\n").unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let acknowledges = watch::channel(true).0;
        let (folder, heard) = (folder.to_owned(), Arc::default());
        let mut settlement = Self { address, folder, heard, acknowledges, runtime: None };
        settlement.start_again();
        settlement
    }

    /// The arguments by which a plugin finds it.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let folder = self.folder.display();
        let mut arguments = vec![format!("--meter-address=https://localhost:{}", self.address.port())];
        arguments.push(format!("--meter-tls-dir={folder}"));
        arguments.push(format!("--meter-token-file={folder}/token"));
        arguments
    }

    /// Cuts every connection.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub(crate) fn start_again(&mut self) {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let read = |file: &str| std::fs::read(self.folder.join(file)).unwrap();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(read("server.crt"), read("server.key")))
            .client_ca_root(Certificate::from_pem(read("ca.crt")));
        let service = MeterServer::new(Service(self.heard.clone(), self.acknowledges.subscribe()));
        let address = self.address;
        runtime.spawn(async move {
            let listener = loop {
                // The one before may not have let go of it yet.
                match tokio::net::TcpListener::bind(address).await {
                    Ok(listener) => break listener,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            };
            let server = Server::builder().tls_config(tls).unwrap().add_service(service);
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        self.runtime = Some(runtime);
    }

    /// Whether it acknowledges what it takes.
    pub(crate) fn acknowledge(&self, does: bool) {
        self.acknowledges.send_replace(does);
    }

    /// Waits until what was heard is so.
    pub(crate) async fn hears(&self, what: &str, is_so: impl Fn(&Heard) -> bool) {
        let heard = async {
            while !is_so(&self.heard.lock().unwrap()) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let became = tokio::time::timeout(crate::kubelet::PATIENCE, heard).await;
        let heard = self.heard.lock().unwrap();
        assert!(became.is_ok(), "{what}: {:#?} {:#?}", heard.hellos, heard.records.values());
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Service(Arc<Mutex<Heard>>, watch::Receiver<bool>);

impl Service {
    /// Takes one message in; the sequence that may be acknowledged.
    fn take(&self, journal: &mut String, message: Message) -> Option<u64> {
        let mut heard = self.0.lock().unwrap();
        match message {
            Message::Hello(hello) => {
                journal.clone_from(&hello.journal);
                heard.hellos.push(hello);
                let known = heard.records.keys().filter(|(of, _)| of == journal);
                known.map(|(_, sequence)| *sequence).max()
            }
            Message::Record(record) => {
                let sequence = record.sequence;
                match heard.records.insert((journal.clone(), sequence), record.clone()) {
                    Some(before) => {
                        assert_eq!(before, record, "the same number, another record");
                        heard.repeated += 1;
                    }
                    None => {
                        assert!(record.end_ms >= heard.until_ms, "it was said that all of before was sent")
                    }
                }
                Some(sequence)
            }
            Message::Complete(complete) => {
                heard.until_ms = heard.until_ms.max(complete.until_ms);
                None
            }
        }
    }
}

#[tonic::async_trait]
impl Meter for Service {
    type ReportStream = Pin<Box<dyn Stream<Item = Result<ReportResponse, Status>> + Send>>;

    async fn report(
        &self,
        request: Request<Streaming<ReportRequest>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let token = request.metadata().get("authorization").unwrap().to_str().unwrap().to_owned();
        self.0.lock().unwrap().tokens.push(token);
        let mut stream = request.into_inner();
        let service = Self(self.0.clone(), self.1.clone());
        let (answer, answers) = mpsc::channel(16);
        tokio::spawn(async move {
            let (mut journal, mut taken) = (String::new(), 0);
            let mut acknowledges = service.1.clone();
            loop {
                let does = *acknowledges.borrow_and_update();
                if does && taken > 0 && answer.send(Ok(ReportResponse { acknowledged: taken })).await.is_err()
                {
                    return;
                }
                tokio::select! {
                    message = stream.message() => match message {
                        Ok(Some(ReportRequest { message: Some(message) })) => {
                            taken = service.take(&mut journal, message).unwrap_or(taken);
                        }
                        _ => return,
                    },
                    changed = acknowledges.changed() => if changed.is_err() { return },
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

/// An authority, and a certificate of each side.
fn write_certificates(folder: &Path) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(vec![]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(folder.join("ca.crt"), authority.self_signed(&authority_key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let sides =
        [("server", ExtendedKeyUsagePurpose::ServerAuth), ("tls", ExtendedKeyUsagePurpose::ClientAuth)];
    for (name, usage) in sides {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &issuer).unwrap();
        std::fs::write(folder.join(format!("{name}.crt")), certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}
