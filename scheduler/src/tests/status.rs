//! What a gang's status says of its pods and of what it waits for, and which pods are its own.

use kube::{Api, api::ListParams};
use plasma_api::{Gang, names};
use plasma_runtime::CancellationToken;
use serde_json::json;

use super::{
    api_server::{Fault, touch},
    cluster::{Cluster, runs},
};

#[tokio::test(start_paused = true)]
async fn a_gang_without_pods_says_so_until_it_was_scheduled() {
    let mut cluster = Cluster::new();
    cluster.server.objects().pods.clear();
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    let status = cluster.status();
    assert_eq!((&status["phase"], &status["message"]), (&json!("Gathering"), &json!("0 of 2 pods exist")));
    cluster.set_gang("status", json!({ "phase": "Scheduled", "bound": 2 }));
    cluster.later(&mut scheduler, 0).await;
    assert_eq!(cluster.status()["phase"], "Scheduled");
}

#[tokio::test(start_paused = true)]
async fn a_scheduling_gate_is_named_as_what_the_gang_waits_for() {
    let mut cluster = Cluster::new();
    cluster.change_pod("p1", |pod| pod["spec"]["schedulingGates"] = json!([{ "name": "quota.example" }]));
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    let status = cluster.status();
    assert_eq!(status["phase"], "Waiting");
    let expected = "1 of 2 pods wait for scheduling gate quota.example to be taken off";
    assert_eq!(status["message"], expected);
    assert_eq!(status["blockers"][0]["subject"], "quota.example");
    assert_eq!(cluster.lines("POST"), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn pods_of_an_earlier_job_of_the_same_name_are_no_members() {
    let mut cluster = Cluster::new();
    cluster.server.objects().gangs.get_mut("g").unwrap()["metadata"]["labels"] =
        json!({ names::JOB_UID_LABEL: "new" });
    cluster.change_pod("p0", |pod| pod["metadata"]["labels"][names::JOB_UID_LABEL] = json!("new"));
    cluster.change_pod("p1", |pod| pod["metadata"]["labels"][names::JOB_UID_LABEL] = json!("old"));
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    let message = cluster.status()["message"].clone();
    assert!(message.as_str().unwrap().starts_with("1 of 2 pods exist"), "{message}");
    cluster.change_pod("p1", |pod| pod["metadata"]["labels"][names::JOB_UID_LABEL] = json!("new"));
    cluster.later(&mut scheduler, 0).await;
    assert_eq!(cluster.status()["phase"], "Scheduled");
}

#[tokio::test(start_paused = true)]
async fn a_gang_that_lost_a_pod_counts_what_is_bound_and_counts_all_when_it_is_whole_again() {
    let mut cluster = Cluster::new();
    cluster.set_gang("status", json!({ "phase": "Scheduled", "bound": 2 }));
    cluster.change_pod("p0", runs);
    let lost = cluster.server.objects().pods.remove("p1").unwrap();
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    assert_eq!((&cluster.status()["bound"], &cluster.status()["phase"]), (&json!(1), &json!("Gathering")));
    cluster.server.objects().pods.insert("p1".to_owned(), lost);
    cluster.later(&mut scheduler, 0).await;
    assert_eq!((&cluster.status()["bound"], &cluster.status()["phase"]), (&json!(2), &json!("Scheduled")));
}

#[tokio::test(start_paused = true)]
async fn a_gang_that_cannot_be_read_keeps_no_other_from_being_seen() {
    let cluster = Cluster::new();
    let unreadable = json!({
        "apiVersion": "compute.plasma.dev/v1alpha1", "kind": "Gang", "spec": { "minMember": "two" },
        "metadata": { "name": "bad", "namespace": "ns" },
    });
    cluster.server.objects().gangs.insert("bad".to_owned(), unreadable);
    let typed: Result<_, kube::Error> =
        Api::<Gang>::all(cluster.server.client()).list(&ListParams::default()).await;
    assert!(typed.is_err(), "a list of plain Gangs fails as a whole, so the test shows something");
    let shutdown = CancellationToken::new();
    let scheduler = cluster.listed(&shutdown).await;
    assert!(scheduler.state.find_gang("ns/g").is_some());
    assert!(scheduler.state.find_gang("ns/bad").is_none());
    shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_reports_nonsense_and_a_gang_that_cannot_be_read_are_told_so_once_and_the_rest_goes_on() {
    let mut cluster = Cluster::new();
    {
        let mut objects = cluster.server.objects();
        let odd = json!({ "metadata": { "name": "odd", "uid": "the-node" },
            "status": { "allocatable": { "nvidia.com/gpu": "plenty", "cpu": "4" } } });
        objects.nodes.insert("odd".to_owned(), odd);
        let unreadable = json!({
            "apiVersion": "compute.plasma.dev/v1alpha1", "kind": "Gang", "spec": { "minMember": "two" },
            "metadata": { "name": "bad", "namespace": "ns", "uid": "the-bad" },
        });
        objects.gangs.insert("bad".to_owned(), unreadable);
    }
    let mut scheduler = cluster.scheduler();
    for _ in 0..3 {
        cluster.later(&mut scheduler, 1).await;
    }
    let events = cluster.server.events();
    let told = |name: &str| {
        let about = events.iter().filter(|event| event["regarding"]["name"] == name);
        about.map(|event| event["note"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(told("odd").len(), 1);
    assert!(
        told("odd")[0].contains("nvidia.com/gpu") && told("odd")[0].contains("plenty"),
        "{:?}",
        told("odd")
    );
    assert_eq!(told("bad").len(), 1);
    assert!(told("bad")[0].contains("its pods are not placed"), "{:?}", told("bad"));
    assert_eq!(cluster.status()["phase"], "Scheduled");
}

#[tokio::test(start_paused = true)]
async fn what_a_gang_waited_for_is_not_said_any_more_once_its_pods_are_being_bound() {
    let mut cluster = Cluster::new();
    let blocker = json!({ "reason": "InsufficientResource", "subject": "nvidia.com/gpu", "nodes": 1 });
    cluster.set_gang("status", json!({ "phase": "Waiting", "message": "needs more", "blockers": [blocker] }));
    cluster.server.fail("POST pods/p1/binding", usize::MAX, Fault::Refused(403));
    cluster.cycle(&mut cluster.scheduler()).await;
    let status = cluster.status();
    assert_eq!(status["phase"], "Binding");
    assert!(status["message"].is_null() && status["blockers"].is_null(), "{status}");
}

#[tokio::test(start_paused = true)]
async fn what_a_gang_waited_for_is_not_said_any_more_where_the_gang_has_changed_meanwhile() {
    let mut cluster = Cluster::new();
    cluster.server.objects().nodes.clear();
    cluster.show();
    let mut scheduler = cluster.scheduler();
    cluster.shown.tell(&mut scheduler);
    scheduler.cycle(cluster.now);
    {
        let mut objects = cluster.server.objects();
        let gang = objects.gangs.get_mut("g").unwrap();
        gang["status"] = json!({ "phase": "Scheduled", "bound": 2 });
        touch(gang);
    }
    while let Some(outcome) = scheduler.tasks.join_next().await {
        scheduler.learn(outcome, cluster.now);
    }
    assert_eq!((cluster.lines("PUT").len(), &cluster.status()["phase"]), (1, &json!("Scheduled")));
}
