//! Objects that make no sense: an event or a condition names each, and everybody else goes on.

use std::collections::BTreeMap;

use axum::{
    Router,
    http::{StatusCode, Uri},
    response::IntoResponse as _,
};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use plasma_api::names;
use plasma_runtime::CancellationToken;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::cluster::{Cluster, list};
use crate::{
    cycle::Scheduler,
    observe::{self, Change, Observed},
    storage::Stored,
};

/// The notes of the events about an object.
fn notes(cluster: &Cluster, name: &str) -> Vec<String> {
    let events = cluster.server.events();
    let about = events.iter().filter(|event| event["regarding"]["name"] == name);
    about.map(|event| event["note"].as_str().unwrap().to_owned()).collect()
}

fn scheduled(cluster: &Cluster, pod: &str) -> Value {
    cluster.server.objects().pods[pod]["status"]["conditions"][0].clone()
}

/// So many seconds go by.
async fn pass(cluster: &mut Cluster, scheduler: &mut Scheduler, seconds: i64) {
    for _ in 0..seconds {
        cluster.later(scheduler, 1).await;
    }
}

/// Another scheduler's pod on the node.
fn foreign(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "ns", "uid": format!("uid-{name}"), "resourceVersion": "1" },
        "spec": { "schedulerName": "another", "nodeName": "n" },
        "status": { "phase": "Running" },
    })
}

#[tokio::test(start_paused = true)]
async fn one_object_of_an_unknown_shape_does_not_stop_the_lists_of_pods_nodes_and_namespaces() {
    let cluster = Cluster::new();
    {
        let mut objects = cluster.server.objects();
        let mut pod = foreign("odd");
        pod["metadata"]["labels"] = json!({ "a": { "b": 1 } });
        objects.pods.insert("odd".to_owned(), pod);
        let node = json!({ "metadata": { "name": "odd" }, "status": { "declaredFeatures": { "a": true } } });
        objects.nodes.insert("odd".to_owned(), node);
        let namespace = json!({ "metadata": { "name": "odd", "labels": ["a"] } });
        objects.namespaces.insert("odd".to_owned(), namespace);
    }
    let shutdown = CancellationToken::new();
    let mut scheduler = cluster.listed(&shutdown).await;
    assert_eq!(scheduler.state.cluster.pods(), 3);
    assert!(scheduler.state.cluster.has_node("n") && scheduler.state.cluster.has_node("odd"));
    let told = scheduler.state.faults.take(Timestamp::now());
    let mut kinds: Vec<String> = told.into_iter().filter_map(|(about, _)| about.kind).collect();
    kinds.sort();
    assert_eq!(kinds, ["Namespace", "Node", "Pod"]);
    shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_be_read_gets_no_pods_and_says_why() {
    let shapes = [("status", "declaredFeatures", json!({ "a": true })), ("spec", "taints", json!("all"))];
    for (part, field, value) in shapes {
        let mut cluster = Cluster::new();
        cluster.server.objects().nodes.get_mut("n").unwrap()[part][field] = value;
        let mut scheduler = cluster.scheduler();
        pass(&mut cluster, &mut scheduler, 3).await;
        assert_eq!(cluster.status()["phase"], "Waiting", "{field}");
        let notes = notes(&cluster, "n");
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].starts_with(part) && notes[0].contains("it gets no pods"), "{notes:?}");
        // Read again, it does.
        cluster.server.objects().nodes.get_mut("n").unwrap()[part][field] = json!([]);
        pass(&mut cluster, &mut scheduler, 1).await;
        assert_eq!(cluster.status()["phase"], "Scheduled", "{field}");
    }
}

#[tokio::test(start_paused = true)]
async fn beside_a_foreign_pod_that_cannot_be_read_nothing_is_placed_and_it_is_named_and_told_once() {
    let mut cluster = Cluster::new();
    let mut odd = foreign("odd");
    odd["spec"]["containers"] = json!("none");
    cluster.server.objects().pods.insert("odd".to_owned(), odd);
    let mut scheduler = cluster.scheduler();
    pass(&mut cluster, &mut scheduler, 3).await;
    assert!(
        cluster.status()["message"].as_str().unwrap().contains("UnreadablePod ns/odd"),
        "{}",
        cluster.status()
    );
    assert_eq!(scheduled(&cluster, "p0")["reason"], "Unschedulable");
    let told = notes(&cluster, "odd");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("nothing more is placed beside it on node n"), "{told:?}");
    // The next scheduler's event has the same name, so there is one.
    let mut successor = cluster.scheduler();
    pass(&mut cluster, &mut successor, 1).await;
    let events = cluster.server.events();
    let names = events.iter().filter(|event| event["regarding"]["name"] == "odd");
    let names: Vec<&Value> = names.map(|event| &event["metadata"]["name"]).collect();
    assert_eq!((names.len(), names[0]), (2, names[1]));
    // Made anew, another pod has its own.
    cluster.change_pod("odd", |pod| pod["metadata"]["uid"] = json!("another"));
    pass(&mut cluster, &mut scheduler, 1).await;
    assert_eq!(notes(&cluster, "odd").len(), 3);
    // Once it has ended, it holds nothing.
    cluster.change_pod("odd", |pod| pod["status"]["phase"] = json!("Failed"));
    pass(&mut cluster, &mut scheduler, 1).await;
    assert_eq!(cluster.status()["phase"], "Scheduled");
}

