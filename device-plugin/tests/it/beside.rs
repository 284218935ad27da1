//! Beside another vendor's plugin.

use std::{fs, time::Duration};

use plasma_fake_nvml::Xid;
use tokio::net::UnixListener;

use crate::{
    kubelet::{Kubelet, list},
    plugin::Node,
};

#[tokio::test]
async fn gpus_that_another_plugin_offers_are_not_offered_twice() {
    let node = Node::new(1);
    let mut kubelet = Kubelet::start(node.sockets());
    let theirs = node.sockets().join("nvidia-gpu.sock");
    let serves = UnixListener::bind(&theirs).unwrap();
    let plugin = node.plugin();
    plugin.must_say("remove that plugin, or run this one with --observe").await;
    assert_eq!(plugin.get("/readyz").await.0, 503);
    // It was removed, and left its socket behind.
    drop(serves);
    assert_eq!(kubelet.registered().await.next_list().await, list(&[(0, true)]));
    fs::remove_file(theirs).unwrap();
}

#[tokio::test]
async fn another_name_for_the_same_gpus_is_no_way_round() {
    let node = Node::new(1);
    let _kubelet = Kubelet::start(node.sockets());
    let _theirs = UnixListener::bind(node.sockets().join("nvidia-gpu.sock")).unwrap();
    let plugin = node.plugin_with(&["--resource-name", "example.com/gpu"]);
    plugin.must_say("example.com/gpu is not registered with the kubelet").await;
    plugin.must_say("remove that plugin, or run this one with --observe").await;
    assert_eq!(node.plugin_sockets(), ["nvidia-gpu.sock"], "no socket of ours");
}

#[tokio::test]
async fn a_plugin_that_comes_later_is_given_way_to_until_it_goes() {
    let node = Node::new(1);
    let mut kubelet = Kubelet::start(node.sockets());
    let plugin = node.plugin();
    assert_eq!(kubelet.registered().await.next_list().await, list(&[(0, true)]));
    plugin.becomes("/readyz", "ok").await;
    let theirs = UnixListener::bind(node.sockets().join("nvidia-gpu.sock")).unwrap();
    plugin.must_say("nvidia.com/gpu is withdrawn from the kubelet").await;
    plugin.becomes("/metrics", "plasma_device_plugin_registered 0").await;
    assert_eq!(node.plugin_sockets(), ["nvidia-gpu.sock"], "no socket of ours");
    drop(theirs);
    assert_eq!(kubelet.registered().await.next_list().await, list(&[(0, true)]));
}

#[tokio::test]
async fn who_observes_sees_everything_and_registers_nothing() {
    let node = Node::new(2);
    let _kubelet = Kubelet::start(node.sockets());
    let _theirs = UnixListener::bind(node.sockets().join("nvidia-gpu.sock")).unwrap();
    let plugin = node.plugin_with(&["--observe", "--scan-seconds", "1"]);
    plugin.becomes("/readyz", "ok").await;
    plugin.must_say("is found").await;
    node.change(|state| {
        state.gpus[0].xids.push(Xid::OfGpu(79));
        state.gpus[0].recovery_action = Some(1);
    });
    plugin.must_say("is unhealthy: XID 79").await;
    plugin.becomes("/metrics", "plasma_nvml_up 1").await;
    // The alert about a plugin without a registration begins with this metric: here nothing is to be registered.
    assert!(!plugin.get("/metrics").await.1.contains("plasma_device_plugin_registered"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(node.plugin_sockets(), ["nvidia-gpu.sock"], "no socket of ours");
}
