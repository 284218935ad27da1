//! Pods of upstream PodGroups: together, singly, or not at all; whatever was heard of first.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    aside::Aside,
    plan::Decision,
    testing::{World, gpus},
};

fn gang_of(min_count: i32) -> Value {
    json!({ "schedulingPolicy": { "gang": { "minCount": min_count } } })
}

fn basic() -> Value {
    json!({ "schedulingPolicy": { "basic": {} } })
}

fn member(world: &mut World, name: &str, change: impl FnOnce(&mut Value)) {
    world.pod(name, &gpus(1), |pod| {
        pod["spec"]["schedulingGroup"] = json!({ "podGroupName": "pg" });
        change(pod);
    });
}

/// One node of so many GPUs, and so many pods of the PodGroup.
fn world(gpus_free: i64, pods: usize) -> World {
    let mut world = World::default();
    world.node("n", &gpus(gpus_free));
    (0..pods).for_each(|at| member(&mut world, &format!("p{at}"), |_| ()));
    world
}

/// What a plan says, one line a group.
fn plan(world: &mut World) -> Vec<String> {
    let line = |decision: &Decision| match decision {
        Decision::Place { group, placements } => format!("{group} places {}", placements.len()),
        Decision::Hold { group, .. } => format!("{group} held"),
        Decision::Preempt { group, .. } => format!("{group} preempts"),
        Decision::Aside { group, why } => match why {
            Aside::Refused(why) => format!("{group} refused: {}", why.field),
            Aside::NoGang { uid, min_count, .. } => format!("{group} needs a gang for {uid} of {min_count}"),
            Aside::Awaits(what) => format!("{group} awaits: {what}"),
            other => format!("{group} {other:?}"),
        },
    };
    let mut lines: Vec<String> = world.cluster.plan(1000).iter().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn pods_of_a_gang_wait_for_their_podgroup_then_for_their_gang_and_then_for_each_other() {
    let mut world = world(9, 1);
    assert_eq!(plan(&mut world), [""; 0], "whether there are PodGroups isn't known");
    world.cluster.set_pod_groups_served(Served::Yes);
    assert_eq!(plan(&mut world), ["ns/podgroup:pg awaits: PodGroup pg doesn't exist (yet)"]);
    assert_eq!(plan(&mut world), [""; 0], "it isn't said twice");
    world.pod_group("pg", &gang_of(2));
    assert_eq!(plan(&mut world), ["ns/podgroup:pg needs a gang for uid-pg of 2"]);
    world.upstream_gang("pg");
    assert_eq!(plan(&mut world), ["ns/podgroup:pg Gathering { there: 1, needed: 2, failed: 0 }"]);
    member(&mut world, "p1", |_| ());
    assert_eq!(plan(&mut world), ["ns/podgroup:pg places 2"]);
}

#[test]
fn min_count_is_the_podgroups_whatever_the_gang_said_when_it_was_made() {
    let mut world = world(9, 2);
    world.upstream_gang("pg");
    world.pod_group("pg", &gang_of(3));
    assert_eq!(plan(&mut world), ["ns/podgroup:pg Gathering { there: 2, needed: 3, failed: 0 }"]);
    world.pod_group("pg", &gang_of(2));
    assert_eq!(plan(&mut world), ["ns/podgroup:pg places 2"]);
}

#[test]
fn more_pods_than_min_count_are_placed_as_far_as_there_is_room_but_never_fewer() {
    let mut world = world(4, 6);
    world.pod_group("pg", &gang_of(3));
    world.upstream_gang("pg");
    assert_eq!(plan(&mut world), ["ns/podgroup:pg places 4"]);
    world.cluster.set_busy("ns/podgroup:pg", false);
    assert_eq!(plan(&mut world), ["ns/podgroup:pg held"]);

    let mut world = self::world(2, 6);
    world.pod_group("pg", &gang_of(3));
    world.upstream_gang("pg");
    assert_eq!(plan(&mut world), ["ns/podgroup:pg held"]);
}

#[test]
fn a_gang_of_the_same_name_is_not_the_podgroups_and_neither_is_one_of_an_earlier_podgroup() {
    let mut world = world(9, 1);
    world.gang("pg", &[&gpus(1)]);
    world.pod_group("pg", &gang_of(1));
    assert_eq!(plan(&mut world), ["ns/pg places 1", "ns/podgroup:pg needs a gang for uid-pg of 1"]);
    let (key, pod_group) = ("ns/podgroup:pg".to_owned(), Some("earlier".to_owned()));
    world.cluster.set_gang(GangFacts { key, pod_group, ..GangFacts::default() });
    let awaits =
        "ns/podgroup:pg awaits: Gang pg was made for an earlier PodGroup of that name, and is still there";
    assert_eq!(plan(&mut world), [awaits]);
}

#[test]
fn pods_of_a_basic_podgroup_are_placed_singly() {
    let mut world = world(1, 2);
    world.pod_group("pg", &basic());
    assert_eq!(plan(&mut world), ["ns/pod:p0 places 1", "ns/pod:p1 held"]);
    assert_eq!(world.cluster.placed_of_pod_group("ns/podgroup:pg"), None);
    world.cluster.set_busy("ns/pod:p0", false);
    member(&mut world, "p0", |pod| pod["spec"]["nodeName"] = json!("n"));
    assert_eq!(world.cluster.placed_of_pod_group("ns/podgroup:pg"), Some(1));
}

#[test]
fn where_there_are_no_podgroups_their_pods_are_refused_one_by_one_by_the_field() {
    let mut world = world(9, 1);
    world.pod_group("pg", &basic());
    world.cluster.set_pod_groups_served(Served::No);
    assert_eq!(plan(&mut world), ["ns/pod:p0 refused: spec.schedulingGroup"]);
    world.cluster.set_pod_groups_served(Served::Yes);
    assert_eq!(plan(&mut world), ["ns/podgroup:pg awaits: PodGroup pg doesn't exist (yet)"]);
}

#[test]
fn a_podgroup_that_is_not_understood_keeps_all_its_pods_from_being_placed() {
    let mut world = world(9, 2);
    let mut spec = basic();
    spec["schedulingConstraints"] = json!({ "topology": [{ "key": "rack" }] });
    world.pod_group("pg", &spec);
    let refused = "ns/podgroup:pg refused: PodGroup pg: spec.schedulingConstraints.topology";
    assert_eq!(plan(&mut world), [refused]);
    world.pod_group("pg", &basic());
    assert_eq!(plan(&mut world), ["ns/pod:p0 places 1", "ns/pod:p1 places 1"]);
}

#[test]
fn one_pod_that_is_not_as_the_podgroup_says_keeps_the_others_waiting_until_it_is_gone() {
    type Change = fn(&mut Value);
    let changes: [(Change, &str); 3] = [
        (|pod| pod["spec"]["schedulerName"] = json!("default-scheduler"), "spec.schedulerName"),
        (|pod| pod["spec"]["priority"] = json!(1), "spec.priority"),
        (|pod| pod["spec"]["preemptionPolicy"] = json!("Never"), "spec.preemptionPolicy"),
    ];
    for policy in [gang_of(1), basic()] {
        for (change, field) in changes {
            let mut world = world(9, 1);
            let mut spec = policy.clone();
            spec["preemptionPolicy"] = json!("PreemptLowerPriority");
            world.pod_group("pg", &spec);
            if policy == gang_of(1) {
                world.upstream_gang("pg");
            }
            member(&mut world, "odd", change);
            let told = plan(&mut world);
            assert!(told.iter().all(|line| line.ends_with(&format!("refused: {field}"))), "{told:?}");
            world.cluster.remove_pod("odd");
            let told = plan(&mut world);
            assert!(told.len() == 1 && told[0].ends_with("places 1"), "{told:?}");
        }
    }
}

#[test]
fn pods_that_wait_for_room_are_told_when_one_comes_that_is_not_as_their_podgroup_says() {
    for (policy, group) in [(gang_of(1), "ns/podgroup:pg"), (basic(), "ns/pod:p0")] {
        let mut world = world(0, 1);
        world.pod_group("pg", &policy);
        if policy == gang_of(1) {
            world.upstream_gang("pg");
        }
        assert_eq!(plan(&mut world), [format!("{group} held")]);
        member(&mut world, "odd", |pod| pod["spec"]["schedulerName"] = json!("default-scheduler"));
        assert_eq!(plan(&mut world), [format!("{group} refused: spec.schedulerName")]);
        // It has ended: the others are on their own again.
        member(&mut world, "odd", |pod| {
            pod["spec"]["schedulerName"] = json!("default-scheduler");
            pod["status"]["phase"] = json!("Failed");
        });
        assert_eq!(plan(&mut world), [format!("{group} held")]);
    }
}

#[test]
fn it_is_placed_when_enough_of_its_pods_are_on_nodes_and_nothing_is_under_way() {
    let mut world = world(9, 3);
    world.pod_group("pg", &gang_of(2));
    world.upstream_gang("pg");
    let placed = |world: &World| world.cluster.placed_of_pod_group("ns/podgroup:pg");
    assert_eq!(plan(&mut world), ["ns/podgroup:pg places 3"]);
    member(&mut world, "p0", |pod| pod["spec"]["nodeName"] = json!("n"));
    assert_eq!(placed(&world), None);
    member(&mut world, "p1", |pod| pod["spec"]["nodeName"] = json!("n"));
    assert_eq!(placed(&world), None, "its plan is being carried out");
    world.cluster.set_busy("ns/podgroup:pg", false);
    assert_eq!(placed(&world), Some(2));
    member(&mut world, "foreign", |pod| pod["spec"]["schedulerName"] = json!("default-scheduler"));
    assert_eq!(placed(&world), None);
}

/// A pod of the PodGroup that was bound, in that phase.
fn ended(world: &mut World, name: &str, phase: &str) {
    member(world, name, |pod| {
        pod["spec"]["nodeName"] = json!("n");
        pod["status"]["phase"] = json!(phase);
    });
}

/// A PodGroup whose pods must start four at a time; so many of them have failed or succeeded, and so many run.
fn four(gpus_free: i64, (failed, succeeded, running): (usize, usize, usize)) -> World {
    let mut world = world(gpus_free, 0);
    world.pod_group("pg", &gang_of(4));
    world.upstream_gang("pg");
    (0..failed).for_each(|at| ended(&mut world, &format!("failed-{at}"), "Failed"));
    (0..succeeded).for_each(|at| ended(&mut world, &format!("succeeded-{at}"), "Succeeded"));
    (0..running).for_each(|at| ended(&mut world, &format!("running-{at}"), "Running"));
    world
}

#[test]
fn what_takes_the_place_of_failed_pods_starts_together_and_alone_only_beside_enough_that_run() {
    let mut world = four(3, (4, 0, 0));
    assert_eq!(world.cluster.bound_of("ns/podgroup:pg"), 0);
    member(&mut world, "again-0", |_| ());
    assert_eq!(plan(&mut world), ["ns/podgroup:pg Gathering { there: 1, needed: 4, failed: 4 }"]);
    (1..4).for_each(|at| member(&mut world, &format!("again-{at}"), |_| ()));
    assert_eq!(plan(&mut world), ["ns/podgroup:pg held"], "there is room for three");
    world.node("n", &gpus(4));
    assert_eq!(plan(&mut world), ["ns/podgroup:pg places 4"]);

    let mut world = four(9, (1, 0, 3));
    member(&mut world, "again", |_| ());
    assert_eq!(plan(&mut world), ["ns/podgroup:pg places 1"], "three others of the four run");

    let mut world = four(9, (2, 0, 2));
    member(&mut world, "again-0", |_| ());
    assert_eq!(plan(&mut world), ["ns/podgroup:pg Gathering { there: 3, needed: 4, failed: 2 }"]);
    member(&mut world, "again-1", |_| ());
    assert_eq!(plan(&mut world), ["ns/podgroup:pg places 2"]);
}

#[test]
fn pods_that_have_succeeded_had_their_places_and_who_comes_after_them_may_start_alone() {
    let mut world = four(9, (0, 3, 1));
    member(&mut world, "next", |_| ());
    assert_eq!(plan(&mut world), ["ns/podgroup:pg places 1"]);
}

#[test]
fn where_a_plan_has_sent_a_pod_is_known_also_when_it_has_failed_there() {
    let mut world = four(9, (2, 1, 0));
    let (key, pod_group) = ("ns/podgroup:pg".to_owned(), Some("uid-pg".to_owned()));
    let journal = vec![("failed-1".to_owned(), "n".to_owned())];
    world.cluster.set_gang(GangFacts { key, pod_group, journal, ..GangFacts::default() });
    let members = world.cluster.bound_members("ns/podgroup:pg");
    let uids: Vec<&str> = members.iter().map(|(uid, ..)| &**uid).collect();
    assert_eq!(uids, ["failed-1", "succeeded-0"]);
}

#[test]
fn a_podgroup_whose_pods_have_failed_does_not_have_its_places() {
    let placed = |counts| four(9, counts).cluster.placed_of_pod_group("ns/podgroup:pg");
    assert_eq!([placed((4, 0, 0)), placed((1, 0, 3)), placed((2, 1, 3))], [None, None, Some(4)]);
    // One that failed keeps those from being said to have their places that are placed singly, neither.
    let mut world = world(9, 0);
    world.pod_group("pg", &basic());
    ended(&mut world, "failed", "Failed");
    assert_eq!(world.cluster.placed_of_pod_group("ns/podgroup:pg"), None);
    ended(&mut world, "runs", "Running");
    assert_eq!(world.cluster.placed_of_pod_group("ns/podgroup:pg"), Some(1));
}

/// Something that is heard of a PodGroup, its gang or its pods.
#[derive(Clone, Debug)]
enum Heard {
    Served(Served),
    PodGroup(Option<Value>),
    Gang(bool),
    Pod { pod: usize, is_ours: bool, priority: i32, is_bound: bool },
    PodGone(usize),
}

fn heard() -> impl Strategy<Value = Heard> {
    let served = prop_oneof![Just(Served::Unknown), Just(Served::No), Just(Served::Yes), Just(Served::Yes)];
    let spec = prop_oneof![Just(gang_of(2)), Just(basic()), Just(json!({ "schedulingPolicy": {} }))];
    prop_oneof![
        served.prop_map(Heard::Served),
        proptest::option::weighted(0.8, spec).prop_map(Heard::PodGroup),
        any::<bool>().prop_map(Heard::Gang),
        (0_usize..3, proptest::bool::weighted(0.8), 0_i32..2, any::<bool>()).prop_map(
            |(pod, is_ours, priority, is_bound)| Heard::Pod {
                pod,
                is_ours,
                priority: priority * priority,
                is_bound
            }
        ),
        (0_usize..3).prop_map(Heard::PodGone),
    ]
}

fn hear(world: &mut World, heard: &Heard) {
    match heard {
        Heard::Served(served) => world.cluster.set_pod_groups_served(*served),
        Heard::PodGroup(None) => world.cluster.remove_pod_group("ns/podgroup:pg"),
        Heard::PodGroup(Some(spec)) => {
            let metadata = json!({ "name": "pg", "namespace": "ns", "uid": "uid-pg" });
            let group = json!({ "metadata": metadata, "spec": spec });
            world.cluster.set_pod_group(&serde_json::from_value(group).unwrap());
        }
        Heard::Gang(true) => world.upstream_gang("pg"),
        Heard::Gang(false) => world.cluster.remove_gang("ns/podgroup:pg"),
        Heard::Pod { pod, is_ours, priority, is_bound } => member(world, &format!("p{pod}"), |pod| {
            pod["spec"]["priority"] = json!(priority);
            if !is_ours {
                pod["spec"]["schedulerName"] = json!("default-scheduler");
            }
            if *is_bound {
                pod["spec"]["nodeName"] = json!("n");
            }
        }),
        Heard::PodGone(pod) => world.cluster.remove_pod(&format!("p{pod}")),
    }
}

proptest! {
    /// The last that was heard of each thing decides, in whatever order it was heard.
    #[test]
    fn the_order_in_which_things_are_heard_changes_nothing(
        events in proptest::collection::vec(heard(), 1..14), seed in any::<u64>(),
    ) {
        let about = |heard: &Heard| match heard {
            Heard::Served(_) => 0,
            Heard::PodGroup(_) => 1,
            Heard::Gang(_) => 2,
            Heard::Pod { pod, .. } | Heard::PodGone(pod) => 3 + pod,
        };
        let mut last: BTreeMap<usize, &Heard> = BTreeMap::new();
        let mut built = world(2, 0);
        for event in &events {
            hear(&mut built, event);
            last.insert(about(event), event);
        }
        // That the API server has no PodGroups ends all that was heard of them before.
        let mut others: Vec<&Heard> = last.into_values().collect();
        let forgets = events.iter().rposition(|event| matches!(event, Heard::Served(Served::No)));
        if let Some(forgets) = forgets && !events[forgets..].iter().any(|event| matches!(event, Heard::PodGroup(_))) {
            others.retain(|event| !matches!(event, Heard::PodGroup(_)));
        }
        let at = usize::try_from(seed % 7).unwrap() % others.len();
        others.rotate_left(at);
        if let Some(no) = others.iter().position(|event| matches!(event, Heard::Served(Served::No))) {
            let no = others.remove(no);
            others.insert(0, no);
        }
        let mut fresh = world(2, 0);
        others.into_iter().for_each(|event| hear(&mut fresh, event));
        prop_assert_eq!(
            built.cluster.placed_of_pod_group("ns/podgroup:pg"),
            fresh.cluster.placed_of_pod_group("ns/podgroup:pg")
        );
        // Of several pods that aren't as the PodGroup says, any may be named.
        let told = |world: &mut World| -> Vec<String> {
            let any = |line: String| match line.split_once("refused: ") {
                Some((group, field)) if field != "spec.schedulingGroup" && field.starts_with("spec.") => {
                    format!("{group}refused: odd")
                }
                _ => line,
            };
            plan(world).into_iter().map(any).collect()
        };
        prop_assert_eq!(told(&mut built), told(&mut fresh));
    }
}
