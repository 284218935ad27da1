//! Others are evicted for a group of higher priority: what is written, in which order, and what comes of it when a write
//! is lost or refused, or when the scheduler dies after it.

use std::{collections::BTreeMap, time::Duration};

use plasma_scheduler_core::{Placement, Victim};
use serde_json::{Value, json};

use super::{
    api_server::Fault,
    cluster::{Cluster, UIDS, runs},
};
use crate::{
    event,
    evict::{Eviction, Evictor},
    shares::Turns,
};

/// The gang of two pods is running; a pod of a higher priority that needs both of its GPUs waits.
fn full() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.change_pod("p0", runs);
    cluster.change_pod("p1", runs);
    let rival = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "rival", "namespace": "ns", "uid": "the-rival" },
        "spec": {
            "schedulerName": plasma_api::names::SCHEDULER_NAME, "priority": 7,
            "containers": [{ "name": "c", "resources": { "requests": { "nvidia.com/gpu": "2" } } }],
        },
        "status": { "phase": "Pending" },
    });
    cluster.server.objects().pods.insert("rival".to_owned(), rival);
    cluster.server.objects().pods_linger = true;
    cluster.set_gang("status", json!({ "phase": "Scheduled", "bound": 2 }));
    cluster
}

/// What the kubelet does with pods that are being deleted.
fn end_what_is_ending(cluster: &Cluster) {
    cluster.server.objects().pods.retain(|_, pod| pod["metadata"]["deletionTimestamp"].is_null());
}

fn nominated(cluster: &Cluster) -> Value {
    cluster.server.objects().pods["rival"]["status"]["nominatedNodeName"].clone()
}

const EVICTIONS: [&str; 2] = ["DELETE pods/p0", "DELETE pods/p1"];

#[tokio::test(start_paused = true)]
async fn the_preemptor_is_nominated_then_the_whole_gang_is_told_and_deleted_then_the_preemptor_bound() {
    let mut cluster = full();
    let mut scheduler = cluster.scheduler();
    cluster.cycle(&mut scheduler).await;
    let asked = cluster.server.asked();
    let at = |line: &str| asked.iter().position(|asked| asked.line == line).unwrap();
    let nomination = at("PATCH pods/rival/status");
    assert_eq!(asked[nomination].body["status"]["nominatedNodeName"], "n");
    assert_eq!(asked[nomination].body["metadata"]["uid"], "the-rival");
    for (pod, uid) in ["p0", "p1"].into_iter().zip(UIDS) {
        let read = at(&format!("GET pods/{pod}"));
        let (told, deleted) = (at(&format!("PATCH pods/{pod}/status")), at(&format!("DELETE pods/{pod}")));
        assert!(nomination < read && read < told && told < deleted);
        let condition = &asked[told].body["status"]["conditions"][0];
        assert_eq!((&condition["type"], &condition["status"]), (&json!("DisruptionTarget"), &json!("True")));
        assert_eq!(condition["reason"], "PreemptionByScheduler");
        assert!(condition["message"].as_str().unwrap().contains("ns/pod:rival"));
        assert_eq!(asked[told].body["metadata"]["uid"], uid);
        assert_eq!(asked[deleted].body["preconditions"]["uid"], uid);
    }
    let events = cluster.server.events();
    let told = |reason: &str| events.iter().filter(|event| event["reason"] == reason).collect::<Vec<_>>();
    let [preempted] = told("Preempted")[..] else { panic!("{events:?}") };
    assert_eq!(preempted["regarding"]["kind"], "Gang");
    let [preempting] = told("Preempting")[..] else { panic!("{events:?}") };
    assert_eq!(preempting["regarding"]["uid"], "the-rival");
    for _ in 0..3 {
        cluster.later(&mut scheduler, 1).await;
    }
    assert_eq!(cluster.lines("DELETE"), EVICTIONS, "while they end, nobody else goes");
    assert!(cluster.node_of("rival").is_null());
    end_what_is_ending(&cluster);
    cluster.later(&mut scheduler, 1).await;
    assert_eq!(cluster.node_of("rival"), "n");
}

/// How many requests a test's scheduler gets through before it dies.
async fn dies_after(cluster: &Cluster, line: &str, fault: Fault) {
    cluster.server.fail(line, usize::MAX, fault);
    cluster.cycle(&mut cluster.scheduler()).await;
    cluster.server.heal();
}

