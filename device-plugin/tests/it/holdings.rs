//! Who holds which GPU, as the kubelet's sockets tell.

use std::time::{Duration, Instant};

use crate::{
    kubelet::PATIENCE,
    node_pods::{NodePod, NodePods},
    plugin::{Node, gpu},
};

fn pod(uid: &str, name: &str, device: usize) -> NodePod {
    NodePod {
        uid: uid.to_owned(),
        name: name.to_owned(),
        devices: vec![gpu(device).uuid],
        started: Some(1_000),
        finished: None,
    }
}

#[tokio::test]
async fn a_name_that_is_used_again_is_another_pod() {
    let node = Node::new(2);
    let pods = NodePods::start(&node, false);
    pods.set(pod("first", "web-0", 0));
    let plugin = node.plugin_with(&["--observe"]);
    plugin.must_say(&format!("{} is held by pod team/web-0 (first)", gpu(0).uuid)).await;
    pods.end_silently("first", 1_050);
    pods.remove("first");
    pods.set(pod("second", "web-0", 1));
    plugin.must_say(&format!("{} is held by pod team/web-0 (second)", gpu(1).uuid)).await;
    assert!(!plugin.said(&format!("{} is held by pod team/web-0 (first)", gpu(1).uuid)));
}

#[tokio::test]
async fn a_kubelet_that_comes_later_or_starts_again_is_followed() {
    let node = Node::new(1);
    let plugin = node.plugin_with(&["--observe"]);
    plugin.must_say("the kubelet has no Pods API").await;
    let pods = NodePods::start(&node, true);
    pods.set(pod("u", "p", 0));
    plugin.must_say(&format!("{} is held by pod team/p (u)", gpu(0).uuid)).await;
    let there_are = pods.pods();
    drop(pods);
    plugin.must_say("must be asked for anew").await;
    let pods = NodePods::start_with(&node, true, there_are);
    pods.end_silently("u", 1_050);
    pods.set(pod("v", "p", 0));
    plugin.must_say(&format!("{} is held by pod team/p (v)", gpu(0).uuid)).await;
}

#[tokio::test]
async fn a_kubelet_that_hangs_with_its_sockets_open_is_noticed_and_followed_again() {
    let node = Node::new(1);
    let pods = NodePods::start(&node, true);
    pods.set(pod("u", "p", 0));
    let plugin = node.plugin_with(&["--observe"]);
    plugin.becomes("/metrics", "pod_uid=\"u\"").await;
    pods.hang(true);
    plugin.must_say("the kubelet's Pods API hasn't answered for 10s").await;
    let begun = Instant::now();
    while plugin.get("/metrics").await.1.contains("pod_uid=\"u\"") {
        assert!(begun.elapsed() < PATIENCE, "nobody knows any more who holds it");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    pods.hang(false);
    plugin.becomes("/metrics", "pod_uid=\"u\"").await;
}

#[tokio::test]
async fn a_kubelet_that_takes_its_time_is_waited_for() {
    let node = Node::new(2);
    let pods = NodePods::start(&node, true);
    pods.set(pod("u", "p", 0));
    let plugin = node.plugin_with(&["--observe"]);
    plugin.must_say(&format!("{} is held by pod team/p (u)", gpu(0).uuid)).await;
    pods.answer_after(Duration::from_millis(2_500));
    pods.end_silently("u", 1_050);
    pods.set(pod("v", "q", 1));
    plugin.must_say(&format!("{} is held by pod team/q (v)", gpu(1).uuid)).await;
}
