//! What pods say of having no node, and when that is corrected; and what those say that are taken away.

use serde_json::{Value, json};

use super::{
    api_server::Fault,
    cluster::{Cluster, runs},
};

/// The gang asks for more than there is.
fn full() -> Cluster {
    let mut cluster = Cluster::new();
    set_free(&cluster, 1);
    cluster.show();
    cluster
}

fn set_free(cluster: &Cluster, gpus: u32) {
    cluster.server.objects().nodes.get_mut("n").unwrap()["status"]["allocatable"]["nvidia.com/gpu"] =
        json!(gpus.to_string());
}

/// A pod of no gang that asks for so many GPUs.
fn single(cluster: &Cluster, gpus: u32) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "single", "namespace": "ns", "uid": "the-single", "resourceVersion": "1", "generation": 5 },
        "spec": {
            "schedulerName": plasma_api::names::SCHEDULER_NAME,
            "containers": [{ "name": "c", "resources": { "requests": { "nvidia.com/gpu": gpus.to_string() } } }],
        },
        "status": { "phase": "Pending" },
    });
    cluster.server.objects().pods.insert("single".to_owned(), pod);
}

/// The pod's condition of that type.
fn condition(cluster: &Cluster, pod: &str, kind: &str) -> Value {
    let pod = cluster.server.objects().pods[pod].clone();
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default()
}

fn scheduled(cluster: &Cluster, pod: &str) -> Value {
    condition(cluster, pod, "PodScheduled")
}

fn alarms(cluster: &Cluster) -> usize {
    cluster.server.events().iter().filter(|event| event["reason"] == "FailedScheduling").count()
}

fn is_time(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| text.len() == 20 && text.parse::<k8s_openapi::jiff::Timestamp>().is_ok())
}

