//! What nodes are labelled with.

use plasma_device_plugin_core::{
    Gpu, HealthRules, Instance, Look, Mig, MigInstance, MigStrategy, Profile, Scan, Seen, Share, Sharing,
    Signs,
};

use super::*;

/// A GPU that is whole (`None`), or divided into these profiles.
fn gpu(index: u32, profiles: Option<&[&str]>) -> Gpu {
    let part = |(number, profile): (u32, &&str)| MigInstance {
        uuid: format!("MIG-{index}-{number}"),
        instance: Instance { gpu: number, compute: 0 },
        profile: Profile::named(&format!("MIG {profile}")).unwrap(),
        has: Share {
            memory_mib: 9984,
            multiprocessors: 16,
            gpu_slices: 1,
            compute_slices: 1,
            ..Share::default()
        },
        ..MigInstance::default()
    };
    let instances = (7..).zip(profiles.unwrap_or_default()).map(part).collect();
    Gpu {
        uuid: format!("GPU-{index}"),
        index,
        name: "NVIDIA H100 80GB HBM3".to_owned(),
        memory_bytes: 81_559 << 20,
        compute_capability: Some((9, 0)),
        mode: Mode::Compute,
        mig: Some(Mig { enabled: profiles.is_some(), pending: profiles.is_some(), instances }),
        ..Gpu::default()
    }
}

fn node(gpus: Vec<Gpu>, driver: &str) -> Inventory {
    let gpus = gpus.into_iter().map(|gpu| Seen::Answered { gpu, signs: Signs::default() }).collect();
    let (driver_version, cuda_version) = (Some(driver.to_owned()), Some((13, 0)));
    let mut inventory = Inventory::new(HealthRules::default());
    inventory.observe(Scan::Looked(Look { gpus, driver_version, cuda_version, ..Look::default() }));
    inventory
}

fn policy(mig: MigStrategy) -> Policy {
    Policy { resource: "nvidia.com/gpu".to_owned(), mig, ..Policy::default() }
}

fn must_say(labels: &Labels, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(labels.get(*name).and_then(Option::as_deref), Some(*value), "{name} in {labels:?}");
    }
}

fn has(labels: &Labels, name: &str) -> bool {
    labels.get(name).is_some_and(Option::is_some)
}

#[test]
fn a_node_is_labelled_as_gpu_feature_discovery_does() {
    let labels =
        labels(&node(vec![gpu(0, None), gpu(1, None)], "580.95.05"), &policy(MigStrategy::None), true);
    must_say(
        &labels,
        &[
            ("nvidia.com/gpu.product", "NVIDIA-H100-80GB-HBM3"),
            ("nvidia.com/gpu.count", "2"),
            ("nvidia.com/gpu.memory", "81559"),
            ("nvidia.com/gpu.replicas", "1"),
            ("nvidia.com/gpu.sharing-strategy", "none"),
            ("nvidia.com/gpu.family", "hopper"),
            ("nvidia.com/gpu.compute.major", "9"),
            ("nvidia.com/gpu.compute.minor", "0"),
            ("nvidia.com/cuda.driver-version.major", "580"),
            ("nvidia.com/cuda.driver-version.minor", "95"),
            ("nvidia.com/cuda.driver-version.revision", "05"),
            ("nvidia.com/cuda.driver-version.full", "580.95.05"),
            ("nvidia.com/cuda.runtime-version.major", "13"),
            ("nvidia.com/cuda.runtime-version.minor", "0"),
            ("nvidia.com/cuda.runtime-version.full", "13.0"),
            ("nvidia.com/mig.capable", "true"),
            ("nvidia.com/mps.capable", "false"),
            ("nvidia.com/gpu.mode", "compute"),
            ("nvidia.com/gpu.machine", "unknown"),
            ("compute.plasma.dev/simulated", "true"),
            ("gpu-count.compute.plasma.dev/NVIDIA-H100-80GB-HBM3", "2"),
        ],
    );
    assert!(!has(&labels, "nvidia.com/mig.strategy"));
}

