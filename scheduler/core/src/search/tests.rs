//! The search finds a way exactly where there is one, and doesn't look long where there is none.

use proptest::{collection::vec, prelude::*};
use serde_json::json;

use super::*;
use crate::{
    filter,
    node::{NodeId, PodId},
    testing::World,
};

/// Where a pod wants to go.
#[derive(Clone, Copy, Debug)]
enum Wish {
    Anywhere,
    Even,
    NotTo(usize),
    By(usize),
}

/// A cluster of nodes with so many GPUs and CPUs each, with a label that every other one has.
fn world(nodes: impl IntoIterator<Item = (i64, i64)>) -> World {
    let mut world = World::default();
    for (at, (gpus, cpu)) in nodes.into_iter().enumerate() {
        let name = format!("n{at}");
        world.node(&name, &[("x/gpu", gpus), ("cpu", cpu)]);
        world.change_node(&name, |node| {
            node["metadata"]["labels"]["even"] = json!((at % 2).to_string());
            node["status"]["allocatable"]["pods"] = json!("1000000");
        });
    }
    world
}

fn nodes(count: usize, gpus: i64) -> World {
    world(std::iter::repeat_n((gpus, 100), count))
}

fn add(world: &mut World, index: usize, (gpus, cpu): (i64, i64), wish: Wish) {
    let term = |key: &str, operator: &str, field: &str, index: usize| {
        let requirement = json!([{ "key": key, "operator": operator, "values": [format!("n{index}")] }]);
        let terms = json!([{ field: requirement }]);
        json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } } })
    };
    world.pod(&format!("p{index}"), &[("x/gpu", gpus), ("cpu", cpu)], |pod| {
        pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "g" });
        match wish {
            Wish::Anywhere => {}
            Wish::Even => pod["spec"]["nodeSelector"] = json!({ "even": "0" }),
            Wish::NotTo(index) => {
                pod["spec"]["affinity"] = term("kubernetes.io/hostname", "NotIn", "matchExpressions", index);
            }
            Wish::By(index) => pod["spec"]["affinity"] = term("metadata.name", "In", "matchFields", index),
        }
    });
}

fn gang(world: &mut World, pods: impl IntoIterator<Item = (i64, i64)>) {
    pods.into_iter().enumerate().for_each(|(index, asks)| add(world, index, asks, Wish::Anywhere));
}

/// Whether a way was found, and after how many looks at a node.
fn found(world: &World) -> (bool, usize) {
    let question = Question::new(&world.cluster, &world.alike("g"));
    let mut search = Search::new(&question);
    let found = question.adds_up() && search.run();
    (found, search.looks)
}

#[test]
fn a_gang_that_cannot_fit_by_counting_is_turned_away_without_a_search() {
    let mixed =
        |large, small| [(5, 1)].repeat(large).into_iter().chain([(3, 1)].repeat(small)).collect::<Vec<_>>();
    for (mut world, pods) in [
        (nodes(16, 8), vec![(8, 1); 17]),
        (nodes(4, 4), vec![(1, 1); 17]),
        (nodes(16, 8), vec![(5, 1); 17]),
        // Each kind alone has places enough, but 15 × 5 + 18 × 3 is one too many for 16 × 8.
        (nodes(16, 8), mixed(15, 18)),
    ] {
        gang(&mut world, pods);
        assert_eq!(found(&world), (false, 0));
    }
    // The last of its many kinds may go nowhere.
    let mut particular = nodes(16, 8);
    gang(&mut particular, (10..20).map(|cpu| (1, cpu)));
    add(&mut particular, 99, (1, 1), Wish::By(99));
    assert_eq!(found(&particular), (false, 0));
}

#[test]
fn what_a_later_kind_cannot_have_any_more_is_seen_before_the_kinds_between_are_placed() {
    // Eight pods of half a node's GPUs leave at most four nodes whole, and five pods need all CPUs of a node.
    let mut world = nodes(8, 8);
    gang(&mut world, [(4, 1); 8].into_iter().chain([(2, 1); 4]).chain([(1, 100); 5]));
    let (found, looks) = found(&world);
    assert!(!found);
    assert!(looks < 300, "{looks} looks");
}

