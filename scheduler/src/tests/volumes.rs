//! Volumes come before pods: all that a gang needs are bound before its first pod is, and what can't be had is planned anew.

use std::time::Duration;

use k8s_openapi::jiff::SignedDuration;
use plasma_scheduler_core::{ClaimName, Placement, VolumeStep};
use serde_json::{Value, json};

use super::{
    api_server::{Fault, touch},
    cluster::Cluster,
};
use crate::{cycle::Scheduler, shares::Turns, volumes::VolumeBinder};

const CLAIMS: [&str; 2] = ["c0", "c1"];
const SELECTED: &str = "volume.kubernetes.io/selected-node";

/// A cluster whose two pods have a claim each, of a class that waits for them; and two volumes.
fn cluster(class: &str) -> Cluster {
    let mut cluster = Cluster::new();
    for (at, claim) in CLAIMS.into_iter().enumerate() {
        cluster.change_pod(&format!("p{at}"), |pod| {
            pod["spec"]["volumes"] =
                json!([{ "name": "d", "persistentVolumeClaim": { "claimName": claim } }]);
        });
        let object = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": { "name": claim, "namespace": "ns", "uid": format!("uid-{claim}"), "resourceVersion": "1" },
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": class,
                "resources": { "requests": { "storage": "1Gi" } },
            },
            "status": { "phase": "Pending" },
        });
        cluster.server.objects().claims.insert(claim.to_owned(), object);
        let name = format!("v{at}");
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": name, "resourceVersion": "1" },
            "spec": {
                "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "1Gi" }, "storageClassName": "local",
                "local": { "path": "/disk" },
            },
            "status": { "phase": "Available" },
        });
        cluster.server.objects().volumes.insert(name, volume);
    }
    cluster.show();
    cluster
}

