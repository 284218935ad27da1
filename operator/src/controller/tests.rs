//! In which order a reconcile talks to the API server: against one that is made up, and keeps a list.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Mutex, MutexGuard},
};

use clap::Parser as _;
use plasma_runtime::prometheus::Registry;
use serde_json::{Value, from_value, json};

use super::*;

mod grouped;

/// Answers as an API server would in which there are one job, its queue and nothing else.
#[derive(Default)]
struct ApiServer {
    /// Code and words with which it refuses a rehearsal of a Job, and the ComputeJob's status.
    refuses_job: Option<(u16, &'static str)>,
    refuses_status: Option<(u16, &'static str)>,
    /// What it says of upstream's PodGroups.
    upstream: grouped::Upstream,
    /// What was asked of it, in order: `rehearse` or `make` with the object, `status` with what it was to say.
    asked: Mutex<Vec<(&'static str, Value)>>,
}

impl ApiServer {
    fn answer(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let mut asked = self.asked.lock().unwrap();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if let Some(answer) = self.upstream.answer(method, path, &body) {
            return answer;
        }
        match (method, path.rsplit('/').next().unwrap_or_default()) {
            ("GET", "j") => (200, job()),
            ("GET", "research") => (200, queue()),
            ("GET", "jobs" | "pods") => {
                (200, json!({ "kind": "List", "apiVersion": "v1", "metadata": {}, "items": [] }))
            }
            ("PATCH", "status") => {
                asked.push(("status", body["status"].clone()));
                self.refuses_status.map_or((200, job()), |(code, words)| failure(code, words))
            }
            ("PATCH", _) if query.contains("dryRun=All") => {
                asked.push(("rehearse", body.clone()));
                let refused = self.refuses_job.filter(|_| path.contains("/batch/"));
                refused.map_or((200, self.upstream.kept(body)), |(code, words)| failure(code, words))
            }
            ("PATCH", _) => {
                asked.push(("make", body.clone()));
                (200, body)
            }
            ("POST", "events") => (201, body),
            _ => failure(404, "not found"),
        }
    }

    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let (method, path) = (line.split(' ').next()?.to_owned(), line.split(' ').nth(1)?.to_owned());
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            match line.trim_end().to_ascii_lowercase().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().ok()?,
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let (code, answer) = self.answer(&method, &path, serde_json::from_slice(&body).unwrap_or_default());
        let answer = answer.to_string();
        let head = format!("HTTP/1.1 {code} -\r\ncontent-type: application/json\r\nconnection: close\r\n");
        write!(&stream, "{head}content-length: {}\r\n\r\n{answer}", answer.len()).ok()
    }

    fn asked(&self) -> MutexGuard<'_, Vec<(&'static str, Value)>> {
        self.asked.lock().unwrap()
    }
}

fn failure(code: u16, message: &str) -> (u16, Value) {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "code": code,
        "reason": if code == 404 { "NotFound" } else { "" } });
    (code, status)
}

fn job() -> Value {
    json!({
        "apiVersion": "compute.plasma.dev/v1alpha1", "kind": "ComputeJob",
        "metadata": { "name": "j", "namespace": "team", "uid": "123e4567-e89b-12d3-a456-426614174000", "resourceVersion": "7" },
        "spec": { "queue": "research", "maxRuntimeSeconds": 60, "roles": [
            { "name": "worker", "replicas": 2, "template": { "spec": { "containers": [{ "name": "c" }] } } },
        ] },
    })
}

fn queue() -> Value {
    json!({
        "apiVersion": "compute.plasma.dev/v1alpha1", "kind": "ComputeQueue", "metadata": { "name": "research" },
        "spec": { "namespaces": ["team"] },
    })
}

/// One reconcile of the job.
async fn reconciled(server: ApiServer) -> (Arc<ApiServer>, Result<Action, Failure>) {
    let server = Arc::new(server);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let serving = server.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            serving.serve(stream).expect("a request");
        }
    });
    // No request is sent twice: the API server's word is the test's.
    let mut config = kube::Config::new(url.parse().expect("a URL"));
    config.default_retry = false;
    let client = Client::try_from(config).expect("a client");
    let metrics = Metrics::register(&Registry::new());
    let seen: Guarded = from_value(job()).expect("a job");
    let args = Args::parse_from(["plasma-operator", "--scheduler-name=default-scheduler"]);
    let outcome = reconcile(Arc::new(seen), Arc::new(Context { client, metrics, args })).await;
    (server, outcome)
}

#[tokio::test]
async fn an_attempt_is_rehearsed_then_told_of_and_only_then_made() {
    let (server, outcome) = reconciled(ApiServer::default()).await;
    outcome.expect("it goes well");
    let asked = server.asked();
    let verbs: Vec<&str> = asked.iter().map(|(verb, _)| *verb).collect();
    assert_eq!(verbs, ["rehearse", "rehearse", "rehearse", "status", "make", "make", "make"]);
    assert_eq!(asked[3].1["attempts"], json!({ "started": 1, "failed": 0 }));
    let made = asked.iter().filter(|(verb, _)| *verb == "make");
    let schedulers: Vec<&Value> =
        made.filter_map(|(_, object)| object.pointer("/spec/template/spec/schedulerName")).collect();
    assert_eq!(schedulers, ["default-scheduler"], "the cluster's, not the usual one");
}

#[tokio::test]
async fn nothing_is_made_where_the_status_could_not_be_written() {
    let (server, outcome) =
        reconciled(ApiServer { refuses_status: Some((409, "somebody changed it")), ..ApiServer::default() })
            .await;
    assert!(matches!(&outcome, Err(failure) if failure.class() == "conflict"), "{outcome:?}");
    assert!(server.asked().iter().all(|(verb, _)| *verb != "make"), "an attempt that nobody watches");
}

#[tokio::test]
async fn nothing_is_made_where_the_api_server_does_not_take_all_of_it() {
    let (server, outcome) =
        reconciled(ApiServer { refuses_job: Some((422, "image: Required value")), ..ApiServer::default() })
            .await;
    outcome.expect("it is told");
    let asked = server.asked();
    assert!(asked.iter().all(|(verb, _)| *verb != "make"), "{asked:?}");
    let (_, status) = asked.iter().find(|(verb, _)| *verb == "status").expect("a status");
    assert_eq!(status["phase"], "Refused");
    assert!(status["message"].as_str().is_some_and(|message| message.contains("image: Required value")));
}
