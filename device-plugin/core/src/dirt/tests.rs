//! When a device is dirty, and when it isn't.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::Holder;

const RULES: DirtRules = DirtRules { tolerated_bytes: 128 << 20, grace: Duration::from_secs(10) };

fn used(pids: &[u32], mib: u64) -> Occupancy {
    Occupancy { processes: Some(pids.to_vec()), memory_bytes: Some(mib << 20) }
}

fn held(device: &str) -> Holdings {
    let holder = Holder {
        pod_uid: "u".to_owned(),
        namespace: "n".to_owned(),
        pod: "p".to_owned(),
        container: "c".to_owned(),
    };
    Holdings::Known(BTreeMap::from([(device.to_owned(), vec![holder])]))
}

fn nobody() -> Holdings {
    Holdings::Known(BTreeMap::new())
}

/// A node on which only device `A` is.
fn only_a() -> BTreeSet<String> {
    BTreeSet::from(["A".to_owned()])
}

/// Looks at device `A`, each at its second, both the look and who holds it.
fn after(looks: &[(u64, Occupancy, Holdings)]) -> Option<String> {
    let mut dirt = Dirt::default();
    for (second, occupancy, holdings) in looks {
        let at = Duration::from_secs(*second);
        let seen = BTreeMap::from([("A".to_owned(), occupancy.clone())]);
        dirt.observe(RULES, (at, at), (&only_a(), &seen), holdings);
    }
    dirt.why("A").map(str::to_owned)
}

#[test]
fn who_uses_a_device_that_no_pod_holds_makes_it_dirty_after_a_while_and_until_it_ends() {
    let foreign = || used(&[123], 512);
    let free = (0, used(&[], 0), nobody());
    assert_eq!(
        after(&[free.clone(), (1, foreign(), nobody()), (10, foreign(), nobody())]),
        None,
        "its pod may become known"
    );
    let why = "process 123 runs on it, 512 MiB of its memory are in use, and no pod holds it";
    assert_eq!(
        after(&[free.clone(), (1, foreign(), nobody()), (11, foreign(), nobody())]).as_deref(),
        Some(why)
    );
    let over = [free, (1, foreign(), nobody()), (11, foreign(), nobody()), (12, used(&[], 0), nobody())];
    assert_eq!(after(&over), None);
}

#[test]
fn what_is_in_use_at_the_first_look_and_has_no_pod_is_dirty_at_once() {
    assert!(after(&[(0, used(&[1], 500), nobody())]).is_some(), "nobody saw it free");
    assert_eq!(after(&[(0, used(&[1], 500), Holdings::Unknown)]), None, "unknown isn't nobody");
    assert!(after(&[(0, used(&[1], 500), Holdings::Unknown), (1, used(&[1], 500), nobody())]).is_some());
    assert_eq!(after(&[(0, used(&[1], 500), held("A"))]), None);
}

#[test]
fn a_query_that_fails_once_makes_nothing_clean() {
    let left = |second| (second, used(&[1], 400), nobody());
    let memory_alone = Occupancy { processes: None, memory_bytes: Some(0) };
    let processes_alone = Occupancy { processes: Some(Vec::new()), memory_bytes: None };
    for partly in [memory_alone.clone(), processes_alone, Occupancy::default()] {
        assert!(after(&[left(0), (1, partly.clone(), nobody())]).is_some(), "{partly:?}");
    }
    assert_eq!(after(&[left(0), (1, used(&[], 0), nobody())]), None);
    let never_more =
        [(0, Occupancy { processes: None, ..used(&[], 400) }, nobody()), (1, memory_alone, nobody())];
    assert_eq!(after(&never_more), None, "it never told of processes");
    let mut dirt = Dirt::default();
    let seen = BTreeMap::from([("A".to_owned(), used(&[1], 400))]);
    let at = Duration::ZERO;
    dirt.observe(RULES, (at, at), (&only_a(), &seen), &nobody());
    dirt.observe(RULES, (at, at), (&only_a(), &BTreeMap::new()), &nobody());
    assert!(dirt.why("A").is_some(), "it didn't answer");
    dirt.observe(RULES, (at, at), (&BTreeSet::new(), &BTreeMap::new()), &nobody());
    assert_eq!(dirt.why("A"), None, "it left");
}

#[test]
fn whose_pod_has_ended_is_unsure_until_a_later_look_tells_how_it_is() {
    let (mut dirt, at) = (Dirt::default(), Duration::from_secs);
    let mut is_unsure = |looked, now, occupancy, holdings| {
        let seen = BTreeMap::from([("A".to_owned(), occupancy)]);
        dirt.observe(RULES, (at(looked), at(now)), (&only_a(), &seen), &holdings);
        (!dirt.unsure().is_empty(), dirt.why("A").is_some())
    };
    assert_eq!(is_unsure(1, 1, used(&[1], 400), held("A")), (false, false));
    assert_eq!(is_unsure(1, 2, used(&[], 0), nobody()), (true, false), "clean as it is: that was before");
    assert_eq!(is_unsure(3, 3, Occupancy::default(), nobody()), (true, false), "nothing was told");
    assert_eq!(is_unsure(4, 4, used(&[], 0), nobody()), (false, false));
    assert_eq!(is_unsure(5, 5, used(&[1], 400), held("A")), (false, false));
    assert_eq!(is_unsure(6, 6, used(&[1], 400), nobody()), (true, false));
    assert_eq!(is_unsure(7, 7, used(&[1], 400), nobody()), (false, true));
}

