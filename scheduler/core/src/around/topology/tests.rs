//! Gangs that must be in one rack, or each part of them in one: they find those with room among many that are fuller.

use serde_json::{Value, json};

use crate::{plan::Decision, testing::World};

/// Nodes of one zone, in a rack each.
fn racks(free: &[i64]) -> World {
    let mut world = World::of_gpus(free);
    for at in 0..free.len() {
        world.change_node(&format!("n{at}"), |node| {
            node["metadata"]["labels"]["rack"] = json!(format!("r{at}"));
            node["metadata"]["labels"]["zone"] = json!("z");
        });
    }
    world
}

/// Pods that want those with this label near, by the labels of these topologies.
fn near((label, value): (&str, &str), topologies: &[&str]) -> Value {
    let term =
        |key: &&str| json!({ "labelSelector": { "matchLabels": { label: value } }, "topologyKey": key });
    let terms: Vec<Value> = topologies.iter().map(term).collect();
    json!({ "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } })
}

const GANG: (&str, &str) = ("compute.plasma.dev/gang", "g");

/// A gang with these pods: what each asks for, and what its part of the gang is called.
fn gang(world: &mut World, pods: &[(i64, usize)], affinity: impl Fn(&str) -> Value) {
    world.gang_of_gpus("g", &pods.iter().map(|(count, _)| *count).collect::<Vec<_>>());
    for (at, (count, part)) in pods.iter().enumerate() {
        let part = part.to_string();
        world.ranked_pod(&format!("g-{at}"), 10, (*count, None), |pod| {
            pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "g", "part": part });
            pod["spec"]["affinity"] = affinity(&part);
        });
    }
}

/// A pod of lower priority on each of the first nodes.
fn low(world: &mut World, nodes: usize) {
    for at in 0..nodes {
        world.ranked_pod(&format!("low{at}"), 0, (1, Some(&format!("n{at}"))), |_| {});
    }
}

/// The nodes that a gang gets.
fn places(world: &mut World) -> Vec<String> {
    let decisions = world.cluster.plan(1000);
    let Some(Decision::Place { placements, .. }) = decisions.first() else { panic!("{decisions:?}") };
    let mut nodes: Vec<String> = placements.iter().map(|place| place.node.clone()).collect();
    nodes.dedup();
    nodes
}

fn victims(world: &mut World) -> usize {
    let decisions = world.cluster.plan(1000);
    let Some(Decision::Preempt { victims, .. }) = decisions.first() else { panic!("{decisions:?}") };
    victims.len()
}

#[test]
fn a_gang_for_one_rack_finds_the_one_with_room_and_evicts_nobody_for_another() {
    for pods in [vec![(1, 0); 4], [vec![(2, 0)], vec![(1, 0); 10]].concat()] {
        let needed: i64 = pods.iter().map(|(count, _)| count).sum();
        for nobody_else in [true, false] {
            let mut world = racks(&[vec![needed - i64::from(nobody_else); 70], vec![16]].concat());
            low(&mut world, if nobody_else { 0 } else { 70 });
            gang(&mut world, &pods, |_| near(GANG, &["rack"]));
            assert_eq!(places(&mut world), ["n70"]);
        }
    }
}

#[test]
fn one_rack_is_cleared_where_that_is_enough() {
    for pods in [vec![(1, 0); 4], [vec![(2, 0)], vec![(1, 0); 10]].concat()] {
        let needed: i64 = pods.iter().map(|(count, _)| count).sum();
        let mut world = racks(&[needed; 70]);
        low(&mut world, 70);
        gang(&mut world, &pods, |_| near(GANG, &["rack"]));
        assert_eq!(victims(&mut world), 1);
    }
}

#[test]
fn of_several_topologies_the_smallest_is_begun_in() {
    for keys in [["zone", "rack"], ["rack", "zone"]] {
        let mut world = racks(&[vec![3; 20], vec![16]].concat());
        gang(&mut world, &[(1, 0); 9], |_| near(GANG, &keys));
        assert_eq!(places(&mut world), ["n20"]);
    }
}

#[test]
fn a_rack_has_room_for_as_many_as_it_has_hosts_where_each_wants_one_for_itself() {
    let mut world = racks(&[vec![12; 70], vec![13; 10]].concat());
    for at in 70..80 {
        world.change_node(&format!("n{at}"), |node| node["metadata"]["labels"]["rack"] = json!("large"));
    }
    gang(&mut world, &[(1, 0); 9], |_| {
        let mut affinity = near(GANG, &["rack"]);
        let apart = near(GANG, &["kubernetes.io/hostname"])["podAffinity"].take();
        affinity["podAntiAffinity"] = apart;
        affinity
    });
    assert_eq!(places(&mut world).len(), 9);
}

#[test]
fn each_part_of_a_gang_begins_where_it_has_room() {
    let in_one_rack = |part: &str| near(("part", part), &["rack"]);
    let parts: Vec<(i64, usize)> = (0..16).map(|at| (1, at / 8)).collect();
    let mut world = racks(&[3, 8, 8]);
    gang(&mut world, &parts, in_one_rack);
    assert_eq!(places(&mut world), ["n1", "n2"]);
    let mut world = racks(&[8, 8, 8]);
    low(&mut world, 1);
    gang(&mut world, &parts, in_one_rack);
    assert_eq!(places(&mut world), ["n1", "n2"]);
}

#[test]
fn parts_that_want_a_rack_for_themselves_get_one_each() {
    let mut world = racks(&[8, 8, 8]);
    let parts: Vec<(i64, usize)> = (0..10).map(|at| (1, at / 5)).collect();
    gang(&mut world, &parts, |part| {
        let mut affinity = near(("part", part), &["rack"]);
        let others = json!([{ "key": "part", "operator": "Exists" }, { "key": "part", "operator": "NotIn", "values": [part] }]);
        affinity["podAntiAffinity"] = json!({ "requiredDuringSchedulingIgnoredDuringExecution": [
            { "labelSelector": { "matchExpressions": others }, "topologyKey": "rack" }] });
        affinity
    });
    assert_eq!(places(&mut world).len(), 2);
}

#[test]
fn a_pod_made_anew_is_told_that_the_rack_of_the_others_is_full() {
    let mut world = racks(&[2, 4]);
    gang(&mut world, &[(1, 0), (1, 0)], |_| near(GANG, &["rack"]));
    world.ranked_pod("g-0", 10, (1, Some("n0")), |pod| {
        pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "g", "part": "0" });
    });
    world.ranked_pod("other", 10, (1, Some("n0")), |_| {});
    let decisions = world.cluster.plan(1000);
    let Some(Decision::Hold { message, .. }) = decisions.first() else { panic!("{decisions:?}") };
    assert!(message.contains("PodAffinityMismatch rack"), "{message}");
}

#[test]
fn where_nothing_can_come_of_it_nothing_is_tried() {
    let looks = |affinity: fn(&str) -> Value| {
        let mut world = racks(&[3; 70]);
        gang(&mut world, &[(1, 0); 4], affinity);
        let before = world.cluster.looks();
        assert!(matches!(world.cluster.plan(1000).first(), Some(Decision::Hold { .. })));
        world.cluster.looks() - before
    };
    // Of seventy nodes each is looked at some times, and not seventy times.
    assert!(looks(|_| near(GANG, &["rack"])) < 70 * 20);
    assert!(looks(|_| near(("app", "nobody"), &["rack"])) < 70 * 20);
}