#[test]
fn instances_that_are_alike_are_labelled_as_the_gpus_that_they_count_as() {
    let divided: Option<&[&str]> = Some(&["1g.10gb", "1g.10gb"]);
    let single = policy(MigStrategy::Single);
    must_say(
        &labels(&node(vec![gpu(0, divided), gpu(1, divided)], "580"), &single, false),
        &[
            ("nvidia.com/gpu.product", "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"),
            ("nvidia.com/gpu.count", "4"),
            ("nvidia.com/gpu.memory", "9984"),
            ("nvidia.com/gpu.multiprocessors", "16"),
            ("nvidia.com/gpu.slices.gi", "1"),
            ("nvidia.com/gpu.slices.ci", "1"),
            ("nvidia.com/gpu.engines.copy", "0"),
            ("nvidia.com/mig.strategy", "single"),
        ],
    );
    must_say(
        &labels(&node(vec![gpu(0, divided), gpu(1, None)], "580"), &single, false),
        &[
            ("nvidia.com/gpu.product", "NVIDIA-H100-80GB-HBM3-MIG-INVALID"),
            ("nvidia.com/gpu.count", "0"),
            ("nvidia.com/gpu.memory", "0"),
        ],
    );
    let whole = labels(&node(vec![gpu(0, None)], "580"), &single, false);
    must_say(&whole, &[("nvidia.com/gpu.product", "NVIDIA-H100-80GB-HBM3"), ("nvidia.com/gpu.count", "1")]);
    assert!(!has(&whole, "nvidia.com/gpu.slices.gi"), "what was said of instances is taken off");
}

#[test]
fn each_profile_has_labels_of_its_own() {
    let divided: Option<&[&str]> = Some(&["1g.10gb", "1g.10gb+me", "1g.10gb"]);
    let mut shares = policy(MigStrategy::Mixed);
    shares.shared.insert("nvidia.com/mig-1g.10gb".to_owned(), Sharing { replicas: 3, one_each: false });
    let labels = labels(&node(vec![gpu(0, None), gpu(1, divided)], "580"), &shares, false);
    must_say(
        &labels,
        &[
            ("nvidia.com/gpu.product", "NVIDIA-H100-80GB-HBM3"),
            ("nvidia.com/gpu.count", "1"),
            ("nvidia.com/gpu.sharing-strategy", "none"),
            ("nvidia.com/mig-1g.10gb.product", "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"),
            ("nvidia.com/mig-1g.10gb.count", "2"),
            ("nvidia.com/mig-1g.10gb.replicas", "3"),
            ("nvidia.com/mig-1g.10gb.sharing-strategy", "time-slicing"),
            ("compute.plasma.dev/memory-limit", "none"),
            ("nvidia.com/mig-1g.10gb.me.count", "1"),
            ("nvidia.com/mig-1g.10gb.me.slices.ci", "1"),
            ("nvidia.com/mig.strategy", "mixed"),
        ],
    );
}

#[test]
fn labels_of_an_earlier_layout_are_taken_off_and_those_of_others_stay() {
    let now = labels(&node(vec![gpu(0, Some(&["1g.10gb"]))], "580"), &policy(MigStrategy::Mixed), false);
    let on_node = [
        "nvidia.com/mig-1g.10gb.count",
        "nvidia.com/mig-2g.20gb.count",
        "nvidia.com/mig-2g.20gb.engines.ofa",
        "nvidia.com/mig-manager.version",
        "nvidia.com/mig.config",
        "nvidia.com/mig.config.state",
        "gpu-count.compute.plasma.dev/Tesla-T4",
        "kubernetes.io/hostname",
    ];
    let on_node = on_node.map(|name| (name.to_owned(), "1".to_owned())).into();
    let old: Vec<String> = left_over(&on_node, &now).into_keys().collect();
    assert_eq!(
        old,
        [
            "gpu-count.compute.plasma.dev/Tesla-T4",
            "nvidia.com/mig-2g.20gb.count",
            "nvidia.com/mig-2g.20gb.engines.ofa"
        ]
    );
}

#[test]
fn the_mode_is_what_all_gpus_are_made_for() {
    use Mode::{Compute, Graphics, Unknown};
    let mode_of = |modes: &[Mode]| {
        let gpus: Vec<Gpu> = modes.iter().map(|mode| Gpu { mode: *mode, ..gpu(0, None) }).collect();
        mode(gpus.iter())
    };
    assert_eq!((mode_of(&[Graphics; 2]), mode_of(&[Compute; 3])), (Graphics, Compute));
    for unclear in
        [&[Compute, Compute, Graphics][..], &[Compute, Graphics, Unknown, Compute], &[Unknown, Compute]]
    {
        assert_eq!(mode_of(unclear), Unknown);
    }
}

