//! Upstream PodGroups: the gang that is made for one, what is said on it, and when nothing is placed because of one.

use plasma_api::names;
use plasma_runtime::CancellationToken;
use serde_json::{Value, json};

use super::{
    api_server::Fault,
    cluster::{Cluster, pod_group},
};
use crate::{observe, observe::Observed};

fn gang_of(min_count: i32) -> Value {
    json!({ "schedulingPolicy": { "gang": { "minCount": min_count } }, "disruptionMode": { "single": {} } })
}

/// The condition that says whether the PodGroup's pods have their places.
fn condition(cluster: &Cluster) -> Value {
    let objects = cluster.server.objects();
    let conditions = objects.pod_groups.as_ref().unwrap()["pg"]["status"]["conditions"].clone();
    let conditions = conditions.as_array().cloned().unwrap_or_default();
    let found = conditions.into_iter().find(|one| one["type"] == "PodGroupInitiallyScheduled");
    found.unwrap_or_default()
}

fn message(cluster: &Cluster) -> String {
    condition(cluster)["message"].as_str().unwrap_or_default().to_owned()
}

fn set_gpus(cluster: &Cluster, count: &str) {
    let mut objects = cluster.server.objects();
    objects.nodes.get_mut("n").unwrap()["status"]["allocatable"]["nvidia.com/gpu"] = json!(count);
}

async fn rounds(cluster: &mut Cluster, count: usize) {
    let mut scheduler = cluster.scheduler();
    for _ in 0..count {
        cluster.later(&mut scheduler, 6).await;
    }
}

fn bound(cluster: &Cluster) -> usize {
    let objects = cluster.server.objects();
    objects.pods.values().filter(|pod| pod["spec"]["nodeName"].is_string()).count()
}

