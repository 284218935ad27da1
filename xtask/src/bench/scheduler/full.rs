//! A full cluster: ten pods a node that run already. How much memory a scheduler takes there, how long a restarted one
//! needs to its first binding, and how soon somebody is told why a pod has no place.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Stage,
    contender::Contender,
    daemon::Daemon,
    objects::{self, ARRIVALS, Pod},
    store::Kind,
    turn::{self, Load, Turn},
};

/// Pods that run on each node: some with a GPU, the rest without.
const RESIDENTS: usize = 10;
const RESIDENTS_WITH_GPU: usize = 4;
/// How often a scheduler is killed with a pod that waits.
const RESTARTS: usize = 3;
/// How often something comes that fits nowhere.
const MISFITS: usize = 10;
/// Pods of a gang that fits nowhere.
const GANG: usize = 16;
/// How long it may take until it is told why.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often one looks.
const LOOK: Duration = Duration::from_millis(5);

/// What a scheduler does in a full cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Full {
    pub(super) scheduler: String,
    /// Pods that run already.
    pub(super) residents: usize,
    /// Seconds from the start of its process to the first binding, the worst of some.
    pub(super) restart_s: f64,
    /// Plain pods, with a node's worth of others everywhere; the memory is that after it.
    pub(super) turn: Turn,
    /// Seconds until a pod or a gang that fits nowhere was told why, the worst of some.
    pub(super) unschedulable_s: f64,
}

/// Makes the pods that run already.
///
/// # Errors
/// The API server refuses one.
pub(super) async fn fill(stage: &Stage) -> Result<()> {
    let pods = (0..stage.nodes * RESIDENTS).map(|number| {
        let gpus = usize::from(number / stage.nodes < RESIDENTS_WITH_GPU);
        let node = Some(objects::node_name(number % stage.nodes));
        let name = format!("resident-{number:06}");
        Pod { name, scheduler: "default-scheduler", gang: None, gpus, node }.object(number)
    });
    stage.store.create_all(Kind::Pod, pods).await
}

/// Measures a scheduler there, and takes away what came for it.
///
/// # Errors
/// It ends, or leaves a pod unbound, or says nothing.
pub(super) async fn measure(stage: &mut Stage, who: Contender, pods: usize) -> Result<Full> {
    let mut restart_s: f64 = 0.0;
    for _ in 0..RESTARTS {
        restart_s = restart_s.max(restart(stage, who).await?);
    }
    let load = Load::plain(pods);
    load.create(stage, who).await?;
    stage.plane.rest().await?;
    let scheduler = stage.start(who)?;
    let (turn, mut scheduler) = turn::watch(stage, who, load, scheduler).await?;
    let mut unschedulable_s: f64 = 0.0;
    for number in 0..MISFITS {
        unschedulable_s = unschedulable_s.max(misfit(stage, who, number, &mut scheduler).await?);
    }
    drop(scheduler);
    stage.store.delete_all(Kind::Pod, ARRIVALS).await?;
    stage.store.delete_all(Kind::Gang, "").await?;
    let residents = stage.nodes * RESIDENTS;
    Ok(Full { scheduler: who.name().to_owned(), residents, restart_s, turn, unschedulable_s })
}

/// A pod waits, a scheduler starts: how long until it is bound. The scheduler is killed where it stands.
async fn restart(stage: &mut Stage, who: Contender) -> Result<f64> {
    // Two, since a turn needs two bindings; the first one counts.
    let load = Load::plain(2);
    Ok(turn::take(stage, who, load).await?.first_bind_s)
}

/// Something comes that fits nowhere, a pod or a gang in turns: how long until it is told so, with a reason.
async fn misfit(stage: &Stage, who: Contender, number: usize, scheduler: &mut Daemon) -> Result<f64> {
    // kube-scheduler knows no gangs.
    let is_gang = number % 2 == 1 && who == Contender::Ours;
    let (gang, members) = if is_gang { (Some(format!("misfit-{number}")), GANG) } else { (None, 1) };
    if let Some(name) = &gang {
        stage.store.create(Kind::Gang, &objects::gang(name, members).context("write a gang")?).await?;
    }
    // A pod is too large for every node; of a gang's pods each fits an empty node, and no node is empty.
    let gpus = if is_gang { objects::GPUS } else { objects::GPUS + 1 };
    let pod = |member: usize| {
        let name = format!("misfit-{number}-{member}");
        Pod { name, scheduler: who.scheduler_name(), gang: gang.clone(), gpus, node: None }
    };
    let last = members - 1;
    stage.store.create_all(Kind::Pod, (0..last).map(|member| pod(member).object(member))).await?;
    let begun = Instant::now();
    stage.store.create(Kind::Pod, &pod(last).object(last)).await?;
    loop {
        scheduler.is_running()?;
        let is_told = match &gang {
            Some(name) => gang_is_told(&stage.store.get(Kind::Gang, name).await?),
            None => pod_is_told(&stage.store.get(Kind::Pod, &pod(last).name).await?),
        };
        if is_told {
            return Ok(begun.elapsed().as_secs_f64());
        }
        if begun.elapsed() > PATIENCE {
            let what = gang.as_ref().map_or("a pod", |_| "a gang");
            bail!("{} doesn't say within {PATIENCE:?} why {what} has no place", who.name());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn pod_is_told(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| {
        condition["type"] == "PodScheduled"
            && condition["status"] == "False"
            && is_text(&condition["message"])
    })
}

/// That it isn't all there is no reason yet.
fn gang_is_told(gang: &Value) -> bool {
    gang["status"]["phase"] == "Waiting" && is_text(&gang["status"]["message"])
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_reason_counts_as_told() {
        let pod = |status: &str, message: &str| json!({ "status": { "conditions": [{ "type": "PodScheduled", "status": status, "message": message }] } });
        assert!(pod_is_told(&pod("False", "9 GPUs are too many")));
        assert!(
            !pod_is_told(&pod("False", "")) && !pod_is_told(&pod("True", "x")) && !pod_is_told(&json!({}))
        );
        let gang = |phase: &str| json!({ "status": { "phase": phase, "message": "1 of 2 pods exist" } });
        assert!(gang_is_told(&gang("Waiting")) && !gang_is_told(&gang("Gathering")));
    }
}
