//! Of several copies one leads; who can't renew counts himself out before another may lead.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{Method, StatusCode},
    response::Response,
};
use clap::Parser as _;
use serde_json::{Value, json};

use super::*;
use crate::Health;

/// An API server with one lease, that answers while it is asked to.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    lease: Option<Value>,
    version: u64,
    is_silent: bool,
}

impl Server {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap()
    }

    fn client(&self) -> Client {
        Client::new(Router::new().fallback(answer).with_state(self.clone()), "plasma-system")
    }

    fn holder(&self) -> Value {
        self.kept().lease.as_ref().map_or(Value::Null, |lease| lease["spec"]["holderIdentity"].clone())
    }
}

async fn answer(State(server): State<Server>, method: Method, body: Bytes) -> Response {
    if server.kept().is_silent {
        std::future::pending::<()>().await;
    }
    let mut kept = server.kept();
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

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    leader: LeaderArgs,
}

fn candidate(server: &Server, identity: &str) -> Candidate {
    let flags = ["test", "--leader-elect-identity", identity, "--leader-elect-lease-duration", "3"];
    let leadership = Leadership { until: Arc::default(), is_shared: true };
    Candidate::new(&server.client(), "the-lease", &Flags::parse_from(flags).leader, leadership)
}

fn gate() -> Gate {
    Health::default().gate("leads")
}

#[tokio::test]
async fn who_waits_for_another_is_ready_and_who_leads_then_not_yet() {
    let (server, health, shutdown) = (Server::default(), Health::default(), CancellationToken::new());
    let ready = health.gate("leads");
    let mut another = candidate(&server, "another");
    assert!(another.try_once().await);
    let flags = ["test", "--leader-elect-identity=me", "--leader-elect-resource-name=the-lease"];
    let (args, lost) = (Flags::parse_from(flags).leader, CancellationToken::new());
    let client = server.client();
    let leads = lead(&client, "usual-name", &args, (&shutdown, &lost), &ready);
    let meanwhile = async {
        assert_eq!(health.closed(), ["leads"], "nobody has answered yet");
        while !health.closed().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        another.give_back().await;
    };
    let (leads, ()) = tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(leads, meanwhile) })
        .await
        .expect("it stands by, then leads");
    assert!(leads.unwrap().is_held());
    assert_eq!(health.closed(), ["leads"], "it knows nothing of the cluster yet");
    assert_eq!(server.kept().lease.as_ref().unwrap()["metadata"]["name"], "the-lease");
    shutdown.cancel();
}

#[tokio::test]
async fn whoever_has_no_answer_is_not_ready() {
    let (server, health, shutdown) = (Server::default(), Health::default(), CancellationToken::new());
    server.kept().is_silent = true;
    let flags = ["test", "--leader-elect-lease-duration=3", "--leader-elect-renew-deadline=1"];
    let (args, lost) = (Flags::parse_from(flags).leader, CancellationToken::new());
    let (client, ready) = (server.client(), health.gate("leads"));
    let leads = lead(&client, "the-lease", &args, (&shutdown, &lost), &ready);
    assert!(tokio::time::timeout(Duration::from_millis(1500), leads).await.is_err(), "it doesn't lead");
    assert_eq!(health.closed(), ["leads"]);
}

#[tokio::test]
async fn one_leads_and_the_other_only_after_the_lease_has_run_out() {
    let server = Server::default();
    let (mut first, mut second) = (candidate(&server, "first"), candidate(&server, "second"));
    assert!(first.try_once().await && first.leadership.is_held());
    let begun = Instant::now();
    assert!(!second.try_once().await && !second.leadership.is_held());
    assert_eq!(second.holder(), "first");
    // The first one isn't heard of any more.
    while !second.try_once().await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(3));
    assert!(!first.leadership.is_held(), "it counted itself out before");
    assert_eq!(server.holder(), "second");
    assert_eq!(server.kept().lease.as_ref().unwrap()["spec"]["leaseTransitions"], 1);
    assert!(!first.try_once().await);
}

