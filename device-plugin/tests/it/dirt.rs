//! Dirty GPUs, which somebody uses although no pod holds them, aren't given to pods.

use std::time::{Duration, Instant};

use plasma_fake_nvml::{Instance, Process};

use crate::{
    allocate,
    kubelet::{Kubelet, list},
    node_pods::{NodePod, NodePods},
    plugin::{Node, gpu},
};

const QUICK: [&str; 4] = ["--scan-seconds", "1", "--dirty-after-seconds", "1"];

fn occupy(node: &Node) {
    node.change(|state| {
        state.gpus[0].processes = vec![Process { pid: 123, memory_mib: 500, graphics: false }];
        state.gpus[0].memory_used_mib = 512;
    });
}

fn leave(node: &Node, memory_used_mib: u64) {
    node.change(|state| {
        state.gpus[0].processes.clear();
        state.gpus[0].memory_used_mib = memory_used_mib;
    });
}

/// A pod that has the first GPU.
pub(crate) fn running() -> NodePod {
    NodePod {
        uid: "u".to_owned(),
        name: "p".to_owned(),
        devices: vec![gpu(0).uuid],
        started: Some(1_000),
        finished: None,
    }
}

#[tokio::test]
async fn a_gpu_that_a_stranger_uses_is_not_offered_until_it_is_clean() {
    let node = Node::new(2);
    let _pods = NodePods::start(&node, true);
    let mut kubelet = Kubelet::start(node.sockets());
    let plugin = node.plugin_with(&QUICK);
    let mut device_plugin = kubelet.registered().await;
    assert_eq!(device_plugin.next_list().await, list(&[(0, true), (1, true)]));
    occupy(&node);
    assert_eq!(device_plugin.next_list().await, list(&[(0, false), (1, true)]));
    let refused = device_plugin.allocate(allocate(&gpu(0).uuid)).await.unwrap_err();
    let why = "process 123 runs on it, 512 MiB of its memory are in use, and no pod holds it";
    assert!(refused.message().contains(why), "{}", refused.message());
    plugin.must_say(&format!("GPU {} is not given to pods: {why}", gpu(0).uuid)).await;
    // The program is gone, and its memory isn't.
    leave(&node, 400);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(device_plugin.allocate(allocate(&gpu(0).uuid)).await.is_err());
    leave(&node, 5);
    assert_eq!(device_plugin.next_list().await, list(&[(0, true), (1, true)]));
}

#[tokio::test]
async fn a_pod_may_use_its_gpu_and_what_it_leaves_behind_keeps_the_next_one_away() {
    let node = Node::new(1);
    let pods = NodePods::start(&node, true);
    let pod = running();
    pods.set(pod.clone());
    occupy(&node);
    let mut kubelet = Kubelet::start(node.sockets());
    let plugin = node.plugin_with(&QUICK);
    let mut device_plugin = kubelet.registered().await;
    plugin.must_say("is held by pod team/p").await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!plugin.said("is not given to pods"), "it is its pod's");
    pods.set(NodePod { finished: Some(1_050), ..pod });
    device_plugin.becomes_list(list(&[(0, false)])).await;
    leave(&node, 0);
    assert_eq!(device_plugin.next_list().await, list(&[(0, true)]));
}

#[tokio::test]
async fn a_gpu_that_is_in_use_when_the_plugin_starts_is_never_offered() {
    let node = Node::new(2);
    let _pods = NodePods::start(&node, true);
    occupy(&node);
    let mut kubelet = Kubelet::start(node.sockets());
    let _plugin = node.plugin_with(&["--scan-seconds", "1"]);
    let mut device_plugin = kubelet.registered().await;
    assert_eq!(device_plugin.next_list().await, list(&[(0, false), (1, true)]));
}

#[tokio::test]
async fn what_an_init_container_alone_has_is_not_dirty_while_it_runs() {
    let node = Node::new(2);
    let pods = NodePods::start(&node, true);
    pods.set_init("u", true);
    occupy(&node);
    let mut kubelet = Kubelet::start(node.sockets());
    let plugin = node.plugin_with(&QUICK);
    let mut device_plugin = kubelet.registered().await;
    assert_eq!(device_plugin.next_list().await, list(&[(0, false), (1, true)]), "nor is it given to others");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!plugin.said("is not given to pods"), "{}", plugin.log());
    leave(&node, 0);
    assert_eq!(device_plugin.next_list().await, list(&[(0, true), (1, true)]));
    // It begins anew on a GPU that was free.
    occupy(&node);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!plugin.said("is not given to pods"), "{}", plugin.log());
    pods.set_init("u", false);
    device_plugin.becomes_list(list(&[(0, false), (1, true)])).await;
    plugin.must_say("is not given to pods").await;
}

