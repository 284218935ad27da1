//! How GPUs get into containers: the life of the CDI spec, and the other ways.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use plasma_proto::deviceplugin::{
    ContainerAllocateResponse, ContainerPreferredAllocationRequest, PreferredAllocationRequest,
};
use serde_json::Value;

use crate::{
    allocate,
    kubelet::{Kubelet, PATIENCE, Registered, list},
    plugin::{Node, gpu, names},
};

const SPEC: &str = "compute.plasma.dev-gpu.json";

fn spec(node: &Node) -> PathBuf {
    node.cdi().join(SPEC)
}

/// The devices that the spec names, once it names so many.
async fn named(node: &Node, count: usize) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(spec(node)).unwrap_or_default();
        let devices = serde_json::from_str::<Value>(&text).unwrap_or_default()["devices"].clone();
        let named = devices.as_array().into_iter().flatten();
        let named: Vec<String> =
            named.filter_map(|device| device["name"].as_str().map(str::to_owned)).collect();
        if named.len() == count {
            return named;
        }
        assert!(begun.elapsed() < PATIENCE, "the spec never named {count} devices: {text:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn allocated(device_plugin: &mut Registered) -> ContainerAllocateResponse {
    let granted = device_plugin.allocate(allocate(&gpu(0).uuid)).await.unwrap();
    granted.container_responses.into_iter().next().unwrap()
}

