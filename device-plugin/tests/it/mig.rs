//! Divided GPUs: which resources they are, and what happens when they are divided in another way.

use std::time::Duration;

use plasma_fake_nvml::{Instance, Xid};

use crate::{
    allocate,
    kubelet::{Kubelet, Registered},
    plugin::{Node, gpu},
};

/// One instance of a GPU.
fn instance(gpu: usize, number: u32, profile: &str) -> Instance {
    Instance {
        uuid: format!("MIG-00000000-0000-0000-{gpu:04}-{number:012}"),
        profile: profile.to_owned(),
        gpu_instance: number,
        memory_mib: 9984,
        slices: [1, 1],
        ..Instance::default()
    }
}

/// Divides a GPU into these profiles; the first is GPU instance 7.
fn divide(node: &Node, index: usize, profiles: &[&str]) {
    node.change(|state| {
        let gpu = &mut state.gpus[index];
        gpu.mig = Some(true);
        gpu.recovery_action = Some(0);
        gpu.instances =
            (7..).zip(profiles).map(|(number, profile)| instance(index, number, profile)).collect();
    });
}

fn node(gpus: usize) -> Node {
    let node = Node::new(gpus);
    node.change(|state| state.gpus.iter_mut().for_each(|gpu| gpu.mig = Some(false)));
    node
}

/// The ids of a list, and whether each is healthy.
async fn ids(device_plugin: &mut Registered) -> Vec<(String, bool)> {
    device_plugin.next_list().await
}

fn list(of: &[(&str, bool)]) -> Vec<(String, bool)> {
    of.iter().map(|(id, healthy)| ((*id).to_owned(), *healthy)).collect()
}

/// So many plugins register; by their resources' names.
async fn registered(kubelet: &mut Kubelet, resources: &[&str]) -> Vec<Registered> {
    let mut all = Vec::new();
    for _ in resources {
        all.push(kubelet.registered().await);
    }
    all.sort_by(|one, other| one.request.resource_name.cmp(&other.request.resource_name));
    assert_eq!(all.iter().map(|one| one.request.resource_name.as_str()).collect::<Vec<_>>(), resources);
    all
}

#[tokio::test]
async fn without_a_strategy_a_divided_gpu_is_counted_and_given_to_nobody() {
    let node = node(2);
    divide(&node, 1, &["3g.40gb"]);
    let mut kubelet = Kubelet::start(node.sockets());
    let plugin = node.plugin();
    let mut device_plugin = kubelet.registered().await;
    assert_eq!(device_plugin.next_list().await, crate::kubelet::list(&[(0, true), (1, false)]));
    plugin.must_say("it is in MIG mode, in which no program can use it as a whole").await;
    let refused = device_plugin.allocate(allocate(&gpu(1).uuid)).await.unwrap_err();
    assert!(refused.message().contains("MIG mode"), "{}", refused.message());
}

#[tokio::test]
async fn where_all_are_divided_alike_an_instance_counts_as_a_gpu() {
    let node = node(2);
    divide(&node, 0, &["3g.40gb", "3g.40gb"]);
    divide(&node, 1, &["3g.40gb"]);
    let mut kubelet = Kubelet::start(node.sockets());
    let plugin = node.plugin_with(&["--scan-seconds", "1", "--mig-strategy", "single"]);
    let mut device_plugin = kubelet.registered().await;
    assert_eq!(device_plugin.request.resource_name, "nvidia.com/gpu");
    let [one, two, three] = [instance(0, 7, "").uuid, instance(0, 8, "").uuid, instance(1, 7, "").uuid];
    assert_eq!(ids(&mut device_plugin).await, list(&[(&one, true), (&two, true), (&three, true)]));
    assert!(device_plugin.allocate(allocate(&two)).await.is_ok());
    // One of another kind: nothing is what it is called any more.
    divide(&node, 1, &["1g.10gb"]);
    assert_eq!(ids(&mut device_plugin).await, list(&[]));
    plugin.must_say("there are instances of 1g.10gb, 3g.40gb").await;
    divide(&node, 1, &["3g.40gb"]);
    assert_eq!(ids(&mut device_plugin).await.len(), 3, "it is registered as it was");
}

