//! Journals that name pods of others: who may write a gang's status can't have any pod bound or deleted by that.

use k8s_openapi::jiff::SignedDuration;
use plasma_api::names;
use serde_json::{Value, json};

use super::{
    api_server::Fault,
    cluster::{Cluster, UIDS, runs},
};

/// A gang of which somebody wrote a journal that names `s0` and `s1`, of another gang, which waits or runs.
fn with_strangers(change: impl Fn(&mut Value)) -> Cluster {
    let mut cluster = Cluster::with_journal(30);
    let mut status = cluster.status();
    {
        let mut objects = cluster.server.objects();
        for (at, name) in ["s0", "s1"].into_iter().enumerate() {
            let mut pod = objects.pods[&format!("p{at}")].clone();
            let uid = UIDS[at].replace("0000-4000", "00aa-4000");
            pod["metadata"]["name"] = json!(name);
            pod["metadata"]["uid"] = json!(uid);
            pod["metadata"]["labels"][names::GANG_LABEL] = json!("other");
            change(&mut pod);
            objects.pods.insert(name.to_owned(), pod);
            let place = json!({ "pod": name, "podUid": uid, "node": "n" });
            status["journal"]["placements"].as_array_mut().unwrap().push(place);
        }
    }
    cluster.set_gang("status", status);
    cluster
}

fn complaints(cluster: &Cluster) -> Vec<Value> {
    let events = cluster.server.events().into_iter();
    events.filter(|event| event["reason"] == "Unreadable").collect()
}

#[tokio::test(start_paused = true)]
async fn pods_of_another_gang_are_neither_bound_nor_deleted_whatever_a_journal_says() {
    for they_run in [false, true] {
        let mut cluster = with_strangers(|pod| {
            if they_run {
                runs(pod);
            }
        });
        let mut scheduler = cluster.scheduler();
        for seconds in [0, 1, 100] {
            cluster.later(&mut scheduler, seconds).await;
        }
        assert!(cluster.pods().iter().any(|pod| pod == "s0"), "they run: {they_run}");
        assert!(cluster.lines("POST pods/s").is_empty() && cluster.lines("DELETE pods/s").is_empty());
        assert!(cluster.lines("PATCH pods/s").iter().all(|_| !they_run), "those that run are told nothing");
        let told = complaints(&cluster);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(
            (&told[0]["regarding"]["kind"], &told[0]["regarding"]["name"]),
            (&json!("Gang"), &json!("g"))
        );
        let note = told[0]["note"].as_str().unwrap();
        assert!(
            note.starts_with("status.journal names pods that aren't the gang's") && note.contains("s0, s1"),
            "{note}"
        );
        assert_eq!(scheduler.state.cluster.on_their_way(), 0, "they run: {they_run}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_holds_no_room_for_pods_of_another_gang() {
    let cluster = with_strangers(|_| ());
    let mut scheduler = cluster.scheduler();
    cluster.shown.tell(&mut scheduler);
    assert_eq!(scheduler.state.cluster.on_their_way(), 2, "its own two");
}

#[tokio::test(start_paused = true)]
async fn a_journalled_pod_that_no_watch_shows_is_neither_bound_nor_deleted() {
    let mut cluster = with_strangers(|_| ());
    let pods = cluster.shown.clone();
    let strangers: Vec<(String, Value)> = cluster
        .server
        .objects()
        .pods
        .iter()
        .filter(|(name, _)| name.starts_with('s'))
        .map(|(name, pod)| (name.clone(), pod.clone()))
        .collect();
    for (name, _) in &strangers {
        cluster.server.objects().pods.remove(name);
    }
    cluster.show();
    cluster.server.objects().pods.extend(strangers);
    let mut scheduler = cluster.scheduler();
    for seconds in [0, 1, 100] {
        cluster.now += SignedDuration::from_secs(seconds);
        cluster.cycle(&mut scheduler).await;
    }
    assert!(cluster.lines("POST pods/s").is_empty() && cluster.lines("DELETE pods/s").is_empty());
    assert!(cluster.status()["journal"].is_object(), "until it is known whose they are");
    cluster.shown = pods;
    cluster.later(&mut scheduler, 1).await;
    assert!(cluster.status()["journal"].is_null());
    assert!(cluster.lines("POST pods/s").is_empty() && cluster.lines("DELETE pods/s").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pod_on_its_way_by_its_own_plan_stays_so_whatever_anothers_journal_says() {
    let mut cluster = Cluster::new();
    cluster.server.fail("POST pods/p1/binding", usize::MAX, Fault::RequestLost);
    let mut scheduler = cluster.scheduler();
    cluster.cycle(&mut scheduler).await;
    cluster.show();
    let mut gang = cluster.shown.gangs["g"].clone();
    gang["metadata"]["name"] = json!("evil");
    gang["metadata"]["uid"] = json!("the-evil-gang");
    cluster.server.objects().gangs.insert("evil".to_owned(), gang);
    for seconds in [0, 1, 1] {
        cluster.later(&mut scheduler, seconds).await;
        assert_eq!(scheduler.state.cluster.on_their_way(), 1, "p1's binding may still arrive");
    }
    assert!(cluster.server.objects().gangs["evil"]["status"]["journal"].is_null());
    assert_eq!(cluster.lines("DELETE"), [""; 0]);
}