#[tokio::test]
async fn the_spec_names_what_there_is_before_the_kubelet_is_told_of_it() {
    let node = Node::new(2);
    let mut kubelet = Kubelet::start(node.sockets());
    let plugin = node.plugin();
    let mut device_plugin = kubelet.registered().await;
    let before = [gpu(0).uuid, gpu(1).uuid];
    assert_eq!(named(&node, 2).await, before, "registered only when it is there");
    assert_eq!(device_plugin.next_list().await, list(&[(0, true), (1, true)]));
    let written: Value = serde_json::from_slice(&fs::read(spec(&node)).unwrap()).unwrap();
    assert_eq!(
        (&written["cdiVersion"], &written["kind"]),
        (&"0.5.0".into(), &"compute.plasma.dev/gpu".into())
    );

    node.change(|state| state.gpus.push(gpu(2)));
    let all = list(&[(0, true), (1, true), (2, true)]);
    assert_eq!(device_plugin.next_list().await, all, "told of when it is ready, and never as an ill one");
    assert_eq!(named(&node, 3).await[2], gpu(2).uuid);
    assert_eq!(fs::metadata(spec(&node)).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(names(&node.cdi()), [SPEC], "nothing else is left there");
    plugin.becomes("/metrics", "plasma_device_plugin_cdi_ready 1").await;
    plugin.becomes("/metrics", "plasma_device_plugin_cdi_writes_total{outcome=\"written\"} 2").await;
}

#[tokio::test]
async fn a_spec_that_is_deleted_or_spoiled_is_written_again_and_others_are_left_alone() {
    let node = Node::new(1);
    fs::create_dir(node.cdi()).unwrap();
    let theirs = node.cdi().join("nvidia.yaml");
    fs::write(&theirs, "not even YAML: [").unwrap();
    fs::write(spec(&node), "{\"cdiVersion\":").unwrap();
    let mut kubelet = Kubelet::start(node.sockets());
    let mut plugin = node.plugin();
    let _device_plugin = kubelet.registered().await;
    let whole = fs::read(spec(&node)).unwrap();
    named(&node, 1).await;
    fs::remove_file(spec(&node)).unwrap();
    named(&node, 1).await;
    fs::write(spec(&node), "somebody else's").unwrap();
    named(&node, 1).await;
    fs::remove_dir_all(node.cdi()).unwrap();
    named(&node, 1).await;
    assert_eq!(fs::read(spec(&node)).unwrap(), whole);
    fs::write(&theirs, "not even YAML: [").unwrap();
    assert!(plugin.terminate().await.success());
    assert!(spec(&node).exists(), "containers that start again need it");
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "not even YAML: [");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_keeps_gpus_from_being_offered_and_says_so() {
    let node = Node::new(1);
    let mut kubelet = Kubelet::start(node.sockets());
    fs::write(node.cdi(), "no folder").unwrap();
    let plugin = node.plugin();
    let mut device_plugin = kubelet.registered().await;
    assert_eq!(device_plugin.next_list().await, list(&[(0, false)]));
    let refused = device_plugin.allocate(allocate(&gpu(0).uuid)).await.unwrap_err();
    for word in ["can't be handed to containers", SPEC, "can't be written"] {
        assert!(refused.message().contains(word), "{word}: {}", refused.message());
    }
    plugin.must_say("no GPU is offered").await;
    plugin.becomes("/metrics", "plasma_device_plugin_cdi_ready 0").await;
    assert_eq!(plugin.get("/readyz").await.0, 200, "nothing here ends the plugin");

    fs::remove_file(node.cdi()).unwrap();
    assert_eq!(device_plugin.next_list().await, list(&[(0, true)]));
    assert_eq!(allocated(&mut device_plugin).await.cdi_devices.len(), 1);
}

#[tokio::test]
async fn a_node_that_has_no_gpus_any_more_names_none() {
    let node = Node::new(1);
    let mut kubelet = Kubelet::start(node.sockets());
    let _plugin = node.plugin();
    let _device_plugin = kubelet.registered().await;
    assert!(spec(&node).exists());
    node.change(|state| state.gpus.clear());
    let begun = Instant::now();
    while spec(&node).exists() {
        assert!(begun.elapsed() < PATIENCE, "runtimes refuse a spec without devices");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn device_nodes_and_the_variable_are_for_those_who_ask_for_them() {
    for (strategy, variable) in [("device-nodes", None), ("envvar", Some(gpu(0).uuid))] {
        let node = Node::new(1);
        let mut kubelet = Kubelet::start(node.sockets());
        let _plugin = node.plugin_with(&["--device-list-strategy", strategy]);
        let mut device_plugin = kubelet.registered().await;
        let granted = allocated(&mut device_plugin).await;
        assert!(granted.cdi_devices.is_empty() && granted.mounts.is_empty(), "{strategy}");
        assert!(granted.devices.is_empty(), "a simulated GPU has no device node");
        assert_eq!(granted.envs.get("NVIDIA_VISIBLE_DEVICES").cloned(), variable, "{strategy}");
        assert!(!node.cdi().exists(), "{strategy} needs no spec");
    }
}

/// How long most of so many allocations took, at the longest: all but one in twenty, which may have waited for a core of a busy
/// machine. Whoever waits for NVML waits each time.
async fn longest_of_most(device_plugin: &mut Registered, count: usize) -> Duration {
    let mut took = Vec::new();
    for _ in 0..count {
        let asked = Instant::now();
        // Granted while the last look is believed, refused later: both at once.
        let _ = device_plugin.allocate(allocate(&gpu(0).uuid)).await;
        took.push(asked.elapsed());
    }
    took.sort_unstable();
    took[count - 1 - count / 20]
}

#[tokio::test]
async fn the_kubelet_is_answered_in_time_while_nvml_hangs() {
    let node = Node::new(16);
    let mut kubelet = Kubelet::start(node.sockets());
    let plugin = node.plugin();
    let mut device_plugin = kubelet.registered().await;
    assert_eq!(device_plugin.devices().await.len(), 16);
    node.change(|state| {
        state.hang.insert("nvmlDeviceGetCount_v2".to_owned());
    });
    for nvml_up in [1, 0] {
        plugin.becomes("/metrics", &format!("plasma_nvml_up {nvml_up}")).await;
        let longest = longest_of_most(&mut device_plugin, 100).await;
        assert!(longest < Duration::from_millis(500), "{longest:?} with plasma_nvml_up {nvml_up}");
        let request = ContainerPreferredAllocationRequest {
            available_device_i_ds: (0..16).map(|index| gpu(index).uuid).collect(),
            must_include_device_i_ds: Vec::new(),
            allocation_size: 8,
        };
        let asked = Instant::now();
        let preferred =
            device_plugin.prefer(PreferredAllocationRequest { container_requests: vec![request] }).await;
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        assert_eq!(preferred.container_responses[0].device_i_ds.len(), 8);
    }
}

#[tokio::test]
async fn a_disk_that_is_full_keeps_gpus_back_until_there_is_room() {
    let node = Node::new(1);
    fs::create_dir(node.cdi()).unwrap();
    let mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs"];
    let mounted = Command::new(mount[0]).args(&mount[1..]).arg(node.cdi()).status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("LEFT OUT: a full disk needs the right to mount one");
        return;
    }
    let _unmount = Unmount(node.cdi());
    let filler = node.cdi().join("filler");
    fs::write(&filler, [0; 4096]).unwrap();
    let mut kubelet = Kubelet::start(node.sockets());
    let plugin = node.plugin();
    let mut device_plugin = kubelet.registered().await;
    assert_eq!(device_plugin.next_list().await, list(&[(0, false)]));
    plugin.must_say("No space left on device").await;
    assert_eq!(names(&node.cdi()), ["filler"], "nothing half written is left");
    fs::remove_file(&filler).unwrap();
    assert_eq!(device_plugin.next_list().await, list(&[(0, true)]));
}

/// Takes the small disk away again.
struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        // What can't be unmounted stays in its own folder.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