#[tokio::test(start_paused = true)]
async fn pods_whose_gang_is_missing_say_which_after_a_moment_and_no_more_once_it_is_there() {
    let mut cluster = Cluster::new();
    let gang = cluster.server.objects().gangs.remove("g").unwrap();
    cluster.change_pod("p1", |pod| pod["metadata"]["labels"] = json!({}));
    cluster.change_pod("p1", |pod| pod["spec"]["schedulingGates"] = json!([{ "name": "x" }]));
    let mut scheduler = cluster.scheduler();
    pass(&mut cluster, &mut scheduler, 9).await;
    assert!(scheduled(&cluster, "p0").is_null(), "it may come in a moment");
    pass(&mut cluster, &mut scheduler, 20).await;
    let said = scheduled(&cluster, "p0");
    assert_eq!(said["reason"], "SchedulerError");
    assert!(said["message"].as_str().unwrap().contains("Gang ns/g, which doesn't exist"), "{said}");
    let told = notes(&cluster, "p0");
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("ns/g"), "{told:?}");
    cluster.server.objects().gangs.insert("g".to_owned(), gang);
    pass(&mut cluster, &mut scheduler, 2).await;
    assert!(scheduled(&cluster, "p0").is_null(), "{}", scheduled(&cluster, "p0"));
    assert_eq!(cluster.status()["message"], "1 of 2 pods exist");
    // One that is there and can't be read says more itself.
    cluster.server.objects().gangs.get_mut("g").unwrap()["spec"] = json!({ "minMember": "two" });
    pass(&mut cluster, &mut scheduler, 12).await;
    let said = scheduled(&cluster, "p0");
    assert!(said["message"].as_str().unwrap().contains("which can't be read"), "{said}");
    assert_eq!(notes(&cluster, "g").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn pods_whose_labels_name_another_job_than_their_gangs_are_told_so() {
    let mut cluster = Cluster::new();
    cluster.server.objects().gangs.get_mut("g").unwrap()["metadata"]["labels"] =
        json!({ names::JOB_UID_LABEL: "new" });
    cluster.change_pod("p0", |pod| pod["metadata"]["labels"][names::JOB_UID_LABEL] = json!("new"));
    cluster.change_pod("p1", |pod| pod["metadata"]["labels"][names::JOB_UID_LABEL] = json!("old"));
    let mut scheduler = cluster.scheduler();
    pass(&mut cluster, &mut scheduler, 3).await;
    let message = cluster.status()["message"].as_str().unwrap().to_owned();
    assert!(
        message.starts_with("1 of 2 pods exist; ") && message.contains("of p1 names another job"),
        "{message}"
    );
    // Where the gang doesn't miss it, the pod itself says so.
    cluster.server.objects().gangs.get_mut("g").unwrap()["spec"]["minMember"] = json!(1);
    pass(&mut cluster, &mut scheduler, 20).await;
    assert_eq!((cluster.node_of("p0"), cluster.node_of("p1")), (json!("n"), Value::Null));
    let said = scheduled(&cluster, "p1");
    assert_eq!(said["reason"], "SchedulerError");
    assert!(said["message"].as_str().unwrap().contains(names::JOB_UID_LABEL), "{said}");
    assert_eq!(notes(&cluster, "p1").len(), 1);
    assert_eq!(cluster.status()["phase"], "Scheduled");
}

#[tokio::test(start_paused = true)]
async fn a_priority_class_that_vanished_counts_as_it_was_made_a_number_and_as_nothing_where_it_never_was() {
    let mut cluster = Cluster::new();
    cluster.change_pod("p0", |pod| pod["spec"]["priorityClassName"] = json!("gone"));
    cluster.change_pod("p1", |pod| {
        pod["spec"]["priorityClassName"] = json!("gone");
        pod["spec"]["priority"] = json!(7);
    });
    let mut scheduler = cluster.scheduler();
    pass(&mut cluster, &mut scheduler, 2).await;
    assert_eq!(
        notes(&cluster, "p0"),
        ["spec.priorityClassName: gone was never made a priority, so that counts as 0"]
    );
    assert_eq!(notes(&cluster, "p1"), [""; 0]);
    assert_eq!(cluster.status()["phase"], "Scheduled");
}

#[tokio::test(start_paused = true)]
async fn budgets_and_volumes_that_make_no_sense_have_an_event_until_they_are_gone() {
    let mut cluster = Cluster::new();
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    let expression = json!({ "key": "a", "operator": "Near", "values": ["b"] });
    let budget = |spec: Value| json!({ "metadata": { "name": "b", "namespace": "ns" }, "spec": spec });
    let volume = json!({ "metadata": { "name": "v" }, "spec": {
        "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [expression] }] } },
    } });
    let selector = json!({ "selector": { "matchExpressions": [expression] } });
    for (spec, expected) in [(json!({ "selector": "all" }), "can't be read"), (selector, "operator Near")] {
        list(&[("b".to_owned(), budget(spec))].into(), Observed::Budget, &mut scheduler);
        scheduler.look(cluster.now);
        while let Some(outcome) = scheduler.tasks.join_next().await {
            scheduler.learn(outcome, cluster.now);
        }
        let told = notes(&cluster, "b");
        assert!(told.last().unwrap().contains(expected), "{told:?}");
    }
    let claim = json!({ "metadata": { "name": "v", "namespace": "ns" },
        "spec": { "resources": { "requests": { "storage": "plenty" } } } });
    let volumes = |change| Observed::Storage(Stored::Volume(Box::new(change)));
    let claims = |change| Observed::Storage(Stored::Claim(Box::new(change)));
    told_once_while_there(&mut scheduler, volume, volumes);
    told_once_while_there(&mut scheduler, claim, claims);
}

/// An object that makes no sense is told so each time it comes, and forgotten when it goes.
fn told_once_while_there<T: DeserializeOwned>(
    scheduler: &mut Scheduler,
    object: Value,
    observed: fn(Change<T>) -> Observed,
) {
    let objects = BTreeMap::from([("v".to_owned(), object)]);
    for _ in 0..2 {
        list(&objects, observed, scheduler);
        assert_eq!(scheduler.state.faults.take(Timestamp::now()).len(), 1);
        list(&objects, observed, scheduler);
        assert_eq!(scheduler.state.faults.take(Timestamp::now()).len(), 0);
        list(&BTreeMap::new(), observed, scheduler);
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_could_not_be_written_is_written_later() {
    let mut cluster = Cluster::new();
    let mut odd = foreign("odd");
    odd["spec"]["containers"] = json!("none");
    cluster.server.objects().pods.insert("odd".to_owned(), odd);
    cluster.server.fail("POST events", 1, super::api_server::Fault::Refused(500));
    let mut scheduler = cluster.scheduler();
    pass(&mut cluster, &mut scheduler, 3).await;
    assert_eq!(notes(&cluster, "odd").len(), 1, "not at once");
    cluster.later(&mut scheduler, 30).await;
    assert_eq!(notes(&cluster, "odd").len(), 2, "once in vain");
}

/// An API server that lists one budget, once, and then doesn't know the kind any more.
fn forgetful() -> Client {
    let lists = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let answer = move |uri: Uri| {
        let lists = lists.clone();
        async move {
            let is_of_budgets = uri.path().ends_with("poddisruptionbudgets");
            if is_of_budgets && uri.query().is_some_and(|query| query.contains("watch=true")) {
                let gone = json!({ "type": "ERROR", "object": { "kind": "Status", "code": 410, "reason": "Expired" } });
                return gone.to_string().into_response();
            }
            if !is_of_budgets || lists.fetch_add(1, std::sync::atomic::Ordering::SeqCst) > 0 {
                let failure =
                    json!({ "kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound" });
                return (StatusCode::NOT_FOUND, failure.to_string()).into_response();
            }
            let budget = json!({ "metadata": { "name": "b", "namespace": "ns" } });
            json!({ "metadata": { "resourceVersion": "1" }, "items": [budget] }).to_string().into_response()
        }
    };
    Client::new(Router::new().fallback(answer), "default")
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_not_served_any_more_is_not_empty_and_one_that_never_was_is() {
    let shutdown = CancellationToken::new();
    let mut observations = observe::start(&forgetful(), &shutdown);
    let (mut budgets, mut ends, mut storage) = (0, 0, 0);
    let observe = async {
        while let Some(observed) = observations.recv().await {
            match observed {
                Observed::Budget(Change::Is(_)) => budgets += 1,
                Observed::Budget(Change::ListEnds) => ends += 1,
                Observed::Storage(Stored::Class(change)) => {
                    storage += usize::from(matches!(*change, Change::ListEnds))
                }
                _ => {}
            }
        }
    };
    let _ = tokio::time::timeout(std::time::Duration::from_secs(120), observe).await;
    shutdown.cancel();
    assert_eq!((budgets, ends), (1, 1));
    assert!(storage > 0);
}
