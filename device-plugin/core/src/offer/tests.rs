//! What each policy makes of whole and divided GPUs.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{HealthRules, Look, Mig, MigInstance, Recovery, Scan, Seen, Signs, Silence, Xid};

const GPU: &str = "nvidia.com/gpu";

/// A GPU that is whole (`None`), or divided into these profiles.
fn gpu(index: u32, profiles: Option<&[&str]>) -> Gpu {
    let instance = |(part, profile): (u32, &&str)| MigInstance {
        uuid: format!("MIG-{index}-{part}"),
        instance: Instance { gpu: part, compute: 0 },
        profile: Profile::named(&format!("MIG {profile}")).unwrap(),
        device_nodes: vec![format!("/dev/nvidia-caps/nvidia-cap{part}")],
        ..MigInstance::default()
    };
    let instances = (7_u32..).zip(profiles.unwrap_or_default()).map(instance).collect();
    Gpu {
        uuid: format!("GPU-{index}"),
        index,
        device_node: Some(format!("/dev/nvidia{index}")),
        mig: Some(Mig { enabled: profiles.is_some(), pending: profiles.is_some(), instances }),
        ..Gpu::default()
    }
}

fn answered(gpu: Gpu) -> Seen {
    let signs = Signs { recovery: Recovery::NotNeeded, ..Signs::default() };
    Seen::Answered { gpu, signs }
}

fn inventory(gpus: &[Option<&[&str]>]) -> Inventory {
    let mut inventory = Inventory::new(HealthRules { clean_looks: 1, ..HealthRules::default() });
    look(&mut inventory, (0..).zip(gpus).map(|(index, profiles)| answered(gpu(index, *profiles))).collect());
    inventory
}

fn look(inventory: &mut Inventory, gpus: Vec<Seen>) {
    inventory.observe(Scan::Looked(Look { gpus, ..Look::default() }));
}

fn policy(mig: MigStrategy) -> Policy {
    Policy { resource: GPU.to_owned(), mig, ..Policy::default() }
}

/// Resource, id, and whether it can be given away.
fn told(offers: &Offers) -> Vec<(&str, &str, bool)> {
    let devices = |(resource, devices)| {
        let (resource, devices): (&String, &Vec<Offered>) = (resource, devices);
        devices.iter().map(move |device| (resource.as_str(), device.id.as_str(), device.state.is_offered()))
    };
    offers.resources.iter().flat_map(devices).collect()
}

const DIVIDED: Option<&[&str]> = Some(&["3g.40gb", "3g.40gb"]);

#[test]
fn without_a_strategy_a_divided_gpu_is_counted_and_given_to_nobody() {
    let offers = offers(&inventory(&[None, DIVIDED]), &policy(MigStrategy::None));
    assert_eq!(told(&offers), [(GPU, "GPU-0", true), (GPU, "GPU-1", false)]);
    assert!(offers.of(GPU)[1].state.why().unwrap().contains("MIG mode"));
    assert!(offers.complaints[0].starts_with("GPU 1 (GPU-1): it is in MIG mode"), "{:?}", offers.complaints);
}

#[test]
fn where_all_are_divided_alike_an_instance_is_a_gpu() {
    let offered = offers(&inventory(&[DIVIDED, Some(&["3g.40gb"])]), &policy(MigStrategy::Single));
    assert_eq!(told(&offered), [(GPU, "MIG-0-7", true), (GPU, "MIG-0-8", true), (GPU, "MIG-1-7", true)]);
    assert!(offered.complaints.is_empty());
    let device = &offered.of(GPU)[1];
    assert_eq!((device.device.as_str(), device.gpu.as_str()), ("MIG-0-8", "GPU-0"));
    assert_eq!(device.instance, Some(Instance { gpu: 8, compute: 0 }));
    assert_eq!(device.device_nodes, ["/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap8"]);
    let whole = offers(&inventory(&[None, None]), &policy(MigStrategy::Single));
    assert_eq!(
        told(&whole),
        [(GPU, "GPU-0", true), (GPU, "GPU-1", true)],
        "none is divided: that is alike, too"
    );
}

#[test]
fn what_isnt_alike_is_not_offered_as_if_it_were() {
    for (gpus, why) in [
        (&[DIVIDED, None][..], "1 of 2 GPUs are in MIG mode"),
        (&[Some(&["1g.10gb", "2g.20gb"][..])], "there are instances of 1g.10gb, 2g.20gb"),
        (&[DIVIDED, Some(&["1g.10gb"])], "there are instances of 1g.10gb, 3g.40gb"),
    ] {
        let offers = offers(&inventory(gpus), &policy(MigStrategy::Single));
        assert_eq!(offers.resources, BTreeMap::from([(GPU.to_owned(), Vec::new())]), "{why}");
        assert!(offers.complaints[0].contains(why), "{:?}", offers.complaints);
    }
}

