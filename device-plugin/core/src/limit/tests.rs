//! Shares, the ways in which pods are laid out, and when a limit counts as failed.

use proptest::prelude::*;

use super::*;
use crate::{Gpu, HealthRules, Look, Mig, MigInstance, MigStrategy, Scan, Seen, Sharing, Signs};

const POD: &str = "1b6e4ba0-7c5d-4a0e-9f7f-2a0c6d1f9d11";
const POD_IN_SLICE: &str = "1b6e4ba0_7c5d_4a0e_9f7f_2a0c6d1f9d11";
const ID: &str = "containerd://0f3a9c";

fn holder(pod: usize) -> Holder {
    let [namespace, pod_name, container] = ["lab".to_owned(), format!("p{pod}"), "main".to_owned()];
    Holder { pod_uid: format!("u{pod}"), namespace, pod: pod_name, container }
}

fn node(memory: &[u64], divided: Option<usize>) -> Inventory {
    let gpus = memory.iter().enumerate().map(|(index, memory_bytes)| {
        let uuid = format!("GPU-{index}");
        let instances = vec![MigInstance { uuid: "MIG-0".to_owned(), ..MigInstance::default() }];
        let mig = (divided == Some(index)).then_some(Mig { enabled: true, pending: true, instances });
        let number = u32::try_from(index).unwrap();
        let gpu = Gpu { uuid, index: number, memory_bytes: *memory_bytes, mig, ..Gpu::default() };
        Seen::Answered { gpu, signs: Signs::default() }
    });
    let mut inventory = Inventory::new(HealthRules::default());
    inventory.observe(Scan::Looked(Look { gpus: gpus.collect(), ..Look::default() }));
    inventory
}

fn shared(replicas: u32) -> Policy {
    let resource = "nvidia.com/gpu".to_owned();
    let shared = BTreeMap::from([(resource.clone(), Sharing { replicas, one_each: false })]);
    Policy { resource, shared, ..Policy::default() }
}

fn held(of: &[(&str, usize)]) -> Holdings {
    let mut holders = BTreeMap::<String, Vec<Holder>>::new();
    for (id, pod) in of {
        holders.entry((*id).to_owned()).or_default().push(holder(*pod));
    }
    Holdings::Known(holders)
}

#[test]
fn who_has_two_of_three_replicas_may_have_two_thirds_and_bytes_are_rounded_down() {
    let holdings = held(&[("GPU-0::0", 1), ("GPU-0::2", 1), ("GPU-0::1", 2), ("GPU-1::0", 1)]);
    let shares = memory_shares(&node(&[100, 100], None), &shared(3), &holdings);
    let of: Vec<_> = shares.iter().map(|share| (&*share.gpu, &*share.holder.pod, share.bytes)).collect();
    assert_eq!(of, [("GPU-0", "p1", 66), ("GPU-0", "p2", 33), ("GPU-1", "p1", 33)]);
}

#[test]
fn whole_gpus_divided_ones_and_holders_that_nobody_knows_have_no_limit() {
    let whole = held(&[("GPU-0", 1)]);
    assert!(memory_shares(&node(&[100], None), &Policy::default(), &whole).is_empty());
    let of_divided = held(&[("GPU-0::0", 1), ("GPU-1::0", 2), ("MIG-0::0", 3)]);
    let shares = memory_shares(&node(&[100, 100], Some(0)), &shared(2), &of_divided);
    assert_eq!(shares.iter().map(|share| &*share.gpu).collect::<Vec<_>>(), ["GPU-1"]);
    assert!(memory_shares(&node(&[100], None), &shared(2), &Holdings::Unknown).is_empty());
}

#[test]
fn instances_are_shared_only_where_the_policy_says_so() {
    let resource = "nvidia.com/gpu".to_owned();
    let of = |mig, divided| {
        let policy = Policy { resource: resource.clone(), mig, ..shared(2) };
        shares_instances(&node(&[100], divided), &policy)
    };
    assert!(of(MigStrategy::Single, Some(0)), "an instance counts as a GPU");
    assert!(
        !of(MigStrategy::Single, None) && !of(MigStrategy::Mixed, Some(0)) && !of(MigStrategy::None, Some(0))
    );
}

