//! Bad input gets a clear answer, and starts nothing.

use plasma_api::{compute_job::Phase, condition};
use plasma_e2e::{NAMESPACE, World, job, phase};
use serde_json::{Value, json};

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
    ] {
        let (pointer, value) = change;
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        let bad = with("bad", |job| job.pointer_mut(parent).unwrap()[last] = value.clone());
        let message = world.refusal(bad).await;
        assert!(message.contains(field) && message.contains(rule), "{pointer} = {value}: {message}");
    }
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
        assert!(world.pods(&made).await.is_empty(), "{name} started pods");
        world.delete(&made).await;
    }
}

#[tokio::test]
async fn a_job_larger_than_the_cluster_waits_and_says_so_in_numbers() {
    let world = World::connect().await;
    let made = world.create(NAMESPACE, job("huge", (2, 9), "true")).await.unwrap();
    let says = |job: &plasma_api::ComputeJob| {
        let message = job.status.as_ref().and_then(|status| status.message.clone()).unwrap_or_default();
        phase(job) == Some(Phase::Waiting) && message.contains("needs 18 nvidia.com/gpu, ")
    };
    world.wait(&made, "waiting in numbers", 60, says).await;
    world.delete(&made).await;
}
