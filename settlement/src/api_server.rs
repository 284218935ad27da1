//! An API server for tests: it keeps objects, and refuses what a real one refuses of their versions.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use kube::{Client, client::Body};
use serde_json::{Value, json};
use tonic::codegen::http;

/// What is listed rather than got.
const LISTED: [&str; 2] = ["configmaps", "settlementbatches"];

/// The objects of one kind that an API server has, and how often one was written.
#[derive(Clone, Default)]
pub(crate) struct Server {
    pub(crate) objects: Arc<Mutex<BTreeMap<String, Value>>>,
    pub(crate) writes: Arc<Mutex<u64>>,
    /// Whether the next write's answer is lost.
    pub(crate) loses_answer: Arc<AtomicBool>,
}

impl Server {
    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        let answer = move |request: http::Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = serde_json::from_slice(&body.collect_bytes().await?).unwrap_or_default();
                let (code, value) = server.answer(head.method.as_str(), head.uri.path(), body);
                if head.method != "GET" && server.loses_answer.swap(false, Ordering::Relaxed) {
                    return Err("the connection was cut".into());
                }
                let response = http::Response::builder().status(code);
                Ok::<_, tower::BoxError>(response.body(Body::from(serde_json::to_vec(&value)?))?)
            }
        };
        Client::new(tower::service_fn(answer), "plasma-system")
    }

    pub(crate) fn answer(&self, verb: &str, path: &str, mut body: Value) -> (u16, Value) {
        let mut objects = self.objects.lock().unwrap();
        let refused = |code: u16| {
            let reason = if code == 404 { "NotFound" } else { "Conflict" };
            (
                code,
                json!({ "kind": "Status", "status": "Failure", "message": "no", "reason": reason, "code": code }),
            )
        };
        let name = match body["metadata"]["name"].as_str() {
            Some(name) => name.to_owned(),
            None => path.rsplit('/').next().unwrap_or_default().to_owned(),
        };
        let stored = objects.get(&name).map(|object| object["metadata"]["resourceVersion"].clone());
        match verb {
            "GET" if !LISTED.contains(&name.as_str()) => {
                objects.get(&name).cloned().map_or(refused(404), |object| (200, object))
            }
            "GET" => (200, json!({ "metadata": {}, "items": objects.values().collect::<Vec<_>>() })),
            "DELETE" => objects.remove(&name).map_or(refused(404), |object| (200, object)),
            "POST" if stored.is_some() => refused(409),
            "PUT" if stored.as_ref() != Some(&body["metadata"]["resourceVersion"]) => refused(409),
            _ => {
                let mut writes = self.writes.lock().unwrap();
                *writes += 1;
                body["metadata"]["resourceVersion"] = json!(writes.to_string());
                objects.insert(name, body.clone());
                (200, body)
            }
        }
    }
}
