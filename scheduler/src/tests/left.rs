//! Plans whose gang goes, whose pods become others', or whose task panics: no pod stays on its way for ever, and nothing that
//! may still be bound is given away.

use std::time::Duration;

use k8s_openapi::jiff::SignedDuration;
use plasma_api::names;
use serde_json::{Value, json};

use super::{
    api_server::Fault,
    cluster::{Cluster, is_bound},
};
use crate::cycle::Scheduler;

/// Longer than any request is carried out by an API server, and than is waited before that is looked up.
const LONG: i64 = 80;

/// A gang whose plan is journalled, of which one pod is bound and the other's binding never arrived.
async fn half_bound() -> (Cluster, Scheduler) {
    let mut cluster = Cluster::new();
    cluster.server.fail("POST pods/p1/binding", 1, Fault::RequestLost);
    let mut scheduler = cluster.scheduler();
    cluster.cycle(&mut scheduler).await;
    assert_eq!((cluster.node_of("p0"), cluster.node_of("p1")), (json!("n"), Value::Null));
    cluster.show();
    (cluster, scheduler)
}

/// Some cycles on, long enough for what was left to be found.
async fn much_later(cluster: &mut Cluster, scheduler: &mut Scheduler) {
    for seconds in [6, LONG, 1, 1] {
        cluster.later(scheduler, seconds).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_gang_made_anew_while_the_first_ones_plan_was_under_way_is_planned() {
    let (mut cluster, mut scheduler) = half_bound().await;
    let mut gang = cluster.server.objects().gangs.remove("g").unwrap();
    cluster.later(&mut scheduler, 1).await;
    gang["metadata"]["uid"] = json!("another-gang");
    gang["status"] = json!({});
    cluster.server.objects().gangs.insert("g".to_owned(), gang);
    cluster.later(&mut scheduler, 10).await;
    assert!(cluster.node_of("p1").is_null(), "its binding may still arrive");
    assert_eq!(scheduler.state.cluster.on_their_way(), 1);
    much_later(&mut cluster, &mut scheduler).await;
    assert_eq!(cluster.node_of("p1"), "n");
    assert_eq!(cluster.status()["phase"], "Scheduled");
    cluster.later(&mut scheduler, 1).await;
    assert_eq!(scheduler.state.cluster.on_their_way(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_deleted_gang_had_on_its_way_is_free_again() {
    let (mut cluster, mut scheduler) = half_bound().await;
    cluster.server.objects().gangs.clear();
    much_later(&mut cluster, &mut scheduler).await;
    assert_eq!(scheduler.state.cluster.on_their_way(), 0);
    assert!(cluster.lines("DELETE").is_empty(), "nobody is deleted for it");
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_was_cleared_by_hand_is_planned_anew() {
    let (mut cluster, mut scheduler) = half_bound().await;
    let mut status = cluster.status();
    status["journal"] = Value::Null;
    cluster.set_gang("status", status);
    much_later(&mut cluster, &mut scheduler).await;
    assert_eq!(cluster.node_of("p1"), "n");
    assert_eq!(cluster.status()["phase"], "Scheduled");
}

#[tokio::test(start_paused = true)]
async fn what_was_left_and_cannot_be_read_or_arrived_late_keeps_its_room() {
    let (mut cluster, mut scheduler) = half_bound().await;
    cluster.server.objects().gangs.clear();
    cluster.server.fail("GET pods/p1", usize::MAX, Fault::RequestLost);
    much_later(&mut cluster, &mut scheduler).await;
    assert_eq!(scheduler.state.cluster.on_their_way(), 1, "nobody knows");
    cluster.server.heal();
    let shown = cluster.shown.clone();
    cluster.change_pod("p1", is_bound);
    for _ in 0..3 {
        cluster.now += SignedDuration::from_secs(10);
        cluster.shown = shown.clone();
        cluster.cycle(&mut scheduler).await;
    }
    assert_eq!(scheduler.state.cluster.on_their_way(), 1, "it is bound, and the watch is late");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_becomes_another_gangs_while_its_plan_is_under_way_is_not_left() {
    for job in [false, true] {
        let (mut cluster, mut scheduler) = half_bound().await;
        if job {
            cluster.server.objects().gangs.get_mut("g").unwrap()["metadata"]["labels"] =
                json!({ names::JOB_UID_LABEL: "j" });
        } else {
            cluster.change_pod("p1", |pod| {
                pod["metadata"]["labels"][names::GANG_LABEL] = json!("other");
            });
        }
        much_later(&mut cluster, &mut scheduler).await;
        assert_eq!(scheduler.state.cluster.on_their_way(), 0, "of another job: {job}");
        assert!(cluster.pods().contains(&"p1".to_owned()), "of another job: {job}");
        assert!(cluster.status()["journal"].is_null(), "{}", cluster.status());
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_panics_leaves_nothing_behind() {
    for line in ["PUT gangs/g/status", "POST pods/p0/binding", "POST pods/p1/binding"] {
        let mut cluster = Cluster::new();
        cluster.server.fail(line, 1, Fault::Panic);
        let mut scheduler = cluster.scheduler();
        cluster.cycle(&mut scheduler).await;
        assert_eq!(scheduler.under_way(), 0, "{line}");
        much_later(&mut cluster, &mut scheduler).await;
        much_later(&mut cluster, &mut scheduler).await;
        assert_eq!((cluster.node_of("p0"), cluster.node_of("p1")), (json!("n"), json!("n")), "{line}");
        assert_eq!(cluster.status()["phase"], "Scheduled", "{line}");
        assert_eq!(scheduler.state.cluster.on_their_way(), 0, "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_task_of_a_pod_of_no_gang_that_panics_leaves_nothing_behind() {
    let mut cluster = Cluster::new();
    cluster.server.objects().gangs.clear();
    cluster.server.objects().pods.values_mut().for_each(|pod| pod["metadata"]["labels"] = json!({}));
    cluster.server.fail("POST pods/p0/binding", 1, Fault::Panic);
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    assert_eq!(scheduler.under_way(), 0);
    assert!(cluster.node_of("p0").is_null());
    much_later(&mut cluster, &mut scheduler).await;
    assert_eq!(cluster.node_of("p0"), "n");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_panics_while_it_undoes_or_ends_a_plan_is_taken_up_again() {
    for (line, seconds) in [("DELETE pods/p0", -1), ("PUT gangs/g/status", 30)] {
        let mut cluster = Cluster::with_journal(seconds);
        cluster.change_pod("p0", is_bound);
        cluster.server.fail(line, 1, Fault::Panic);
        let mut scheduler = cluster.scheduler();
        for seconds in [0, 2, LONG] {
            cluster.later(&mut scheduler, seconds).await;
        }
        assert!(cluster.status()["journal"].is_null(), "{line}: {}", cluster.status());
        assert_eq!(cluster.pods().len(), if seconds < 0 { 1 } else { 2 }, "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_namespace_in_which_nothing_may_be_written() {
    for fault in [Fault::Refused(403), Fault::Refused(500), Fault::RequestLost] {
        let cluster = Cluster::new();
        cluster.server.fail("PUT gangs/g/status", usize::MAX, fault);
        let mut scheduler = cluster.scheduler();
        let cycle = tokio::time::timeout(Duration::from_secs(60), cluster.cycle(&mut scheduler));
        cycle.await.expect("it ends");
        assert_eq!(scheduler.under_way(), 0, "{fault:?}");
        let on_their_way = scheduler.state.cluster.on_their_way();
        let is_known = matches!(fault, Fault::Refused(403));
        assert_eq!(
            on_their_way,
            if is_known { 0 } else { 2 },
            "{fault:?}: the room is kept while nobody knows"
        );
        assert_eq!(cluster.lines("POST pods"), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lone_pod_that_may_or_may_not_be_bound_keeps_its_room_and_nobody_else_waiting() {
    let mut cluster = Cluster::new();
    cluster.server.objects().gangs.clear();
    cluster.server.objects().pods.values_mut().for_each(|pod| pod["metadata"]["labels"] = json!({}));
    cluster.show();
    cluster.server.fail("POST pods/p0/binding", usize::MAX, Fault::Refused(500));
    let mut scheduler = cluster.scheduler();
    let cycle = tokio::time::timeout(Duration::from_secs(20), cluster.cycle(&mut scheduler));
    cycle.await.expect("it ends");
    cluster.later(&mut scheduler, 1).await;
    assert_eq!((scheduler.under_way(), scheduler.state.cluster.on_their_way()), (0, 1));
}
