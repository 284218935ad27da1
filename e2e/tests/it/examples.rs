//! The examples, applied as a user would: real distributed training, started by hand and by torchrun, and paid for.

use plasma_api::{ComputeJob, compute_job::Phase};
use plasma_e2e::{NAMESPACE, Said, World, is_paid, kubectl, phase};
use serde_json::{Value, json};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
/// Training takes seconds; PyTorch takes its time to load on two cores.
const PATIENCE: u64 = 240;

#[tokio::test]
async fn the_training_example_learns_and_is_paid_for() {
    let world = World::connect().await;
    let file = format!("{EXAMPLES}/pytorch-ddp.yaml");
    content(&kubectl(&["apply", "--filename", &file]));
    let made = world.jobs(NAMESPACE).get("pytorch-ddp").await.expect("the job");
    learns_and_is_paid_for(&world, &made).await;

    // The same by torchrun, which finds its place by the variables that are set for it.
    let mut by_torchrun = json!({
        "apiVersion": "compute.plasma.dev/v1alpha1", "kind": "ComputeJob",
        "metadata": { "name": "torchrun" }, "spec": made.spec,
    });
    let container = &mut by_torchrun["spec"]["roles"][0]["template"]["spec"]["containers"][0];
    container["command"] = json!(["python3", "-m", "torch.distributed.run", "/app/train.py"]);
    let by_torchrun = world.create(NAMESPACE, by_torchrun).await.expect("a job");
    learns_and_is_paid_for(&world, &by_torchrun).await;
    content(&kubectl(&["delete", "--filename", &file]));
    world.delete(&by_torchrun).await;
}

#[tokio::test]
async fn the_small_example_runs_and_is_paid_for() {
    let world = World::connect().await;
    let file = format!("{EXAMPLES}/two-pods.yaml");
    content(&kubectl(&["apply", "--filename", &file]));
    let listed = kubectl(&["get", "computejob", "two-pods", "--output", "json"]);
    let listed: Value = serde_json::from_str(&content(&listed).output).expect("JSON");
    let made: ComputeJob = serde_json::from_value(listed).expect("a job");
    world.wait(&made, "done and paid", PATIENCE, is_paid).await;
    content(&kubectl(&["delete", "--filename", &file]));
}

async fn learns_and_is_paid_for(world: &World, job: &ComputeJob) {
    let name = job.metadata.name.as_deref().expect("a name");
    let over =
        |job: &ComputeJob| matches!(phase(job), Some(Phase::Succeeded | Phase::Failed | Phase::Refused));
    let done = world.wait(job, "over", PATIENCE, over).await;
    let status = done.status.as_ref().expect("a status");
    let attempt = status.attempts.expect("an attempt").started - 1;
    // Pods of an attempt that was refused by its node have no logs to give.
    let selector = format!("compute.plasma.dev/job-name={name},compute.plasma.dev/attempt={attempt}");
    let logs = kubectl(&["logs", "--selector", &selector, "--tail=-1", "--prefix", "--ignore-errors"]);
    assert_eq!(phase(&done), Some(Phase::Succeeded), "{status:#?}\n{}\n{}", logs.output, logs.errors);
    for rank in ["rank 0 of 2", "rank 1 of 2"] {
        assert!(logs.output.contains(rank), "{rank} isn't there: {logs:?}");
    }
    let accuracy = logs.output.split("test accuracy ").nth(1).and_then(|told| told.split(',').next());
    let accuracy: f64 = accuracy.and_then(|told| told.parse().ok()).unwrap_or_else(|| panic!("{logs:?}"));
    assert!(accuracy > 0.9, "test accuracy {accuracy}");
    world.wait(job, "done and paid", PATIENCE, is_paid).await;
}

fn content(said: &Said) -> &Said {
    assert!(said.succeeded, "{said:?}");
    said
}
