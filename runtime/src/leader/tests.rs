//! Of several copies one leads; who can't renew counts himself out before another may lead.

mod server;

use clap::Parser as _;
use serde_json::{Value, json};

use super::*;
use crate::Health;
use server::{Server, name_of};

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    leader: LeaderArgs,
}

fn candidate(server: &Server, identity: &str) -> Candidate {
    candidate_for(server, identity, "3")
}

/// One that was told to hold the lease for so many seconds.
fn candidate_for(server: &Server, identity: &str, seconds: &str) -> Candidate {
    let flags = ["test", "--leader-elect-identity", identity, "--leader-elect-lease-duration", seconds];
    Candidate::new(&server.client(), "the-lease", &Flags::parse_from(flags).leader, Leadership::new(true))
}

/// A copy that leads, and what says that it has lost the lease.
async fn leader(server: &Server, args: &LeaderArgs) -> (Leadership, CancellationToken) {
    let (shutdown, lost) = (CancellationToken::new(), CancellationToken::new());
    let leads = lead(&server.client(), "the-lease", args, (&shutdown, &lost), &gate()).await.unwrap();
    (leads, lost)
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
    server.kept().unanswered = usize::MAX;
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
    assert_eq!(name_of(second.holder()), "first");
    // The first one isn't heard of any more.
    while !second.try_once().await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(3));
    assert!(!first.leadership.is_held(), "it counted itself out before");
    assert_eq!(server.holder(), "second");
    assert_eq!(server.spec()["leaseTransitions"], 1);
    assert!(!first.try_once().await);
}