/// The volume controller completes what was begun: claims get the volumes that are kept for them, or made for them.
fn complete(cluster: &Cluster) {
    let mut objects = cluster.server.objects();
    let kept: Vec<(String, String)> = objects
        .volumes
        .iter()
        .filter_map(|(name, volume)| {
            Some((volume["spec"]["claimRef"]["name"].as_str()?.to_owned(), name.clone()))
        })
        .collect();
    let made =
        objects.claims.iter().filter(|(_, claim)| claim["metadata"]["annotations"][SELECTED].is_string());
    let made: Vec<(String, String)> = made.map(|(name, _)| (name.clone(), format!("made-{name}"))).collect();
    for (claim, volume) in kept.into_iter().chain(made) {
        let bound = json!({ "metadata": { "name": volume }, "spec": {
            "claimRef": { "namespace": "ns", "name": claim, "uid": format!("uid-{claim}") },
        } });
        objects.volumes.entry(volume.clone()).or_insert(bound);
        let claim = objects.claims.get_mut(&claim).unwrap();
        claim["spec"]["volumeName"] = json!(volume);
        claim["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = json!("yes");
        touch(claim);
    }
}

fn owner(cluster: &Cluster, volume: &str) -> Value {
    cluster.server.objects().volumes[volume]["spec"]["claimRef"]["name"].clone()
}

/// So many seconds go by, with a look every now and then.
async fn pass(cluster: &mut Cluster, scheduler: &mut Scheduler, seconds: i64) {
    for _ in 0..seconds {
        cluster.later(scheduler, 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_volume_is_bound_before_the_gang_is_journalled_and_its_first_pod_bound() {
    let mut cluster = cluster("local");
    let mut scheduler = cluster.scheduler();
    cluster.cycle(&mut scheduler).await;
    assert_eq!(cluster.lines("PATCH /api/v1/persistentvolumes").len(), 2);
    for volume in ["v0", "v1"] {
        let volume = cluster.server.objects().volumes[volume].clone();
        let claim = &volume["spec"]["claimRef"];
        assert_eq!(claim["uid"], format!("uid-{}", claim["name"].as_str().unwrap()));
        assert_eq!(volume["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"], "yes");
    }
    assert_ne!(owner(&cluster, "v0"), owner(&cluster, "v1"));
    pass(&mut cluster, &mut scheduler, 5).await;
    assert_eq!(cluster.lines("POST"), [""; 0], "nobody has bound the claims yet");
    assert!(cluster.status()["journal"].is_null());
    complete(&cluster);
    cluster.later(&mut scheduler, 1).await;
    assert_eq!(cluster.status()["phase"], "Scheduled");
    assert_eq!(cluster.lines("PATCH /api/v1/persistentvolumes").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_becomes_another_gangs_while_volumes_are_waited_for_is_not_bound_with_the_first() {
    let mut cluster = cluster("local");
    let mut scheduler = cluster.scheduler();
    cluster.cycle(&mut scheduler).await;
    cluster.change_pod("p1", |pod| pod["metadata"]["labels"][plasma_api::names::GANG_LABEL] = json!("other"));
    complete(&cluster);
    pass(&mut cluster, &mut scheduler, 5).await;
    assert_eq!(cluster.lines("POST"), [""; 0]);
    assert_eq!(scheduler.state.cluster.on_their_way(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_cordoned_while_volumes_were_waited_for_is_not_used() {
    let mut cluster = cluster("local");
    let mut scheduler = cluster.scheduler();
    cluster.cycle(&mut scheduler).await;
    cluster.server.objects().nodes.get_mut("n").unwrap()["spec"]["unschedulable"] = json!(true);
    complete(&cluster);
    pass(&mut cluster, &mut scheduler, 5).await;
    assert_eq!(cluster.lines("POST"), [""; 0]);
    assert_eq!(scheduler.state.cluster.on_their_way(), 0);
    let status = cluster.status();
    assert!(status["message"].as_str().unwrap().contains("unschedulable"), "{status}");
}

#[tokio::test(start_paused = true)]
async fn one_volume_that_is_not_bound_keeps_the_whole_gang() {
    let mut cluster = cluster("local");
    let mut scheduler = cluster.scheduler();
    cluster.cycle(&mut scheduler).await;
    let kept = cluster.server.objects().volumes.remove("v1").unwrap();
    complete(&cluster);
    cluster.server.objects().volumes.insert("v1".to_owned(), kept);
    cluster.later(&mut scheduler, 1).await;
    assert_eq!(cluster.lines("POST"), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_volume_is_made_for_the_node_of_its_pod() {
    let mut cluster = cluster("made");
    let mut scheduler = cluster.scheduler();
    cluster.cycle(&mut scheduler).await;
    for claim in CLAIMS {
        assert_eq!(cluster.server.objects().claims[claim]["metadata"]["annotations"][SELECTED], "n");
    }
    assert_eq!(cluster.lines("POST"), [""; 0]);
    complete(&cluster);
    cluster.later(&mut scheduler, 1).await;
    assert_eq!(cluster.status()["phase"], "Scheduled");
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_request_or_reply_did_is_looked_up() {
    for fault in [Fault::Refused(409), Fault::Refused(500), Fault::RequestLost, Fault::ReplyLost] {
        let mut cluster = cluster("local");
        cluster.server.fail("PATCH", 1, fault);
        let mut scheduler = cluster.scheduler();
        cluster.cycle(&mut scheduler).await;
        complete(&cluster);
        cluster.later(&mut scheduler, 1).await;
        assert_eq!(cluster.status()["phase"], "Scheduled");
        let tries = if matches!(fault, Fault::ReplyLost) { 2 } else { 3 };
        assert_eq!(cluster.lines("PATCH").len(), tries);
    }
}

#[tokio::test(start_paused = true)]
async fn a_provisioner_that_gives_up_is_asked_again_by_a_new_plan() {
    let mut cluster = cluster("made");
    let mut scheduler = cluster.scheduler();
    cluster.cycle(&mut scheduler).await;
    cluster.later(&mut scheduler, 0).await;
    if let Some(claim) = cluster.server.objects().claims.get_mut("c0") {
        claim["metadata"]["annotations"] = json!({});
        touch(claim);
    }
    cluster.later(&mut scheduler, 0).await;
    let status = cluster.status();
    assert!(status["message"].as_str().unwrap().contains("ns/c0"), "{status}");
    assert_eq!(cluster.lines("PATCH persistentvolumeclaims/c0").len(), 1, "not at once");
    pass(&mut cluster, &mut scheduler, 2).await;
    assert_eq!(cluster.lines("PATCH persistentvolumeclaims/c0").len(), 2);
    complete(&cluster);
    cluster.later(&mut scheduler, 1).await;
    assert_eq!(cluster.status()["phase"], "Scheduled");
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_somebody_was_faster_to_take_leads_to_another_plan() {
    let mut cluster = cluster("local");
    let mut scheduler = cluster.scheduler();
    for volume in cluster.server.objects().volumes.values_mut() {
        volume["spec"]["claimRef"] = json!({ "namespace": "ns", "name": "theirs", "uid": "uid-theirs" });
        touch(volume);
    }
    cluster.cycle(&mut scheduler).await;
    assert_eq!(owner(&cluster, "v0"), "theirs");
    pass(&mut cluster, &mut scheduler, 3).await;
    assert_eq!(cluster.lines("POST"), [""; 0]);
    let status = cluster.status();
    assert!(status["message"].as_str().unwrap().contains("NoVolumeToBind"), "{status}");
}

#[tokio::test(start_paused = true)]
async fn volumes_that_nobody_binds_are_given_up_in_time() {
    let mut cluster = cluster("made");
    let mut scheduler = cluster.scheduler();
    cluster.cycle(&mut scheduler).await;
    cluster.later(&mut scheduler, 59).await;
    assert_eq!(scheduler.state.cluster.bound_of("ns/g"), 2);
    cluster.later(&mut scheduler, 1).await;
    assert_eq!(scheduler.state.cluster.bound_of("ns/g"), 0);
    assert!(cluster.status()["message"].as_str().unwrap().contains("in time"), "{}", cluster.status());
    assert_eq!(cluster.lines("POST"), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_provisioner_has_its_time_from_when_every_volume_is_asked_for() {
    let mut cluster = cluster("made");
    let mut scheduler = cluster.scheduler();
    cluster.shown.tell(&mut scheduler);
    scheduler.look(cluster.now);
    scheduler.cycle(cluster.now);
    // The API server takes its time.
    cluster.now += SignedDuration::from_secs(50);
    while let Some(outcome) = scheduler.tasks.join_next().await {
        scheduler.learn(outcome, cluster.now);
    }
    cluster.later(&mut scheduler, 59).await;
    assert_eq!(scheduler.state.cluster.bound_of("ns/g"), 2);
    cluster.later(&mut scheduler, 1).await;
    assert_eq!(scheduler.state.cluster.bound_of("ns/g"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_groups_volumes_are_asked_for_at_once_but_not_all_of_them() {
    let cluster = cluster("made");
    let names: Vec<String> = (0..50).map(|number| format!("many-{number}")).collect();
    let claim = |name: &String| {
        let mut claim = cluster.server.objects().claims["c0"].clone();
        (claim["metadata"]["name"], claim["metadata"]["uid"]) = (json!(name), json!(format!("uid-{name}")));
        (name.clone(), claim)
    };
    let claims: Vec<(String, Value)> = names.iter().map(claim).collect();
    cluster.server.objects().claims.extend(claims);
    cluster.server.objects().answers_after = Duration::from_millis(20);
    let placement = |name: &String| {
        let uid = format!("uid-{name}");
        let claim = ClaimName { namespace: "ns".to_owned(), name: name.clone(), uid };
        let volumes = vec![VolumeStep::Provision { claim, node: "n".to_owned() }];
        Placement { pod: name.clone(), uid: name.clone(), node: "n".to_owned(), volumes }
    };
    let placements: Vec<Placement> = names.iter().map(placement).collect();
    let binder = VolumeBinder::new(cluster.server.client(), Turns::new(128));
    binder.ask(&placements).await.unwrap();
    {
        let objects = cluster.server.objects();
        assert!(names.iter().all(|name| objects.claims[name]["metadata"]["annotations"][SELECTED] == "n"));
        assert_eq!(objects.under_way.1, 16);
    }
    cluster.server.objects().under_way = (0, 0);
    let binder = VolumeBinder::new(cluster.server.client(), Turns::new(8));
    binder.ask(&placements).await.unwrap();
    assert_eq!(cluster.server.objects().under_way.1, 4, "no more than are a namespace's turns");
    cluster.server.objects().claims.remove("many-20");
    assert!(binder.ask(&placements).await.unwrap_err().contains("many-20"));
}

#[tokio::test(start_paused = true)]
async fn a_claim_made_anew_under_its_name_is_another_one() {
    let mut cluster = cluster("made");
    let mut scheduler = cluster.scheduler();
    for claim in cluster.server.objects().claims.values_mut() {
        claim["metadata"]["uid"] = json!("uid-another");
    }
    cluster.cycle(&mut scheduler).await;
    assert_eq!(cluster.lines("PATCH persistentvolumeclaims"), [""; 0]);
    pass(&mut cluster, &mut scheduler, 2).await;
    assert_eq!(cluster.lines("PATCH persistentvolumeclaims").len(), 2, "it is planned over as it is now");
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_cannot_be_read_keeps_nobody_from_the_others() {
    let mut cluster = cluster("local");
    let expression = json!({ "key": "zone", "operator": "Near", "values": ["a"] });
    let affinity = json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": [expression] }] } });
    let mut unreadable = cluster.server.objects().volumes["v0"].clone();
    (unreadable["metadata"]["name"], unreadable["spec"]["nodeAffinity"]) = (json!("a"), affinity);
    cluster.server.objects().volumes.insert("a".to_owned(), unreadable);
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    assert_eq!(cluster.lines("PATCH").len(), 2);
    assert!(owner(&cluster, "a").is_null() && !owner(&cluster, "v0").is_null());
}

#[tokio::test(start_paused = true)]
async fn volumes_that_are_waited_for_are_said_to_be_and_their_failing_is_one_event() {
    let mut cluster = cluster("made");
    let mut scheduler = cluster.scheduler();
    pass(&mut cluster, &mut scheduler, 1).await;
    assert!(cluster.status()["message"].is_null(), "they may be there in a moment");
    pass(&mut cluster, &mut scheduler, 2).await;
    let status = cluster.status();
    assert!(status["message"].as_str().unwrap().contains("until its volumes are bound"), "{status}");
    let condition =
        |cluster: &Cluster| cluster.server.objects().pods["p0"]["status"]["conditions"][0].clone();
    assert_eq!(condition(&cluster)["reason"], "VolumesPending");
    let alarms = |cluster: &Cluster| cluster.server.events().len();
    assert_eq!(alarms(&cluster), 0);
    pass(&mut cluster, &mut scheduler, 58).await;
    assert_eq!(cluster.status()["conditions"][0]["reason"], "VolumesNotBound");
    assert_eq!((condition(&cluster)["reason"].clone(), alarms(&cluster)), (json!("SchedulerError"), 1));
    pass(&mut cluster, &mut scheduler, 200).await;
    assert_eq!(alarms(&cluster), 1, "each pause is no event");
    complete(&cluster);
    pass(&mut cluster, &mut scheduler, 1).await;
    assert_eq!(cluster.status()["phase"], "Scheduled");
}
