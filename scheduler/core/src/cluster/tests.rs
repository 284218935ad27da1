//! The state that events build up is the one that a fresh list would give, whatever came before.

use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use super::*;
use crate::testing::{World, gpus};

/// Something that happens to a cluster of three nodes and six pods.
#[derive(Clone, Debug)]
enum Happens {
    Node { node: usize, gpus: i64, cordoned: bool },
    NodeGone(usize),
    Pod { pod: usize, gpus: i64, node: Option<usize>, phase: &'static str },
    PodGone(usize),
    Assumed { pod: usize, node: usize },
    Released(usize),
    Forgotten,
}

fn happens() -> impl Strategy<Value = Happens> {
    let phase = prop_oneof![Just("Pending"), Just("Running"), Just("Succeeded"), Just("Failed")];
    prop_oneof![
        (0_usize..3, 0_i64..9, any::<bool>()).prop_map(|(node, gpus, cordoned)| Happens::Node {
            node,
            gpus,
            cordoned
        }),
        (0_usize..3).prop_map(Happens::NodeGone),
        (0_usize..6, 0_i64..4, proptest::option::of(0_usize..4), phase)
            .prop_map(|(pod, gpus, node, phase)| Happens::Pod { pod, gpus, node, phase }),
        (0_usize..6).prop_map(Happens::PodGone),
        (0_usize..6, 0_usize..3).prop_map(|(pod, node)| Happens::Assumed { pod, node }),
        (0_usize..6).prop_map(Happens::Released),
        Just(Happens::Forgotten),
    ]
}

fn pod(index: usize, gpus: i64, node: Option<usize>, phase: &str) -> impl FnOnce(&mut Value) {
    let phase = phase.to_owned();
    move |pod: &mut Value| {
        pod["metadata"]["name"] = json!(format!("p{index}"));
        pod["spec"]["containers"][0]["resources"]["requests"] = json!({ "nvidia.com/gpu": gpus.to_string() });
        pod["status"]["phase"] = json!(phase);
        if let Some(node) = node {
            pod["spec"]["nodeName"] = json!(format!("n{node}"));
        }
    }
}

fn apply(world: &mut World, event: &Happens) {
    let (name, uid) = (|node: usize| format!("n{node}"), |pod: usize| format!("p{pod}"));
    match *event {
        Happens::Node { node, gpus: count, cordoned } => {
            world.node(&name(node), &gpus(count));
            if cordoned {
                world.cordon(&name(node));
            }
        }
        Happens::NodeGone(node) => world.cluster.remove_node(&name(node)),
        Happens::Pod { pod: index, gpus, node, phase } => {
            world.pod(&uid(index), &[], pod(index, gpus, node, phase))
        }
        Happens::PodGone(index) => world.cluster.remove_pod(&uid(index)),
        Happens::Assumed { pod, node } => world.cluster.assume(&uid(pod), &name(node)),
        Happens::Released(pod) => world.cluster.release(&uid(pod)),
        Happens::Forgotten => world.cluster.forget_unused(),
    }
}

/// What is free on each node that exists, and how many pods count there.
fn free(cluster: &mut Cluster) -> Vec<(String, i64, i64, usize)> {
    let gpu = cluster.shared.resources.id("nvidia.com/gpu");
    let mut free: Vec<_> = cluster
        .existing()
        .map(|(_, node)| {
            (
                node.name.to_string(),
                node.free(gpu),
                node.free(crate::amounts::ResourceId::PODS),
                node.pods.len(),
            )
        })
        .collect();
    free.sort();
    free
}

proptest! {
    #[test]
    fn events_add_up_to_what_a_fresh_list_shows(events in vec(happens(), 1..60)) {
        let mut world = World::default();
        events.iter().for_each(|event| apply(&mut world, event));
        // What is left of each thing in the end, told to a cluster that knows nothing of what came before.
        let mut fresh = World::default();
        for node in 0..3 {
            let last = events.iter().rev().find(|event| matches!(event, Happens::Node { node: n, .. } | Happens::NodeGone(n) if *n == node));
            last.into_iter().filter(|event| matches!(event, Happens::Node { .. })).for_each(|event| apply(&mut fresh, event));
        }
        for pod in 0..6 {
            let last = events.iter().rev().find(|event| matches!(event, Happens::Pod { pod: p, .. } | Happens::PodGone(p) if *p == pod));
            last.into_iter().filter(|event| matches!(event, Happens::Pod { .. })).for_each(|event| apply(&mut fresh, event));
            let uid = format!("p{pod}");
            if let Some(assumed) = world.cluster.known_by_uid(&uid).and_then(|known| known.assumed) {
                let node = world.cluster.nodes[assumed.index()].name.to_string();
                fresh.cluster.assume(&uid, &node);
            }
        }
        prop_assert_eq!(free(&mut world.cluster), free(&mut fresh.cluster));
        prop_assert_eq!(&world.cluster.queue, &fresh.cluster.queue);
        let plans = (world.cluster.plan(100), fresh.cluster.plan(100));
        let placed = |plan: &[crate::Decision]| plan.iter().filter(|d| matches!(d, crate::Decision::Place { .. })).count();
        prop_assert_eq!(placed(&plans.0), placed(&plans.1), "{:?} {:?}", plans.0, plans.1);
    }
}

#[test]
fn where_the_api_server_knows_a_pod_is_where_it_is() {
    let mut world = World::default();
    world.node("a", &gpus(1));
    world.node("b", &gpus(1));
    world.pod("p", &gpus(1), |_| ());
    world.cluster.assume("p", "a");
    assert_eq!(world.cluster.node_of("p"), Some("a"));
    world.pod("p", &gpus(1), |_| ());
    assert_eq!(world.cluster.node_of("p"), Some("a"), "a late event doesn't undo what we did");
    world.pod("p", &gpus(1), |pod| pod["spec"]["nodeName"] = json!("b"));
    assert_eq!(world.cluster.node_of("p"), Some("b"));
    world.cluster.release("p");
    assert_eq!(world.cluster.node_of("p"), Some("b"));
    let gpu =
        |world: &mut World| free(&mut world.cluster).into_iter().map(|(_, gpu, ..)| gpu).collect::<Vec<_>>();
    assert_eq!(gpu(&mut world), [1, 0]);
}

#[test]
fn a_journalled_plan_holds_its_nodes_whether_its_pods_are_known_before_or_after() {
    let facts = |journal: &[(&str, &str)]| GangFacts {
        key: "ns/g".to_owned(),
        min_member: 2,
        journal: journal.iter().map(|(uid, node)| ((*uid).to_owned(), (*node).to_owned())).collect(),
        ..GangFacts::default()
    };
    let mut world = World::default();
    world.node("a", &gpus(2));
    let member = |pod: &mut Value| pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "g" });
    world.pod("before", &gpus(1), member);
    world.cluster.set_gang(facts(&[("before", "a"), ("after", "a")]));
    world.pod("after", &gpus(1), member);
    assert_eq!(free(&mut world.cluster)[0].1, 0);
    assert_eq!(world.cluster.plan(10), [], "the plan is carried out, not made anew");
    world.cluster.set_gang(facts(&[]));
    assert_eq!(free(&mut world.cluster)[0].1, 0, "the watch of pods may be behind that of gangs");
    world.cluster.give_up("ns/g", ["before", "after"]);
    assert_eq!(free(&mut world.cluster)[0].1, 2);
    assert_eq!(world.cluster.plan(10).len(), 1);
}