proptest! {
    #[test]
    fn shares_of_a_gpu_are_never_more_than_it_has_and_waste_less_than_a_byte_each(
        memory in any::<u64>(),
        replicas in 2..=256_u32,
        pods in prop::collection::vec(prop::option::of(0..8_usize), 256),
    ) {
        let ids: Vec<String> = (0..replicas).map(|replica| format!("GPU-0::{replica}")).collect();
        let given: Vec<(&str, usize)> =
            ids.iter().zip(&pods).filter_map(|(id, pod)| Some((id.as_str(), (*pod)?))).collect();
        let shares = memory_shares(&node(&[memory], None), &shared(replicas), &held(&given));
        let sum: u128 = shares.iter().map(|share| u128::from(share.bytes)).sum();
        prop_assert!(sum <= u128::from(memory), "{sum} of {memory}");
        for share in &shares {
            let of_it = given.iter().filter(|(_, pod)| holder(*pod) == share.holder).count() as u128;
            let exact = u128::from(memory) * of_it;
            let told = u128::from(share.bytes) * u128::from(replicas);
            prop_assert!(told <= exact && exact - told < u128::from(replicas));
        }
        if given.len() == replicas as usize {
            prop_assert!(u128::from(memory) - sum < shares.len() as u128);
        }
    }
}

#[test]
fn a_container_is_found_as_every_kubelet_and_runtime_lays_it_out() {
    for pod in [
        format!("kubepods-burstable-pod{POD_IN_SLICE}.slice"),
        format!("kubepods-pod{POD_IN_SLICE}.slice"),
        format!("kubelet-kubepods-besteffort-pod{POD_IN_SLICE}.slice"),
        format!("pod{POD}"),
    ] {
        assert!(is_of_pod(&pod, POD), "{pod}");
        assert!(!leads_to_pods(&pod), "another pod's folder has no pods in it: {pod}");
    }
    for name in
        ["0f3a9c", "crio-0f3a9c", "cri-containerd-0f3a9c.scope", "crio-0f3a9c.scope", "docker-0f3a9c.scope"]
    {
        assert!(is_of_container(name, ID) && is_of_container(name, "0f3a9c"), "{name}");
    }
    for way in
        ["kubepods.slice", "kubepods-burstable.slice", "kubelet.slice", "kubepods", "besteffort", "kubelet"]
    {
        assert!(leads_to_pods(way), "{way}");
    }
}

#[test]
fn what_only_looks_like_it_is_left_alone() {
    for name in
        ["crio-conmon-0f3a9c.scope", "cri-containerd-10f3a9c.scope", "0f3a9c-x", "x0f3a9c", "", "0f3a9"]
    {
        assert!(!is_of_container(name, ID), "{name}");
    }
    for name in [
        format!("kubepods-pod{POD}.slice"),
        format!("pod{POD_IN_SLICE}"),
        format!("pod{POD}1"),
        POD.to_owned(),
    ] {
        assert!(!is_of_pod(&name, POD), "{name}");
    }
    assert!(!is_of_pod("pod", "") && !is_of_pod("kubepods-pod.slice", ""), "no UID is no pod");
    assert!(!is_of_container("crio-", "") && !is_of_container("crio-", "cri-o://"), "no id is no container");
    for other in ["system.slice", "kubelet.service", "init.scope", "cri-containerd-1.scope"] {
        assert!(!leads_to_pods(other), "{other}");
    }
}

#[test]
fn a_limit_that_fails_twice_is_an_obstacle_until_that_gpus_limits_hold_again() {
    let share = |gpu: &str, pod| MemoryShare { gpu: gpu.to_owned(), holder: holder(pod), bytes: 1 };
    let (one, other, elsewhere) = (share("GPU-0", 1), share("GPU-0", 2), share("GPU-1", 3));
    let mut obstacles = Obstacles::default();
    obstacles.observe([(&one, Some("refused"))]);
    assert_eq!(obstacles.first(), None, "it may be about to end");
    obstacles.observe([(&one, Some("refused"))]);
    assert_eq!(obstacles.first(), Some("refused"));
    obstacles.observe([]);
    assert_eq!(obstacles.first(), Some("refused"), "that nobody tries makes nothing better");
    obstacles.observe([(&elsewhere, None)]);
    assert_eq!(obstacles.first(), Some("refused"), "another GPU says nothing about this one");
    obstacles.observe([(&one, Some("refused")), (&other, None)]);
    assert_eq!(obstacles.first(), Some("refused"), "one of two isn't all");
    obstacles.observe([(&one, None), (&other, None)]);
    assert_eq!(obstacles.first(), None);
}
