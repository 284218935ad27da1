//! Whether the kubelet still answers: it is asked now and then, since a local connection ends with the process behind it, and
//! not while that hangs. Its server cuts whoever pings it more often than every five minutes, so what is asked is a pod.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use plasma_proto::pods::{GetPodRequest, ListPodsRequest, pods_client::PodsClient};
use tonic::{Status, transport::Channel};

use super::kubelet::ANSWER;

/// So often.
const ASK: Duration = Duration::from_secs(2);

type Question = Pin<Box<dyn Future<Output = Result<Instant, String>> + Send>>;

/// Follows whether the kubelet answers.
pub(super) struct Pulse {
    client: PodsClient<Channel>,
    asked: Option<Question>,
    due: Instant,
    heard: Instant,
    answer_within: Duration,
    /// A pod that it can be asked for: the cheapest question.
    pod: Option<String>,
}

impl Pulse {
    pub(super) fn new(client: PodsClient<Channel>) -> Self {
        let due = Instant::now() + ASK;
        Self { client, asked: None, due, heard: Instant::now(), answer_within: ANSWER, pod: None }
    }

    /// When it was last known to have told all that there was: it told something, or it was asked and answered.
    pub(super) fn heard(&self) -> Instant {
        self.heard
    }

    /// It told something.
    pub(super) fn felt(&mut self) {
        self.heard = Instant::now();
    }

    pub(super) fn there_is(&mut self, uid: &str) {
        self.pod = Some(uid.to_owned());
    }

    pub(super) fn is_gone(&mut self, uid: &str) {
        if self.pod.as_deref() == Some(uid) {
            self.pod = None;
        }
    }

    /// Ends when it no longer answers, and says so. Who waits for it may give up meanwhile and come again: the question goes on.
    pub(super) async fn lost(&mut self) -> String {
        loop {
            let question = match &mut self.asked {
                Some(question) => question,
                None => {
                    tokio::time::sleep_until(self.due.into()).await;
                    let question = ask(self.client.clone(), self.pod.clone(), self.answer_within);
                    self.asked.insert(Box::pin(question))
                }
            };
            let answer = question.await;
            self.asked = None;
            self.due = Instant::now() + ASK;
            match answer {
                Ok(heard) if heard > self.heard => self.heard = heard,
                Ok(_) => {}
                Err(fault) => return fault,
            }
        }
    }
}

/// Asks for one pod, or for all where none is known: they are few then. A refusal is an answer. When it was asked is what
/// counts: what happened later may not have been told yet.
async fn ask(
    mut client: PodsClient<Channel>,
    pod: Option<String>,
    answer_within: Duration,
) -> Result<Instant, String> {
    let asked = Instant::now();
    let answer = async {
        let _: Result<(), Status> = match pod {
            Some(pod_uid) => client.get_pod(GetPodRequest { pod_uid }).await.map(drop),
            None => client.list_pods(ListPodsRequest {}).await.map(drop),
        };
    };
    match tokio::time::timeout(answer_within, answer).await {
        Ok(()) => Ok(asked),
        Err(_) => Err(format!("the kubelet's Pods API hasn't answered for {answer_within:?}")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;
    use crate::socket::dial;

    #[tokio::test]
    async fn a_kubelet_that_hangs_with_its_socket_open_is_not_heard_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("pods-api.sock");
        let _hangs = UnixListener::bind(&socket).unwrap();
        let client = PodsClient::new(dial(&socket, None).await.unwrap());
        let answer_within = Duration::from_millis(300);
        let mut pulse = Pulse { answer_within, due: Instant::now(), ..Pulse::new(client) };
        let heard = pulse.heard();
        // As who waits for something else beside it.
        let tick = Duration::from_millis(100);
        let mut ticks = 0;
        let fault = loop {
            match tokio::time::timeout(tick, pulse.lost()).await {
                Ok(fault) => break fault,
                Err(_) => ticks += 1,
            }
            assert!(ticks < 50, "the question goes on");
        };
        assert!(fault.contains("hasn't answered for 300ms"), "{fault}");
        assert_eq!(pulse.heard(), heard);
        pulse.felt();
        assert!(pulse.heard() > heard);
    }

    #[tokio::test]
    async fn a_pod_that_goes_is_not_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("pods-api.sock");
        let _listens = UnixListener::bind(&socket).unwrap();
        let mut pulse = Pulse::new(PodsClient::new(dial(&socket, None).await.unwrap()));
        pulse.there_is("u");
        pulse.is_gone("v");
        assert_eq!(pulse.pod.as_deref(), Some("u"));
        pulse.is_gone("u");
        assert_eq!(pulse.pod, None);
    }
}