#[test]
fn with_mixed_profiles_each_is_a_resource_beside_the_whole_gpus() {
    let divided: Option<&[&str]> = Some(&["1g.10gb", "1g.10gb+me", "1g.10gb"]);
    let offers = offers(&inventory(&[None, divided]), &policy(MigStrategy::Mixed));
    let expected = [
        (GPU, "GPU-0", true),
        ("nvidia.com/mig-1g.10gb", "MIG-1-7", true),
        ("nvidia.com/mig-1g.10gb", "MIG-1-9", true),
        ("nvidia.com/mig-1g.10gb.me", "MIG-1-8", true),
    ];
    assert_eq!(told(&offers), expected);
}

#[test]
fn a_divided_gpu_without_instances_offers_nothing_and_says_so() {
    for strategy in [MigStrategy::Single, MigStrategy::Mixed] {
        let offers = offers(&inventory(&[Some(&[]), DIVIDED]), &policy(strategy));
        assert_eq!(told(&offers).iter().map(|told| told.1).collect::<Vec<_>>(), ["MIG-1-7", "MIG-1-8"]);
        assert_eq!(
            offers.complaints,
            ["GPU 0 (GPU-0) is in MIG mode and has no instances: nothing of it is offered"]
        );
    }
}

#[test]
fn resources_are_there_as_long_as_something_can_be_of_them() {
    let resources = |gpus: &[Option<&[&str]>], mig| {
        offers(&inventory(gpus), &policy(mig)).resources.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(resources(&[], MigStrategy::Mixed), [GPU], "who has none yet is told so");
    assert_eq!(resources(&[DIVIDED], MigStrategy::Mixed), ["nvidia.com/mig-3g.40gb"]);
    assert_eq!(resources(&[DIVIDED], MigStrategy::Single), [GPU]);
    assert!(resources(&[Some(&[])], MigStrategy::Mixed).is_empty());
}

#[test]
fn an_xid_of_one_instance_takes_that_one_alone() {
    let mut node = inventory(&[DIVIDED]);
    let hit = |node: &mut Inventory, instance, recovery| {
        let xids = vec![Xid { number: 94, instance }];
        let signs = Signs { recovery, xids, ..Signs::default() };
        look(node, vec![Seen::Answered { gpu: gpu(0, DIVIDED), signs }]);
        let offers = offers(node, &policy(MigStrategy::Single));
        offers.of(GPU).iter().map(|device| device.state.is_offered()).collect::<Vec<_>>()
    };
    let part = |gpu, compute| Some(Instance { gpu, compute });
    assert_eq!(hit(&mut node, part(8, 0), Recovery::NotNeeded), [true, false]);
    assert!(matches!(node.find("GPU-0").unwrap().1, GpuState::Healthy), "the GPU is none the worse");
    look(&mut node, vec![answered(gpu(0, DIVIDED))]);
    let well = offers(&node, &policy(MigStrategy::Single));
    assert!(well.of(GPU).iter().all(|device| device.state.is_offered()), "it recovers as a GPU does");
    assert_eq!(hit(&mut node, part(7, Instance::WHOLE), Recovery::NotNeeded), [false, true]);
    assert_eq!(hit(&mut node, None, Recovery::NotNeeded), [false, false]);
    assert_eq!(hit(&mut node, part(3, 0), Recovery::NotNeeded), [false, false], "nobody's is everybody's");
}

#[test]
fn an_instance_is_no_better_than_its_gpu_and_may_have_a_fault_of_its_own() {
    let mut node = inventory(&[DIVIDED]);
    let mut faulty = gpu(0, DIVIDED);
    faulty.mig.as_mut().unwrap().instances[0].fault = Some("its device node isn't there".to_owned());
    look(&mut node, vec![answered(faulty)]);
    let states = |node: &Inventory| {
        let offers = offers(node, &policy(MigStrategy::Mixed));
        let devices = offers.of("nvidia.com/mig-3g.40gb").iter();
        devices.map(|device| device.state.why().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(states(&node), [Some("its device node isn't there".to_owned()), None]);
    look(&mut node, vec![Seen::Silent(Silence { why: "GPU is lost".to_owned(), certain: true })]);
    assert_eq!(states(&node)[1].as_deref(), Some("GPU is lost"), "and its layout is remembered");
    node.observe(Scan::Failed("no driver".to_owned()));
    assert_eq!(states(&node)[1].as_deref(), Some("no driver"));
}

#[test]
fn shared_gpus_have_a_resource_of_their_own_and_a_fault_hits_all_replicas() {
    let mut shares = policy(MigStrategy::None);
    shares.shared.insert(GPU.to_owned(), Sharing { replicas: 2, one_each: false });
    let mut node = inventory(&[None, None]);
    look(
        &mut node,
        vec![answered(gpu(0, None)), Seen::Silent(Silence { why: "lost".to_owned(), certain: true })],
    );
    let offers = offers(&node, &shares);
    let name = "nvidia.com/gpu.shared";
    let expected = [
        (name, "GPU-0::0", true),
        (name, "GPU-0::1", true),
        (name, "GPU-1::0", false),
        (name, "GPU-1::1", false),
    ];
    assert_eq!(told(&offers), expected);
    assert_eq!(offers.resources.len(), 1, "never both under one name and the other");
    assert_eq!((offers.of(name)[1].device.as_str(), offers.of(name)[1].replica), ("GPU-0", Some(1)));
}

#[test]
fn what_no_node_ever_offers_cannot_be_shared() {
    let refused = |mig, resource: &str| policy(mig).can_offer(resource).err().unwrap_or_default();
    for mig in [MigStrategy::None, MigStrategy::Single, MigStrategy::Mixed] {
        assert_eq!(refused(mig, GPU), "");
        for typo in
            ["nvidia.com/gpuu", "example.com/gpu", "nvidia.com/mig-1g.10g", "nvidia.com/gpu.shared", ""]
        {
            let why = refused(mig, typo);
            assert!(why.contains(&format!("{typo:?} is never offered")) && why.contains(GPU), "{why}");
        }
    }
    for profile in ["1g.10gb", "1c.3g.40gb", "1g.10gb.me", "2g.20gb.me.all"] {
        let name = format!("nvidia.com/mig-{profile}");
        assert_eq!(refused(MigStrategy::Mixed, &name), "");
        assert!(refused(MigStrategy::Single, &name).contains("with MIG strategy mixed alone"), "{name}");
    }
}

#[test]
fn a_profile_that_is_to_be_shared_and_is_nowhere_is_said_where_gpus_are_divided() {
    let mut shares = policy(MigStrategy::Mixed);
    shares.shared.insert("nvidia.com/mig-1g.10gb".to_owned(), Sharing { replicas: 2, one_each: false });
    let complaints = |gpus: &[Option<&[&str]>]| offers(&inventory(gpus), &shares).complaints;
    let said = complaints(&[None, DIVIDED]);
    assert_eq!(
        said,
        [
            "nvidia.com/mig-1g.10gb is to be shared, and no GPU of this node is divided so: it has nvidia.com/gpu, \
                       nvidia.com/mig-3g.40gb"
        ]
    );
    assert!(complaints(&[None]).is_empty(), "it may be divided yet");
    assert!(complaints(&[Some(&["1g.10gb"])]).is_empty());
}

fn layouts() -> impl Strategy<Value = Vec<Option<Vec<&'static str>>>> {
    let profile = prop::sample::select(vec!["1g.10gb", "2g.20gb", "1g.10gb+me"]);
    vec(prop::option::of(vec(profile, 0..4)), 0..5)
}

proptest! {
    /// Whatever the layout: no id twice, no silicon under two names at once, nothing of a divided GPU as a whole, and what
    /// isn't offered is said.
    #[test]
    fn nothing_is_offered_twice_and_nothing_is_left_out_in_silence(
        layout in layouts(), strategy in 0..3, replicas in prop::option::of(1_u32..4),
    ) {
        let strategy = [MigStrategy::None, MigStrategy::Single, MigStrategy::Mixed][strategy as usize];
        let gpus: Vec<Option<&[&str]>> = layout.iter().map(Option::as_deref).collect();
        let node = inventory(&gpus);
        let mut policy = policy(strategy);
        if let Some(replicas) = replicas {
            policy.shared.insert(GPU.to_owned(), Sharing { replicas, one_each: false });
        }
        let offers = offers(&node, &policy);
        let devices = || offers.resources.iter().flat_map(|(name, devices)| devices.iter().map(move |device| (name, device)));
        let ids: BTreeSet<&str> = devices().map(|(_, device)| device.id.as_str()).collect();
        prop_assert_eq!(ids.len(), devices().count());
        prop_assert!(ids.iter().all(|id| id.len() <= 63));
        let mut names: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, device) in devices() {
            prop_assert_eq!(*names.entry(&device.device).or_insert(name), name, "{} has two names", device.device);
            prop_assert_eq!(name.ends_with(SHARED), device.replica.is_some());
            let divided = node.find(&device.gpu).unwrap().0.is_divided();
            prop_assert!(!(divided && device.instance.is_none() && device.state.is_offered()));
        }
        let offered: BTreeSet<&str> = devices().filter(|(_, device)| device.state.is_offered())
            .map(|(_, device)| device.gpu.as_str()).collect();
        prop_assert!(offered.len() == gpus.len() || !offers.complaints.is_empty(), "{offers:?}");
    }
}
