//! `device_plugin_test.go`: a pod keeps its device, whoever is restarted.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use super::super::stage::{PATIENCE, PodResources, REGISTERS, Stage};
use crate::harness::{Pod, RESOURCE};

pub(super) fn schedule(stage: &mut Stage) -> Result<()> {
    let plugin = stage.ready()?;
    let pod = Pod::with_gpu("pod1");
    stage.run(&pod)?;
    for version in ["podResources", "podResourcesV1alpha1"] {
        let listed: Vec<PodResources> = stage.kubelet()?.ask(&json!({ "op": version }))?;
        ensure!(listed.len() == 2, "{version}: the plugin's pod and ours, not {listed:?}");
        let ours = listed.iter().find(|one| one.name == pod.name && one.namespace == "default");
        let ours = ours.with_context(|| format!("{version} doesn't list our pod"))?;
        let [container] = &ours.containers[..] else { bail!("{version}: one container, not {ours:?}") };
        ensure!(container.name == pod.container_name(), "{version}: {container:?}");
        ensure!(
            container.devices.len() == 1 && container.ids(RESOURCE).len() == 1,
            "{version}: {container:?}"
        );
    }
    stage.nothing_remains(plugin)
}

pub(super) fn cdi(stage: &mut Stage) -> Result<()> {
    let plugin = stage.ready()?;
    let pod = Pod::with_gpu("pod1");
    let gpu = stage.run(&pod)?;
    let given = stage.kubelet()?.run_container(&pod, pod.container_name())?;
    let [name] = &given.cdi[..] else { bail!("one CDI device, not {:?}", given.cdi) };
    let (kind, device) = name.split_once('=').with_context(|| format!("{name} is no CDI name"))?;
    let specs = specs(&stage.node.cdi())?;
    let spec =
        specs.iter().find(|spec| spec["kind"] == kind).with_context(|| format!("no spec is of {kind}"))?;
    let devices = spec["devices"].as_array().into_iter().flatten();
    let defined: Vec<_> = devices.filter(|defined| defined["name"] == device).collect();
    let [defined] = &defined[..] else { bail!("{name} is defined {} times", defined.len()) };
    let nodes: Vec<_> = defined["containerEdits"]["deviceNodes"].as_array().into_iter().flatten().collect();
    let [node] = &nodes[..] else { bail!("one device node, not {nodes:?}") };
    ensure!(node["path"].as_str().is_some_and(|path| path.ends_with(&gpu)), "{node} is not of {gpu}");
    stage.nothing_remains(plugin)
}

fn specs(folder: &Path) -> Result<Vec<serde_json::Value>> {
    let mut specs = Vec::new();
    for file in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?.flatten() {
        let text = fs::read_to_string(file.path()).context("read a CDI spec")?;
        specs.push(serde_saphyr::from_str(&text).context("understand a CDI spec")?);
    }
    Ok(specs)
}

pub(super) fn pod_restart(stage: &mut Stage) -> Result<()> {
    let plugin = stage.ready()?;
    let (pod1, pod2) = (Pod::with_gpu("pod1"), Pod::with_gpu("pod2"));
    let first = stage.run(&pod1)?;
    let again = stage.kubelet()?.gpu_of(&pod1)?;
    ensure!(again == first, "{again} after the restart, {first} before");
    stage.is_assigned(&pod1, &first)?;
    let second = stage.run(&pod2)?;
    stage.is_assigned(&pod1, &first)?;
    stage.is_assigned(&pod2, &second)?;
    stage.nothing_remains(plugin)
}

pub(super) fn kubelet_restart(stage: &mut Stage) -> Result<()> {
    let plugin = stage.ready()?;
    let pod = Pod::with_gpu("pod1");
    let gpu = stage.run(&pod)?;
    stage.restart_kubelet(&[&pod])?;
    stage.kubelet()?.counts(2, 2, REGISTERS)?;
    stage.is_assigned(&pod, &gpu)?;
    stage.nothing_remains(plugin)
}

pub(super) fn pod_and_kubelet_restart(stage: &mut Stage) -> Result<()> {
    let plugin = stage.ready()?;
    let pod = Pod::with_gpu("pod1");
    let gpu = stage.run(&pod)?;
    let again = stage.kubelet()?.gpu_of(&pod)?;
    ensure!(again == gpu, "{again} after the pod's restart, {gpu} before");
    stage.restart_kubelet(&[&pod])?;
    stage.kubelet()?.counts(2, 2, REGISTERS)?;
    let again = stage.kubelet()?.gpu_of(&pod)?;
    ensure!(again == gpu, "{again} after the kubelet's restart, {gpu} before");
    stage.is_assigned(&pod, &gpu)?;
    stage.nothing_remains(plugin)
}