#[test]
fn a_plan_that_is_given_up_takes_nothing_from_the_one_that_stands_in_the_journal() {
    let mut world = World::default();
    world.node("a", &gpus(1));
    world.node("b", &gpus(1));
    world.pod("p", &gpus(1), |pod| pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "g" }));
    world.cluster.assume("p", "a");
    let journal = vec![("p".to_owned(), "b".to_owned())];
    let key = "ns/g".to_owned();
    world.cluster.set_gang(GangFacts { key, min_member: 1, journal, ..GangFacts::default() });
    world.cluster.give_up("ns/g", ["p"]);
    assert_eq!(world.cluster.node_of("p"), Some("b"));
}

#[test]
fn a_list_takes_the_place_of_what_was_known() {
    let mut world = World::default();
    world.node("a", &gpus(1));
    world.node("b", &gpus(1));
    world.pod("p", &gpus(1), |pod| pod["spec"]["nodeName"] = json!("a"));
    world.cluster.retain_nodes(|node| node == "a");
    world.cluster.retain_pods(|_| false);
    assert_eq!(free(&mut world.cluster), [("a".to_owned(), 1, 110, 0)]);
    assert_eq!(world.cluster.pods(), 0);
}

#[test]
fn what_another_scheduler_made_room_for_is_not_ours() {
    let mut world = World::default();
    world.node("a", &gpus(1));
    world.pod("theirs", &gpus(1), |pod| {
        pod["spec"]["schedulerName"] = json!("default-scheduler");
        pod["status"]["nominatedNodeName"] = json!("a");
    });
    world.pod("ours", &gpus(1), |_| ());
    assert!(matches!(world.cluster.plan(10)[..], [crate::Decision::Hold { .. }]));
    world.cluster.remove_pod("theirs");
    assert!(matches!(world.cluster.plan(10)[..], [crate::Decision::Place { .. }]));
}