#[tokio::test(start_paused = true)]
async fn whichever_write_a_scheduler_dies_at_its_successor_ends_it_and_evicts_nobody_twice() {
    let writes = ["PATCH pods/rival", "PATCH pods/p0", "PATCH pods/p1", "DELETE pods/p0", "DELETE pods/p1"];
    for line in writes {
        for fault in [Fault::RequestLost, Fault::ReplyLost] {
            let mut cluster = full();
            dies_after(&cluster, line, fault).await;
            let mut successor = cluster.scheduler();
            for _ in 0..4 {
                cluster.later(&mut successor, 5).await;
            }
            let pods = cluster.server.objects().pods.clone();
            for pod in ["p0", "p1"] {
                assert!(!pods[pod]["metadata"]["deletionTimestamp"].is_null(), "{line}: {pod}");
                assert_eq!(pods[pod]["status"]["conditions"][0]["type"], "DisruptionTarget", "{line}");
            }
            assert_eq!(nominated(&cluster), "n", "{line}");
            end_what_is_ending(&cluster);
            cluster.later(&mut successor, 5).await;
            assert_eq!(cluster.node_of("rival"), "n", "{line}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_evicted_where_the_preemptor_is_gone_or_placed_or_cannot_be_nominated() {
    let gone = |pods: &mut std::collections::BTreeMap<String, Value>| drop(pods.remove("rival"));
    let made_anew = |pods: &mut std::collections::BTreeMap<String, Value>| {
        pods.get_mut("rival").unwrap()["metadata"]["uid"] = json!("another");
    };
    let placed = |pods: &mut std::collections::BTreeMap<String, Value>| {
        pods.get_mut("rival").unwrap()["spec"]["nodeName"] = json!("n");
    };
    for change in [gone, made_anew, placed] {
        let cluster = full();
        let mut scheduler = cluster.scheduler();
        let shown = cluster.shown.clone();
        change(&mut cluster.server.objects().pods);
        let cluster = Cluster { shown, ..cluster };
        cluster.cycle(&mut scheduler).await;
        assert_eq!(cluster.lines("PATCH pods/p"), [""; 0]);
        assert_eq!(cluster.lines("DELETE"), [""; 0]);
    }
    for fault in [Fault::Refused(500), Fault::Refused(403), Fault::RequestLost] {
        let mut cluster = full();
        cluster.server.fail("PATCH pods/rival", 1, fault);
        let mut scheduler = cluster.scheduler();
        cluster.cycle(&mut scheduler).await;
        assert_eq!(cluster.lines("DELETE"), [""; 0]);
        cluster.later(&mut scheduler, 5).await;
        assert_eq!(cluster.lines("DELETE"), EVICTIONS, "it is tried again");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_evicted_where_one_victim_has_changed_or_cannot_be_read() {
    let mut cluster = full();
    cluster.change_pod("p1", |pod| pod["spec"]["priority"] = json!(7));
    let mut scheduler = cluster.scheduler();
    cluster.cycle(&mut scheduler).await;
    assert_eq!(cluster.lines("PATCH pods/p"), [""; 0]);
    // Once the watch shows it, the room is given up.
    cluster.later(&mut scheduler, 5).await;
    cluster.later(&mut scheduler, 5).await;
    assert_eq!(cluster.lines("DELETE"), [""; 0]);
    assert!(nominated(&cluster).is_null());

    let mut cluster = full();
    cluster.server.fail("GET pods/p1", 1, Fault::Refused(500));
    let mut scheduler = cluster.scheduler();
    cluster.cycle(&mut scheduler).await;
    assert_eq!(cluster.lines("PATCH pods/p"), [""; 0]);
    cluster.later(&mut scheduler, 5).await;
    assert_eq!(cluster.lines("DELETE"), EVICTIONS);
}

#[tokio::test(start_paused = true)]
async fn a_victim_that_ends_by_itself_meanwhile_or_was_made_anew_is_left_alone() {
    let cluster = full();
    cluster.change_pod("p0", |pod| pod["metadata"]["uid"] = json!("another"));
    cluster.change_pod("p1", |pod| pod["status"]["phase"] = json!("Succeeded"));
    let cluster = Cluster { ..cluster };
    cluster.cycle(&mut cluster.scheduler()).await;
    assert_eq!(cluster.lines("DELETE"), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_victim_that_could_not_be_evicted_is_tried_again_after_a_pause() {
    for (line, fault) in [("PATCH pods/p1", Fault::Refused(500)), ("DELETE pods/p1", Fault::Refused(403))] {
        let mut cluster = full();
        cluster.server.fail(line, 1, fault);
        let mut scheduler = cluster.scheduler();
        cluster.cycle(&mut scheduler).await;
        let is_ending = |cluster: &Cluster, pod: &str| {
            !cluster.server.objects().pods[pod]["metadata"]["deletionTimestamp"].is_null()
        };
        assert!(is_ending(&cluster, "p0") && !is_ending(&cluster, "p1"));
        cluster.later(&mut scheduler, 5).await;
        assert!(is_ending(&cluster, "p1"), "{line}");
        end_what_is_ending(&cluster);
        cluster.later(&mut scheduler, 5).await;
        assert_eq!(cluster.node_of("rival"), "n");
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_that_were_kept_too_long_are_given_back_and_the_nomination_is_taken_off() {
    let mut cluster = full();
    cluster.change_pod("rival", |pod| pod["status"]["nominatedNodeName"] = json!("n"));
    cluster.change_pod("rival", |pod| pod["spec"]["preemptionPolicy"] = json!("Never"));
    cluster.show();
    let mut scheduler = cluster.scheduler();
    cluster.cycle(&mut scheduler).await;
    assert_eq!(nominated(&cluster), "n");
    cluster.server.fail("PATCH pods/rival", 1, Fault::Refused(500));
    for _ in 0..4 {
        cluster.later(&mut scheduler, 601).await;
    }
    assert!(nominated(&cluster).is_null());
    assert_eq!(cluster.lines("DELETE"), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_nomination_that_may_not_be_taken_off_is_tried_again_twice_a_minute() {
    let mut cluster = full();
    cluster.change_pod("rival", |pod| {
        pod["status"]["nominatedNodeName"] = json!("n");
        pod["spec"]["preemptionPolicy"] = json!("Never");
    });
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    let refusals = |cluster: &Cluster| {
        let asked = cluster.server.asked().into_iter();
        asked.filter(|asked| asked.body["status"].get("nominatedNodeName").is_some()).count()
    };
    cluster.server.fail("PATCH pods/rival", usize::MAX, Fault::Refused(403));
    cluster.later(&mut scheduler, 601).await;
    for _ in 0..65 {
        cluster.later(&mut scheduler, 1).await;
    }
    assert_eq!(refusals(&cluster), 3);
    cluster.server.heal();
    cluster.later(&mut scheduler, 30).await;
    assert!(nominated(&cluster).is_null());
}

#[tokio::test(start_paused = true)]
async fn what_is_written_for_an_eviction_is_in_turns_with_all_that_is_written_in_its_namespaces() {
    let cluster = full();
    let text = str::to_owned;
    let (mut victims, mut nominations) = (Vec::new(), Vec::new());
    for at in 0..20 {
        let mut objects = cluster.server.objects();
        for (name, as_in) in [(format!("victim{at}"), "p0"), (format!("rival{at}"), "rival")] {
            let mut pod = objects.pods[as_in].clone();
            (pod["metadata"]["name"], pod["metadata"]["uid"]) = (json!(name), json!(name));
            objects.pods.insert(name, pod);
        }
        let (pod, uid) = (format!("victim{at}"), format!("victim{at}"));
        victims.push(Victim { namespace: text("ns"), pod, uid, group: text("ns/g") });
        let (pod, uid) = (format!("rival{at}"), format!("rival{at}"));
        nominations.push(Placement { pod, uid, node: text("n"), volumes: Vec::new() });
    }
    cluster.server.objects().answers_after = Duration::from_millis(10);
    let eviction = Eviction {
        group: text("ns/rivals"),
        priority: 7,
        victims,
        nominations,
        message: text("room is made"),
        about: event::pod_reference("ns", "rival", "the-rival"),
        gangs: BTreeMap::new(),
    };
    let evicted = Evictor::new(cluster.server.client(), Turns::new(8)).make_room(&eviction).await;
    assert_eq!((evicted.count, evicted.spared.len(), evicted.is_nominated), (20, 0, true));
    assert_eq!(cluster.server.objects().under_way.1, 4);
}
