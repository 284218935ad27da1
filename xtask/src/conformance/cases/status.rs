//! `device_plugin_failures_pod_status_test.go`: the pod's status says how its device is.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::super::stage::{PATIENCE, Stage};
use crate::harness::{Plugin, Pod, RESOURCE, eventually};

pub(super) fn healthy_then_unhealthy(stage: &mut Stage) -> Result<()> {
    let _plugin = one_gpu(stage)?;
    let pod = Pod::with_gpu("pod");
    let gpu = stage.run(&pod)?;
    follows_the_gpu(stage, &pod, &gpu)
}

pub(super) fn of_a_pod_that_never_ran(stage: &mut Stage) -> Result<()> {
    let _plugin = one_gpu(stage)?;
    let pod = Pod::with_gpu("pod");
    stage.admit(&pod)?;
    follows_the_gpu(stage, &pod, "GPU-00000000-0000-0000-0000-000000000000")
}

fn one_gpu(stage: &mut Stage) -> Result<Plugin> {
    stage.with_gpus(1)?;
    stage.start_kubelet(&[])?;
    let plugin = stage.node.plugin(&[])?;
    stage.kubelet()?.counts(1, 1, PATIENCE)?;
    Ok(plugin)
}

fn follows_the_gpu(stage: &mut Stage, pod: &Pod, gpu: &str) -> Result<()> {
    says(stage, pod, gpu, "Healthy")?;
    stage.node.lose(0, true)?;
    says(stage, pod, gpu, "Unhealthy")?;
    stage.forget(pod)
}

fn says(stage: &Stage, pod: &Pod, gpu: &str, health: &str) -> Result<()> {
    let resources = json!([{ "resourceID": gpu, "health": health }]);
    let expected = json!({ pod.container_name(): [{ "name": RESOURCE, "resources": resources }] });
    eventually(PATIENCE, || {
        let found: Value = stage.kubelet()?.ask(&json!({ "op": "status", "uid": pod.uid }))?;
        ensure!(found == expected, "the pod's status says {found}, not {expected}");
        Ok(())
    })
}