#[tokio::test(start_paused = true)]
async fn a_gang_is_made_for_the_pods_and_the_podgroup_is_told_once_when_they_are_bound() {
    let mut cluster = Cluster::with_pod_group(&gang_of(2));
    rounds(&mut cluster, 4).await;
    let asked = cluster.server.asked();
    let made = asked.iter().find(|asked| asked.line == "POST gangs").unwrap();
    assert_eq!((&made.body["metadata"]["name"], &made.body["spec"]["minMember"]), (&json!("pg"), &json!(2)));
    let owner = &made.body["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["apiVersion"], &owner["kind"], &owner["uid"], &owner["controller"]),
        (&json!("scheduling.k8s.io/v1beta1"), &json!("PodGroup"), &json!("the-pod-group"), &json!(true))
    );
    assert_eq!(bound(&cluster), 2);
    assert_eq!(cluster.server.objects().gangs["pg"]["status"]["phase"], "Scheduled");
    let condition = condition(&cluster);
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("True"), &json!("Scheduled")));
    assert_eq!(
        (&condition["message"], &condition["observedGeneration"]),
        (&json!("2 pods are bound"), &json!(3))
    );
    let since = condition["lastTransitionTime"].as_str().unwrap();
    assert!(since.parse::<k8s_openapi::jiff::Timestamp>().is_ok() && !since.contains('.'), "{since}");
    assert_eq!(cluster.lines("PATCH podgroups").len(), 1);
    assert_eq!(cluster.lines("POST gangs").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn where_there_are_no_podgroups_the_pods_are_told_which_field_keeps_them() {
    let mut cluster = Cluster::with_pod_group(&gang_of(2));
    cluster.server.objects().pod_groups = None;
    rounds(&mut cluster, 2).await;
    assert_eq!(cluster.lines("POST"), [""; 0]);
    let events = cluster.server.events();
    let told = events.iter().filter(|event| event["note"].as_str().unwrap().contains("spec.schedulingGroup"));
    assert_eq!(told.count(), 2, "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_podgroup_that_is_not_understood_is_told_by_its_field_and_none_of_its_pods_is_bound() {
    let mut spec = gang_of(2);
    spec["schedulingConstraints"] = json!({ "topology": [{ "key": "rack" }] });
    let mut cluster = Cluster::with_pod_group(&spec);
    rounds(&mut cluster, 4).await;
    assert_eq!(cluster.lines("POST"), [""; 0]);
    let condition = condition(&cluster);
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("SchedulerError")));
    assert!(
        message(&cluster).starts_with("PodGroup pg: spec.schedulingConstraints.topology: "),
        "{condition}"
    );
    let events = cluster.server.events();
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!(
        (&event["regarding"]["kind"], &event["regarding"]["uid"]),
        (&json!("PodGroup"), &json!("the-pod-group"))
    );
    assert_eq!(cluster.lines("PATCH podgroups").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_podgroup_without_room_says_so_and_all_of_it_is_placed_when_there_is_room() {
    let mut cluster = Cluster::with_pod_group(&gang_of(2));
    set_gpus(&cluster, "1");
    let mut scheduler = cluster.scheduler();
    for _ in 0..3 {
        cluster.later(&mut scheduler, 1).await;
    }
    assert_eq!(bound(&cluster), 0);
    let told = condition(&cluster);
    assert_eq!((&told["status"], &told["reason"]), (&json!("False"), &json!("Unschedulable")));
    assert!(message(&cluster).contains("needs 2 nvidia.com/gpu, 1 free"), "{told}");
    assert_eq!(cluster.lines("PATCH podgroups").len(), 1);
    set_gpus(&cluster, "2");
    for _ in 0..3 {
        cluster.later(&mut scheduler, 1).await;
    }
    assert_eq!((bound(&cluster), condition(&cluster)["status"].clone()), (2, json!("True")));
}

#[tokio::test(start_paused = true)]
async fn pods_that_are_there_first_wait_for_their_podgroup() {
    let mut cluster = Cluster::with_pod_group(&gang_of(2));
    cluster.server.objects().pod_groups = Some([].into());
    let mut scheduler = cluster.scheduler();
    for _ in 0..2 {
        cluster.later(&mut scheduler, 1).await;
    }
    assert_eq!(cluster.lines("POST"), [""; 0]);
    let told = cluster.server.objects().pods["p0"]["status"]["conditions"][0].clone();
    assert_eq!(told["message"], "PodGroup pg doesn't exist (yet)");
    cluster.server.objects().pod_groups = Some([("pg".to_owned(), pod_group(&gang_of(2)))].into());
    for _ in 0..3 {
        cluster.later(&mut scheduler, 1).await;
    }
    assert_eq!((bound(&cluster), condition(&cluster)["status"].clone()), (2, json!("True")));
}

#[tokio::test(start_paused = true)]
async fn nothing_more_is_placed_for_a_podgroup_that_is_deleted_or_gone() {
    for is_gone in [false, true] {
        let mut cluster = Cluster::with_pod_group(&gang_of(1));
        cluster.server.objects().pods.remove("p1");
        rounds(&mut cluster, 2).await;
        assert_eq!(bound(&cluster), 1);
        let late = Cluster::with_pod_group(&gang_of(1)).server.objects().pods["p1"].clone();
        {
            let mut objects = cluster.server.objects();
            objects.pods.insert("p1".to_owned(), late);
            let pod_groups = objects.pod_groups.as_mut().unwrap();
            match is_gone {
                true => pod_groups.clear(),
                false => {
                    pod_groups.get_mut("pg").unwrap()["metadata"]["deletionTimestamp"] =
                        json!("2026-01-01T00:00:00Z");
                }
            }
        }
        rounds(&mut cluster, 3).await;
        assert_eq!(bound(&cluster), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_gang_of_the_same_name_that_is_somebody_elses_is_named_and_left_alone() {
    let mut cluster = Cluster::with_pod_group(&gang_of(2));
    let others = Cluster::new().server.objects().gangs["g"].clone();
    let mut named = others.clone();
    named["metadata"]["name"] = json!("pg");
    named["status"] = json!({ "phase": "Scheduled", "bound": 2 });
    cluster.server.objects().gangs.insert("pg".to_owned(), named.clone());
    let mut scheduler = cluster.scheduler();
    for _ in 0..3 {
        cluster.later(&mut scheduler, 11).await;
    }
    assert!(message(&cluster).contains("delete Gang ns/pg"), "{}", condition(&cluster));
    assert_eq!((bound(&cluster), cluster.server.objects().gangs["pg"].clone()), (0, named));
    cluster.server.objects().gangs.clear();
    for _ in 0..3 {
        cluster.later(&mut scheduler, 11).await;
    }
    assert_eq!((bound(&cluster), condition(&cluster)["status"].clone()), (2, json!("True")));
}

#[tokio::test(start_paused = true)]
async fn that_it_was_scheduled_once_is_never_taken_back() {
    let mut cluster = Cluster::with_pod_group(&gang_of(2));
    rounds(&mut cluster, 3).await;
    let before = condition(&cluster);
    assert_eq!(before["status"], "True");
    set_gpus(&cluster, "1");
    cluster.change_pod("p1", |pod| pod["spec"]["nodeName"] = Value::Null);
    rounds(&mut cluster, 3).await;
    assert_eq!(cluster.server.objects().gangs["pg"]["status"]["phase"], "Waiting");
    assert_eq!(condition(&cluster), before);
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_that_dies_at_any_request_leaves_what_its_successor_ends() {
    let whole = {
        let mut cluster = Cluster::with_pod_group(&gang_of(2));
        rounds(&mut cluster, 3).await;
        cluster.server.asked().len()
    };
    assert!(whole >= 6, "a gang made, a plan begun and ended, two bindings, a condition");
    for requests in 0..whole {
        let mut cluster = Cluster::with_pod_group(&gang_of(2));
        cluster.server.die_after(requests);
        cluster.cycle(&mut cluster.scheduler()).await;
        cluster.server.heal();
        rounds(&mut cluster, 5).await;
        assert_eq!(bound(&cluster), 2, "after {requests}");
        assert_eq!(condition(&cluster)["status"], "True", "after {requests}");
        assert_eq!(cluster.server.objects().gangs.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_lost_or_a_refusal_is_made_good_later() {
    for line in ["POST gangs", "PATCH podgroups", "GET podgroups"] {
        for fault in [Fault::Refused(500), Fault::Refused(409), Fault::RequestLost, Fault::ReplyLost] {
            let mut cluster = Cluster::with_pod_group(&gang_of(2));
            cluster.server.fail(line, 1, fault);
            rounds(&mut cluster, 6).await;
            assert_eq!(
                (bound(&cluster), condition(&cluster)["status"].clone()),
                (2, json!("True")),
                "{line} {fault:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_basic_podgroup_need_no_gang_and_it_is_told_when_one_is_bound() {
    let mut cluster = Cluster::with_pod_group(&json!({ "schedulingPolicy": { "basic": {} } }));
    set_gpus(&cluster, "1");
    rounds(&mut cluster, 3).await;
    assert_eq!((bound(&cluster), cluster.lines("POST gangs").len()), (1, 0));
    assert_eq!(message(&cluster), "1 pods are bound");
}

#[tokio::test(start_paused = true)]
async fn a_podgroup_whose_pods_have_a_gang_is_told_what_becomes_of_that() {
    let mut cluster = Cluster::new();
    {
        let mut objects = cluster.server.objects();
        for pod in objects.pods.values_mut() {
            assert_eq!(pod["metadata"]["labels"][names::GANG_LABEL], "g");
            pod["spec"]["schedulingGroup"] = json!({ "podGroupName": "pg" });
        }
        objects.pod_groups = Some([("pg".to_owned(), pod_group(&gang_of(2)))].into());
    }
    set_gpus(&cluster, "1");
    rounds(&mut cluster, 2).await;
    assert_eq!(condition(&cluster)["reason"], "Unschedulable");
    set_gpus(&cluster, "2");
    rounds(&mut cluster, 3).await;
    assert_eq!((bound(&cluster), condition(&cluster)["status"].clone()), (2, json!("True")));
    assert_eq!(cluster.lines("POST gangs"), [""; 0]);
    assert_eq!(cluster.status()["phase"], "Scheduled");
}

/// What the watches say of PodGroups within so many seconds.
async fn observed(cluster: &Cluster, seconds: u64) -> Vec<&'static str> {
    let shutdown = CancellationToken::new();
    let mut observations = observe::start(&cluster.server.client(), &shutdown);
    let mut said = Vec::new();
    let listening = async {
        loop {
            match observations.recv().await.unwrap() {
                Observed::PodGroupsFound(Some(resource)) if resource.version == "v1beta1" => {
                    said.push("found")
                }
                Observed::PodGroupsFound(Some(_)) => said.push("another version"),
                Observed::PodGroupsFound(None) => said.push("none"),
                Observed::PodGroup(observe::Change::Is(_)) => said.push("one"),
                Observed::PodGroup(observe::Change::ListEnds) => said.push("end"),
                _ => {}
            }
        }
    };
    let _ = tokio::time::timeout(std::time::Duration::from_secs(seconds), listening).await;
    shutdown.cancel();
    said
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_found_out_is_not_taken_for_not_served() {
    let cluster = Cluster::with_pod_group(&gang_of(2));
    assert_eq!(observed(&cluster, 3).await, ["found", "one", "end"]);
    for fault in [Fault::Refused(500), Fault::Refused(403), Fault::RequestLost] {
        let cluster = Cluster::with_pod_group(&gang_of(2));
        cluster.server.fail("GET /apis/scheduling.k8s.io", 2, fault);
        assert_eq!(observed(&cluster, 3).await, [""; 0]);
        assert_eq!(observed(&cluster, 8).await, ["found", "one", "end"]);
    }
    cluster.server.objects().pod_groups = None;
    assert_eq!(observed(&cluster, 61).await, ["none", "none"]);
}
