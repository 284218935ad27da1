//! An API server that keeps a lease, and nothing else.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{Method, StatusCode},
    response::Response,
};
use kube::Client;
use serde_json::{Value, json};

/// An API server with one lease, that answers while it is asked to.
#[derive(Clone, Default)]
pub(super) struct Server(Arc<Mutex<Kept>>);

#[derive(Default)]
pub(super) struct Kept {
    pub(super) lease: Option<Value>,
    pub(super) version: u64,
    /// So many of the next requests are never answered.
    pub(super) unanswered: usize,
    /// Who comes before so many of the next writes, and whom he says holds the lease.
    pub(super) meddler: (usize, Option<&'static str>),
}

impl Kept {
    /// Somebody else writes the lease before a write that is on its way.
    fn meddle(&mut self) {
        let (times, holder) = self.meddler;
        let Some(lease) = self.lease.as_mut().filter(|_| times > 0) else { return };
        self.version += 1;
        self.meddler.0 -= 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if let Some(holder) = holder {
            lease["spec"]["holderIdentity"] = json!(holder);
        }
    }
}

impl Server {
    pub(super) fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap()
    }

    pub(super) fn client(&self) -> Client {
        Client::new(Router::new().fallback(answer).with_state(self.clone()), "plasma-system")
    }

    pub(super) fn spec(&self) -> Value {
        self.kept().lease.as_ref().map_or(Value::Null, |lease| lease["spec"].clone())
    }

    /// What the holder is called, without the UUID behind it; nothing where nobody is.
    pub(super) fn holder(&self) -> String {
        name_of(self.spec()["holderIdentity"].as_str().unwrap_or_default())
    }
}

pub(super) fn name_of(identity: &str) -> String {
    identity.rsplit_once('_').map_or(identity, |(name, _)| name).to_owned()
}

async fn answer(State(server): State<Server>, method: Method, body: Bytes) -> Response {
    let is_answered = {
        let mut kept = server.kept();
        let left = kept.unanswered.checked_sub(1);
        kept.unanswered = left.unwrap_or_default();
        left.is_none()
    };
    if !is_answered {
        std::future::pending::<()>().await;
    }
    let mut kept = server.kept();
    if method == Method::PUT {
        kept.meddle();
    }
    let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
    let before = kept.lease.as_ref().map(|lease| lease["metadata"]["resourceVersion"].clone());
    let code = match (method, before) {
        (Method::GET, None) => 404,
        (Method::POST, None) => 201,
        (Method::PUT, Some(version)) if sent["metadata"]["resourceVersion"] == version => 200,
        (Method::POST | Method::PUT, _) => 409,
        _ => 200,
    };
    if !sent.is_null() && code < 300 {
        kept.version += 1;
        let mut stored = sent;
        stored["metadata"]["resourceVersion"] = json!(kept.version.to_string());
        kept.lease = Some(stored);
    }
    let failure = json!({ "kind": "Status", "status": "Failure", "code": code, "reason": if code == 404 { "NotFound" } else { "Conflict" }, "message": "no" });
    let answer = if code < 300 { kept.lease.clone().unwrap() } else { failure };
    let mut response = Response::new(Body::from(answer.to_string()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}
