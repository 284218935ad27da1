//! Shared GPUs: several containers have one at once, under a resource of its own.

use plasma_fake_nvml::Xid;
use plasma_proto::deviceplugin::{
    AllocateRequest, ContainerAllocateRequest, ContainerPreferredAllocationRequest,
    PreferredAllocationRequest,
};

use crate::{
    kubelet::{Kubelet, Registered},
    node_pods::{NodePod, NodePods},
    plugin::{Node, gpu},
};

fn id(index: usize, replica: u32) -> String {
    format!("{}::{replica}", gpu(index).uuid)
}

fn list(of: &[(usize, u32, bool)]) -> Vec<(String, bool)> {
    of.iter().map(|(index, replica, healthy)| (id(*index, *replica), *healthy)).collect()
}

fn allocate(ids: &[String]) -> AllocateRequest {
    AllocateRequest { container_requests: vec![ContainerAllocateRequest { devices_ids: ids.to_vec() }] }
}

async fn prefer(device_plugin: &mut Registered, available: &[String], size: i32) -> Vec<String> {
    let request = ContainerPreferredAllocationRequest {
        available_device_i_ds: available.to_vec(),
        must_include_device_i_ds: Vec::new(),
        allocation_size: size,
    };
    let asked = PreferredAllocationRequest { container_requests: vec![request] };
    device_plugin.prefer(asked).await.container_responses.remove(0).device_i_ds
}

#[tokio::test]
async fn shared_gpus_are_a_resource_of_their_own_and_a_fault_hits_every_share() {
    let node = Node::new(2);
    let mut kubelet = Kubelet::start(node.sockets());
    let plugin = node.plugin_with(&["--scan-seconds", "1", "--replicas", "2"]);
    let mut shares = kubelet.registered().await;
    assert_eq!(shares.request.resource_name, "nvidia.com/gpu.shared");
    let all = [(0, 0, true), (0, 1, true), (1, 0, true), (1, 1, true)];
    assert_eq!(shares.next_list().await, list(&all));
    plugin.becomes("/readyz", "ok").await;
    assert_eq!(node.plugin_sockets().len(), 1, "never both as a whole and in shares");

    let ids: Vec<String> = all.iter().map(|(index, replica, _)| id(*index, *replica)).collect();
    assert_eq!(prefer(&mut shares, &ids, 2).await, [id(0, 0), id(1, 0)], "two of one are no more than one");
    assert_eq!(prefer(&mut shares, &ids[1..], 1).await, [id(1, 0)], "the one that fewer others have");
    let granted = shares.allocate(allocate(&[id(1, 1), id(1, 0)])).await.unwrap();
    let devices: Vec<&str> =
        granted.container_responses[0].cdi_devices.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(devices, [format!("compute.plasma.dev/gpu={}", gpu(1).uuid)], "the GPU, once");

    node.change(|state| {
        state.gpus[1].recovery_action = Some(1);
        state.gpus[1].xids.push(Xid::OfGpu(79));
    });
    assert_eq!(shares.next_list().await, list(&[(0, 0, true), (0, 1, true), (1, 0, false), (1, 1, false)]));
    assert!(shares.allocate(allocate(&[id(1, 0)])).await.is_err());
}

#[tokio::test]
async fn a_gpu_that_a_pod_has_as_a_whole_is_offered_in_shares_once_that_is_over() {
    let node = Node::new(2);
    let pods = NodePods::start(&node, true);
    let pod = NodePod {
        uid: "u".to_owned(),
        name: "p".to_owned(),
        devices: vec![gpu(0).uuid],
        started: Some(1_000),
        finished: None,
    };
    pods.set(pod.clone());
    let mut kubelet = Kubelet::start(node.sockets());
    let plugin = node.plugin_with(&["--scan-seconds", "1", "--replicas", "2", "--dirty-gpus", "offer"]);
    let mut shares = kubelet.registered().await;
    let free = [(0, 0, false), (0, 1, false), (1, 0, true), (1, 1, true)];
    assert_eq!(shares.next_list().await, list(&free));
    let refused = shares.allocate(allocate(&[id(0, 1)])).await.unwrap_err();
    assert!(refused.message().contains("pod team/p has all of it"), "{}", refused.message());
    plugin.must_say(&format!("GPU {} is not given to pods: pod team/p has all of it", gpu(0).uuid)).await;
    pods.set(NodePod { finished: Some(1_050), ..pod });
    assert_eq!(shares.next_list().await, list(&free.map(|(index, replica, _)| (index, replica, true))));
    assert!(shares.allocate(allocate(&[id(0, 1)])).await.is_ok());
}

#[tokio::test]
async fn a_file_says_what_is_shared_and_how_many_a_container_gets() {
    let node = Node::new(1);
    let file = node.folder().join("config.yaml");
    let config = "version: v1\nsharing:\n  timeSlicing:\n    failRequestsGreaterThanOne: true\n    resources:\n    - {name: \
                  nvidia.com/gpu, replicas: 3}\n";
    std::fs::write(&file, config).unwrap();
    let mut kubelet = Kubelet::start(node.sockets());
    let _plugin = node.plugin_with(&["--scan-seconds", "1", "--config-file", file.to_str().unwrap()]);
    let mut shares = kubelet.registered().await;
    assert_eq!(shares.next_list().await, list(&[(0, 0, true), (0, 1, true), (0, 2, true)]));
    let refused = shares.allocate(allocate(&[id(0, 0), id(0, 1)])).await.unwrap_err();
    assert!(refused.message().contains("one share of a GPU"), "{}", refused.message());
    assert!(shares.allocate(allocate(&[id(0, 2)])).await.is_ok());
}

#[tokio::test]
async fn shares_are_never_offered_under_the_name_of_whole_gpus() {
    let node = Node::new(1);
    let file = node.folder().join("config.yaml");
    std::fs::write(&file, "{version: v1, sharing: {timeSlicing: {renameByDefault: false}}}").unwrap();
    let mut plugin = node.plugin_with(&["--config-file", file.to_str().unwrap()]);
    assert!(!plugin.ended().await.success());
    plugin.must_say("renameByDefault: false would offer shares under the name of whole GPUs").await;
}
