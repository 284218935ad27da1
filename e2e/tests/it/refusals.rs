//! Bad input gets a clear answer, and starts nothing.

use std::time::Duration;

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Pod, Service},
    events::v1::Event,
};
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, PostParams},
};
use plasma_api::{ComputeJob, Gang, compute_job::Phase, condition, names::JOB_UID_LABEL};
use plasma_e2e::{NAMESPACE, World, job, phase};
use serde_json::{Value, json};

/// Whoever were to make pods after all would have by then.
const LATER: Duration = Duration::from_secs(4);

fn with(name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut job = job(name, (2, 1), "true");
    change(&mut job);
    job
}

#[tokio::test]
async fn an_invalid_job_is_refused_at_apply_with_field_and_rule() {
    let world = World::connect().await;
    for (change, field, rule) in [
        (("/spec/roles/0/replicas", json!(0)), "spec.roles[0].replicas", "greater than or equal to 1"),
        (("/spec/budget", json!("-1")), "spec.budget", "should match"),
        (("/spec/budget", json!(3)), "spec.budget", "string"),
        (("/metadata/name", json!("9-lives")), "metadata.name", "start with a letter"),
        (("/spec/roles/0/template/spec/restartPolicy", json!("Always")), "restartPolicy", "must be Never"),
        (
            ("/spec/roles/0/template/spec/containers", json!([])),
            "spec.roles[0].template.spec",
            "at least one container",
        ),
        (("/spec/roles", json!([])), "spec.roles", "at least 1"),
        (("/spec/roles/0/replicas", json!(1025)), "spec.roles[0].replicas", "less than or equal to 1024"),
        (("/spec/roles/0/template/spec/nodeName", json!("node")), "nodeName", "must be left out"),
        (
            ("/spec/roles/0/template/spec/activeDeadlineSeconds", json!(5)),
            "activeDeadlineSeconds",
            "must be left out",
        ),
        (
            ("/spec/roles/0/template/spec/schedulerName", json!("default-scheduler")),
            "schedulerName",
            "must be plasma",
        ),
        (("/spec/roles/0/template/spec/hostname", json!("h")), "hostname", "must be left out"),
        (
            ("/spec/roles/0/template/spec/terminationGracePeriodSeconds", json!(86_400)),
            "spec.roles[0].template.spec.terminationGracePeriodSeconds",
            "less than or equal to 3600",
        ),
        (
            ("/spec/roles/0/template/spec/containers/0/restartPolicy", json!("OnFailure")),
            "spec.roles[0].template.spec.containers",
            "restartPolicyRules must be left out",
        ),
        (
            (
                "/spec/roles/0/template/spec/initContainers",
                json!([{ "name": "i", "image": "x", "restartPolicy": "OnFailure" }]),
            ),
            "spec.roles[0].template.spec.initContainers",
            "must be Always",
        ),
    ] {
        let (pointer, value) = change;
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        let bad = with("bad", |job| job.pointer_mut(parent).unwrap()[last] = value.clone());
        let message = world.refusal(bad).await;
        assert!(message.contains(field) && message.contains(rule), "{pointer} = {value}: {message}");
    }
}

#[tokio::test]
async fn a_job_of_too_many_pods_is_refused_whatever_roles_they_have() {
    let world = World::connect().await;
    let many = with("many", |job| {
        let role = job["spec"]["roles"][0].clone();
        let roles = (0..3).map(|at| {
            let mut role = role.clone();
            (role["name"], role["replicas"]) = (json!(format!("role-{at}")), json!(342));
            role
        });
        job["spec"]["roles"] = roles.collect();
    });
    let message = world.refusal(many).await;
    assert!(message.contains("spec.roles must have at most 1024 replicas together"), "{message}");
}

/// Nothing was made for the job, nor is a moment later.
async fn starts_nothing(world: &World, job: &ComputeJob) {
    let name = job.name_any();
    tokio::time::sleep(LATER).await;
    let of_job = ListParams::default().labels(&format!("{JOB_UID_LABEL}={}", job.uid().unwrap_or_default()));
    let kinds =
        [ApiResource::erase::<Job>(&()), ApiResource::erase::<Gang>(&()), ApiResource::erase::<Service>(&())];
    for kind in kinds {
        let namespace = job.namespace().unwrap_or_default();
        let objects: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &namespace, &kind);
        let made = objects.list(&of_job).await.expect("a list").items;
        assert!(made.is_empty(), "{} of {name}: {made:#?}", kind.plural);
    }
    assert!(world.pods(job).await.is_empty(), "{name} started pods");
}

