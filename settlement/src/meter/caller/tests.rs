//! How often the API server is asked who calls.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use kube::client::Body;
use serde_json::json;
use tonic::codegen::http;

use super::*;

/// What an API server was asked: how often, how often at once, and at most.
#[derive(Default)]
struct Asked {
    times: AtomicUsize,
    now: AtomicUsize,
    most: Mutex<usize>,
}

/// An API server that takes a moment, and knows every token but "unknown".
fn callers() -> (Callers, Arc<Asked>) {
    let asked = Arc::new(Asked::default());
    let log = asked.clone();
    let answer = move |request: http::Request<Body>| {
        let asked = log.clone();
        async move {
            asked.times.fetch_add(1, SeqCst);
            let at_once = asked.now.fetch_add(1, SeqCst) + 1;
            {
                let mut most = asked.most.lock().unwrap();
                *most = at_once.max(*most);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            asked.now.fetch_sub(1, SeqCst);
            let body = request.into_body().collect_bytes().await?;
            let mut review: serde_json::Value = serde_json::from_slice(&body)?;
            review["status"] = match review["spec"]["token"].as_str() {
                Some("unknown") => json!({ "authenticated": false }),
                _ => json!({ "authenticated": true, "audiences": [AUDIENCE], "user": {
                    "username": "system:serviceaccount:plasma-system:plasma-device-plugin",
                    "extra": { NODE_NAME: ["n"] },
                } }),
            };
            let answer = Body::from(serde_json::to_vec(&review)?);
            Ok::<_, tower::BoxError>(http::Response::new(answer))
        }
    };
    let client = Client::new(tower::service_fn(answer), "plasma-system");
    (Callers::new(client, "plasma-system"), asked)
}

fn with(token: &str) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    metadata.insert("authorization", format!("Bearer {token}").parse().unwrap());
    metadata
}

#[tokio::test]
async fn who_calls_again_is_known_and_who_was_refused_is_asked_about_again() {
    let (callers, asked) = callers();
    for _ in 0..3 {
        assert_eq!(callers.node(&with("a")).await.unwrap(), "n");
    }
    assert_eq!(asked.times.load(SeqCst), 1);
    for _ in 0..2 {
        assert!(callers.node(&with("unknown")).await.is_err());
    }
    assert_eq!(asked.times.load(SeqCst), 3, "it may be good by now");
}

#[tokio::test]
async fn however_many_call_few_reviews_are_asked_for_at_once_and_everybody_is_answered() {
    let (callers, asked) = callers();
    let calls = (0..100).map(|number| {
        let callers = callers.clone();
        tokio::spawn(async move { callers.node(&with(&number.to_string())).await })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().unwrap(), "n");
    }
    assert_eq!((asked.times.load(SeqCst), *asked.most.lock().unwrap()), (100, AT_ONCE));
}