#[test]
fn a_node_is_capable_of_mig_where_any_gpu_is() {
    let without = Gpu { mig: None, ..gpu(0, None) };
    for (gpus, capable) in [(vec![without.clone(), gpu(1, None)], "true"), (vec![without], "false")] {
        must_say(
            &labels(&node(gpus, "580"), &policy(MigStrategy::None), false),
            &[("nvidia.com/mig.capable", capable)],
        );
    }
}

#[test]
fn models_are_counted_each_by_itself() {
    let mut other = gpu(1, None);
    other.name = "Tesla T4".to_owned();
    let labels =
        labels(&node(vec![gpu(0, None), other, gpu(2, None)], "580"), &policy(MigStrategy::None), false);
    must_say(
        &labels,
        &[
            ("nvidia.com/gpu.count", "3"),
            ("gpu-count.compute.plasma.dev/NVIDIA-H100-80GB-HBM3", "2"),
            ("gpu-count.compute.plasma.dev/Tesla-T4", "1"),
        ],
    );
}

#[test]
fn a_node_without_gpus_loses_its_labels() {
    for mig in [MigStrategy::None, MigStrategy::Single, MigStrategy::Mixed] {
        let none = labels(&node(Vec::new(), "580.95.05"), &policy(mig), false);
        assert!(
            none.contains_key("nvidia.com/gpu.product") && none.values().all(Option::is_none),
            "{none:?}"
        );
    }
}

#[test]
fn what_a_label_cannot_hold_is_left_out() {
    let odd = labels(&node(vec![gpu(0, None)], "simulated"), &policy(MigStrategy::None), false);
    assert!(
        !has(&odd, "nvidia.com/cuda.driver-version.full")
            && !has(&odd, "nvidia.com/cuda.driver-version.major")
    );
}

#[test]
fn families_are_told_apart_where_the_minor_decides() {
    assert_eq!(
        [family(7, 0), family(7, 5), family(8, 6), family(8, 9)],
        ["volta", "turing", "ampere", "ada-lovelace"]
    );
}

#[test]
fn the_driver_limits_memory_only_where_it_says_so_and_gpus_are_shared() {
    let shared = BTreeMap::from([("nvidia.com/gpu".to_owned(), Sharing { replicas: 2, one_each: false })]);
    let shares = Policy { shared, ..policy(MigStrategy::None) };
    for (policy, label) in [(shares, Some("driver")), (policy(MigStrategy::None), None)] {
        let mut told = labels(&node(vec![gpu(0, None)], "580"), &policy, false);
        assert_eq!(told["compute.plasma.dev/memory-limit"].as_deref(), label.map(|_| "none"));
        limited_by_driver(&mut told);
        assert_eq!(told["compute.plasma.dev/memory-limit"].as_deref(), label);
    }
    let shared =
        BTreeMap::from([("nvidia.com/mig-1g.10gb".to_owned(), Sharing { replicas: 2, one_each: false })]);
    let elsewhere = Policy { shared, ..policy(MigStrategy::Mixed) };
    let told = labels(&node(vec![gpu(0, None)], "580"), &elsewhere, false);
    assert_eq!(told["compute.plasma.dev/memory-limit"], None, "nothing of this node is shared");
}

#[test]
fn the_charts_policy_lets_every_label_through() {
    let policy = include_str!("../../../charts/plasma/templates/device-plugin-policy.yaml");
    let ours = policy.split("- name: ours").nth(1).unwrap().split(']').next().unwrap();
    let starts: Vec<&str> = ours.split('\'').skip(1).step_by(2).collect();
    let divided: Option<&[&str]> = Some(&["1g.10gb"]);
    for mig in [MigStrategy::None, MigStrategy::Single, MigStrategy::Mixed] {
        let told = labels(&node(vec![gpu(0, None), gpu(1, divided)], "580"), &self::policy(mig), true);
        let told = NodeLabels::new(false).complete(told, 1);
        for name in told.keys() {
            assert!(starts.iter().any(|start| name.starts_with(start)), "{name} would be refused");
        }
    }
}
