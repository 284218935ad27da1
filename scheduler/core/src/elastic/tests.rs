//! Of a PodGroup as many pods are placed as fit, never fewer than must start together, the oldest first; compared with every
//! way there is.

use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use crate::{
    aside::Aside,
    plan::Decision,
    testing::{World, gpus, some_way_exists},
};

/// Nodes with so many GPUs, and a PodGroup of which so many pods must start together.
fn world(free: &[i64], min_count: usize, priority: i32) -> World {
    let mut world = World::default();
    for (at, free) in free.iter().enumerate() {
        world.node(&format!("n{at}"), &gpus(*free));
    }
    let spec = json!({ "schedulingPolicy": { "gang": { "minCount": min_count } }, "priority": priority });
    world.pod_group("pg", &spec);
    world.upstream_gang("pg");
    world
}

/// A pod of it that asks for so many GPUs; the later it is made, the younger.
fn member(world: &mut World, (name, age): (&str, usize), count: i64, change: impl FnOnce(&mut Value)) {
    world.pod(name, &gpus(count), |pod| {
        pod["metadata"]["creationTimestamp"] = json!(format!("2026-01-01T00:00:{age:02}Z"));
        pod["spec"]["schedulingGroup"] = json!({ "podGroupName": "pg" });
        change(pod);
    });
}

/// Pods that ask for so many GPUs each, the oldest first: named by their age.
fn members(world: &mut World, asks: &[i64]) {
    for (age, count) in asks.iter().enumerate() {
        member(world, (&age.to_string(), age), *count, |_| ());
    }
}

/// A pod of it that uses the claim of its name, and where there is such a volume.
fn with_claim(world: &mut World, (name, age): (&str, usize), node: Option<&str>) {
    if let Some(node) = node {
        world.bound(name, &format!("volume-{name}"), |volume| {
            let expression = json!({ "key": "kubernetes.io/hostname", "operator": "In", "values": [node] });
            volume["spec"]["nodeAffinity"] =
                json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": [expression] }] } });
        });
    }
    member(world, (name, age), 1, |pod| {
        let claim = json!({ "claimName": name });
        pod["spec"]["volumes"] = json!([{ "name": "v", "persistentVolumeClaim": claim }]);
    });
}

/// Which pods one plan places, and what is said of the others.
fn plan(world: &mut World) -> (Vec<String>, Option<String>) {
    let (mut placed, mut said) = (Vec::new(), None);
    for decision in world.cluster.plan(1000) {
        match decision {
            Decision::Place { group, placements } => {
                placed.extend(placements.into_iter().map(|placement| placement.pod));
                world.cluster.set_busy(&group, false);
            }
            Decision::Hold { message, .. } => said = Some(message),
            Decision::Aside { why: Aside::Gathering { .. }, .. } => {}
            other => panic!("{other:?}"),
        }
    }
    placed.sort();
    (placed, said)
}

#[test]
fn an_old_pod_that_fits_nowhere_keeps_no_younger_one_waiting_and_is_told_why() {
    let mut world = world(&[4], 2, 0);
    members(&mut world, &[64, 1, 1]);
    assert_eq!(plan(&mut world), (vec!["1".to_owned(), "2".to_owned()], None));
    let (placed, said) = plan(&mut world);
    assert_eq!(placed, [""; 0]);
    assert!(said.unwrap().contains("needs 64 nvidia.com/gpu, 2 free"));
    member(&mut world, ("3", 3), 1, |_| ());
    assert_eq!(plan(&mut world).0, ["3"], "beyond minCount neither");
}

#[test]
fn where_the_oldest_leave_too_little_for_enough_the_smallest_are_taken() {
    let mut world = world(&[3], 3, 0);
    members(&mut world, &[2, 1, 1, 1]);
    assert_eq!(plan(&mut world).0, ["1", "2", "3"]);
    let mut world = self::world(&[3], 2, 0);
    members(&mut world, &[2, 1, 1, 1]);
    assert_eq!(plan(&mut world).0, ["0", "1"], "two are enough, and these are older");
}