#[test]
fn what_a_pod_leaves_behind_makes_its_device_dirty_at_the_next_look() {
    let left = || used(&[], 400);
    let looks = [(0, left(), held("A")), (1, left(), nobody()), (2, left(), nobody())];
    assert_eq!(after(&looks[..2]), None, "that look may be from before it ended");
    assert_eq!(after(&looks).as_deref(), Some("400 MiB of its memory are in use, and no pod holds it"));
    let cleaned = [looks[0].clone(), looks[1].clone(), (2, used(&[], 100), nobody())];
    assert_eq!(after(&cleaned), None);
}

#[test]
fn a_look_that_began_before_the_pod_was_over_says_nothing_about_after_it() {
    let (mut dirt, at) = (Dirt::default(), Duration::from_secs);
    let mut judge = |looked, now, holdings| {
        let seen = BTreeMap::from([("A".to_owned(), used(&[1], 400))]);
        dirt.observe(RULES, (at(looked), at(now)), (&only_a(), &seen), &holdings);
        dirt.why("A").is_some()
    };
    assert!(!judge(3, 3, held("A")));
    assert!(
        !judge(3, 5, nobody()) && !judge(3, 6, nobody()) && !judge(5, 7, nobody()),
        "it was the pod's then"
    );
    assert!(judge(6, 8, nobody()));
}

#[test]
fn a_pods_own_use_is_nobodys_business_nor_is_a_share_of_it() {
    for id in ["A", "A::3"] {
        let looks: Vec<_> = (0..99).map(|second| (second, used(&[1, 2], 70_000), held(id))).collect();
        assert_eq!(after(&looks), None, "{id}");
    }
    let looks: Vec<_> = (0..99).map(|second| (second, used(&[1], 0), held("AB"))).collect();
    assert!(after(&looks).is_some(), "another device's pod");
}

#[test]
fn while_nobody_knows_who_holds_it_a_device_stays_what_it_was() {
    let unknown = |second| (second, used(&[1, 2, 3, 4], 0), Holdings::Unknown);
    assert_eq!(after(&(0..99).map(unknown).collect::<Vec<_>>()), None, "unknown isn't nobody");
    let (found, later) = ((0, used(&[1, 2, 3, 4], 0), nobody()), (10, used(&[1, 2, 3, 4], 0), nobody()));
    let dirty = [found, later, unknown(20)];
    let why = "4 processes (1, 2, 3, …) run on it, and no pod holds it";
    assert_eq!(after(&dirty).as_deref(), Some(why));
    let released = [
        (0, used(&[], 0), held("A")),
        (1, used(&[], 0), Holdings::Unknown),
        (2, used(&[], 400), nobody()),
        (3, used(&[], 400), nobody()),
    ];
    assert!(after(&released).is_some(), "it was a pod's before, so there is nothing to wait for");
}

#[test]
fn what_nvml_does_not_tell_is_no_dirt() {
    let silent = |second| (second, Occupancy::default(), nobody());
    assert_eq!(after(&(0..99).map(silent).collect::<Vec<_>>()), None);
}

#[test]
fn where_nothing_can_be_told_nobody_waits_for_it_after_a_pod() {
    let at = Duration::from_secs;
    let look = |dirt: &mut Dirt, second, occupancy: Option<Occupancy>, holdings: &Holdings| {
        let seen = occupancy.into_iter().map(|occupancy| ("A".to_owned(), occupancy)).collect();
        dirt.observe(RULES, (at(second), at(second)), (&only_a(), &seen), holdings);
        assert_eq!(dirt.why("A"), None);
        assert_eq!(dirt.wants_look(), !dirt.unsure().is_empty());
        dirt.wants_look()
    };
    let silent = || Some(Occupancy::default());
    for holdings in [nobody(), untold()] {
        let mut dirt = Dirt::default();
        dirt.driver(Some("470.1"));
        assert!(!look(&mut dirt, 0, silent(), &held("A")));
        assert!(look(&mut dirt, 1, silent(), &holdings), "that look may be from before");
        assert!(look(&mut dirt, 2, None, &holdings), "it didn't answer");
        assert!(!look(&mut dirt, 3, silent(), &holdings), "it answered, and has nothing to tell");
        assert!(!look(&mut dirt, 4, silent(), &holdings));
    }
    // One that told before may tell again, but for another driver.
    let mut dirt = Dirt::default();
    dirt.driver(Some("580.1"));
    assert!(!look(&mut dirt, 0, Some(used(&[1], 400)), &held("A")));
    assert!(look(&mut dirt, 1, silent(), &nobody()));
    dirt.driver(Some("580.1"));
    assert!(look(&mut dirt, 2, silent(), &nobody()));
    dirt.driver(Some("470.1"));
    assert!(!look(&mut dirt, 3, silent(), &nobody()));
}

