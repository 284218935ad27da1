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
        if claim.len() == 1 {
            world.bound(claim, &format!("volume-{claim}"), |_| ());
        }
        member(&mut world, (claim, age), 1, |pod| {
            pod["spec"]["volumes"] =
                json!([{ "name": "v", "persistentVolumeClaim": { "claimName": claim } }]);
        });
    }
    assert_eq!(plan(&mut world).0, ["a", "b"]);
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
    ) {
        let mut world = world(&free, min_count, 0);
        world.node("full", &gpus(0));
        for at in 0..running {
            member(&mut world, (&format!("running-{at}"), 0), 0, |pod| pod["spec"]["nodeName"] = json!("full"));
        }
        members(&mut world, &asks);
        let (placed, _) = plan(&mut world);
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
        for (age, ask) in asks.iter().enumerate().filter(|(age, _)| can_be && !is_placed(*age)) {
            prop_assert!(!fits(&[&chosen[..], &[*ask]].concat()), "{} is left out", age);
            prop_assert!(!(age..asks.len()).any(|other| asks[other] == *ask && is_placed(other)), "a younger one is placed");
        }
        prop_assert_eq!(plan(&mut world).0.len(), 0, "one plan takes all that fit");
    }
}
