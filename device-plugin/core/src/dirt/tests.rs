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

/// Looks at device `A`, each at its second, both the look and who holds it.
fn after(looks: &[(u64, Occupancy, Holdings)]) -> Option<String> {
    let mut dirt = Dirt::default();
    for (second, occupancy, holdings) in looks {
        let at = Duration::from_secs(*second);
        dirt.observe(RULES, (at, at), &BTreeMap::from([("A".to_owned(), occupancy.clone())]), holdings);
    }
    dirt.why("A").map(str::to_owned)
}

#[test]
fn who_uses_a_device_that_no_pod_holds_makes_it_dirty_after_a_while_and_until_it_ends() {
    let foreign = || used(&[123], 512);
    assert_eq!(
        after(&[(0, foreign(), nobody()), (9, foreign(), nobody())]),
        None,
        "its pod may become known"
    );
    let why = "process 123 runs on it, 512 MiB of its memory are in use, and no pod holds it";
    assert_eq!(after(&[(0, foreign(), nobody()), (10, foreign(), nobody())]).as_deref(), Some(why));
    let over = [(0, foreign(), nobody()), (10, foreign(), nobody()), (11, used(&[], 0), nobody())];
    assert_eq!(after(&over), None);
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
        dirt.observe(RULES, (at(looked), at(now)), &seen, &holdings);
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

proptest! {
    /// Whatever happens: dirty is only what is in use now, and what no pod is known to hold now.
    #[test]
    fn nobody_loses_a_clean_or_a_held_device(looks in vec((0_u64..4, 0_u8..3, 0_u64..300), 1..30)) {
        let mut dirt = Dirt::default();
        let mut at = Duration::ZERO;
        for (pause, holder, mib) in looks {
            at += Duration::from_secs(pause * 4);
            let holdings = match holder { 0 => Holdings::Unknown, 1 => nobody(), _ => held("A") };
            let seen = BTreeMap::from([("A".to_owned(), used(&[], mib))]);
            dirt.observe(RULES, (at, at), &seen, &holdings);
            let is_dirty = dirt.why("A").is_some();
            prop_assert!(!(is_dirty && (holder == 2 || mib <= 128)), "{dirt:?}");
            prop_assert_eq!(dirt.all().len(), usize::from(is_dirty));
        }
        // And whatever happened before, who stays is found.
        for _ in 0..3 {
            at += RULES.grace;
            dirt.observe(RULES, (at, at), &BTreeMap::from([("A".to_owned(), used(&[7], 0))]), &nobody());
        }
        prop_assert!(dirt.why("A").is_some());
    }
}