#[test]
fn what_is_left_out_is_told_what_each_kind_of_it_lacks() {
    let mut world = world(&[4], 1, 0);
    members(&mut world, &[2, 2, 3, 9]);
    member(&mut world, ("4", 4), 0, |pod| pod["spec"]["nodeSelector"] = json!({ "disk": "ssd" }));
    assert_eq!(plan(&mut world).0, ["0", "1"]);
    let said = plan(&mut world).1.unwrap();
    for part in [
        "3: no room for 1 pods at once: 1 of 1 nodes may be used; needs 9 nvidia.com/gpu, 0 free",
        "2: no room for 1 pods at once: 1 of 1 nodes may be used; needs 3 nvidia.com/gpu, 0 free",
        "4: no room for 1 pods at once: 0 of 1 nodes may be used; 1 ruled out by NodeSelectorMismatch",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn of_pods_alike_one_whose_claim_is_missing_keeps_no_other_waiting() {
    let mut world = world(&[9], 2, 0);
    for (age, claim) in ["missing", "a", "lost", "b"].into_iter().enumerate() {
        with_claim(&mut world, (claim, age), (claim.len() == 1).then_some("n0"));
    }
    assert_eq!(plan(&mut world).0, ["a", "b"]);
}

/// Two nodes, one of them cordoned, and twenty pods with volumes, of which the ten oldest are on that.
fn half_closed(min_count: usize) -> World {
    let mut world = world(&[99, 99], min_count, 0);
    world.cordon("n0");
    for age in 0..20 {
        with_claim(&mut world, (&format!("{age:02}"), age), Some(if age < 10 { "n0" } else { "n1" }));
    }
    world
}

#[test]
fn of_twenty_pods_alike_the_ten_youngest_are_placed_though_the_ten_oldest_cannot_be() {
    let young: Vec<String> = (10..20).map(|age| age.to_string()).collect();
    for min_count in [1, 2, 10] {
        assert_eq!(plan(&mut half_closed(min_count)).0, young);
    }
    assert_eq!(plan(&mut half_closed(11)).0, [""; 0]);
}

#[test]
fn a_search_in_parts_comes_further_with_each_of_them_and_to_an_end() {
    for (min_count, expected) in [(1, 10), (3, 10), (11, 0)] {
        let mut world = half_closed(min_count);
        world.cluster.looks_at_once = 0;
        let (mut placed, mut plans, mut is_over) = (0, 0, false);
        while !is_over {
            let now = plan(&mut world).0.len();
            is_over = now == 0 && !world.cluster.has_more();
            (placed, plans) = (placed + now, plans + 1);
        }
        assert_eq!((placed, plans > 10), (expected, true), "{plans} plans");
        assert_eq!(plan(&mut world), (Vec::new(), None), "nothing has happened since");
    }
}

#[test]
fn a_part_of_a_search_does_not_begin_anew_when_a_pod_comes() {
    let mut world = half_closed(1);
    world.cluster.looks_at_once = 0;
    let mut placed = Vec::new();
    for plans in 0..11 {
        with_claim(&mut world, (&format!("late-{plans}"), 30), None);
        placed.extend(plan(&mut world).0);
    }
    assert_eq!(placed, ["10"]);
}

#[test]
fn a_pod_that_comes_in_place_of_one_that_was_passed_over_is_tried() {
    let mut world = world(&[4], 1, 0);
    world.cluster.looks_at_once = 0;
    members(&mut world, &[9, 8, 7]);
    assert_eq!(plan(&mut world).0, [""; 0]);
    world.cluster.remove_pod("0");
    member(&mut world, ("3", 3), 1, |_| ());
    let mut placed = plan(&mut world).0;
    while world.cluster.has_more() {
        placed.extend(plan(&mut world).0);
    }
    assert_eq!(placed, ["3"]);
}

#[test]
fn that_a_thousand_pods_of_a_thousand_kinds_do_not_fit_takes_bounded_looks() {
    let mut world = world(&[1, 1, 1], 2, 0);
    for at in 0..1000 {
        member(&mut world, (&at.to_string(), 0), 2 + at, |_| ());
    }
    let mut parts = 0;
    while parts == 0 || world.cluster.has_more() {
        let before = world.cluster.looks();
        assert_eq!(plan(&mut world).0, [""; 0]);
        assert!(world.cluster.looks() - before < 2_000_000);
        parts += 1;
    }
    assert!((2..5).contains(&parts), "{parts} parts");
}

/// Whom one plan evicts, and for whom.
fn evicts(world: &mut World) -> Option<(usize, String)> {
    match &world.cluster.plan(1000)[..] {
        [Decision::Preempt { victims, nominations, .. }] => Some((victims.len(), nominations[0].pod.clone())),
        [] | [Decision::Hold { .. }] => None,
        others => panic!("{others:?}"),
    }
}

/// A node with four pods of low priority, and a group of three kinds, of which others can be evicted for the youngest alone.
fn three_kinds() -> World {
    let mut world = world(&[4], 1, 5);
    for low in 0..4 {
        world.ranked_pod(&format!("low-{low}"), 0, (1, Some("n0")), |_| ());
    }
    for (age, (name, count, disk)) in
        [("a", 2, "ssd"), ("b", 1, "tape"), ("c", 4, "")].into_iter().enumerate()
    {
        member(&mut world, (name, age), count, |pod| {
            pod["spec"]["priority"] = json!(5);
            if !disk.is_empty() {
                pod["spec"]["nodeSelector"] = json!({ "disk": disk });
            }
        });
    }
    world
}

#[test]
fn beyond_min_count_others_are_evicted_for_the_oldest_of_each_kind_one_after_the_other() {
    assert_eq!(evicts(&mut three_kinds()), Some((4, "c".to_owned())));
}

#[test]
fn a_search_whom_to_evict_that_took_too_long_goes_on_with_the_kinds_that_are_left() {
    let mut world = three_kinds();
    world.cluster.looks_at_once = 0;
    let mut found = Vec::new();
    for more in ["x", "y", "z"] {
        found.extend(evicts(&mut world));
        while world.cluster.has_more() {
            found.extend(evicts(&mut world));
        }
        // Another node may help.
        world.node(more, &gpus(0));
        world.ranked_pod(&format!("low-{more}"), 0, (0, Some(more)), |_| ());
    }
    assert_eq!(found, [(4, "c".to_owned())]);
}

#[test]
fn others_are_evicted_for_those_that_fit_then_and_the_room_is_kept_for_these() {
    let mut world = world(&[2], 2, 5);
    world.ranked_pod("low", 0, (2, Some("n0")), |_| ());
    for (age, count) in [64, 1, 1].into_iter().enumerate() {
        member(&mut world, (&age.to_string(), age), count, |pod| pod["spec"]["priority"] = json!(5));
    }
    let decisions = world.cluster.plan(1000);
    let [Decision::Preempt { victims, nominations, .. }] = &decisions[..] else { panic!("{decisions:?}") };
    let nominated: Vec<&str> = nominations.iter().map(|nomination| &*nomination.pod).collect();
    assert_eq!((victims.len(), nominated), (1, vec!["1", "2"]));
    world.cluster.set_busy("ns/podgroup:pg", false);
    let (placed, said) = plan(&mut world);
    assert_eq!((placed.len(), said.unwrap().contains("waits for 1 pods to end")), (0, true));
    assert_eq!(world.cluster.kept(), 2);
    world.cluster.remove_pod("low");
    assert_eq!(plan(&mut world).0, ["1", "2"]);
}

proptest! {
    /// With one resource, the smallest pods fit wherever as many others do.
    #[test]
    fn enough_are_placed_if_they_can_be_and_nobody_who_fits_beside_them_is_left_out(
        free in vec(0_i64..6, 1..4), asks in vec(1_i64..4, 1..8), running in 0_usize..3, min_count in 1_usize..7,
        is_in_parts: bool,
    ) {
        let mut world = world(&free, min_count, 0);
        if is_in_parts {
            world.cluster.looks_at_once = 0;
        }
        world.node("full", &gpus(0));
        for at in 0..running {
            member(&mut world, (&format!("running-{at}"), 0), 0, |pod| pod["spec"]["nodeName"] = json!("full"));
        }
        members(&mut world, &asks);
        let (mut placed, _) = plan(&mut world);
        for _ in 0..if is_in_parts { 3 * asks.len() } else { 0 } {
            placed.extend(plan(&mut world).0);
        }
        let fits = |pods: &[i64]| some_way_exists(&mut free.clone(), pods);
        let enough = min_count.saturating_sub(running).max(1);
        let mut smallest = asks.clone();
        smallest.sort_unstable();
        let can_be = enough <= asks.len() && fits(&smallest[..enough]);
        prop_assert_eq!(can_be, !placed.is_empty());
        prop_assert!(!can_be || placed.len() >= enough);
        let is_placed = |age: usize| placed.contains(&age.to_string());
        let chosen: Vec<i64> =
            asks.iter().enumerate().filter(|(age, _)| is_placed(*age)).map(|(_, ask)| *ask).collect();
        prop_assert!(fits(&chosen));
        // Who was placed by one part isn't moved for those whom the next one takes.
        let is_left_out = |(age, _): &(usize, &i64)| can_be && !is_in_parts && !is_placed(*age);
        for (age, ask) in asks.iter().enumerate().filter(is_left_out) {
            prop_assert!(!fits(&[&chosen[..], &[*ask]].concat()), "{} is left out", age);
            prop_assert!(!(age..asks.len()).any(|other| asks[other] == *ask && is_placed(other)), "a younger one is placed");
        }
        prop_assert_eq!(plan(&mut world).0.len(), 0, "one plan takes all that fit");
    }
}
