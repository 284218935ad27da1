//! `device_plugin_failures_test.go`: what is counted when devices, calls or the plugin fail.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::json;

use super::super::stage::{PATIENCE, Stage};
use crate::harness::{Plugin, Pod, eventually};

/// After this long the kubelet gives up what no plugin offers any more; a minute more is the node tests' patience.
const GRACE: Duration = Duration::from_secs(5 * 60 + 60);

/// A registration that went through the door, and what was called after it.
#[derive(Debug, Deserialize)]
struct Passed {
    #[serde(default)]
    error: String,
    calls: Vec<String>,
}

/// A kubelet, a door at which these methods fail, and the plugin behind it.
fn behind_a_door(stage: &mut Stage, failing: &[&str], registrations: u32) -> Result<Plugin> {
    stage.start_kubelet(&[])?;
    let behind = stage.node.folder().join("behind");
    fs::create_dir(&behind).context("a folder for the plugin's sockets")?;
    let door = json!({ "op": "door", "folder": "/var/lib/behind", "registrations": registrations });
    stage.kubelet()?.ask::<()>(&door)?;
    fail(stage, failing)?;
    stage.node.plugin_behind(&behind)
}

fn fail(stage: &Stage, methods: &[&str]) -> Result<()> {
    stage.kubelet()?.ask(&json!({ "op": "fail", "methods": methods }))
}

fn passed(stage: &Stage) -> Result<Vec<Passed>> {
    stage.kubelet()?.ask(&json!({ "op": "calls" }))
}

pub(super) fn options_fail(stage: &mut Stage) -> Result<()> {
    let _plugin = behind_a_door(stage, &["GetDevicePluginOptions"], 3)?;
    // It tries again, since it isn't used.
    eventually(PATIENCE, || match passed(stage)? {
        tries if tries.len() < 3 => bail!("registrations so far: {tries:?}"),
        _ => Ok(()),
    })?;
    thread::sleep(Duration::from_secs(1));
    for one in passed(stage)? {
        for part in ["failed to get device plugin options", "GetDevicePluginOptions failed"] {
            ensure!(one.error.contains(part), "the plugin is told {:?}", one.error);
        }
        ensure!(one.calls == ["GetDevicePluginOptions"], "called were {:?}", one.calls);
    }
    let found = stage.kubelet()?.count();
    ensure!(found.is_none(), "{found:?} are counted of a plugin that isn't used");
    Ok(())
}

pub(super) fn unhealthy_and_back(stage: &mut Stage) -> Result<()> {
    let _plugin = one_gpu(stage)?;
    stage.node.lose(0, true)?;
    stage.kubelet()?.counts(0, 1, PATIENCE)?;
    stage.node.lose(0, false)?;
    stage.kubelet()?.counts(1, 1, PATIENCE)
}

fn one_gpu(stage: &mut Stage) -> Result<Plugin> {
    with_gpus(stage, 1)
}

fn with_gpus(stage: &mut Stage, gpus: u32) -> Result<Plugin> {
    stage.with_gpus(gpus as usize)?;
    stage.start_kubelet(&[])?;
    let found = stage.kubelet()?.count();
    ensure!(found.is_none(), "{found:?} are counted before there is a plugin");
    let plugin = stage.node.plugin(&[])?;
    stage.kubelet()?.counts(gpus.into(), gpus.into(), PATIENCE)?;
    Ok(plugin)
}

pub(super) fn unhealthy_while_held(stage: &mut Stage) -> Result<()> {
    let _plugin = one_gpu(stage)?;
    let pod = Pod::with_gpu("pod");
    let gpu = stage.run(&pod)?;
    stage.kubelet()?.counts(1, 1, PATIENCE)?;
    stage.node.lose(0, true)?;
    stage.kubelet()?.counts(0, 1, PATIENCE)?;
    stage.kubelet()?.keeps_counting(0, 1, Duration::from_secs(60))?;
    stage.is_assigned(&pod, &gpu).context("the pod is affected")?;
    stage.forget(&pod)?;
    stage.kubelet()?.keeps_counting(0, 1, Duration::from_secs(5))
}

pub(super) fn several_unhealthy(stage: &mut Stage) -> Result<()> {
    let _plugin = with_gpus(stage, 4)?;
    for (lost, allocatable) in [(vec![3], 3), (vec![], 4), (vec![1, 3], 2), (vec![1], 3), (vec![], 4)] {
        stage.node.change(|state| {
            for index in 0..4 {
                state["gpus"][index]["lost"] = json!(lost.contains(&index));
            }
        })?;
        stage.kubelet()?.counts(allocatable, 4, PATIENCE)?;
    }
    Ok(())
}

pub(super) fn list_fails_at_once(stage: &mut Stage) -> Result<()> {
    let _plugin = behind_a_door(stage, &["ListAndWatch"], 1)?;
    stage.kubelet()?.counts(0, 0, PATIENCE)?;
    is_never_retried(stage)?;
    stage.kubelet()?.counts(0, 0, PATIENCE)
}

pub(super) fn list_fails_later(stage: &mut Stage) -> Result<()> {
    let _plugin = behind_a_door(stage, &[], 1)?;
    stage.kubelet()?.counts(2, 2, PATIENCE)?;
    fail(stage, &["ListAndWatch"])?;
    stage.kubelet()?.counts(0, 2, PATIENCE)?;
    is_never_retried(stage)?;
    stage.kubelet()?.counts(0, 2, PATIENCE)?;
    stage.kubelet()?.counts(0, 0, GRACE)
}

/// For a minute the kubelet calls nothing more than it did at first.
fn is_never_retried(stage: &Stage) -> Result<()> {
    thread::sleep(Duration::from_secs(60));
    let passed = passed(stage)?;
    ensure!(passed.len() == 1, "one registration was to be passed on: {passed:?}");
    ensure!(
        passed[0].calls == ["GetDevicePluginOptions", "ListAndWatch"],
        "called were {:?}",
        passed[0].calls
    );
    Ok(())
}

pub(super) fn stopped(stage: &mut Stage) -> Result<()> {
    let plugin = with_gpus(stage, 2)?;
    plugin.terminate()?;
    stage.kubelet()?.counts(0, 2, PATIENCE)?;
    stage.kubelet()?.counts(0, 0, GRACE)
}