#[tokio::test(start_paused = true)]
async fn pods_without_room_say_so_as_kube_scheduler_does_and_are_not_told_twice() {
    let mut cluster = full();
    single(&cluster, 9);
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    for (pod, generation) in [("p0", 3), ("p1", 3), ("single", 5)] {
        let said = scheduled(&cluster, pod);
        assert_eq!((&said["status"], &said["reason"]), (&json!("False"), &json!("Unschedulable")), "{said}");
        assert_eq!(said["observedGeneration"], generation);
        assert!(is_time(&said["lastTransitionTime"]), "{said}");
    }
    for _ in 0..20 {
        cluster.later(&mut scheduler, 1).await;
    }
    assert_eq!((cluster.lines("PATCH").len(), alarms(&cluster)), (3, 2));
    // Who begins anew says nothing again.
    let mut successor = cluster.scheduler();
    for _ in 0..20 {
        cluster.later(&mut successor, 1).await;
    }
    assert_eq!((cluster.lines("PATCH").len(), alarms(&cluster)), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn other_numbers_are_corrected_once_a_minute_without_an_event_and_since_when_stays() {
    let mut cluster = full();
    single(&cluster, 9);
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    cluster.change_pod("single", |pod| {
        pod["status"]["conditions"][0]["lastTransitionTime"] = json!("2026-01-01T00:00:00Z");
    });
    set_free(&cluster, 0);
    for _ in 0..50 {
        cluster.later(&mut scheduler, 1).await;
    }
    assert!(scheduled(&cluster, "single")["message"].as_str().unwrap().contains("1 free"));
    assert!(
        cluster.status()["message"].as_str().unwrap().contains("0 free"),
        "a gang's status is corrected sooner"
    );
    for _ in 0..20 {
        cluster.later(&mut scheduler, 1).await;
    }
    let said = scheduled(&cluster, "single");
    assert!(said["message"].as_str().unwrap().contains("0 free"), "{said}");
    assert_eq!(said["lastTransitionTime"], "2026-01-01T00:00:00Z");
    assert_eq!(cluster.lines("PATCH pods/single").len(), 2);
    set_free(&cluster, 1);
    cluster.later(&mut cluster.scheduler(), 0).await;
    assert!(cluster.status()["message"].as_str().unwrap().contains("1 free"));
    assert_eq!(alarms(&cluster), 2);
}

#[tokio::test(start_paused = true)]
async fn pods_that_become_refused_say_scheduler_error_at_once_and_refused_gangs_pods_do_too() {
    let mut cluster = full();
    single(&cluster, 9);
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    for pod in ["single", "p1"] {
        cluster.change_pod(pod, |pod| pod["spec"]["quantumAffinity"] = json!({}));
    }
    cluster.later(&mut scheduler, 1).await;
    for pod in ["single", "p0", "p1"] {
        let said = scheduled(&cluster, pod);
        assert_eq!(said["reason"], "SchedulerError", "{pod}");
        assert!(said["message"].as_str().unwrap().contains("spec.quantumAffinity"), "{said}");
    }
    assert_eq!(alarms(&cluster), 4);
    let mut successor = cluster.scheduler();
    for _ in 0..20 {
        cluster.later(&mut successor, 1).await;
    }
    assert_eq!((cluster.lines("PATCH").len(), alarms(&cluster)), (6, 4));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_bound_meanwhile_is_not_told_that_it_was_not() {
    let mut cluster = full();
    let mut scheduler = cluster.scheduler();
    let shown = cluster.shown.clone();
    cluster.change_pod("p0", |pod| {
        runs(pod);
        pod["metadata"]["resourceVersion"] = json!("2");
    });
    cluster.shown = shown;
    cluster.cycle(&mut scheduler).await;
    assert_eq!(scheduled(&cluster, "p0"), Value::Null);
    assert_eq!(scheduled(&cluster, "p1")["reason"], "Unschedulable");
}

#[tokio::test(start_paused = true)]
async fn a_condition_that_could_not_be_written_is_written_later_and_the_event_then() {
    for fault in [Fault::Refused(500), Fault::RequestLost] {
        let mut cluster = full();
        cluster.server.objects().gangs.clear();
        cluster.server.objects().pods.clear();
        single(&cluster, 9);
        cluster.server.fail("PATCH pods/single", 1, fault);
        let mut scheduler = cluster.scheduler();
        cluster.later(&mut scheduler, 0).await;
        assert_eq!(alarms(&cluster), 0);
        cluster.later(&mut scheduler, 1).await;
        assert_eq!(
            (scheduled(&cluster, "single")["reason"].clone(), alarms(&cluster)),
            (json!("Unschedulable"), 1)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_with_a_gate_keeps_what_the_api_server_says_of_it() {
    let mut cluster = full();
    let gated = json!([{ "type": "PodScheduled", "status": "False", "reason": "SchedulingGated" }]);
    single(&cluster, 1);
    for pod in ["single", "p1"] {
        cluster.change_pod(pod, |pod| {
            pod["spec"]["schedulingGates"] = json!([{ "name": "quota.example" }]);
            pod["status"]["conditions"] = gated.clone();
        });
    }
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    assert_eq!(cluster.lines("PATCH"), [""; 0]);
    assert_eq!(cluster.status()["phase"], "Waiting");
}

#[tokio::test(start_paused = true)]
async fn who_is_taken_away_says_since_when_and_of_which_generation() {
    let mut cluster = Cluster::with_journal(-1);
    cluster.change_pod("p0", runs);
    cluster.server.objects().pods_linger = true;
    cluster.server.fail("POST pods/p1/binding", usize::MAX, Fault::RequestLost);
    cluster.show();
    cluster.server.fail("DELETE pods/p0", 1, Fault::Refused(500));
    let mut scheduler = cluster.scheduler();
    cluster.cycle(&mut scheduler).await;
    let said = condition(&cluster, "p0", "DisruptionTarget");
    assert_eq!(said["observedGeneration"], 3);
    assert!(is_time(&said["lastTransitionTime"]), "{said}");
    // Said again, it is so since then.
    cluster.change_pod("p0", |pod| {
        pod["status"]["conditions"][0]["lastTransitionTime"] = json!("2026-01-01T00:00:00Z");
    });
    cluster.later(&mut scheduler, 2).await;
    assert_eq!(cluster.lines("DELETE pods/p0").len(), 2);
    assert_eq!(condition(&cluster, "p0", "DisruptionTarget")["lastTransitionTime"], "2026-01-01T00:00:00Z");
}
