//! Brings the records to settlement, over mutual TLS, for ever: a call that ends is begun anew, from the first record that
//! isn't acknowledged.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use plasma_proto::meter::{
    Complete, Hello, ReportRequest, ReportResponse, meter_client::MeterClient, report_request::Message,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{
    Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::{Acknowledged, MeterArgs, Outbox, journal::Journal, lock, wire};
use crate::{backoff::Backoff, clock::Clock, socket::innermost};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How often it is asked whether the other side is still there, and how long it may take to say so.
const ALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// How long to wait after a failure, at first; then twice as long each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(30);
/// A call that ran this long was no failure.
const WORKED: Duration = Duration::from_secs(60);
/// So many records are read at once, and may be on their way.
const AT_ONCE: usize = 64;
/// What is new, and until when that is all, is sent this often at most: a receipt waits for it.
const SEND: Duration = Duration::from_millis(500);

/// Sends what lies in the outbox.
pub(crate) struct Sender {
    args: MeterArgs,
    node: String,
    outbox: watch::Receiver<Outbox>,
    clock: Clock,
}

impl Sender {
    pub(crate) fn new(
        args: MeterArgs,
        node: String,
        (outbox, clock): (watch::Receiver<Outbox>, Clock),
    ) -> Self {
        Self { args, node, outbox, clock }
    }

    /// Returns when there is no meter any more.
    pub(crate) async fn send_forever(mut self) {
        let Some(address) = self.args.meter_address.clone() else { return };
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
        let mut said = String::new();
        loop {
            let Ok(outbox) =
                self.outbox.wait_for(|outbox| outbox.journal.is_some()).await.map(|now| now.clone())
            else {
                return;
            };
            let Some(journal) = outbox.journal else { return };
            let began = tokio::time::Instant::now();
            let fault = match self.call(&address, (&journal, &outbox.acknowledged)).await {
                Ok(()) => return,
                Err(fault) => fault,
            };
            if began.elapsed() > WORKED {
                backoff.reset();
                said.clear();
            }
            // The same again and again is said once.
            if fault != said {
                tracing::warn!(
                    "the meter's records can't be brought to {address}: {fault}; they are kept, and tried again"
                );
                said = fault;
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// One call, until it ends; without a fault only where there is nobody left to send for.
    async fn call(
        &mut self,
        address: &str,
        (journal, acknowledged): (&Arc<Mutex<Journal>>, &Acknowledged),
    ) -> Result<(), String> {
        let channel = connect(address, self.args.meter_tls_dir.as_deref()).await?;
        let token = token(&self.args.meter_token_file)?;
        let (requests, stream) = mpsc::channel(AT_ONCE);
        let first = acknowledged.get() + 1;
        // Who writes to a slow disk has it locked meanwhile.
        let locked = journal.clone();
        let name = tokio::task::spawn_blocking(move || lock(&locked).name().to_owned()).await;
        let hello = Hello {
            node: self.node.clone(),
            journal: name.map_err(|fault| format!("the journal isn't read: {fault}"))?,
            first_sequence: first,
            now_ms: self.clock.now_ms(),
        };
        let _ = requests.send(message(Message::Hello(hello))).await;
        let mut request = Request::new(ReceiverStream::new(stream));
        request.metadata_mut().insert("authorization", token);
        let answers = MeterClient::new(channel).report(request).await;
        let answers = answers.map_err(|status| in_words(&status))?.into_inner();
        tracing::info!("the meter reports to {address}, from record {first} on");
        tokio::select! {
            ended = listen(answers, acknowledged) => Err(ended),
            ended = feed((self.outbox.clone(), &self.clock), (journal, acknowledged), (requests, first - 1)) => ended,
        }
    }
}

/// Takes acknowledgements in until the call ends; why it does.
async fn listen(mut answers: Streaming<ReportResponse>, acknowledged: &Acknowledged) -> String {
    loop {
        let taken = match answers.next().await {
            Some(Ok(answer)) => acknowledged.take(answer.acknowledged),
            Some(Err(status)) => Err(in_words(&status)),
            None => Err("settlement ended the call".to_owned()),
        };
        if let Err(fault) = taken {
            return fault;
        }
    }
}

/// Sends records in order, and when there are none, until when that is all.
async fn feed(
    (mut outbox, clock): (watch::Receiver<Outbox>, &Clock),
    (journal, acknowledged): (&Arc<Mutex<Journal>>, &Acknowledged),
    (requests, mut sent): (mpsc::Sender<ReportRequest>, u64),
) -> Result<(), String> {
    let mut said_ms = None;
    loop {
        // What is complete is so with the records that are there by then.
        let until_ms = until_of(&outbox.borrow_and_update(), journal)?;
        loop {
            let records = read(journal, sent).await?;
            let Some(last) = records.last() else { break };
            sent = last.sequence;
            for record in records {
                acknowledged.sends(record.sequence);
                let record = message(Message::Record(wire::record(record)));
                requests.send(record).await.map_err(|_| "settlement ended the call".to_owned())?;
            }
        }
        if let Some(until_ms) = until_ms.filter(|_| until_ms != said_ms) {
            let complete = message(Message::Complete(Complete { until_ms, now_ms: clock.now_ms() }));
            requests.send(complete).await.map_err(|_| "settlement ended the call".to_owned())?;
            said_ms = Some(until_ms);
        }
        tokio::time::sleep(SEND).await;
        if outbox.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// Until when all is in the journal, as long as it is the one that is written to.
fn until_of(outbox: &Outbox, journal: &Arc<Mutex<Journal>>) -> Result<Option<u64>, String> {
    let is_it = outbox.journal.as_ref().is_some_and(|is| Arc::ptr_eq(is, journal));
    is_it.then_some(outbox.until_ms).ok_or_else(|| "the meter goes on in another journal".to_owned())
}

/// The disk may take its time.
async fn read(
    journal: &Arc<Mutex<Journal>>,
    after: u64,
) -> Result<Vec<plasma_device_plugin_core::Record>, String> {
    let journal = journal.clone();
    let read = tokio::task::spawn_blocking(move || lock(&journal).read_after(after, AT_ONCE)).await;
    let read = read.map_err(|fault| fault.to_string())?;
    read.map_err(|fault| format!("the journal can't be read: {fault}"))
}

fn message(message: Message) -> ReportRequest {
    ReportRequest { message: Some(message) }
}

/// The certificates are read at each connect: whoever renews them needs no restart.
async fn connect(address: &str, folder: Option<&Path>) -> Result<Channel, String> {
    let folder = folder.ok_or("--meter-tls-dir is needed")?;
    let file = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map_err(|fault| format!("{}: {fault}", path.display()))
    };
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(file("ca.crt")?))
        .identity(Identity::from_pem(file("tls.crt")?, file("tls.key")?));
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|fault| innermost(&fault))?;
    let endpoint = endpoint.tls_config(tls).map_err(|fault| innermost(&fault))?;
    let endpoint = endpoint
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(ALIVE.0)
        .keep_alive_timeout(ALIVE.1)
        .keep_alive_while_idle(true);
    endpoint.connect().await.map_err(|fault| innermost(&fault))
}

/// The kubelet writes the token anew before it ends.
fn token(file: &Path) -> Result<MetadataValue<Ascii>, String> {
    let token = fs::read_to_string(file).map_err(|fault| format!("{}: {fault}", file.display()))?;
    let header = format!("Bearer {}", token.trim());
    let mut header: MetadataValue<Ascii> =
        header.parse().map_err(|_| format!("{} has no token", file.display()))?;
    header.set_sensitive(true);
    Ok(header)
}

fn in_words(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
