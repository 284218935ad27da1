//! `device_plugin_multiple_test.go`: a second plugin of the same resource beside the first.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::super::stage::{PATIENCE, REGISTERS, Stage};
use crate::harness::{Plugin, Pod, eventually};

/// How long the counts must stay as they are.
const STAYS: Duration = Duration::from_secs(30);

/// Two plugins side by side, each of which a pod got its GPU from, and the first of the pods.
fn both_serve(stage: &mut Stage) -> Result<(Plugin, Plugin, Pod)> {
    let first = stage.ready()?;
    let pod1 = Pod::with_gpu("pod1");
    stage.run(&pod1)?;
    let second = stage.node.plugin(&[])?;
    stage.kubelet()?.keeps_counting(2, 2, STAYS)?;
    second.is_ready()?;
    stage.run(&Pod::with_gpu("pod2"))?;
    Ok((first, second, pod1))
}

/// With one plugin gone nothing dips, and the GPU that a pod gives back is given away again.
fn a_third_pod_runs(stage: &mut Stage, pod1: &Pod) -> Result<()> {
    stage.kubelet()?.keeps_counting(2, 2, STAYS)?;
    stage.forget(pod1)?;
    stage.run(&Pod::with_gpu("pod3")).map(drop)
}

pub(super) fn basic(stage: &mut Stage) -> Result<()> {
    let (first, second, pod1) = both_serve(stage)?;
    first.terminate()?;
    a_third_pod_runs(stage, &pod1)?;
    stage.nothing_remains(second)
}

pub(super) fn slow(stage: &mut Stage) -> Result<()> {
    let first = stage.ready()?;
    let pod1 = Pod::with_gpu("pod1");
    stage.run(&pod1)?;
    let behind = stage.node.folder().join("behind");
    fs::create_dir(&behind).context("a folder for the second plugin's sockets")?;
    let door = json!({ "op": "door", "folder": "/var/lib/behind", "registrations": 100 });
    stage.kubelet()?.ask::<()>(&door)?;
    stage.kubelet()?.ask::<()>(&json!({ "op": "fail", "methods": ["GetDevicePluginOptions"] }))?;
    let second = stage.node.plugin_behind(&behind)?;
    eventually(REGISTERS, || {
        let passed: Value = stage.kubelet()?.ask(&json!({ "op": "calls" }))?;
        match passed[0]["error"].as_str() {
            Some(why) if why.contains("failed to get device plugin options") => Ok(()),
            other => bail!("the second plugin isn't refused: {other:?}"),
        }
    })?;
    stage.run(&Pod::with_gpu("pod2"))?;
    // From here on the second one is well, and registers again by itself.
    stage.kubelet()?.ask::<()>(&json!({ "op": "fail", "methods": [] }))?;
    stage.kubelet()?.keeps_counting(2, 2, STAYS)?;
    second.is_ready()?;
    first.terminate()?;
    a_third_pod_runs(stage, &pod1)?;
    stage.nothing_remains(second)
}

pub(super) fn changed_its_mind(stage: &mut Stage) -> Result<()> {
    let (first, second, pod1) = both_serve(stage)?;
    second.terminate()?;
    a_third_pod_runs(stage, &pod1)?;
    stage.kubelet()?.counts(2, 2, PATIENCE)?;
    stage.nothing_remains(first)
}
