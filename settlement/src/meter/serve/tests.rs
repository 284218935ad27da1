//! The server as nodes meet it: over TLS, with an API server that knows their tokens.

use std::sync::Arc;

use k8s_openapi::api::authentication::v1::TokenReview;
use kube::{Client, client::Body};
use plasma_proto::meter::{
    Complete, Device, Hello, Holder, Record, ReportRequest, ReportResponse, meter_client::MeterClient,
    report_request::Message,
};
use plasma_types::PodUid;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    codegen::http,
    transport::{Channel, ClientTlsConfig},
};

use super::*;
use crate::{
    meter::{Meters, Need, caller::Callers},
    metrics::MeterMetrics,
};

const POD: &str = "05050505-0505-0505-0505-050505050505";
const PLUGIN: &str = "system:serviceaccount:plasma-system:plasma-device-plugin";

/// An authority, and a certificate for a name that it signed.
struct Pki {
    ca: String,
    certificate: String,
    key: String,
}

fn pki(authority: Option<&(CertificateParams, KeyPair)>, name: &str) -> Pki {
    let made = authority.is_none().then(self::authority);
    let (params, ca_key) = authority.or(made.as_ref()).expect("an authority");
    let ca = params.self_signed(ca_key).expect("it is signed").pem();
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let issuer = Issuer::from_params(params, ca_key);
    let certificate = leaf.signed_by(&key, &issuer).expect("it is signed").pem();
    Pki { ca, certificate, key: key.serialize_pem() }
}

fn authority() -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (params, KeyPair::generate().expect("a key"))
}

/// What the API server says of each token.
fn reviewed(token: &str) -> Value {
    let user = |name: &str, node: &str| {
        json!({ "authenticated": true, "audiences": ["plasma-meter"], "user": {
            "username": name, "extra": { "authentication.kubernetes.io/node-name": [node] } } })
    };
    match token {
        "of-n" => user(PLUGIN, "n"),
        "of-m" => user(PLUGIN, "m"),
        "of-another-program" => user("system:serviceaccount:team:job", "n"),
        "bound-to-nothing" => {
            json!({ "authenticated": true, "audiences": ["plasma-meter"], "user": { "username": PLUGIN } })
        }
        "for-somebody-else" => {
            json!({ "authenticated": true, "audiences": ["https://kubernetes"], "user": { "username": PLUGIN } })
        }
        _ => json!({ "authenticated": false, "error": "token has expired" }),
    }
}

fn api_server() -> Client {
    let answer = |request: http::Request<Body>| async move {
        let body = request.into_body().collect_bytes().await?;
        let mut review: TokenReview = serde_json::from_slice(&body)?;
        if review.spec.token == "nobody-answers" {
            return Err("the API server is away".into());
        }
        review.status = Some(serde_json::from_value(reviewed(&review.spec.token))?);
        Ok::<_, tower::BoxError>(http::Response::new(Body::from(serde_json::to_vec(&review)?)))
    };
    Client::new(tower::service_fn(answer), "plasma-system")
}

/// A server, and what a node needs to call it.
struct Served {
    meters: Arc<Meters>,
    address: SocketAddr,
    client: Pki,
    folder: tempfile::TempDir,
    shutdown: CancellationToken,
}

impl Served {
    async fn start() -> Self {
        let authority = authority();
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), &pki(Some(&authority), "localhost"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let meters = Arc::new(Meters::new(MeterMetrics::new()));
        let callers = Callers::new(api_server(), "plasma-system");
        let service = Service { meters: meters.clone(), callers, ending: CancellationToken::new() };
        let (shutdown, path) = (CancellationToken::new(), folder.path().to_owned());
        let until = shutdown.clone();
        tokio::spawn(async move { serve(address, &path, service, until).await });
        Self { meters, address, client: pki(Some(&authority), "device-plugin"), folder, shutdown }
    }

    async fn connect(&self, client: Option<&Pki>) -> Result<MeterClient<Channel>, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.client.ca))
            .domain_name("localhost");
        if let Some(pki) = client {
            tls = tls.identity(Identity::from_pem(&pki.certificate, &pki.key));
        }
        let url = format!("https://{}", self.address);
        let endpoint = Channel::from_shared(url).expect("a url").tls_config(tls)?;
        let mut tries = 0;
        loop {
            match endpoint.connect().await {
                // It may not listen yet.
                Err(_) if tries < 100 && client.is_some_and(|pki| std::ptr::eq(pki, &self.client)) => {
                    tries += 1;
                    sleep(Duration::from_millis(20)).await;
                }
                connected => return Ok(MeterClient::new(connected?)),
            }
        }
    }

    /// A call of a node that says hello.
    async fn call(&self, token: &str, node: &str, first_sequence: u64) -> Result<Node, Status> {
        let client = self.connect(Some(&self.client)).await.expect("it is connected");
        say_hello(client, (token, node), first_sequence).await
    }
}