#[test]
fn a_mixed_gang_that_cannot_fit_is_turned_away_after_few_looks() {
    // In sum it is just enough, and each kind alone has places: 10 nodes with 5 + 3, 6 with 3 + 3, 4 are over.
    let mut world = nodes(16, 8);
    gang(&mut world, [(5, 1); 10].into_iter().chain([(3, 1); 26]));
    let (found, looks) = found(&world);
    assert!(!found);
    assert!(looks < 1000, "{looks} looks");
}

#[test]
fn a_gang_of_more_pods_than_a_thread_has_frames_is_placed() {
    let mut alike = nodes(2500, 8);
    gang(&mut alike, std::iter::repeat_n((1, 0), 20_000));
    assert_eq!(found(&alike), (true, 0));
    for (count, fits) in [(300, true), (299, false)] {
        let mut all_different = world(std::iter::repeat_n((5, 9000), count));
        gang(&mut all_different, (0..1500).map(|index| (1, index)));
        assert_eq!(found(&all_different).0, fits);
    }
}

#[test]
fn the_search_gives_up_after_so_many_looks() {
    // 24 pods of different sizes that fill 8 nodes but for one unit each: most ways lead nowhere, late.
    let sizes = || (0..24).map(|index| 11 + index * 7 % 13);
    let mut world = nodes(8, sizes().sum::<i64>() / 8 + 1);
    gang(&mut world, sizes().map(|size| (size, 0)));
    let (_, looks) = found(&world);
    assert!(looks <= LOOKS + AHEAD * 8 + 1, "{looks} looks");
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        4 => Just(Wish::Anywhere),
        1 => Just(Wish::Even),
        1 => (0_usize..4).prop_map(Wish::NotTo),
        1 => (0_usize..4).prop_map(Wish::By),
    ]
}

/// Whether a pod fits on a node beside what was sent there.
fn fits(world: &World, pod: PodId, node: NodeId) -> bool {
    let kind = &world.cluster.known(pod).unwrap().pod.kind;
    filter::refusals(kind, &world.cluster.nodes[node.index()], &world.cluster.shared).is_empty()
}

/// Whether any way at all places every pod: the slow, obvious answer, pod by pod and node by node.
fn some_way_exists(world: &mut World, pods: &[PodId]) -> bool {
    let Some((first, rest)) = pods.split_first() else { return true };
    let nodes: Vec<NodeId> = world.cluster.existing().map(|(id, _)| id).collect();
    nodes.into_iter().any(|node| {
        if !fits(world, *first, node) {
            return false;
        }
        world.cluster.assume_at(*first, node);
        let found = some_way_exists(world, rest);
        world.cluster.put_back(*first);
        found
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_way_is_found_exactly_when_there_is_one(
        free in vec((0_i64..6, 0_i64..6), 1..5),
        cordoned in 0_usize..8,
        asks in vec(((0_i64..4, 0_i64..3), wish()), 1..7),
    ) {
        let mut world = world(free.iter().copied());
        if cordoned < free.len() {
            world.cordon(&format!("n{cordoned}"));
        }
        asks.iter().enumerate().for_each(|(index, (asks, wish))| add(&mut world, index, *asks, *wish));
        let alike = world.alike("g");
        let pods: Vec<PodId> = alike.iter().flat_map(|alike| alike.pods.clone()).collect();
        let question = Question::new(&world.cluster, &alike);
        let found = search(&question);
        prop_assert_eq!(found.is_some(), some_way_exists(&mut world, &pods));
        for (pod, node) in found.iter().flat_map(|found| question.places_of(found, &alike)) {
            prop_assert!(fits(&world, pod, node));
            world.cluster.assume_at(pod, node);
        }
    }
}