pub(super) fn succeeded_pod(stage: &mut Stage) -> Result<()> {
    let plugin = stage.ready()?;
    let pod = Pod::with_gpu("pod1");
    stage.run(&pod)?;
    stage.forget(&pod)?;
    plugin.terminate()?;
    stage.kubelet()?.counts(0, 2, PATIENCE)?;
    stage.restart_kubelet(&[])?;
    stage.kubelet()?.counts(0, 0, PATIENCE)?;
    let listed = stage.pod_resources()?;
    ensure!(listed.iter().all(|one| one.name != pod.name), "a pod that succeeded is listed: {listed:?}");
    // Nothing is held for it: with a plugin again, both GPUs can be given.
    let plugin = stage.node.plugin(&[])?;
    both_can_be_given(stage)?;
    stage.nothing_remains(plugin)
}

pub(super) fn plugin_restart(stage: &mut Stage) -> Result<()> {
    let plugin = stage.ready()?;
    let pod = Pod::with_gpu("pod1");
    let gpu = stage.run(&pod)?;
    plugin.kill();
    stage.kubelet()?.counts(0, 2, PATIENCE)?;
    let plugin = stage.node.plugin(&[])?;
    stage.kubelet()?.counts(2, 2, REGISTERS)?;
    stage.is_assigned(&pod, &gpu)?;
    stage.nothing_remains(plugin)
}

pub(super) fn kubelet_and_plugin_restart(stage: &mut Stage) -> Result<()> {
    let plugin = stage.ready()?;
    let pod = Pod::with_gpu("pod1");
    let gpu = stage.run(&pod)?;
    stage.restart_kubelet(&[&pod])?;
    stage.is_assigned(&pod, &gpu)?;
    plugin.kill();
    let plugin = stage.node.plugin(&[])?;
    stage.kubelet()?.counts(2, 2, REGISTERS)?;
    stage.is_assigned(&pod, &gpu)?;
    stage.nothing_remains(plugin)
}

pub(super) fn orphaned_pod(stage: &mut Stage) -> Result<()> {
    let plugin = stage.ready()?;
    let pod = Pod::with_gpu("pod1");
    stage.run(&pod)?;
    stage.stop_kubelet();
    stage.forget(&pod)?;
    stage.start_kubelet(&[])?;
    let listed = stage.pod_resources()?;
    ensure!(listed.iter().all(|one| one.name != pod.name), "a pod that is gone is listed: {listed:?}");
    both_can_be_given(stage)?;
    stage.nothing_remains(plugin)
}

fn both_can_be_given(stage: &mut Stage) -> Result<()> {
    stage.kubelet()?.counts(2, 2, REGISTERS)?;
    let (first, second) = (stage.run(&Pod::with_gpu("first"))?, stage.run(&Pod::with_gpu("second"))?);
    ensure!(first != second, "{first} is given twice");
    Ok(())
}

pub(super) fn restartable_init_container(stage: &mut Stage) -> Result<()> {
    let plugin = stage.ready()?;
    let pod = Pod::named("pod1").init("init-1", 1, 0).sidecar("restartable-init-2", 1, 0);
    let pod = pod.container("regular-1", 1, 0);
    stage.admit(&pod)?;
    let mut gpus = Vec::new();
    for container in ["init-1", "restartable-init-2", "regular-1"] {
        let given = stage.kubelet()?.run_container(&pod, container)?.gpus();
        let [gpu] = &given[..] else { bail!("{container} has {given:?}, not one GPU") };
        gpus.push(gpu.clone());
    }
    ensure!(gpus[0] == gpus[1], "init container and restartable init container don't share: {gpus:?}");
    ensure!(gpus[1] != gpus[2], "restartable init container and regular one share: {gpus:?}");
    let listed = stage.pod_resources()?;
    ensure!(listed.len() == 2, "the plugin's pod and ours, not {listed:?}");
    let ours = listed.iter().find(|one| one.name == pod.name).context("our pod isn't listed")?;
    let mut names: Vec<&str> = ours.containers.iter().map(|container| container.name.as_str()).collect();
    names.sort_unstable();
    ensure!(names == ["regular-1", "restartable-init-2"], "listed are {names:?}");
    for container in &ours.containers {
        ensure!(container.devices.len() == 1 && container.ids(RESOURCE).len() == 1, "{container:?}");
    }
    stage.nothing_remains(plugin)
}

pub(super) fn reboot(stage: &mut Stage) -> Result<()> {
    let plugin = stage.ready()?;
    let pod = Pod::with_gpu("pod1");
    stage.run(&pod)?;
    stage.stop_kubelet();
    plugin.kill();
    let refused = stage.start_kubelet(&[]);
    let Err(refused) = refused else { bail!("the pod is admitted, though no plugin is there") };
    let refused = refused.to_string();
    ensure!(refused.starts_with("UnexpectedAdmissionError: "), "another refusal: {refused}");
    // The pod has failed: the kubelet has it no more.
    stage.forget(&pod)?;
    stage.start_kubelet(&[])?;
    let listed = stage.pod_resources()?;
    ensure!(listed.len() == 1 && listed[0].name == "device-plugin", "listed are {listed:?}");
    let plugin = stage.node.plugin(&[])?;
    both_can_be_given(stage)?;
    stage.nothing_remains(plugin)
}