/// Nobody is told of, and a container runs of which nobody tells what it was given.
fn untold() -> Holdings {
    Holdings::Partly(BTreeMap::new())
}

#[test]
fn what_an_untold_container_may_be_using_is_not_dirty_until_that_one_has_ended() {
    let (mut dirt, at) = (Dirt::default(), Duration::from_secs);
    let mut judge = |second, occupancy, holdings| {
        let seen = BTreeMap::from([("A".to_owned(), occupancy)]);
        dirt.observe(RULES, (at(second), at(second)), (&only_a(), &seen), &holdings);
        (!dirt.unsure().is_empty(), dirt.why("A").is_some(), dirt.wants_look())
    };
    assert_eq!(
        judge(0, used(&[1], 400), untold()),
        (true, false, false),
        "nobody saw it free: given to nobody"
    );
    assert_eq!(judge(99, used(&[1], 400), untold()), (true, false, false));
    assert_eq!(judge(100, used(&[], 0), untold()), (false, false, false));
    assert_eq!(judge(101, used(&[1], 400), untold()), (false, false, false), "it was free");
    assert_eq!(judge(199, used(&[1], 400), untold()), (false, false, false));
    assert_eq!(judge(200, used(&[1], 400), nobody()), (true, false, true), "that look may be from before");
    assert_eq!(judge(201, used(&[1], 400), nobody()), (false, true, false));
    assert_eq!(judge(202, used(&[1], 400), untold()), (false, true, false), "it was nobody's");
}

#[test]
fn a_pods_own_device_rests_after_it_though_another_containers_is_not_told() {
    let Holdings::Known(of_a) = held("A") else { panic!("it is known") };
    let looks = [(0, used(&[1], 400), Holdings::Partly(of_a)), (1, used(&[1], 400), untold())];
    assert_eq!(after(&looks), None);
    let mut dirt = Dirt::default();
    for (second, occupancy, holdings) in looks {
        let (at, seen) = (Duration::from_secs(second), BTreeMap::from([("A".to_owned(), occupancy)]));
        dirt.observe(RULES, (at, at), (&only_a(), &seen), &holdings);
    }
    assert!(dirt.unsure().contains("A"));
}

#[test]
fn what_was_just_granted_is_given_time_until_its_pod_is_told_of() {
    let at = Duration::from_secs;
    let judge = |granted: Option<u64>, looks: &[(u64, Holdings)]| {
        let mut dirt = Dirt::default();
        granted.into_iter().for_each(|second| dirt.granted("A", at(second)));
        for (second, holdings) in looks {
            let seen = BTreeMap::from([("A".to_owned(), used(&[1], 400))]);
            dirt.observe(RULES, (at(*second), at(*second)), (&only_a(), &seen), holdings);
        }
        dirt.why("A").is_some()
    };
    let first = [(5, nobody())];
    assert!(judge(None, &first) && !judge(Some(4), &first), "at the first look");
    let later = [(5, nobody()), (13, nobody())];
    assert!(!judge(Some(4), &later) && judge(Some(4), &[later.as_slice(), &[(16, nobody())]].concat()));
    assert!(judge(Some(4), &[(14, nobody())]), "a grant of long ago");
    let released = [(5, held("A")), (6, nobody()), (8, nobody())];
    assert!(judge(None, &released) && !judge(Some(7), &released), "the next pod may be on it");
}

proptest! {
    /// Whatever happens: dirty is only what is in use now, and what no pod is known to hold now.
    #[test]
    fn nobody_loses_a_clean_or_a_held_device(looks in vec((0_u64..4, 0_u8..4, 0_u64..300), 1..30)) {
        let mut dirt = Dirt::default();
        let mut at = Duration::ZERO;
        for (pause, holder, mib) in looks {
            at += Duration::from_secs(pause * 4);
            let holdings = match holder { 0 => Holdings::Unknown, 1 => nobody(), 2 => held("A"), _ => untold() };
            let seen = BTreeMap::from([("A".to_owned(), used(&[], mib))]);
            dirt.observe(RULES, (at, at), (&only_a(), &seen), &holdings);
            let is_dirty = dirt.why("A").is_some();
            prop_assert!(!(is_dirty && (holder == 2 || mib <= 128)), "{dirt:?}");
            prop_assert_eq!(dirt.all().len(), usize::from(is_dirty));
        }
        // And whatever happened before, who stays is found.
        for _ in 0..3 {
            at += RULES.grace;
            let seen = BTreeMap::from([("A".to_owned(), used(&[7], 0))]);
            dirt.observe(RULES, (at, at), (&only_a(), &seen), &nobody());
        }
        prop_assert!(dirt.why("A").is_some());
    }
}