#[tokio::test]
async fn who_hears_nothing_of_the_api_server_counts_himself_out_in_time() {
    let server = Server::default();
    let flags = ["test", "--leader-elect-identity", "me", "--leader-elect-lease-duration", "3"];
    let args = Flags::parse_from(flags).leader;
    let (leads, lost) = leader(&server, &args).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(leads.is_held(), "it is renewed");
    server.kept().unanswered = usize::MAX;
    let silent = Instant::now();
    while leads.is_held() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(silent.elapsed() < Duration::from_secs(3) - args.last_request() + Duration::from_millis(300));
    tokio::time::timeout(Duration::from_secs(5), lost.cancelled()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_ends_in_order_gives_the_lease_back_at_once_and_whoever_was_killed_waits_for_his_own() {
    let server = Server::default();
    let (shutdown, lost) = (CancellationToken::new(), CancellationToken::new());
    let args = Flags::parse_from(["test", "--leader-elect-identity", "me"]).leader;
    let leads = lead(&server.client(), "the-lease", &args, (&shutdown, &lost), &gate()).await.unwrap();
    assert_eq!(server.holder(), "me");
    // What is under way may end first.
    shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(20_500)).await;
    assert!(leads.is_held() && server.holder() == "me");
    // Somebody annotates it just then.
    server.kept().meddler = (1, None);
    leads.give_back().await;
    assert_eq!(server.holder(), "");
    assert!(!leads.is_held() && !lost.is_cancelled());
    assert!(candidate(&server, "me").try_once().await);
    // Killed, it begins anew under its name: what its last self sent may still arrive.
    let mut next_self = candidate(&server, "me");
    assert!(!next_self.try_once().await);
    tokio::time::sleep(Duration::from_millis(2900)).await;
    assert!(!next_self.try_once().await);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(next_self.try_once().await);
}

#[tokio::test(start_paused = true)]
async fn giving_the_lease_back_takes_no_longer_than_the_api_server_may_take() {
    let server = Server::default();
    let (leads, _) = leader(&server, &Flags::parse_from(["test"]).leader).await;
    server.kept().unanswered = usize::MAX;
    let begun = Instant::now();
    leads.give_back().await;
    assert!(begun.elapsed() <= GIVE_BACK + Duration::from_millis(10) && !leads.is_held());
    assert_ne!(server.holder(), "");
}

#[tokio::test(start_paused = true)]
async fn the_holder_says_for_how_long_he_holds_it() {
    for (held_for, waits_with, lasts) in [("60", "3", 60), ("3", "60", 3)] {
        let server = Server::default();
        let mut first = candidate_for(&server, "first", held_for);
        let mut second = candidate_for(&server, "second", waits_with);
        assert!(first.try_once().await && !second.try_once().await);
        tokio::time::sleep(Duration::from_millis(lasts * 1000 - 100)).await;
        assert!(!second.try_once().await, "{held_for}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(second.try_once().await, "{held_for}");
    }
    // Nobody says: one's own counts.
    let server = Server::default();
    assert!(candidate(&server, "first").try_once().await);
    server.kept().lease.as_mut().unwrap()["spec"]["leaseDurationSeconds"] = Value::Null;
    let mut second = candidate(&server, "second");
    assert!(!second.try_once().await);
    tokio::time::sleep(Duration::from_millis(2900)).await;
    assert!(!second.try_once().await);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(second.try_once().await);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_ends_no_leader_before_the_renew_deadline_and_another_holder_does_at_once() {
    let server = Server::default();
    let (leads, lost) = leader(&server, &Flags::parse_from(["test"]).leader).await;
    // Somebody writes it each time just before it is renewed, for seconds.
    server.kept().meddler = (12, None);
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(server.kept().meddler.0, 0);
    assert!(leads.is_held() && !lost.is_cancelled());
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert!(leads.is_held(), "it is renewed again");
    // For longer than the deadline.
    server.kept().meddler = (usize::MAX, None);
    let begun = Instant::now();
    lost.cancelled().await;
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(8) && took < Duration::from_secs(12), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn who_finds_another_in_the_lease_at_a_conflict_has_lost_it() {
    let server = Server::default();
    let mut first = candidate(&server, "first");
    assert!(first.try_once().await && first.leadership.is_held());
    server.kept().meddler = (1, Some("second"));
    assert!(!first.try_once().await);
    assert!(!first.leadership.is_held());
    assert_eq!((first.holder(), server.holder().as_str()), ("second", "second"));
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_never_answered_leave_time_for_another() {
    let server = Server::default();
    let (leads, lost) = leader(&server, &Flags::parse_from(["test"]).leader).await;
    for _ in 0..3 {
        server.kept().unanswered = 2;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(12) {
            assert!(leads.is_held(), "{:?}", begun.elapsed());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(server.kept().unanswered, 0);
    }
    assert!(!lost.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn only_what_its_holder_changes_keeps_a_lease_alive() {
    let signs = [
        ("holderIdentity", json!("first_again"), true),
        ("renewTime", json!("2030-01-01T00:00:00.000000Z"), true),
        ("acquireTime", json!("2030-01-01T00:00:00.000000Z"), true),
        ("leaseTransitions", json!(7), true),
        ("strategy", json!("OldestEmulationVersion"), false),
    ];
    for (field, value, lives) in signs {
        let server = Server::default();
        let (mut first, mut second) = (candidate(&server, "first"), candidate(&server, "second"));
        assert!(first.try_once().await && !second.try_once().await);
        tokio::time::sleep(Duration::from_secs(2)).await;
        {
            let mut kept = server.kept();
            kept.version = 100;
            let lease = kept.lease.as_mut().unwrap();
            lease["spec"][field] = value;
            lease["metadata"]["resourceVersion"] = json!("100");
        }
        assert!(!second.try_once().await, "{field}: it hasn't run out");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(second.try_once().await, !lives, "{field}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_a_lease_keeps_what_is_not_his_and_its_count_does_not_overflow() {
    let server = Server::default();
    let mut first = candidate(&server, "first");
    assert!(first.try_once().await);
    first.give_back().await;
    let others = json!({ "strategy": "OldestEmulationVersion", "preferredHolder": "kube-scheduler" });
    {
        let mut kept = server.kept();
        let spec = &mut kept.lease.as_mut().unwrap()["spec"];
        spec["leaseTransitions"] = json!(i32::MAX);
        spec["strategy"] = others["strategy"].clone();
        spec["preferredHolder"] = others["preferredHolder"].clone();
    }
    let mut second = candidate(&server, "second");
    for _ in 0..2 {
        assert!(second.try_once().await);
        let spec = server.spec();
        assert_eq!((server.holder().as_str(), &spec["leaseTransitions"]), ("second", &json!(i32::MAX)));
        assert_eq!(
            json!({ "strategy": spec["strategy"], "preferredHolder": spec["preferredHolder"] }),
            others
        );
    }
}

#[test]
fn two_processes_have_two_names_whatever_they_are_called() {
    let identity = |given: Option<&str>| {
        let mut flags = vec!["test"];
        flags.extend(given.into_iter().flat_map(|given| ["--leader-elect-identity", given]));
        Flags::parse_from(flags).leader.identity()
    };
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let host = host.trim();
    for (given, expected) in
        [(None, host), (Some(""), host), (Some(" "), host), (Some("scheduler-0"), "scheduler-0")]
    {
        let (one, other) = (identity(given), identity(given));
        assert_ne!(one, other);
        let (name, unique) = one.rsplit_once('_').unwrap();
        assert_eq!((name, unique.len()), (expected, "00000000-0000-4000-8000-000000000000".len()));
    }
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
    server.kept().unanswered = usize::MAX;
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

#[tokio::test]
async fn one_counts_himself_out_before_the_lease_runs_out_whatever_is_asked_for() {
    for (lease, deadline, expected) in
        [("15", None, 10), ("15", Some("8"), 8), ("15", Some("99"), 10), ("3", Some("0"), 1)]
    {
        let mut flags = vec!["test", "--leader-elect-lease-duration", lease];
        flags.extend(deadline.into_iter().flat_map(|deadline| ["--leader-elect-renew-deadline", deadline]));
        let args = Flags::parse_from(flags).leader;
        assert_eq!(args.renew_deadline(), Duration::from_secs(expected));
        assert!(args.last_request() > Duration::ZERO);
        let pause = Candidate::new(&Server::default().client(), "x", &args, Leadership::new(true)).pause;
        assert!(pause * 2 <= args.renew_deadline(), "there is time for a second try");
    }
}