#[tokio::test]
async fn a_query_that_fails_gives_no_dirty_gpu_out() {
    let node = Node::new(1);
    let _pods = NodePods::start(&node, true);
    occupy(&node);
    let mut kubelet = Kubelet::start(node.sockets());
    let plugin = node.plugin_with(&QUICK);
    let mut device_plugin = kubelet.registered().await;
    assert_eq!(device_plugin.next_list().await, list(&[(0, false)]));
    node.change(|state| {
        state.errors.insert("nvmlDeviceGetHandleByUUID".to_owned(), 999);
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!plugin.said("no longer dirty"));
    assert!(device_plugin.allocate(allocate(&gpu(0).uuid)).await.is_err());
}

#[tokio::test]
async fn whose_pod_has_ended_is_kept_from_the_next_one_until_somebody_has_looked() {
    let node = Node::new(1);
    let pods = NodePods::start(&node, true);
    let pod = running();
    pods.set(pod.clone());
    occupy(&node);
    let mut kubelet = Kubelet::start(node.sockets());
    // No look would come by itself.
    let plugin = node.plugin_with(&["--scan-seconds", "60"]);
    let mut device_plugin = kubelet.registered().await;
    assert_eq!(device_plugin.next_list().await, list(&[(0, true)]));
    plugin.must_say("is held by pod team/p").await;
    leave(&node, 0);
    let ended = Instant::now();
    pods.set(NodePod { finished: Some(1_050), ..pod });
    assert_eq!(device_plugin.next_list().await, list(&[(0, false)]));
    assert_eq!(device_plugin.next_list().await, list(&[(0, true)]));
    assert!(ended.elapsed() < Duration::from_secs(20), "a look comes at once: {:?}", ended.elapsed());
    assert!(!plugin.said("is not given to pods"), "it is no fault");
}

#[tokio::test]
async fn a_part_of_a_gpu_is_judged_by_itself() {
    let node = Node::new(1);
    let part = |number: u32, memory_used_mib| Instance {
        uuid: format!("MIG-00000000-0000-0000-0000-{number:012}"),
        profile: "3g.40gb".to_owned(),
        gpu_instance: number,
        memory_mib: 40_448,
        memory_used_mib,
        ..Instance::default()
    };
    node.change(|state| {
        state.gpus[0].mig = Some(true);
        state.gpus[0].memory_used_mib = 900;
        state.gpus[0].instances = vec![part(1, 12), part(2, 12)];
    });
    let _pods = NodePods::start(&node, true);
    let mut kubelet = Kubelet::start(node.sockets());
    let _plugin = node.plugin_with(&[QUICK.as_slice(), &["--mig-strategy", "single"]].concat());
    let mut device_plugin = kubelet.registered().await;
    let list = |dirty: bool| vec![(part(1, 0).uuid, true), (part(2, 0).uuid, !dirty)];
    assert_eq!(device_plugin.next_list().await, list(false));
    node.change(|state| state.gpus[0].instances = vec![part(1, 12), part(2, 700)]);
    assert_eq!(device_plugin.next_list().await, list(true));
    node.change(|state| state.gpus[0].instances = vec![part(1, 12), part(2, 12)]);
    assert_eq!(device_plugin.next_list().await, list(false));
}

#[tokio::test]
async fn where_nobody_knows_who_holds_what_or_it_is_not_wanted_nothing_is_withheld() {
    let unknown = Node::new(1);
    let unwanted = Node::new(1);
    let _pods = NodePods::start(&unwanted, true);
    let offer = [QUICK[0], QUICK[1], QUICK[2], QUICK[3], "--dirty-gpus", "offer"];
    for (node, arguments) in [(&unknown, QUICK.as_slice()), (&unwanted, offer.as_slice())] {
        occupy(node);
        let mut kubelet = Kubelet::start(node.sockets());
        let plugin = node.plugin_with(arguments);
        let mut device_plugin = kubelet.registered().await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(device_plugin.allocate(allocate(&gpu(0).uuid)).await.is_ok());
        assert!(!plugin.said("is not given to pods"));
    }
}
