//! A journal's end: who finds one carries it on, an end that wasn't written is, and then it is forgotten.

use k8s_openapi::jiff::SignedDuration;
use serde_json::json;

use super::{
    api_server::Fault,
    cluster::{Cluster, runs},
};

#[tokio::test(start_paused = true)]
async fn a_successor_binds_what_was_journalled_and_not_begun() {
    let cluster = Cluster::with_journal(30);
    cluster.cycle(&mut cluster.scheduler()).await;
    assert_eq!((cluster.node_of("p0"), cluster.node_of("p1")), (json!("n"), json!("n")));
    assert_eq!(cluster.lines("PUT").len(), 1, "its end, and no second plan");
    assert_eq!(cluster.status()["phase"], "Scheduled");
    assert!(cluster.status()["journal"].is_null());
}

#[tokio::test(start_paused = true)]
async fn an_end_that_could_not_be_written_is_written_later() {
    for fault in [Fault::Refused(500), Fault::Refused(409), Fault::RequestLost, Fault::ReplyLost] {
        let mut cluster = Cluster::with_journal(30);
        cluster.change_pod("p0", runs);
        cluster.change_pod("p1", runs);
        cluster.server.fail("PUT gangs/g/status", 1, fault);
        let mut scheduler = cluster.scheduler();
        for _ in 0..3 {
            cluster.later(&mut scheduler, 0).await;
        }
        assert_eq!(cluster.lines("PUT").len(), 1, "not on every event");
        cluster.later(&mut scheduler, 2).await;
        assert_eq!(cluster.status()["phase"], "Scheduled");
        assert!(cluster.status()["journal"].is_null());
        assert_eq!(cluster.lines("POST"), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_is_over_is_left_alone_while_the_watch_lags() {
    let mut cluster = Cluster::new();
    let mut scheduler = cluster.scheduler();
    cluster.cycle(&mut scheduler).await;
    let journalled = cluster.server.asked().into_iter().find(|asked| asked.line.starts_with("PUT")).unwrap();
    cluster.shown.gangs.insert("g".to_owned(), journalled.body);
    let before = cluster.server.asked().len();
    cluster.now += SignedDuration::from_secs(9);
    cluster.cycle(&mut scheduler).await;
    assert_eq!(cluster.server.asked().len(), before, "{:?}", cluster.lines(""));
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_names_a_pod_twice_is_carried_on_all_the_same() {
    let mut cluster = Cluster::with_journal(30);
    cluster.change_pod("p0", runs);
    cluster.change_pod("p1", runs);
    let mut status = cluster.status();
    let places = status["journal"]["placements"].as_array_mut().unwrap();
    places.push(places[0].clone());
    cluster.set_gang("status", status);
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    assert_eq!(cluster.status()["phase"], "Scheduled");
}
