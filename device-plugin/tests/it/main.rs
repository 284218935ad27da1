//! The program as it is shipped, against a kubelet's registration service and the stand-in for NVML.
//!
//! Everything goes over real sockets and the real FFI; only the kubelet and the driver are pretended.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "that is how a test fails")]

mod beside;
mod dirt;
mod driver_ages;
mod handover;
mod health;
mod holdings;
mod inspect;
mod kubelet;
mod limits;
mod meter;
mod metrics;
mod mig;
mod node_pods;
mod plugin;
mod questions;
mod settings;
mod settlement;
mod sharing;
mod upgrade;
mod watcher;

use std::time::{Duration, Instant};

use kubelet::{Kubelet, list};
use plasma_fake_nvml::{Near, State};
use plasma_proto::deviceplugin::{
    AllocateRequest, AllocateResponse, ContainerAllocateRequest, ContainerPreferredAllocationRequest,
    PreferredAllocationRequest,
};
use plugin::{Node, gpu};
use tonic::Code;

fn allocate(id: &str) -> AllocateRequest {
    let request = ContainerAllocateRequest { devices_ids: vec![id.to_owned()] };
    AllocateRequest { container_requests: vec![request] }
}

#[tokio::test]
async fn every_gpu_is_registered_offered_and_handed_out() {
    let node = Node::new(2);
    let mut kubelet = Kubelet::start(node.sockets());
    let plugin = node.plugin();
    let mut device_plugin = kubelet.registered().await;
    assert_eq!(device_plugin.request.resource_name, "nvidia.com/gpu");
    assert_eq!(device_plugin.request.version, "v1beta1");
    let options = device_plugin.options().await;
    assert_eq!(Some(options), device_plugin.request.options, "the kubelet believes only what is said twice");
    assert_eq!(device_plugin.next_list().await, list(&[(0, true), (1, true)]));

    let AllocateResponse { container_responses } =
        device_plugin.allocate(allocate(&gpu(1).uuid)).await.unwrap();
    let [response] = &container_responses[..] else { panic!("one container, one response") };
    let names: Vec<&str> = response.cdi_devices.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(names, [format!("compute.plasma.dev/gpu={}", gpu(1).uuid)]);
    assert!(response.devices.is_empty() && response.envs.is_empty() && response.mounts.is_empty());
    assert_eq!(response.annotations["compute.plasma.dev/simulated"], "true");
    let refused = device_plugin.allocate(allocate("GPU-of-another-node")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("GPU-of-another-node"), "{}", refused.message());

    let metrics = plugin.get("/metrics").await.1;
    for line in [
        "plasma_device_plugin_registered 1",
        "plasma_device_plugin_allocations_total{outcome=\"granted\"} 1",
        "plasma_device_plugin_allocations_total{outcome=\"refused\"} 1",
        "plasma_nvml_up 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in {metrics}");
    }
    let healthy =
        metrics.lines().filter(|line| line.starts_with("plasma_gpu_healthy{") && line.ends_with(" 1"));
    assert_eq!(healthy.filter(|line| line.contains("simulated=\"true\"")).count(), 2, "{metrics}");
    assert_eq!(plugin.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn gpus_of_one_numa_node_are_preferred() {
    let node = Node::new(4);
    node.change(|state| {
        for (gpu, numa) in state.gpus.iter_mut().zip([0, 1, 0, 1]) {
            gpu.numa_node = Some(numa);
        }
    });
    let mut kubelet = Kubelet::start(node.sockets());
    let _plugin = node.plugin();
    let mut device_plugin = kubelet.registered().await;
    let offered = device_plugin.devices().await;
    let numa_of: Vec<_> = offered.iter().map(|device| device.topology.clone().unwrap().nodes[0].id).collect();
    assert_eq!(numa_of, [0, 1, 0, 1]);
    let request = ContainerPreferredAllocationRequest {
        available_device_i_ds: (0..4).map(|index| gpu(index).uuid).collect(),
        must_include_device_i_ds: vec![gpu(3).uuid],
        allocation_size: 2,
    };
    let preferred =
        device_plugin.prefer(PreferredAllocationRequest { container_requests: vec![request] }).await;
    assert_eq!(preferred.container_responses[0].device_i_ds, [gpu(3).uuid, gpu(1).uuid]);
}

#[tokio::test]
async fn gpus_that_are_joined_are_preferred_by_nvlink_switch_and_pcie() {
    let node = Node::new(8);
    node.change(|state| {
        // 0 and 5 by two links; 2, 3 and 4 by a switch; 6 and 7 by PCIe alone.
        state.gpus[0].nvlinks = vec![gpu(5).uuid, gpu(5).uuid];
        state.gpus[5].nvlinks = vec![gpu(0).uuid, gpu(0).uuid];
        for index in 2..5 {
            state.gpus[index].nvlinks = vec!["switch".to_owned(); 4];
        }
        state.near = vec![Near { gpus: [6, 7], level: 10 }];
    });
    let mut kubelet = Kubelet::start(node.sockets());
    let _plugin = node.plugin();
    let mut device_plugin = kubelet.registered().await;
    assert_eq!(device_plugin.devices().await.len(), 8);
    for (of, size, expected) in [
        (vec![0, 1, 5, 6, 7], 2, vec![0, 5]),
        (vec![0, 1, 2, 3, 4, 5], 3, vec![2, 3, 4]),
        (vec![0, 2, 5, 3, 4], 2, vec![2, 3]),
        (vec![1, 6, 7], 2, vec![6, 7]),
    ] {
        let request = ContainerPreferredAllocationRequest {
            available_device_i_ds: of.iter().map(|index| gpu(*index).uuid).collect(),
            must_include_device_i_ds: Vec::new(),
            allocation_size: size,
        };
        let asked = PreferredAllocationRequest { container_requests: vec![request] };
        let preferred = &device_plugin.prefer(asked).await.container_responses[0].device_i_ds;
        let expected: Vec<String> = expected.into_iter().map(|index| gpu(index).uuid).collect();
        assert_eq!(*preferred, expected, "{size} of {of:?}");
    }
}

#[tokio::test]
async fn a_restarted_kubelet_is_registered_with_again_under_a_fresh_name() {
    let node = Node::new(1);
    let mut kubelet = Kubelet::start(node.sockets());
    let plugin = node.plugin();
    let first = kubelet.registered().await;
    kubelet.stop().await;
    let mut kubelet = Kubelet::start(node.sockets());
    let mut second = kubelet.registered().await;
    assert_ne!(first.request.endpoint, second.request.endpoint);
    assert_eq!(second.next_list().await, list(&[(0, true)]));
    assert!(second.allocate(allocate(&gpu(0).uuid)).await.is_ok());
    assert_eq!(node.plugin_sockets(), [second.request.endpoint.as_str()]);
    assert_eq!(plugin.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn a_kubelet_that_restarts_and_leaves_our_socket_is_registered_with_again() {
    let node = Node::new(1);
    let mut kubelet = Kubelet::start(node.sockets());
    let _plugin = node.plugin();
    let mut first = kubelet.registered().await;
    // This stream stays open: only the kubelet's socket tells that it is another one.
    assert_eq!(first.next_list().await, list(&[(0, true)]));
    kubelet.stop().await;
    let mut kubelet = Kubelet::start_without_tidying(node.sockets());
    let mut second = kubelet.registered().await;
    assert_ne!(first.request.endpoint, second.request.endpoint);
    assert_eq!(second.next_list().await, list(&[(0, true)]));
}

#[tokio::test]
async fn a_kubelet_that_no_longer_listens_is_registered_with_again() {
    let node = Node::new(1);
    let mut kubelet = Kubelet::start(node.sockets());
    let _plugin = node.plugin();
    let first = kubelet.registered().await;
    // Nobody ever opens the list of the first registration.
    let mut second = kubelet.registered().await;
    assert_ne!(first.request.endpoint, second.request.endpoint);
    assert_eq!(second.next_list().await, list(&[(0, true)]));
}

#[tokio::test]
async fn while_nvml_hangs_the_kubelet_is_answered_at_once_and_nothing_is_offered() {
    let node = Node::new(1);
    let mut kubelet = Kubelet::start(node.sockets());
    let plugin = node.plugin();
    let mut device_plugin = kubelet.registered().await;
    assert_eq!(device_plugin.next_list().await, list(&[(0, true)]));
    node.change(|state| {
        state.hang.insert("nvmlDeviceGetCount_v2".to_owned());
    });
    assert_eq!(device_plugin.next_list().await, list(&[(0, false)]));
    let asked = Instant::now();
    let refused = device_plugin.allocate(allocate(&gpu(0).uuid)).await.unwrap_err();
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert!(refused.message().contains("NVML has not answered"), "{}", refused.message());
    assert!(plugin.get("/metrics").await.1.contains("plasma_nvml_up 0"));
    node.change(|state| state.hang.clear());
    assert_eq!(device_plugin.next_list().await, list(&[(0, true)]));
}

#[tokio::test]
async fn a_driver_that_is_reloaded_is_loaded_again() {
    let node = Node::new(1);
    let mut kubelet = Kubelet::start(node.sockets());
    let _plugin = node.plugin();
    let mut device_plugin = kubelet.registered().await;
    assert_eq!(device_plugin.next_list().await, list(&[(0, true)]));
    node.change(|state| state.driver_error = Some(9));
    assert_eq!(device_plugin.next_list().await, list(&[(0, false)]));
    node.change(|state| {
        state.driver_error = None;
        state.driver_epoch += 1;
        state.gpus.push(gpu(1));
    });
    device_plugin.becomes_list(list(&[(0, true), (1, true)])).await;
}

#[tokio::test]
async fn one_gpu_whose_calls_fail_leaves_the_others_alone() {
    let node = Node::new(2);
    node.change(|state| {
        state.gpus[0].errors.insert("nvmlDeviceGetUUID".to_owned(), 999);
    });
    let mut kubelet = Kubelet::start(node.sockets());
    let _plugin = node.plugin();
    let mut device_plugin = kubelet.registered().await;
    assert_eq!(
        device_plugin.next_list().await,
        list(&[(1, true)]),
        "who never told its UUID can't be offered"
    );
    node.change(|state| state.gpus[0].errors.clear());
    device_plugin.becomes_list(list(&[(0, true), (1, true)])).await;
    node.change(|state| {
        state.gpus[0].errors.insert("nvmlDeviceGetMemoryInfo_v2".to_owned(), 999);
    });
    assert_eq!(device_plugin.next_list().await, list(&[(0, false), (1, true)]));
}

#[tokio::test]
async fn without_a_library_it_stays_up_and_registers_when_there_is_one() {
    let mut node = Node::new(1);
    let library = node.folder().join("libnvidia-ml.so.1");
    let real = std::mem::replace(&mut node.library, library.clone());
    let mut kubelet = Kubelet::start(node.sockets());
    let plugin = node.plugin();
    plugin.must_say("can't be used").await;
    assert_eq!(plugin.get("/healthz").await.0, 200);
    assert_eq!(plugin.get("/readyz").await, (503, "not ready: kubelet\n".to_owned()));
    assert!(plugin.get("/metrics").await.1.contains("plasma_nvml_up 0"));
    assert!(node.plugin_sockets().is_empty(), "an empty list would take away what the kubelet remembers");
    std::fs::copy(real, library).unwrap();
    assert_eq!(kubelet.registered().await.next_list().await, list(&[(0, true)]));
}

#[tokio::test]
async fn a_second_plugin_takes_over_and_tidies_up() {
    let node = Node::new(1);
    let mut kubelet = Kubelet::start(node.sockets());
    let mut first = node.plugin();
    let mut of_first = kubelet.registered().await;
    assert_eq!(of_first.next_list().await, list(&[(0, true)]));

    let mut second = node.plugin();
    let mut of_second = kubelet.registered().await;
    assert_eq!(of_second.next_list().await, list(&[(0, true)]));
    assert_eq!(node.plugin_sockets().len(), 2, "both serve, so that nothing dips");
    assert!(first.terminate().await.success());
    assert!(of_first.list_ends().await, "its list ends without an empty one before");
    assert_eq!(node.plugin_sockets(), [of_second.request.endpoint.as_str()]);
    assert!(of_second.allocate(allocate(&gpu(0).uuid)).await.is_ok());

    second.kill();
    assert_eq!(
        node.plugin_sockets(),
        [of_second.request.endpoint.as_str()],
        "who is killed leaves its socket"
    );
    let _third = node.plugin();
    let of_third = kubelet.registered().await;
    assert_eq!(node.plugin_sockets(), [of_third.request.endpoint.as_str()]);
}

#[test]
fn a_state_file_needs_little() {
    let text =
        r#"{"driverVersion": "580.95.05", "gpus": [{"uuid": "GPU-0", "name": "H100", "memoryMib": 1}]}"#;
    assert_eq!(serde_json::from_str::<State>(text).unwrap().gpus.len(), 1);
}