#[tokio::test]
async fn with_mixed_profiles_each_is_registered_and_an_xid_takes_one_instance_alone() {
    let node = node(2);
    divide(&node, 1, &["1g.10gb", "1g.10gb", "1g.10gb+me"]);
    let mut kubelet = Kubelet::start(node.sockets());
    let plugin = node.plugin_with(&["--scan-seconds", "1", "--mig-strategy", "mixed"]);
    let resources = ["nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "nvidia.com/mig-1g.10gb.me"];
    let all = registered(&mut kubelet, &resources).await;
    let [mut whole, mut small, mut media] = all.try_into().ok().unwrap();
    plugin.becomes("/readyz", "ok").await;
    assert_eq!(ids(&mut whole).await, crate::kubelet::list(&[(0, true)]));
    let [one, two, three] = [7, 8, 9].map(|number| instance(1, number, "").uuid);
    assert_eq!(ids(&mut small).await, list(&[(&one, true), (&two, true)]));
    assert_eq!(ids(&mut media).await, list(&[(&three, true)]));
    let refused = whole.allocate(allocate(&one)).await.unwrap_err();
    assert!(refused.message().contains(&one), "each resource gives away its own: {}", refused.message());

    let hit = Xid::OfInstance { xid: 94, gpu_instance: 8, compute_instance: 0 };
    node.change(|state| state.gpus[1].xids.push(hit));
    assert_eq!(ids(&mut small).await, list(&[(&one, true), (&two, false)]));
    assert!(media.allocate(allocate(&three)).await.is_ok(), "the others of the GPU are none the worse");
    assert_eq!(ids(&mut small).await, list(&[(&one, true), (&two, true)]), "it recovers as a GPU does");
    node.change(|state| state.gpus[1].lost = true);
    assert_eq!(ids(&mut small).await, list(&[(&one, false), (&two, false)]));
    assert_eq!(ids(&mut media).await, list(&[(&three, false)]));
}

#[tokio::test]
async fn a_new_layout_empties_the_old_resource_before_the_new_one_comes() {
    let node = node(1);
    let mut kubelet = Kubelet::start(node.sockets());
    // Looks are far apart: the driver's event says that the layout is another.
    let plugin = node.plugin_with(&["--scan-seconds", "300", "--mig-strategy", "mixed"]);
    let mut whole = kubelet.registered().await;
    assert_eq!(ids(&mut whole).await, crate::kubelet::list(&[(0, true)]));
    assert_eq!(node.plugin_sockets().len(), 1);
    divide(&node, 0, &["3g.40gb", "3g.40gb"]);
    let nobody_yet = tokio::time::timeout(Duration::from_millis(1), kubelet.registered()).await;
    assert!(nobody_yet.is_err(), "the kubelet has not read yet that the old one is empty");
    assert_eq!(ids(&mut whole).await, list(&[]));
    assert!(whole.list_ends().await);
    let mut halves = kubelet.registered().await;
    assert_eq!(halves.request.resource_name, "nvidia.com/mig-3g.40gb");
    assert_eq!(ids(&mut halves).await.len(), 2);
    assert_eq!(node.plugin_sockets(), [halves.request.endpoint.as_str()], "the old socket is gone");
    plugin.must_say("is divided into [3g.40gb, 3g.40gb]").await;

    node.change(|state| state.gpus[0].mig_pending = Some(false));
    divide(&node, 0, &[]);
    assert_eq!(ids(&mut halves).await, list(&[]));
    plugin.must_say("is in MIG mode and has no instances: nothing of it is offered").await;
    plugin.must_say("will be no longer in MIG mode once it is reset").await;
    plugin.becomes("/readyz", "ok").await;
    node.change(|state| (state.gpus[0].mig, state.gpus[0].mig_pending) = (Some(false), None));
    let mut whole = kubelet.registered().await;
    assert_eq!(ids(&mut whole).await, crate::kubelet::list(&[(0, true)]));
}

#[tokio::test]
async fn an_instance_that_does_not_say_what_it_is_leaves_the_layout_as_it_was() {
    let node = node(1);
    divide(&node, 0, &["3g.40gb"]);
    let mut kubelet = Kubelet::start(node.sockets());
    let plugin = node.plugin_with(&["--scan-seconds", "1", "--mig-strategy", "mixed"]);
    let mut halves = kubelet.registered().await;
    let half = instance(0, 7, "").uuid;
    assert_eq!(ids(&mut halves).await, list(&[(&half, true)]));
    node.change(|state| {
        state.gpus[0].errors.insert("nvmlDeviceGetAttributes_v2".to_owned(), 999);
    });
    assert_eq!(ids(&mut halves).await, list(&[(&half, false)]), "unknown is not gone");
    node.change(|state| state.gpus[0].errors.clear());
    assert_eq!(ids(&mut halves).await, list(&[(&half, true)]));
    plugin.becomes("/metrics", "plasma_device_plugin_registrations_total{way=\"classic\"} 1").await;
}