async fn say_hello(
    mut client: MeterClient<Channel>,
    (token, node): (&str, &str),
    first_sequence: u64,
) -> Result<Node, Status> {
    let (requests, stream) = channel(100);
    let hello = Hello { node: node.to_owned(), journal: "j".to_owned(), first_sequence, now_ms: 0 };
    requests.send(request(Message::Hello(hello))).await.expect("it is sent");
    let mut call = Request::new(ReceiverStream::new(stream));
    call.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a header"));
    let answers = client.report(call).await?.into_inner();
    Ok(Node { requests, answers })
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

struct Node {
    requests: Sender<ReportRequest>,
    answers: Streaming<ReportResponse>,
}

impl Node {
    async fn send(&self, message: Message) {
        let _ = self.requests.send(request(message)).await;
    }

    /// Until so much is acknowledged.
    async fn acknowledged(&mut self, expected: u64) -> Result<(), Status> {
        loop {
            let answer = tokio::time::timeout(PATIENCE, self.answers.message()).await.expect("an answer");
            let answer = answer?.ok_or_else(|| Status::cancelled("the call is over"))?;
            if answer.acknowledged == expected {
                return Ok(());
            }
        }
    }
}

fn request(message: Message) -> ReportRequest {
    ReportRequest { message: Some(message) }
}

fn record(sequence: u64, holder: Option<Holder>) -> Message {
    let uuid = "GPU-0".to_owned();
    Message::Record(Record {
        sequence,
        device: Some(Device { uuid: uuid.clone(), gpu_uuid: uuid, milli_gpu: 1000, ..Device::default() }),
        holder,
        start_ms: sequence.saturating_mul(1000),
        end_ms: sequence.saturating_mul(1000).saturating_add(1000),
        healthy_ms: 1000,
        ..Record::default()
    })
}

fn of_pod(uid: &str) -> Option<Holder> {
    Some(Holder { pod_uid: uid.to_owned(), pod_is_over: true, ..Holder::default() })
}

fn write(folder: &Path, pki: &Pki) {
    for (name, text) in [("ca.crt", &pki.ca), ("tls.crt", &pki.certificate), ("tls.key", &pki.key)] {
        std::fs::write(folder.join(name), text).expect("it is written");
    }
}

async fn refusal(served: &Served, token: &str, node: &str) -> Status {
    match served.call(token, node, 1).await {
        Err(status) => status,
        Ok(mut node) => node.acknowledged(u64::MAX).await.expect_err("it is refused"),
    }
}

#[tokio::test]
async fn a_nodes_records_are_taken_once_and_acknowledged_when_nobody_needs_them() {
    let served = Served::start().await;
    let mut node = served.call("of-n", "n", 1).await.expect("a call");
    node.acknowledged(0).await.expect("where it begins");
    node.send(record(1, None)).await;
    node.acknowledged(1).await.expect("nobody held it");
    node.send(record(2, of_pod(POD))).await;
    node.send(record(2, of_pod(POD))).await;
    node.send(Message::Complete(Complete { until_ms: 9000, now_ms: 0 })).await;
    let view = loop {
        let view = served.meters.view("n", PodUid([5; 16]));
        if view.complete_until.is_some() {
            break view;
        }
        sleep(Duration::from_millis(10)).await;
    };
    assert!(view.told.is_some_and(|told| told.is_complete()) && view.connected);
    served.meters.forget(&served.meters.places(), |_, _| Need::Nobody);
    node.acknowledged(2).await.expect("it isn't needed");
}

#[tokio::test]
async fn who_has_no_certificate_or_another_authoritys_is_refused() {
    let served = Served::start().await;
    served.call("of-n", "n", 1).await.expect("with the right one");
    let stranger = pki(None, "device-plugin");
    for client in [None, Some(&stranger)] {
        // TLS 1.3 tells the client only after it believes to be connected.
        if let Ok(client) = served.connect(client).await {
            let status = say_hello(client, ("of-m", "m"), 1).await.err().expect("it is refused");
            assert_ne!(status.code(), Code::Unauthenticated, "before its token is looked at: {status:?}");
        }
    }
    assert_eq!(served.meters.places().keys().collect::<Vec<_>>(), ["n"]);
}

#[tokio::test]
async fn a_caller_speaks_for_the_node_in_its_token_alone() {
    let served = Served::start().await;
    for (token, node, code, says) in [
        ("of-m", "n", Code::PermissionDenied, "may not speak for \"n\""),
        ("expired", "n", Code::Unauthenticated, "token has expired"),
        ("for-somebody-else", "n", Code::Unauthenticated, "audience plasma-meter"),
        ("of-another-program", "n", Code::PermissionDenied, "is no device plugin"),
        ("bound-to-nothing", "n", Code::PermissionDenied, "isn't bound to a pod on a node"),
        ("", "n", Code::Unauthenticated, "no token"),
        ("nobody-answers", "n", Code::Unavailable, "try again"),
    ] {
        let status = refusal(&served, token, node).await;
        assert!(status.code() == code && status.message().contains(says), "{token}: {status:?}");
    }
    assert!(served.meters.places().is_empty(), "nobody was heard");
}

#[tokio::test]
async fn a_newer_call_of_a_node_ends_the_earlier() {
    let served = Served::start().await;
    let mut first = served.call("of-n", "n", 1).await.expect("a call");
    first.acknowledged(0).await.expect("it is heard");
    let mut second = served.call("of-n", "n", 1).await.expect("a call");
    let ended = first.acknowledged(u64::MAX).await.expect_err("it is ended");
    assert_eq!(ended.code(), Code::Aborted);
    second.send(record(1, None)).await;
    second.acknowledged(1).await.expect("it goes on");
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_call_and_harms_nobody_else() {
    let served = Served::start().await;
    let mut other = served.call("of-m", "m", 1).await.expect("a call");
    let long = Holder { namespace: "n".repeat(100_000), ..Holder::default() };
    let hello = Hello { node: "n".to_owned(), journal: "j".to_owned(), first_sequence: 1, now_ms: 0 };
    for (message, says) in [
        (record(3, None), "record 3 comes after record 0"),
        (record(u64::MAX, of_pod(POD)), "comes after record 0"),
        (Message::Hello(hello), "second Hello"),
        (record(1, Some(long)), "too large"),
    ] {
        let mut node = served.call("of-n", "n", 1).await.expect("a call");
        node.send(message).await;
        let status = node.acknowledged(u64::MAX).await.expect_err("it is ended");
        assert!(status.message().contains(says), "{says}: {status:?}");
    }
    let mut node = served.call("of-n", "n", 1).await.expect("a call");
    node.send(record(1, of_pod("none"))).await;
    node.acknowledged(1).await.expect("a record that can't be used is needed by nobody");
    other.send(record(1, None)).await;
    other.acknowledged(1).await.expect("another node goes on");
    assert_eq!(refusal_of_sequence_zero(&served).await, Code::InvalidArgument);
}

async fn refusal_of_sequence_zero(served: &Served) -> Code {
    match served.call("of-n", "n", 0).await {
        Err(status) => status.code(),
        Ok(mut node) => node.acknowledged(u64::MAX).await.expect_err("it is refused").code(),
    }
}

#[tokio::test]
async fn without_certificates_it_says_what_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let fault = Files::read(folder.path()).await.err().expect("nothing to read").to_string();
    assert!(fault.contains("cannot read") && fault.contains("ca.crt"), "{fault}");
    let pki = pki(None, "localhost");
    write(folder.path(), &Pki { certificate: "nonsense".to_owned(), ..pki });
    let files = Files::read(folder.path()).await.expect("files");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let service = Service {
        meters: Arc::new(Meters::new(MeterMetrics::new())),
        callers: Callers::new(api_server(), "plasma-system"),
        ending: CancellationToken::new(),
    };
    let fault = listen(listener, &files, service).await.expect_err("no certificate").to_string();
    assert!(fault.contains("don't make a server"), "{fault}");
}

#[tokio::test]
async fn new_certificates_are_served_without_a_restart() {
    let mut served = Served::start().await;
    let mut node = served.call("of-n", "n", 1).await.expect("a call");
    let authority = authority();
    write(served.folder.path(), &pki(Some(&authority), "localhost"));
    let ended = node.acknowledged(u64::MAX).await.expect_err("it is ended");
    assert_eq!(ended.code(), Code::Unavailable, "{ended:?}");
    served.client = pki(Some(&authority), "device-plugin");
    let mut node = served.call("of-n", "n", 1).await.expect("a call");
    node.acknowledged(0).await.expect("it is heard");
}
