//! One node's call: its records come, its acknowledgements go.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use plasma_proto::meter::{
    Hello, Record, ReportRequest, ReportResponse, meter_server, report_request::Message,
};
use plasma_runtime::CancellationToken;
use plasma_types::UnixMillis;
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{Call, Meters, NotTaken, caller::Callers, parse::parse};

/// How long a caller may take to say who reports, and to take what ends its call.
const PATIENCE: Duration = Duration::from_secs(10);
/// What can't be used is named so often; unusable records are all counted.
const SELDOM: Duration = Duration::from_secs(10);
/// A journal's name is shorter.
const LONGEST_JOURNAL: usize = 512;

/// The meter's service.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) meters: Arc<Meters>,
    pub(crate) callers: Callers,
    /// Cancelled when this server ends.
    pub(crate) ending: CancellationToken,
}

type Answers = Sender<Result<ReportResponse, Status>>;

#[async_trait]
impl meter_server::Meter for Service {
    type ReportStream = ReceiverStream<Result<ReportResponse, Status>>;

    async fn report(
        &self,
        request: Request<Streaming<ReportRequest>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let node = self.callers.node(request.metadata()).await.inspect_err(|status| {
            self.meters.metrics.refused(status);
            tracing::warn!("a meter's call is refused: {}", status.message());
        })?;
        let (answers, answered): (Answers, Receiver<_>) = channel(1);
        let service = self.clone();
        tokio::spawn(async move {
            let records = request.into_inner();
            if let Err(status) = service.converse(&node, records, &answers).await {
                service.meters.metrics.refused(&status);
                tracing::warn!("node {node}: its meter's call ends: {}", status.message());
                let _ = timeout(PATIENCE, answers.send(Err(status))).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(answered)))
    }
}

impl Service {
    async fn converse(
        &self,
        node: &str,
        mut records: Streaming<ReportRequest>,
        answers: &Answers,
    ) -> Result<(), Status> {
        let hello = hello(node, &mut records).await?;
        let mut call = self.meters.begin(node, &hello.journal, hello.first_sequence);
        call.first_shows(UnixMillis(hello.now_ms)).map_err(|why| status(&why))?;
        tracing::info!("node {node}: its meter reports from record {} on", hello.first_sequence);
        call.acknowledged.mark_changed();
        let (mut owes_answer, mut said) = (false, None);
        loop {
            tokio::select! {
                biased;
                () = self.ending.cancelled() => {
                    return Err(Status::unavailable("settlement ends, or renews its certificate: call again"));
                }
                () = call.replaced.cancelled() => {
                    return Err(Status::aborted("a newer call of this node took this one's place"));
                }
                () = answers.closed() => return Ok(()),
                permit = answers.reserve(), if owes_answer => {
                    let Ok(permit) = permit else { return Ok(()) };
                    let acknowledged = *call.acknowledged.borrow_and_update();
                    permit.send(Ok(ReportResponse { acknowledged }));
                    owes_answer = false;
                }
                // The sender lives as long as the node is remembered, and that is as long as it calls.
                _ = call.acknowledged.changed(), if !owes_answer => owes_answer = true,
                message = records.message() => match message? {
                    None => return Ok(()),
                    Some(request) => self.take((&call, &mut said), request).await?,
                },
            }
        }
    }

    async fn take(
        &self,
        (call, said): (&Call<'_>, &mut Option<Instant>),
        request: ReportRequest,
    ) -> Result<(), Status> {
        match request.message {
            Some(Message::Record(record)) => self.take_record((call, said), record).await,
            Some(Message::Complete(complete)) => {
                let (until, shown) = (UnixMillis(complete.until_ms), UnixMillis(complete.now_ms));
                let believed = call.complete(until, shown).map_err(|why| status(&why))?;
                if let Err(why) = believed {
                    let node = &call.node;
                    seldom(said, || {
                        tracing::warn!("node {node}: {why}, by its meter: set the node's clock right")
                    });
                }
                Ok(())
            }
            Some(Message::Hello(_)) => Err(Status::invalid_argument("a second Hello: begin another call")),
            // Of a later protocol.
            None => Ok(()),
        }
    }

    /// `said` is when something that can't be used was last named: a node that sends many of them fills no log.
    async fn take_record(
        &self,
        (call, said): (&Call<'_>, &mut Option<Instant>),
        record: Record,
    ) -> Result<(), Status> {
        let sequence = record.sequence;
        let (line, wrong) = parse(record);
        if let Some(wrong) = wrong {
            self.meters.metrics.record("unusable");
            let node = &call.node;
            seldom(said, || {
                tracing::warn!("node {node}: record {sequence} of its meter isn't billed: {wrong}")
            });
        }
        loop {
            let mut rounds = call.rounds();
            match call.take(sequence, &line) {
                Ok(()) => return Ok(()),
                // The next round says which pods are needed. Meanwhile the node has to keep its records.
                Err(NotTaken::Full) => tokio::select! {
                    _ = rounds.changed() => {}
                    () = call.replaced.cancelled() => {}
                    () = self.ending.cancelled() => return Ok(()),
                },
                Err(why) => return Err(status(&why)),
            }
        }
    }
}

/// Says it, unless something was said not long ago.
fn seldom(said: &mut Option<Instant>, say: impl FnOnce()) {
    if said.is_none_or(|before| before.elapsed() >= SELDOM) {
        say();
        *said = Some(Instant::now());
    }
}

fn status(why: &NotTaken) -> Status {
    match why {
        NotTaken::OutOfOrder(fault) => Status::invalid_argument(fault.to_string()),
        NotTaken::Replaced => Status::aborted("a newer call of this node took this one's place"),
        NotTaken::Full => Status::resource_exhausted("too many pods at once: try again"),
    }
}

/// The first message: who reports. A caller speaks for the node in its token alone.
async fn hello(node: &str, records: &mut Streaming<ReportRequest>) -> Result<Hello, Status> {
    let first = timeout(PATIENCE, records.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no Hello came"))??;
    let Some(Message::Hello(hello)) = first.and_then(|request| request.message) else {
        return Err(Status::invalid_argument("the first message must be a Hello"));
    };
    if hello.node != node {
        let message =
            format!("the token is of node {node}, which may not speak for {:?}", shortened(&hello.node));
        return Err(Status::permission_denied(message));
    }
    if hello.journal.is_empty() || hello.journal.len() > LONGEST_JOURNAL {
        return Err(Status::invalid_argument("the journal has no name, or one that is too long"));
    }
    if hello.first_sequence == 0 {
        return Err(Status::invalid_argument("sequences begin with 1"));
    }
    Ok(hello)
}

fn shortened(text: &str) -> String {
    text.chars().take(253).collect()
}
