//! `podresources_test.go`: what others on the node are told of who has which device.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::json;

use super::super::stage::{ContainerResources, Devices, PATIENCE, PodResources, REGISTERS, Stage};
use crate::harness::{Pod, RESOURCE};

/// CPUs of the node where its CPU manager is static; one is kept for the system.
const CPUS: u32 = 8;

/// A container as it must be listed: that many GPUs, that many CPUs of its own.
type Listed<'a> = (&'a str, usize, usize);

#[derive(Debug, Deserialize)]
struct Allocatable {
    #[serde(default)]
    devices: Vec<Devices>,
    #[serde(default)]
    cpu_ids: Vec<i64>,
}

pub(super) fn devices_and_cpus(stage: &mut Stage) -> Result<()> {
    stage.with_cpus(CPUS);
    stage.with_gpus(2)?;
    let plugin = stage.ready()?;
    lists(stage, &[])?;
    without_resources(stage)?;
    some_with_resources(stage)?;
    created_between_calls(stage)?;
    deleted_between_calls(stage)?;
    parts_of_cpus(stage)?;
    init_containers(stage)?;
    allocatable(stage, &[0, 2, 3, 4, 5, 6, 7])?;
    stage.nothing_remains(plugin)
}

fn one(name: &str, gpus: u32, millicpus: u32) -> Pod {
    Pod::named(name).container("cnt-00", gpus, millicpus)
}

fn without_resources(stage: &mut Stage) -> Result<()> {
    let pods = [one("pod-00", 0, 0), one("pod-01", 0, 0)];
    with(stage, &pods, &[("pod-00", &[("cnt-00", 0, 0)]), ("pod-01", &[("cnt-00", 0, 0)])])
}