#[tokio::test]
async fn a_template_that_the_api_server_does_not_take_is_told_in_its_words_and_starts_nothing() {
    let world = World::connect().await;
    for (name, pointer, value, words) in [
        ("no-image", "image", Value::Null, "image: Required value"),
        (
            "no-volume",
            "volumeMounts",
            json!([{ "name": "v", "mountPath": "/v" }]),
            "volumeMounts[0].name: Not found",
        ),
        // A list that is kept by a key, with the same key twice: told as a fault of the server's own.
        (
            "twice",
            "env",
            json!([{ "name": "A", "value": "1" }, { "name": "A", "value": "2" }]),
            "duplicate entries for key",
        ),
    ] {
        let object = with(name, |job| {
            let container =
                job["spec"]["roles"][0]["template"]["spec"]["containers"][0].as_object_mut().unwrap();
            container.remove(pointer);
            if !value.is_null() {
                container.insert(pointer.to_owned(), value);
            }
        });
        let made = world.create(NAMESPACE, object).await.unwrap();
        let refused = world.wait(&made, "refused", 30, |job| phase(job) == Some(Phase::Refused)).await;
        let status = refused.status.clone().unwrap();
        assert_eq!(condition::find(&status.conditions, "Admitted").unwrap().reason, "Rejected", "{name}");
        let message = status.message.unwrap();
        assert!(message.contains(words), "{name}: {message}");
        starts_nothing(&world, &made).await;
        world.delete(&made).await;
    }
}

#[tokio::test]
async fn the_owner_of_a_job_that_is_not_understood_is_told_by_an_event() {
    let world = World::connect().await;
    let resource = ApiResource::erase::<ComputeJob>(&());
    let jobs: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), NAMESPACE, &resource);
    // The definition has no bound on it, and no port is so large.
    let odd = with("odd", |job| {
        job["spec"]["roles"][0]["template"]["spec"]["containers"][0]["livenessProbe"] =
            json!({ "httpGet": { "port": 3_000_000_000_i64 } });
    });
    let odd = serde_json::from_value(odd).unwrap();
    let made = jobs.create(&PostParams::default(), &odd).await.expect("the API server takes it");
    let events: Api<Event> = Api::namespaced(world.client.clone(), NAMESPACE);
    let is_told = |event: &Event| {
        let is_about = event.regarding.as_ref().is_some_and(|object| object.uid == made.metadata.uid);
        is_about && event.reason.as_deref() == Some("Malformed") && event.type_.as_deref() == Some("Warning")
    };
    let mut told = false;
    for _ in 0..60 {
        told = events.list(&ListParams::default()).await.expect("events").items.iter().any(is_told);
        if told {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(told, "no event tells of {}", made.name_any());
    jobs.delete(&made.name_any(), &DeleteParams::default()).await.expect("it is deleted");
}

#[tokio::test]
async fn a_job_that_its_queue_or_budget_refuses_starts_nothing() {
    let world = World::connect().await;
    world.namespace("team-b").await;
    for (namespace, name, change, reason) in [
        ("team-b", "not-served", json!({}), "NamespaceNotServed"),
        (NAMESPACE, "no-queue", json!({ "queue": "nowhere" }), "QueueNotFound"),
        (NAMESPACE, "too-dear", json!({ "maxPricePerGpuHour": "1" }), "PriceTooHigh"),
        (NAMESPACE, "too-small", json!({ "budget": "0.001" }), "BudgetTooSmall"),
    ] {
        let object = with(name, |job| {
            job["spec"].as_object_mut().unwrap().extend(change.as_object().unwrap().clone())
        });
        let made = world.create(namespace, object).await.unwrap();
        let refused = world.wait(&made, "refused", 30, |job| phase(job) == Some(Phase::Refused)).await;
        let conditions = refused.status.clone().unwrap().conditions;
        assert_eq!(condition::find(&conditions, "Admitted").unwrap().reason, reason, "{name}");
        starts_nothing(&world, &made).await;
        world.delete(&made).await;
    }
}

#[tokio::test]
async fn a_job_larger_than_the_cluster_waits_and_says_so_in_numbers() {
    let world = World::connect().await;
    let made = world.create(NAMESPACE, job("huge", (2, 9), "true")).await.unwrap();
    let says = |job: &ComputeJob| {
        let message = job.status.as_ref().and_then(|status| status.message.clone()).unwrap_or_default();
        phase(job) == Some(Phase::Waiting) && message.contains("needs 18 nvidia.com/gpu, ")
    };
    world.wait(&made, "waiting in numbers", 60, says).await;
    tokio::time::sleep(LATER).await;
    let still = world.jobs(NAMESPACE).get(&made.name_any()).await.unwrap();
    assert!(says(&still), "{:#?}", still.status);
    let pods = world.pods(&made).await;
    let is_placed = |pod: &Pod| {
        pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref().is_some_and(|node| !node.is_empty()))
    };
    assert!(pods.len() == 2 && !pods.iter().any(is_placed), "placed, or not there: {pods:#?}");
    world.delete(&made).await;
}