#[tokio::test]
async fn who_hears_nothing_of_the_api_server_counts_himself_out_in_time() {
    let server = Server::default();
    let (shutdown, lost) = (CancellationToken::new(), CancellationToken::new());
    let flags = ["test", "--leader-elect-identity", "me", "--leader-elect-lease-duration", "3"];
    let args = Flags::parse_from(flags).leader;
    let leads = lead(&server.client(), "the-lease", &args, (&shutdown, &lost), &gate()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(leads.is_held(), "it is renewed");
    server.kept().is_silent = true;
    let silent = Instant::now();
    while leads.is_held() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(silent.elapsed() < Duration::from_secs(3) - args.last_request() + Duration::from_millis(300));
    tokio::time::timeout(Duration::from_secs(5), lost.cancelled()).await.unwrap();
}

#[tokio::test]
async fn who_ends_in_order_gives_the_lease_back_and_his_next_self_has_it_at_once() {
    let server = Server::default();
    let (shutdown, lost) = (CancellationToken::new(), CancellationToken::new());
    let args = Flags::parse_from(["test", "--leader-elect-identity", "me"]).leader;
    let leads = lead(&server.client(), "the-lease", &args, (&shutdown, &lost), &gate()).await.unwrap();
    assert_eq!(server.holder(), "me");
    shutdown.cancel();
    while !server.holder().is_null() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!leads.is_held() && !lost.is_cancelled());
    assert!(candidate(&server, "another").try_once().await);
    // Killed, it begins anew under its name: the lease is still its own.
    assert!(candidate(&server, "another").try_once().await);
}

#[tokio::test]
async fn who_does_not_lead_reads_and_writes_nothing() {
    let server = Server::default();
    let mut first = candidate(&server, "first");
    let args = Flags::parse_from(["test", "--leader-elect-lease-duration", "3"]).leader;
    let leases: Api<Lease> = Api::default_namespaced(first.leadership.guard(server.client(), &args));
    let lease =
        Lease { metadata: ObjectMeta { name: Some("x".to_owned()), ..ObjectMeta::default() }, spec: None };
    let written = leases.create(&PostParams::default(), &lease).await;
    assert!(written.unwrap_err().to_string().contains("doesn't lead"));
    assert_eq!(server.kept().version, 0);
    assert!(leases.get_opt("x").await.unwrap().is_none());
    assert!(first.try_once().await);
    let kept = leases.get("the-lease").await.unwrap();
    leases.replace("the-lease", &PostParams::default(), &kept).await.unwrap();
    assert_eq!(server.kept().version, 2);
    // A write that isn't answered is given up before the lease runs out.
    server.kept().is_silent = true;
    let begun = Instant::now();
    assert!(leases.replace("the-lease", &PostParams::default(), &kept).await.is_err());
    assert!(begun.elapsed() < args.last_request() + Duration::from_millis(500));
}

#[tokio::test]
async fn without_a_lease_one_always_leads() {
    let args = Flags::parse_from(["test", "--leader-elect", "false"]).leader;
    let tokens = (&CancellationToken::new(), &CancellationToken::new());
    let leads = lead(&Server::default().client(), "the-lease", &args, tokens, &gate()).await.unwrap();
    assert!(leads.is_held());
}

#[test]
fn one_counts_himself_out_before_the_lease_runs_out_whatever_is_asked_for() {
    for (lease, deadline, expected) in
        [("15", None, 10), ("15", Some("8"), 8), ("15", Some("99"), 10), ("3", Some("0"), 1)]
    {
        let mut flags = vec!["test", "--leader-elect-lease-duration", lease];
        flags.extend(deadline.into_iter().flat_map(|deadline| ["--leader-elect-renew-deadline", deadline]));
        let args = Flags::parse_from(flags).leader;
        assert_eq!(args.renew_deadline(), Duration::from_secs(expected));
        assert!(args.last_request() > Duration::ZERO);
    }
}