fn some_with_resources(stage: &mut Stage) -> Result<()> {
    let pods = [one("pod-00", 0, 0), one("pod-01", 1, 1000), one("pod-02", 0, 1000), one("pod-03", 1, 1000)];
    let expected: [(&str, &[Listed<'_>]); 4] = [
        ("pod-00", &[("cnt-00", 0, 0)]),
        ("pod-01", &[("cnt-00", 1, 1)]),
        ("pod-02", &[("cnt-00", 0, 1)]),
        ("pod-03", &[("cnt-00", 1, 1)]),
    ];
    with(stage, &pods, &expected)
}

fn created_between_calls(stage: &mut Stage) -> Result<()> {
    let pods = [one("pod-00", 0, 0), one("pod-01", 1, 1000), one("pod-02", 0, 1000)];
    let mut expected: Vec<(&str, &[Listed<'_>])> = vec![
        ("pod-00", &[("cnt-00", 0, 0)]),
        ("pod-01", &[("cnt-00", 1, 1)]),
        ("pod-02", &[("cnt-00", 0, 1)]),
    ];
    pods.iter().try_for_each(|pod| stage.admit(pod))?;
    lists(stage, &expected)?;
    let extra = one("pod-03", 1, 1000);
    stage.admit(&extra)?;
    expected.push(("pod-03", &[("cnt-00", 1, 1)]));
    lists(stage, &expected)?;
    pods.iter().chain([&extra]).try_for_each(|pod| stage.forget(pod))
}

fn deleted_between_calls(stage: &mut Stage) -> Result<()> {
    let pods = [one("pod-00", 0, 1000), one("pod-01", 1, 2000), one("pod-02", 0, 0), one("pod-03", 1, 1000)];
    let mut expected: Vec<(&str, &[Listed<'_>])> = vec![
        ("pod-00", &[("cnt-00", 0, 1)]),
        ("pod-01", &[("cnt-00", 1, 2)]),
        ("pod-02", &[("cnt-00", 0, 0)]),
        ("pod-03", &[("cnt-00", 1, 1)]),
    ];
    pods.iter().try_for_each(|pod| stage.admit(pod))?;
    lists(stage, &expected)?;
    stage.forget(&pods[1])?;
    expected.remove(1);
    lists(stage, &expected)?;
    pods.iter().try_for_each(|pod| stage.forget(pod))
}

fn parts_of_cpus(stage: &mut Stage) -> Result<()> {
    let pods = [one("pod-00", 0, 1500), one("pod-01", 1, 1500)];
    with(stage, &pods, &[("pod-00", &[("cnt-00", 0, 0)]), ("pod-01", &[("cnt-00", 1, 0)])])
}

fn init_containers(stage: &mut Stage) -> Result<()> {
    let pods = [
        Pod::named("pod-00").init("init-00", 1, 1000).container("regular-00", 0, 1000),
        Pod::named("pod-01").sidecar("restartable-init-00", 1, 1000).container("regular-00", 0, 1000),
    ];
    let expected: [(&str, &[Listed<'_>]); 2] = [
        ("pod-00", &[("regular-00", 0, 1)]),
        ("pod-01", &[("restartable-init-00", 1, 1), ("regular-00", 0, 1)]),
    ];
    with(stage, &pods, &expected)
}

/// Admits the pods, compares the list, and deletes them.
fn with(stage: &mut Stage, pods: &[Pod], expected: &[(&str, &[Listed<'_>])]) -> Result<()> {
    pods.iter().try_for_each(|pod| stage.admit(pod))?;
    lists(stage, expected)?;
    pods.iter().try_for_each(|pod| stage.forget(pod))
}

/// These pods are listed, beside the plugin's own, and just so.
fn lists(stage: &Stage, expected: &[(&str, &[Listed<'_>])]) -> Result<()> {
    let listed = stage.pod_resources()?;
    let found: BTreeMap<&str, BTreeMap<&str, (usize, usize)>> = listed
        .iter()
        .filter(|pod| pod.name != "device-plugin")
        .map(|pod| (pod.name.as_str(), pod.containers.iter().map(figures).collect()))
        .collect();
    let expected: BTreeMap<&str, BTreeMap<&str, (usize, usize)>> = expected
        .iter()
        .map(|(pod, containers)| {
            (*pod, containers.iter().map(|(name, gpus, cpus)| (*name, (*gpus, *cpus))).collect())
        })
        .collect();
    ensure!(found == expected, "listed are {found:?}, not {expected:?} (GPUs, CPUs)");
    ensure!(listed.len() == expected.len() + 1, "the plugin's own pod isn't listed: {listed:?}");
    Ok(())
}

fn figures(container: &ContainerResources) -> (&str, (usize, usize)) {
    (container.name.as_str(), (container.ids(RESOURCE).len(), container.cpu_ids.len()))
}

fn allocatable(stage: &Stage, cpus: &[i64]) -> Result<()> {
    let mut found: Allocatable = stage.kubelet()?.ask(&json!({ "op": "allocatableResources" }))?;
    found.cpu_ids.sort_unstable();
    ensure!(found.cpu_ids == cpus, "CPUs {:?} are allocatable, not {cpus:?}", found.cpu_ids);
    ensure!(!found.devices.is_empty(), "no device is allocatable");
    for devices in &found.devices {
        ensure!(devices.resource_name == RESOURCE && !devices.device_ids.is_empty(), "{devices:?}");
    }
    Ok(())
}

pub(super) fn devices_alone(stage: &mut Stage) -> Result<()> {
    let plugin = stage.ready()?;
    allocatable(stage, &[])?;
    stage.nothing_remains(plugin)
}

pub(super) fn get(stage: &mut Stage) -> Result<()> {
    stage.with_cpus(CPUS);
    let plugin = stage.ready()?;
    let pod = Pod::named("fg-enabled-pod").container("fg-enabled-cnt", 0, 1000);
    stage.admit(&pod)?;
    let asked = json!({ "op": "podResourcesOf", "namespace": "default", "name": pod.name });
    let found: PodResources = stage.kubelet()?.ask(&asked)?;
    ensure!(found.name == pod.name, "{found:?}");
    ensure!(found.containers.len() == 1, "one container, not {found:?}");
    let container = found.containers.first().context("a container")?;
    ensure!(container.name == "fg-enabled-cnt" && container.cpu_ids.len() == 1, "{container:?}");
    ensure!(container.devices.is_empty(), "it asked for no GPU: {container:?}");
    stage.nothing_remains(plugin)
}

pub(super) fn same_after_restart(stage: &mut Stage) -> Result<()> {
    stage.with_cpus(CPUS);
    let plugin = stage.ready()?;
    let found: Allocatable = stage.kubelet()?.ask(&json!({ "op": "allocatableResources" }))?;
    ensure!(found.devices.iter().all(|devices| devices.topology.is_none()), "{:?}", found.devices);
    let pod = Pod::named("pod-01").container("cnt-01", 1, 1000);
    let gpu = stage.run(&pod)?;
    let expected: [(&str, &[Listed<'_>]); 1] = [("pod-01", &[("cnt-01", 1, 1)])];
    lists(stage, &expected)?;
    stage.restart_kubelet(&[&pod])?;
    stage.kubelet()?.counts(2, 2, REGISTERS)?;
    lists(stage, &expected)?;
    stage.is_assigned(&pod, &gpu)?;
    stage.kubelet()?.counts(2, 2, PATIENCE)?;
    stage.nothing_remains(plugin)
}
