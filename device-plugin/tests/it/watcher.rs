//! Registration through the kubelet's plugin watcher, and the way back to the classic one.

use std::{fs, time::Duration};

use plasma_fake_nvml::Xid;

use crate::{
    allocate,
    kubelet::{Kubelet, Watcher, list},
    plugin::{Node, gpu, names},
};

fn node(gpus: usize) -> Node {
    let node = Node::new(gpus);
    fs::create_dir(&node.registry).unwrap();
    node
}

#[tokio::test]
async fn a_kubelet_that_looks_finds_the_plugin_and_its_gpus() {
    let node = node(2);
    let mut watcher = Watcher::start(node.registry.clone());
    let plugin = node.plugin();
    let found = watcher.found().await;
    let info = &found.info;
    assert_eq!((info.r#type.as_str(), info.name.as_str()), ("DevicePlugin", "nvidia.com/gpu"));
    assert_eq!(info.supported_versions, ["v1beta1"]);
    assert_eq!(plugin.get("/readyz").await.0, 503, "nobody took it yet");
    let mut device_plugin = found.tell(true, "").await;
    assert_eq!(device_plugin.next_list().await, list(&[(0, true), (1, true)]));
    assert!(device_plugin.allocate(allocate(&gpu(1).uuid)).await.is_ok());
    plugin.becomes("/readyz", "ok").await;
    plugin.becomes("/metrics", "plasma_device_plugin_registrations_total{way=\"watched\"} 1").await;
    node.change(|state| state.gpus[0].xids.push(Xid::OfGpu(79)));
    assert_eq!(device_plugin.next_list().await, list(&[(0, false), (1, true)]));
}

#[tokio::test]
async fn a_kubelet_that_restarts_finds_the_same_socket_again() {
    let node = node(1);
    let plugin = node.plugin();
    let first = Watcher::start(node.registry.clone()).registered().await;
    plugin.becomes("/readyz", "ok").await;
    let socket = first.request.endpoint.clone();
    drop(first);
    let mut again = Watcher::start(node.registry.clone()).registered().await;
    assert_eq!(again.request.endpoint, socket, "nothing had to be noticed, or made anew");
    assert_eq!(again.next_list().await, list(&[(0, true)]));
    plugin.becomes("/metrics", "plasma_device_plugin_registrations_total{way=\"watched\"} 2").await;
}

#[tokio::test]
async fn a_kubelet_that_was_away_for_long_finds_one_socket() {
    let node = node(1);
    let plugin = node.plugin();
    let mut first = Watcher::start(node.registry.clone()).registered().await;
    assert_eq!(first.next_list().await, list(&[(0, true)]));
    drop(first);
    plugin.must_say("it no longer listens to us").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(names(&node.registry).len(), 1, "{:?}", names(&node.registry));
    let mut again = Watcher::start(node.registry.clone()).registered().await;
    assert_eq!(again.next_list().await, list(&[(0, true)]));
}

#[tokio::test]
async fn a_second_plugin_is_found_before_the_first_one_goes() {
    let node = node(1);
    let mut watcher = Watcher::start(node.registry.clone());
    let mut first = node.plugin();
    let mut of_first = watcher.registered().await;
    assert_eq!(of_first.next_list().await, list(&[(0, true)]));
    let _second = node.plugin();
    let mut of_second = watcher.registered().await;
    assert_eq!(of_second.next_list().await, list(&[(0, true)]));
    assert_eq!(names(&node.registry).len(), 2, "both serve, so that nothing dips");
    assert!(first.terminate().await.success());
    assert!(of_first.list_ends().await, "its list ends without an empty one before");
    assert_eq!(names(&node.registry), [of_second.request.endpoint.as_str()]);
    assert!(of_second.allocate(allocate(&gpu(0).uuid)).await.is_ok());
}

#[tokio::test]
async fn a_refusal_is_told_and_another_socket_offered() {
    let node = node(1);
    let mut watcher = Watcher::start(node.registry.clone());
    let plugin = node.plugin();
    let refused = watcher.found().await.tell(false, "invalid name of device plugin").await;
    plugin.must_say("the kubelet refused us: invalid name of device plugin").await;
    let mut taken = watcher.registered().await;
    assert_ne!(taken.request.endpoint, refused.request.endpoint);
    assert_eq!(taken.next_list().await, list(&[(0, true)]));
}

#[tokio::test]
async fn a_kubelet_that_never_looks_is_called() {
    let node = node(1);
    let mut kubelet = Kubelet::start(node.sockets());
    let plugin = node.plugin();
    let mut device_plugin = kubelet.registered().await;
    assert_eq!(device_plugin.next_list().await, list(&[(0, true)]));
    plugin.becomes("/metrics", "plasma_device_plugin_registrations_total{way=\"classic\"} 1").await;
    assert!(names(&node.registry).is_empty(), "one way at a time");
}

#[tokio::test]
async fn what_no_socket_can_be_made_of_is_said() {
    let mut node = Node::new(1);
    let deep = "d".repeat(60);
    node.registry = node.folder().join(&deep).join(&deep);
    fs::create_dir_all(&node.registry).unwrap();
    let mut plugin = node.plugin();
    assert!(!plugin.ended().await.success(), "a setting that can't work is said at once");
    plugin.must_say("--plugins-registry-dir").await;
    plugin.must_say(&deep).await;
}
