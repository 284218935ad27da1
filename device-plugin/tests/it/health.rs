//! GPUs that fail, and come back: what the kubelet is told of it.

use std::time::Duration;

use plasma_fake_nvml::Xid;
use tonic::Code;

use crate::{
    allocate,
    kubelet::{Kubelet, list},
    plugin::{Node, gpu},
};

#[tokio::test]
async fn a_gpu_whose_events_fail_is_looked_at_no_more_often_and_that_is_said_once() {
    for is_lost in [true, false] {
        let node = Node::new(1);
        let mut kubelet = Kubelet::start(node.sockets());
        let plugin = node.plugin();
        let mut device_plugin = kubelet.registered().await;
        assert_eq!(device_plugin.next_list().await, list(&[(0, true)]));
        node.change(|state| {
            state.gpus[0].xids.push(Xid::OfGpu(79));
            state.gpus[0].lost = is_lost;
            state.gpus[0].errors.insert("nvmlEventSetWait_v2".to_owned(), 999);
        });
        assert_eq!(device_plugin.next_list().await, list(&[(0, false)]));
        let looks = async || {
            let page = plugin.get("/metrics").await.1;
            let of = |line: &str| {
                line.strip_prefix("plasma_device_plugin_looks_total{")?.split(' ').nth(1)?.parse::<u64>().ok()
            };
            page.lines().filter_map(of).sum::<u64>()
        };
        let before = looks().await;
        assert!(before > 0);
        tokio::time::sleep(Duration::from_secs(7)).await;
        let more = looks().await - before;
        assert!((2..40).contains(&more), "{more} looks in 7 s, lost: {is_lost}");
        assert_eq!(plugin.times_said("events can't be had"), 1, "lost: {is_lost}");
    }
}

#[tokio::test]
async fn a_lost_gpu_is_taken_out_and_comes_back() {
    let node = Node::new(2);
    let mut kubelet = Kubelet::start(node.sockets());
    let _plugin = node.plugin();
    let mut device_plugin = kubelet.registered().await;
    assert_eq!(device_plugin.next_list().await, list(&[(0, true), (1, true)]));
    node.change(|state| state.gpus[1].lost = true);
    assert_eq!(device_plugin.next_list().await, list(&[(0, true), (1, false)]));
    let refused = device_plugin.allocate(allocate(&gpu(1).uuid)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(device_plugin.allocate(allocate(&gpu(0).uuid)).await.is_ok(), "the other GPU is none the worse");
    node.change(|state| state.gpus[1].lost = false);
    assert_eq!(device_plugin.next_list().await, list(&[(0, true), (1, true)]));
}

#[tokio::test]
async fn an_xid_takes_a_gpu_out_until_the_driver_needs_nothing() {
    let node = Node::new(2);
    // One from before this plugin: history.
    node.change(|state| state.gpus[0].xids.push(Xid::OfGpu(79)));
    let mut kubelet = Kubelet::start(node.sockets());
    let plugin = node.plugin();
    let mut device_plugin = kubelet.registered().await;
    assert_eq!(device_plugin.next_list().await, list(&[(0, true), (1, true)]));
    // 13 is the application's fault: no list may tell of it.
    node.change(|state| state.gpus[1].xids.push(Xid::OfGpu(13)));
    node.change(|state| {
        state.gpus[0].xids.push(Xid::OfGpu(48));
        state.gpus[0].recovery_action = Some(1);
    });
    assert_eq!(device_plugin.next_list().await, list(&[(0, false), (1, true)]));
    plugin.must_say("is unhealthy: XID 48").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let refused = device_plugin.allocate(allocate(&gpu(0).uuid)).await.unwrap_err();
    assert!(refused.message().contains("XID 48"), "answering is not being well: {}", refused.message());
    node.change(|state| state.gpus[0].recovery_action = Some(0));
    assert_eq!(device_plugin.next_list().await, list(&[(0, true), (1, true)]));
}

#[tokio::test]
async fn a_part_that_an_xid_hits_and_worn_memory_are_told_as_what_they_are() {
    let node = Node::new(2);
    let mut kubelet = Kubelet::start(node.sockets());
    let plugin = node.plugin();
    let mut device_plugin = kubelet.registered().await;
    assert_eq!(device_plugin.next_list().await, list(&[(0, true), (1, true)]));
    node.change(|state| {
        state.gpus[0].recovery_action = Some(0);
        state.gpus[0].xids.push(Xid::OfInstance { xid: 94, gpu_instance: 7, compute_instance: 0 });
        state.gpus[1].remapping_pending = Some(true);
    });
    assert_eq!(device_plugin.next_list().await, list(&[(0, false), (1, true)]));
    plugin.must_say("is unhealthy: XID 94 (contained memory error) in GPU instance 7").await;
    plugin.must_say("may be failing: a memory row is remapped at the next reset").await;
    // The driver needs nothing: it is back, by itself.
    assert_eq!(device_plugin.next_list().await, list(&[(0, true), (1, true)]));
    node.change(|state| state.gpus[1].remapping_failed = Some(true));
    assert_eq!(device_plugin.next_list().await, list(&[(0, true), (1, false)]));
}

#[tokio::test]
async fn an_xid_is_acted_on_before_the_next_look_is_due() {
    let node = Node::new(1);
    let mut kubelet = Kubelet::start(node.sockets());
    let _plugin = node.plugin_with(&["--scan-seconds", "300"]);
    let mut device_plugin = kubelet.registered().await;
    assert_eq!(device_plugin.next_list().await, list(&[(0, true)]));
    node.change(|state| {
        state.gpus[0].xids.push(Xid::OfGpu(79));
        state.gpus[0].recovery_action = Some(1);
    });
    assert_eq!(device_plugin.next_list().await, list(&[(0, false)]));
    node.change(|state| state.gpus[0].recovery_action = Some(0));
    assert_eq!(device_plugin.next_list().await, list(&[(0, true)]));
}

#[tokio::test]
async fn an_administrator_may_know_better_what_an_xid_means() {
    let node = Node::new(1);
    let file = node.folder().join("health.yaml");
    std::fs::write(&file, "xids: { 79: ignore, 13: unhealthy }").unwrap();
    let mut kubelet = Kubelet::start(node.sockets());
    let _plugin = node.plugin_with(&["--scan-seconds", "1", "--health-config", file.to_str().unwrap()]);
    let mut device_plugin = kubelet.registered().await;
    assert_eq!(device_plugin.next_list().await, list(&[(0, true)]));
    node.change(|state| state.gpus[0].xids.push(Xid::OfGpu(79)));
    node.change(|state| state.gpus[0].xids.push(Xid::OfGpu(13)));
    assert_eq!(device_plugin.next_list().await, list(&[(0, false)]));
    let refused = device_plugin.allocate(allocate(&gpu(0).uuid)).await.unwrap_err();
    assert!(refused.message().contains("XID 13"), "not of 79: {}", refused.message());
}