#[test]
fn what_a_node_says_that_makes_no_sense_is_named_and_not_given_away() {
    let mut world = World::default();
    let document =
        json!({ "metadata": { "name": "n" }, "status": { "allocatable": { "x/gpu": "many", "pods": "3" } } });
    let faults = world.cluster.set_node(&serde_json::from_value(document).unwrap());
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].object, "node n");
    assert!(faults[0].why.contains("x/gpu") && faults[0].why.contains("many"), "{faults:?}");
    world.pod("p", &[("x/gpu", 1)], |_| ());
    assert!(matches!(world.cluster.plan(10)[..], [crate::Decision::Hold { .. }]));
}

#[test]
fn a_node_that_says_the_same_again_gives_nobody_hope() {
    let mut world = World::default();
    world.node("a", &gpus(1));
    world.pod("p", &gpus(2), |_| ());
    assert_eq!(world.cluster.plan(10).len(), 1);
    world.pod("told", &gpus(2), |_| ());
    assert_eq!(world.cluster.plan(10).len(), 1);
    let before = world.cluster.changes.version();
    world.change_node("a", |node| node["status"]["conditions"] = json!([{ "type": "Ready" }]));
    assert_eq!(world.cluster.changes.version(), before);
    world.change_node("a", |node| node["metadata"]["labels"]["zone"] = json!("b"));
    assert_ne!(world.cluster.changes.version(), before);
}

#[test]
fn nodes_of_ever_new_names_and_their_resources_take_no_more_place_than_those_that_are_there() {
    let mut world = World::default();
    world.node("stays", &gpus(8));
    world.pod("on-a-node-that-is-gone", &[], pod(0, 1, Some(0), "Running"));
    let most = 1000;
    for number in 0..3 * most {
        let name = format!("fresh-{number}");
        let resource = format!("example.com/{number}");
        world.node(&name, &[(resource.as_str(), 1)]);
        world.cluster.remove_node(&name);
        world.cluster.tidy();
    }
    assert!(world.cluster.nodes.len() <= most + 3, "{}", world.cluster.nodes.len());
    let highest = world.cluster.shared.resources.id("example.com/another").index();
    assert!(highest <= most + 10, "{highest}");
    // What is there is as it was.
    assert_eq!(free(&mut world.cluster), [("stays".to_owned(), 8, 110, 0)]);
    world.node("n0", &gpus(4));
    assert_eq!(free(&mut world.cluster)[0], ("n0".to_owned(), 3, 109, 1));
}

#[test]
fn who_comes_in_the_place_of_a_pod_whose_nomination_was_to_be_cleared_keeps_its_own() {
    let mut world = World::default();
    world.node("n", &gpus(1));
    let nominated = |pod: &mut Value| pod["status"]["nominatedNodeName"] = json!("n");
    world.pod("mine", &gpus(1), nominated);
    world.cluster.end_reservations(0, 1);
    world.cluster.end_reservations(1, 1);
    world.cluster.remove_pod("mine");
    world.pod("theirs", &gpus(1), |pod| {
        nominated(pod);
        pod["spec"]["schedulerName"] = json!("another");
    });
    assert_eq!(world.cluster.end_reservations(2, 1), []);
}

/// Something that happens to a world for the so manieth time.
type Change = dyn Fn(&mut World, usize);

#[test]
fn what_comes_changes_and_goes_leaves_no_texts_behind() {
    let mut world = World::default();
    world.node("n", &gpus(1));
    let changes: [&Change; 4] = [
        &|world, at| {
            world.change_node("n", |node| node["metadata"]["labels"]["at"] = json!(format!("node-{at}")));
        },
        &|world, at| {
            world.class(&format!("class-{at}"), "csi.example.com", |_| {});
            world.cluster.remove_storage(StorageKind::Class, &format!("class-{at}"));
        },
        &|world, at| {
            world.pod("p", &gpus(1), |pod| pod["metadata"]["labels"] = json!({ "at": format!("pod-{at}") }));
        },
        &|world, at| world.pod("p", &[(&format!("example.com/{at}"), 1)], |_| {}),
    ];
    for (which, change) in changes.into_iter().enumerate() {
        for at in 0..1000 {
            change(&mut world, at);
            world.cluster.tidy();
            assert!(world.cluster.shared.len() < 400, "{which}: {at}");
        }
    }
}
