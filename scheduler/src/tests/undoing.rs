//! A plan that can't be carried out is undone: its pods are told, then deleted, and nobody else's are.

use std::time::Duration;

use serde_json::json;

use super::{
    api_server::Fault,
    cluster::{Cluster, UIDS, is_bound, runs},
};
use crate::cycle::Scheduler;

/// Longer than any request is carried out by an API server.
const LONG: i64 = 71;

#[tokio::test(start_paused = true)]
async fn a_pod_that_another_scheduler_bound_undoes_the_rest() {
    let mut cluster = Cluster::new();
    cluster.change_pod("p0", |pod| pod["spec"]["nodeName"] = json!("elsewhere"));
    let mut scheduler = cluster.scheduler();
    cluster.cycle(&mut scheduler).await;
    cluster.later(&mut scheduler, 2).await;
    assert_eq!(cluster.lines("PATCH"), ["PATCH pods/p1/status"]);
    assert_eq!(cluster.lines("DELETE"), ["DELETE pods/p1"]);
    assert_eq!(cluster.node_of("p0"), "elsewhere");
    let status = cluster.status();
    assert_eq!((&status["phase"], &status["bound"]), (&json!("RollingBack"), &json!(0)));
    assert!(status["journal"].is_null());
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_every_pod_that_is_bound_is_told_to_be_disrupted_and_then_deleted() {
    let mut cluster = Cluster::with_journal(-1);
    cluster.change_pod("p0", runs);
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    let asked = cluster.server.asked();
    let at = |line: &str| asked.iter().position(|asked| asked.line == line).unwrap();
    let (told, deleted) = (at("PATCH pods/p0/status"), at("DELETE pods/p0"));
    assert!(told < deleted);
    assert_eq!(asked[told].body["status"]["conditions"][0]["type"], "DisruptionTarget");
    assert_eq!(asked[told].body["metadata"]["uid"], UIDS[0]);
    assert_eq!(asked[deleted].body["preconditions"]["uid"], UIDS[0]);
    assert!(cluster.status()["journal"].is_object(), "who led before may have sent a binding just now");
    cluster.later(&mut scheduler, LONG).await;
    assert_eq!(cluster.status()["phase"], "RollingBack");
    assert!(cluster.status()["journal"].is_null());
    assert_eq!(cluster.pods(), ["p1"], "what was not bound is not deleted");
    assert_eq!(cluster.lines("POST"), [""; 0], "what is too late is not begun");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_undone_for_a_pod_beyond_those_that_must_run_together() {
    let mut cluster = Cluster::new();
    cluster.set_gang("spec", json!({ "minMember": 1 }));
    cluster.server.fail("POST pods/p1/binding", usize::MAX, Fault::Refused(403));
    let mut scheduler = cluster.scheduler();
    cluster.cycle(&mut scheduler).await;
    cluster.later(&mut scheduler, 61).await;
    let status = cluster.status();
    assert_eq!((&status["phase"], &status["bound"]), (&json!("Scheduled"), &json!(1)), "{status}");
    assert!(status["journal"].is_null());
    cluster.server.heal();
    cluster.later(&mut scheduler, 11).await;
    assert_eq!(cluster.status()["bound"], 2, "{}", cluster.status());
    assert_eq!(cluster.lines("DELETE"), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_binding_arrives_after_all_is_undone_like_the_others() {
    let mut cluster = Cluster::with_journal(-1);
    cluster.change_pod("p0", runs);
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    assert_eq!(cluster.lines("DELETE"), ["DELETE pods/p0"]);
    cluster.change_pod("p1", is_bound);
    cluster.later(&mut scheduler, 2).await;
    assert_eq!(cluster.lines("DELETE"), ["DELETE pods/p0", "DELETE pods/p1"]);
    assert!(cluster.status()["journal"].is_null(), "{}", cluster.status());
}

#[tokio::test(start_paused = true)]
async fn who_is_never_bound_is_never_deleted_whatever_the_api_server_answers() {
    for fault in [Fault::Refused(500), Fault::Refused(503), Fault::RequestLost] {
        let mut cluster = Cluster::new();
        cluster.server.fail("POST pods", usize::MAX, fault);
        let mut scheduler = cluster.scheduler();
        cluster.cycle(&mut scheduler).await;
        for _ in 0..20 {
            cluster.later(&mut scheduler, 3).await;
        }
        assert!(cluster.status()["journal"].is_object());
        let sent = cluster.lines("POST").len();
        for _ in 0..6 {
            cluster.later(&mut scheduler, 10).await;
        }
        assert!(cluster.status()["journal"].is_object(), "a binding may still arrive");
        cluster.later(&mut scheduler, 12).await;
        assert_eq!(cluster.lines("POST").len(), sent, "what is too late is not sent again");
        assert_eq!(cluster.status()["phase"], "RollingBack", "{}", cluster.status());
        cluster.server.heal();
        cluster.later(&mut scheduler, 11).await;
        assert_eq!(cluster.status()["phase"], "Scheduled", "{}", cluster.status());
        assert_eq!(cluster.lines("DELETE"), [""; 0], "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_a_pod_cannot_be_read_nobody_knows_whether_it_is_bound() {
    let mut cluster = Cluster::with_journal(-1);
    cluster.server.fail("GET pods/p1", 2, Fault::Refused(500));
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    for _ in 0..2 {
        cluster.later(&mut scheduler, LONG).await;
        assert!(cluster.status()["journal"].is_object(), "{}", cluster.status());
    }
    cluster.later(&mut scheduler, 2).await;
    assert!(cluster.status()["journal"].is_null(), "{}", cluster.status());
    assert_eq!(cluster.lines("DELETE"), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_could_not_be_told_is_not_deleted_and_the_journal_stays_until_it_is() {
    for fault in [Fault::Refused(500), Fault::Refused(403), Fault::RequestLost] {
        let mut cluster = Cluster::new();
        cluster.server.fail("POST pods/p1/binding", usize::MAX, Fault::Refused(403));
        let mut scheduler = cluster.scheduler();
        cluster.cycle(&mut scheduler).await;
        cluster.server.fail("PATCH pods/p0/status", 1, fault);
        cluster.later(&mut scheduler, 61).await;
        assert_eq!(cluster.pods(), ["p0", "p1"]);
        assert!(cluster.status()["journal"].is_object(), "{}", cluster.status());
        let sent = cluster.lines("POST").len();
        cluster.later(&mut scheduler, 2).await;
        assert_eq!(cluster.pods(), ["p1"]);
        assert!(cluster.status()["journal"].is_null(), "{}", cluster.status());
        assert_eq!(cluster.lines("POST").len(), sent, "what was given up is not bound again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_could_not_be_deleted_keeps_the_journal() {
    let mut cluster = Cluster::new();
    cluster.server.fail("POST pods/p1/binding", usize::MAX, Fault::Refused(403));
    cluster.server.fail("DELETE pods/p0", 1, Fault::Refused(500));
    let mut scheduler = cluster.scheduler();
    cluster.cycle(&mut scheduler).await;
    cluster.later(&mut scheduler, 61).await;
    assert!(cluster.status()["journal"].is_object());
    cluster.later(&mut scheduler, 2).await;
    assert_eq!(cluster.pods(), ["p1"]);
    assert!(cluster.status()["journal"].is_null());
}

#[tokio::test(start_paused = true)]
async fn a_pod_made_anew_under_its_name_is_not_undone() {
    let mut cluster = Cluster::with_journal(30);
    let another = "00000000-0000-4000-8000-00000000ffff";
    cluster.change_pod("p0", |pod| pod["metadata"]["uid"] = json!(another));
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    assert!(cluster.node_of("p0").is_null() && cluster.node_of("p1").is_null());
    cluster.later(&mut scheduler, LONG).await;
    assert_eq!(cluster.pods(), ["p0", "p1"]);
    assert_eq!(cluster.status()["phase"], "RollingBack");
}

#[tokio::test(start_paused = true)]
async fn long_after_the_deadline_pods_that_run_are_left_alone() {
    let mut cluster = Cluster::with_journal(-3600);
    cluster.change_pod("p0", runs);
    cluster.server.objects().pods.remove("p1");
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    assert_eq!(cluster.lines("DELETE"), [""; 0]);
    assert!(cluster.status()["journal"].is_null());
    assert_eq!(cluster.status()["bound"], 1);
}

#[tokio::test(start_paused = true)]
async fn where_every_binding_was_refused_for_sure_a_plan_is_over_at_its_deadline() {
    let mut cluster = Cluster::new();
    cluster.server.fail("POST pods/p1/binding", usize::MAX, Fault::Refused(403));
    let mut scheduler = cluster.scheduler();
    cluster.cycle(&mut scheduler).await;
    cluster.later(&mut scheduler, 61).await;
    assert_eq!(cluster.lines("DELETE"), ["DELETE pods/p0"]);
    assert_eq!(cluster.pods(), ["p1"]);
    assert!(cluster.status()["journal"].is_null());
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_plan_are_undone_together_and_not_one_after_the_other() {
    let mut cluster = Cluster::with_journal(-1);
    let mut status = cluster.status();
    {
        let mut objects = cluster.server.objects();
        for at in 2..20 {
            let mut pod = objects.pods["p0"].clone();
            let (name, uid) = (format!("p{at}"), format!("00000000-0000-4000-8000-0000000000{at:02}"));
            pod["metadata"]["name"] = json!(name);
            pod["metadata"]["uid"] = json!(uid);
            let place = json!({ "pod": name, "podUid": uid, "node": "n" });
            status["journal"]["placements"].as_array_mut().unwrap().push(place);
            objects.pods.insert(name, pod);
        }
        objects.pods.values_mut().for_each(is_bound);
        objects.pods.get_mut("p0").unwrap()["spec"]["nodeName"] = json!("elsewhere");
        objects.answers_after = Duration::from_millis(1);
    }
    cluster.set_gang("spec", json!({ "minMember": 20 }));
    cluster.set_gang("status", status);
    cluster.cycle(&mut cluster.scheduler()).await;
    assert_eq!(cluster.pods(), ["p0"]);
    assert!(cluster.status()["journal"].is_null(), "{}", cluster.status());
    assert_eq!(cluster.server.objects().under_way.1, 16, "so many at once, and no more");
}

/// A gang of which one pod is refused for ever; its owner makes anew what is undone. Answers when it was undone, in seconds.
async fn undone_within(cluster: &mut Cluster, scheduler: &mut Scheduler, seconds: i64) -> Vec<i64> {
    let (mut at, before) = (Vec::new(), cluster.server.objects().pods["p0"].clone());
    for second in 0..seconds {
        cluster.later(scheduler, 1).await;
        let mut objects = cluster.server.objects();
        if !objects.pods.contains_key("p0") {
            at.push(second);
            let mut anew = before.clone();
            anew["metadata"]["uid"] = json!(format!("00000000-0000-4000-8000-{:012}", at.len() + 10));
            anew["spec"]["nodeName"].take();
            objects.pods.insert("p0".to_owned(), anew);
        }
    }
    at
}

#[tokio::test(start_paused = true)]
async fn a_gang_that_is_undone_again_and_again_is_tried_ever_more_seldom_and_says_until_when() {
    let mut cluster = Cluster::new();
    cluster.server.fail("POST pods/p1/binding", usize::MAX, Fault::Refused(403));
    let mut scheduler = cluster.scheduler();
    let at = undone_within(&mut cluster, &mut scheduler, 1100).await;
    let pauses: Vec<i64> = at.windows(2).map(|pair| pair[1] - pair[0] - 60).collect();
    assert!(pauses.is_sorted() && pauses.len() == 6 && (320..330).contains(&pauses[5]), "{pauses:?}");
    let message = cluster.status()["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("undone 7 times") && message.contains("because pod p1 isn't bound: no; it is"),
        "{message}"
    );
    assert_eq!((&cluster.status()["phase"], &cluster.status()["bound"]), (&json!("Waiting"), &json!(0)));
    for pod in ["p0", "p1"] {
        let said = cluster.server.objects().pods[pod]["status"]["conditions"][0].clone();
        assert_eq!((&said["reason"], &said["message"]), (&json!("SchedulerError"), &json!(message)), "{pod}");
    }
    let events = cluster.server.events();
    let told =
        events.iter().filter(|event| event["reason"] == "FailedScheduling" && event["note"] == message);
    assert_eq!(told.count(), 1);
    let rolled_back: Vec<_> = events.iter().filter(|event| event["reason"] == "GangRolledBack").collect();
    assert_eq!(rolled_back.len(), 7);
    assert!(rolled_back[0]["note"].as_str().unwrap().contains("pod p1 isn't bound: no"), "{rolled_back:?}");
}

/// A gang that was undone three times for a pod that was refused; by now nothing is refused.
async fn paused_gang() -> (Cluster, Scheduler) {
    let mut cluster = Cluster::new();
    cluster.server.fail("POST pods/p1/binding", usize::MAX, Fault::Refused(403));
    let mut scheduler = cluster.scheduler();
    assert_eq!(undone_within(&mut cluster, &mut scheduler, 230).await.len(), 3);
    cluster.server.heal();
    cluster.later(&mut scheduler, 1).await;
    assert_eq!(cluster.status()["phase"], "Waiting", "{}", cluster.status());
    (cluster, scheduler)
}

#[tokio::test(start_paused = true)]
async fn a_gang_that_was_undone_is_planned_at_once_when_its_owner_changes_it_or_its_pods() {
    let change_gang = |cluster: &Cluster| {
        cluster.server.objects().gangs.get_mut("g").unwrap()["metadata"]["annotations"] =
            json!({ "again": "" });
    };
    let change_pod =
        |cluster: &Cluster| cluster.change_pod("p1", |pod| pod["metadata"]["generation"] = json!(4));
    let changes: [&dyn Fn(&Cluster); 2] = [&change_gang, &change_pod];
    for change in changes {
        let (mut cluster, mut scheduler) = paused_gang().await;
        change(&cluster);
        cluster.later(&mut scheduler, 1).await;
        assert_eq!(cluster.status()["phase"], "Scheduled", "{}", cluster.status());
        assert_eq!(cluster.lines("DELETE").len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_gang_whose_owner_makes_all_its_pods_anew_is_not_planned_any_sooner_for_that() {
    let (mut cluster, mut scheduler) = paused_gang().await;
    cluster.change_pod("p1", |pod| pod["metadata"]["uid"] = json!("00000000-0000-4000-8000-000000000009"));
    cluster.later(&mut scheduler, 1).await;
    assert_eq!(cluster.status()["phase"], "Waiting", "{}", cluster.status());
}
