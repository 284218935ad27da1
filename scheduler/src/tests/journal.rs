//! A journal's end: who finds one carries it on, an end that wasn't written is, and then it is forgotten.

use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};

use super::{
    api_server::Fault,
    cluster::{Cluster, is_bound, runs},
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

/// The node is cordoned.
fn cordon(cluster: &Cluster) {
    cluster.server.objects().nodes.get_mut("n").unwrap()["spec"]["unschedulable"] = json!(true);
}

/// The node gets a taint that nobody tolerates.
fn taint(cluster: &Cluster) {
    let taint = json!([{ "key": "broken", "effect": "NoSchedule" }]);
    cluster.server.objects().nodes.get_mut("n").unwrap()["spec"]["taints"] = taint;
}

/// Another scheduler's pod takes a GPU.
fn take(cluster: &Cluster) {
    let mut objects = cluster.server.objects();
    let mut theirs = objects.pods["p0"].clone();
    (theirs["metadata"]["name"], theirs["metadata"]["uid"]) = (json!("theirs"), json!("theirs"));
    (theirs["metadata"]["labels"], theirs["spec"]["schedulerName"]) = (json!({}), json!("another"));
    is_bound(&mut theirs);
    objects.pods.insert("theirs".to_owned(), theirs);
}

#[tokio::test(start_paused = true)]
async fn a_plan_whose_node_takes_nobody_any_more_is_not_finished_and_undone_at_its_deadline() {
    for change in [cordon, taint, take] {
        let mut cluster = Cluster::with_journal(30);
        cluster.change_pod("p0", is_bound);
        change(&cluster);
        let mut scheduler = cluster.scheduler();
        for _ in 0..29 {
            cluster.later(&mut scheduler, 1).await;
        }
        assert_eq!(cluster.lines("DELETE"), [""; 0], "there is time");
        cluster.later(&mut scheduler, 2).await;
        assert_eq!(cluster.lines("DELETE"), ["DELETE pods/p0"]);
        cluster.later(&mut scheduler, 80).await;
        assert!(cluster.status()["journal"].is_null(), "{}", cluster.status());
        assert_eq!(cluster.lines("POST"), [""; 0]);
        assert!(cluster.pods().contains(&"p1".to_owned()), "what was not bound needs no undoing");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_takes_nobody_for_a_moment_undoes_nobody() {
    for change in [cordon, taint, take] {
        let mut cluster = Cluster::with_journal(30);
        cluster.change_pod("p0", is_bound);
        let node = cluster.server.objects().nodes["n"].clone();
        change(&cluster);
        let mut scheduler = cluster.scheduler();
        for _ in 0..3 {
            cluster.later(&mut scheduler, 5).await;
        }
        assert_eq!(cluster.lines("POST"), [""; 0], "nothing more is bound meanwhile");
        cluster.server.objects().pods.remove("theirs");
        cluster.server.objects().nodes.insert("n".to_owned(), node);
        cluster.later(&mut scheduler, 1).await;
        assert_eq!(cluster.status()["phase"], "Scheduled", "{}", cluster.status());
        assert_eq!((cluster.node_of("p1"), cluster.lines("DELETE")), (json!("n"), Vec::new()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_of_which_nothing_is_bound_is_given_up_as_soon_as_its_nodes_take_nobody() {
    let mut cluster = Cluster::new();
    cluster.server.fail("POST pods", usize::MAX, Fault::Refused(403));
    let mut scheduler = cluster.scheduler();
    cluster.cycle(&mut scheduler).await;
    cordon(&cluster);
    cluster.later(&mut scheduler, 2).await;
    assert!(cluster.status()["journal"].is_null(), "{}", cluster.status());
    assert_eq!(scheduler.state.cluster.on_their_way(), 0, "what it kept is free for others");
    assert_eq!(cluster.lines("DELETE"), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_bound_already_stays_when_its_node_is_cordoned() {
    let mut cluster = Cluster::with_journal(30);
    cluster.change_pod("p0", is_bound);
    cluster.change_pod("p1", is_bound);
    cordon(&cluster);
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    assert_eq!(cluster.status()["phase"], "Scheduled");
    assert_eq!(cluster.lines("DELETE"), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_binding_that_was_lost_is_not_sent_again_to_a_node_that_was_cordoned_meanwhile() {
    let mut cluster = Cluster::new();
    cluster.server.fail("POST pods/p1/binding", 1, Fault::RequestLost);
    let mut scheduler = cluster.scheduler();
    cluster.cycle(&mut scheduler).await;
    cordon(&cluster);
    cluster.later(&mut scheduler, 2).await;
    assert_eq!((cluster.lines("POST pods/p1").len(), cluster.lines("DELETE").len()), (1, 0));
    cluster.later(&mut scheduler, 59).await;
    assert_eq!((cluster.lines("POST pods/p1").len(), cluster.lines("DELETE").len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_is_found_too_late_is_not_begun_and_then_made_anew() {
    let mut cluster = Cluster::with_journal(-3600);
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    assert_eq!(cluster.lines("POST"), [""; 0]);
    for _ in 0..8 {
        cluster.later(&mut scheduler, 10).await;
    }
    assert_eq!((cluster.node_of("p0"), cluster.node_of("p1")), (json!("n"), json!("n")));
    assert_eq!(cluster.status()["phase"], "Scheduled");
    assert_eq!((cluster.lines("DELETE"), &cluster.status()["journal"]), (Vec::new(), &Value::Null));
}
