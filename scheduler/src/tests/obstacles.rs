//! Pods that have their places and can't be sent there say so, in the API server's words, once, and nothing else meanwhile.

use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};

use super::{
    api_server::Fault,
    cluster::{Cluster, Lags, UIDS, is_bound, runs},
};
use crate::cycle::Scheduler;

/// A cluster of two pods of no gang.
fn loners() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.server.objects().gangs.clear();
    cluster.server.objects().pods.values_mut().for_each(|pod| pod["metadata"]["labels"] = json!({}));
    cluster.show();
    cluster
}

async fn pass(cluster: &mut Cluster, scheduler: &mut Scheduler, seconds: i64) {
    for _ in 0..seconds {
        cluster.later(scheduler, 1).await;
    }
}

/// The reason and the message of a pod's condition.
fn said(cluster: &Cluster, pod: &str) -> (Value, Value) {
    let condition = cluster.server.objects().pods[pod]["status"]["conditions"][0].clone();
    (condition["reason"].clone(), condition["message"].clone())
}

fn alarms(cluster: &Cluster) -> Vec<Value> {
    let events = cluster.server.events().into_iter();
    events.filter(|event| event["reason"] == "FailedScheduling").collect()
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_binding_is_refused_says_so_once_however_often_it_is() {
    let mut cluster = loners();
    cluster.server.fail("POST pods/p0/binding", usize::MAX, Fault::Refused(403));
    let mut scheduler = cluster.scheduler();
    pass(&mut cluster, &mut scheduler, 50).await;
    assert!(cluster.lines("POST pods/p0").len() > 5);
    assert_eq!(said(&cluster, "p0"), (json!("SchedulerError"), json!("pod p0 isn't bound: no")));
    assert_eq!(cluster.lines("PATCH"), ["PATCH pods/p0/status"]);
    let alarms = alarms(&cluster);
    assert_eq!((alarms.len(), &alarms[0]["regarding"]["uid"]), (1, &json!(UIDS[0])), "{alarms:?}");
    cluster.server.heal();
    pass(&mut cluster, &mut scheduler, 11).await;
    assert_eq!(cluster.node_of("p0"), "n");
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_does_not_say_in_turn_that_there_is_no_room() {
    let mut cluster = loners();
    cluster.server.objects().nodes.get_mut("n").unwrap()["status"]["allocatable"]["nvidia.com/gpu"] =
        json!("1");
    cluster.server.fail("POST pods", usize::MAX, Fault::Refused(422));
    let mut scheduler = cluster.scheduler();
    pass(&mut cluster, &mut scheduler, 15).await;
    let refused = |cluster: &Cluster, pod| said(cluster, pod).0 == "SchedulerError";
    assert!(refused(&cluster, "p0") && refused(&cluster, "p1"), "both had the room by then");
    let before = cluster.lines("PATCH").len();
    pass(&mut cluster, &mut scheduler, 40).await;
    assert_eq!(cluster.lines("PATCH").len(), before, "{:?}", cluster.lines("PATCH"));
    cluster.server.objects().nodes.get_mut("n").unwrap()["spec"]["unschedulable"] = json!(true);
    pass(&mut cluster, &mut scheduler, 62).await;
    assert_eq!(said(&cluster, "p0").0, "Unschedulable", "that is what it waits for now");
}

#[tokio::test(start_paused = true)]
async fn a_gang_whose_bindings_are_refused_says_so_on_those_pods_that_have_no_node() {
    let mut cluster = Cluster::new();
    cluster.server.fail("POST pods/p1/binding", usize::MAX, Fault::Refused(403));
    let mut scheduler = cluster.scheduler();
    pass(&mut cluster, &mut scheduler, 20).await;
    assert_eq!(said(&cluster, "p1"), (json!("SchedulerError"), json!("pod p1 isn't bound: no")));
    assert!(said(&cluster, "p0").0.is_null(), "it is bound");
    assert_eq!(alarms(&cluster).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_gang_whose_plan_may_not_be_written_says_so_on_its_pods() {
    let mut cluster = Cluster::new();
    cluster.server.fail("PUT gangs/g/status", usize::MAX, Fault::Refused(403));
    let mut scheduler = cluster.scheduler();
    pass(&mut cluster, &mut scheduler, 30).await;
    for pod in ["p0", "p1"] {
        let message = json!("the plan of Gang ns/g isn't written: no");
        assert_eq!(said(&cluster, pod), (json!("SchedulerError"), message));
    }
    assert_eq!((cluster.lines("PATCH").len(), alarms(&cluster).len()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_gang_of_a_pod_whose_uid_is_none_says_so() {
    let mut cluster = Cluster::new();
    cluster.change_pod("p1", |pod| pod["metadata"]["uid"] = json!("odd"));
    let mut scheduler = cluster.scheduler();
    pass(&mut cluster, &mut scheduler, 5).await;
    let (reason, message) = said(&cluster, "p0");
    assert_eq!((reason, message), (json!("SchedulerError"), json!("pod p1 has a UID that is no UUID")));
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_the_api_server_is_told_when_it_does_not_pass() {
    for (line, what) in [
        ("PUT gangs/g/status", "the plan of Gang ns/g isn't written: no"),
        ("POST pods", "pod p0 isn't bound: no"),
    ] {
        let mut cluster = Cluster::new();
        cluster.server.fail(line, usize::MAX, Fault::Refused(500));
        let mut scheduler = cluster.scheduler();
        pass(&mut cluster, &mut scheduler, 5).await;
        assert_eq!(cluster.lines("PATCH"), [""; 0], "{line}: it may be over in a moment");
        pass(&mut cluster, &mut scheduler, 7).await;
        assert_eq!(said(&cluster, "p0"), (json!("SchedulerError"), json!(what)), "{line}");
        pass(&mut cluster, &mut scheduler, 90).await;
        assert_eq!((cluster.lines("PATCH").len(), alarms(&cluster).len()), (2, 1), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_the_api_server_is_told_of_lone_pods_too_and_not_of_one_that_is_bound_after_all() {
    let mut cluster = loners();
    cluster.server.fail("POST pods", usize::MAX, Fault::Refused(500));
    let mut scheduler = cluster.scheduler();
    pass(&mut cluster, &mut scheduler, 9).await;
    assert_eq!(cluster.lines("PATCH"), [""; 0], "it may be over in a moment");
    cluster.change_pod("p1", is_bound);
    pass(&mut cluster, &mut scheduler, 3).await;
    assert_eq!(said(&cluster, "p0"), (json!("SchedulerError"), json!("pod p0 isn't bound: no")));
    pass(&mut cluster, &mut scheduler, 40).await;
    assert_eq!((cluster.lines("PATCH").len(), alarms(&cluster).len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_sent_again_within_seconds_where_the_api_server_has_too_much_to_do() {
    let mut cluster = loners();
    cluster.server.fail("POST pods/p0/binding", 4, Fault::Refused(429));
    let mut scheduler = cluster.scheduler();
    pass(&mut cluster, &mut scheduler, 9).await;
    assert_eq!((cluster.node_of("p0"), cluster.lines("PATCH").len()), (json!("n"), 0));
}

#[tokio::test(start_paused = true)]
async fn a_lone_binding_is_tried_again_at_once_only_where_there_is_an_answer() {
    for (fault, times) in [(Fault::Refused(500), 3), (Fault::NoAnswer, 1)] {
        let cluster = loners();
        cluster.server.fail("POST pods", usize::MAX, fault);
        cluster.cycle(&mut cluster.scheduler()).await;
        assert_eq!(cluster.lines("POST pods/p0").len(), times, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lone_binding_that_may_still_arrive_keeps_its_room_though_the_next_one_is_refused() {
    for (first, keeps_room) in [(Fault::RequestLost, 1), (Fault::Refused(403), 0)] {
        let mut cluster = loners();
        cluster.server.objects().pods.remove("p1");
        cluster.show();
        cluster.server.fail("POST pods/p0", 1, first);
        cluster.server.fail("POST pods/p0", usize::MAX, Fault::Refused(403));
        let mut scheduler = cluster.scheduler();
        cluster.cycle(&mut scheduler).await;
        assert_eq!(scheduler.state.cluster.on_their_way(), keeps_room, "{first:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_plan_is_not_written_into_a_gang_made_anew_under_its_name() {
    for is_late in [false, true] {
        let mut cluster = Cluster::with_journal(if is_late { -1 } else { 30 });
        cluster.change_pod("p0", if is_late { is_bound } else { runs });
        cluster.change_pod("p1", runs);
        if is_late {
            cluster.server.objects().pods.remove("p1");
        }
        cluster.server.fail("PUT gangs/g/status", 1, Fault::Refused(500));
        let mut scheduler = cluster.scheduler();
        cluster.later(&mut scheduler, 0).await;
        {
            let mut objects = cluster.server.objects();
            let gang = objects.gangs.get_mut("g").unwrap();
            (gang["metadata"]["uid"], gang["status"]) = (json!("another-gang"), json!({}));
        }
        let before = cluster.lines("PUT").len();
        let lags = Lags { gangs: true, ..Lags::default() };
        cluster.later_but(&mut scheduler, lags, 2).await;
        assert_eq!(cluster.lines("PUT").len(), before, "late: {is_late}");
        assert_eq!(cluster.status(), json!({}), "late: {is_late}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_pause_after_one_attempt_does_not_end_the_next_one() {
    let mut cluster = loners();
    cluster.server.fail("POST pods/p0/binding", 1, Fault::Refused(403));
    let mut scheduler = cluster.scheduler_that_knows();
    scheduler.cycle(cluster.now);
    let pod = cluster.server.objects().pods.remove("p0").unwrap();
    cluster.show();
    cluster.shown.tell(&mut scheduler);
    while let Some(outcome) = scheduler.tasks.join_next().await {
        scheduler.learn(outcome, cluster.now);
    }
    assert!(!scheduler.state.cluster.knows("ns/pod:p0"), "it is gone with its pod");
    // Its controller makes it anew, and it is on its way within the pause.
    let mut anew = pod.clone();
    anew["metadata"]["uid"] = json!(UIDS[0].replace("4000", "4001"));
    cluster.server.objects().pods.insert("p0".to_owned(), anew);
    cluster.show();
    cluster.shown.tell(&mut scheduler);
    scheduler.cycle(cluster.now);
    cluster.now += SignedDuration::from_secs(1);
    scheduler.look(cluster.now);
    cluster.server.objects().pods.remove("p0");
    cluster.show();
    cluster.shown.tell(&mut scheduler);
    assert!(scheduler.state.cluster.knows("ns/pod:p0"), "what was sent for it isn't known yet");
}

#[tokio::test(start_paused = true)]
async fn a_plan_whose_end_may_not_be_written_says_so_on_its_gang_and_on_pods_that_come_later() {
    let mut cluster = Cluster::with_journal(30);
    cluster.change_pod("p0", runs);
    cluster.change_pod("p1", runs);
    cluster.server.fail("PUT gangs/g/status", usize::MAX, Fault::Refused(403));
    let mut scheduler = cluster.scheduler();
    pass(&mut cluster, &mut scheduler, 40).await;
    assert_eq!(cluster.lines("PUT").len(), 2, "not each second");
    let what = "the end of the plan of gang ns/g isn't written: no";
    let events = cluster.server.events().into_iter();
    let told: Vec<_> = events.filter(|event| event["reason"] == "PlanNotEnded").collect();
    assert_eq!((&told[0]["note"], &told[0]["regarding"]["uid"]), (&json!(what), &json!("the-gang")));
    let name = &told[0]["metadata"]["name"];
    assert!(told.iter().all(|event| event["metadata"]["name"] == *name), "it is one event: {told:?}");
    let mut late = cluster.server.objects().pods["p0"].clone();
    late["metadata"]["name"] = json!("p2");
    late["metadata"]["uid"] = json!("00000000-0000-4000-8000-000000000002");
    late["spec"]["nodeName"].take();
    late["status"] = json!({ "phase": "Pending" });
    cluster.server.objects().pods.insert("p2".to_owned(), late);
    pass(&mut cluster, &mut scheduler, 31).await;
    assert_eq!(said(&cluster, "p2"), (json!("SchedulerError"), json!(what)));
    cluster.server.heal();
    pass(&mut cluster, &mut scheduler, 31).await;
    assert!(cluster.status()["journal"].is_null(), "{}", cluster.status());
}
