//! Whom preemption evicts in small clusters, against every set of groups that it could.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, option, prelude::*};
use serde_json::json;

use super::*;
use crate::testing::{World, gpus, some_way_exists};

/// A small cluster: the GPUs of each node, the groups on them (priority, node and GPUs of each pod), and a gang that waits.
#[derive(Clone, Debug)]
struct Small {
    nodes: Vec<i64>,
    groups: Vec<(i32, Vec<(usize, i64)>)>,
    gang: Vec<i64>,
}

fn small() -> impl Strategy<Value = Small> {
    let pod = (0_usize..3, 1_i64..3);
    let groups = vec((0_i32..4, vec(pod, 1..4)), 0..6);
    (vec(1_i64..6, 3), groups, vec(1_i64..4, 1..4)).prop_map(|(nodes, groups, gang)| Small {
        nodes,
        groups,
        gang,
    })
}

impl Small {
    /// What is left on each node beside these groups; a cluster that holds more than it can is none.
    fn free(&self, stays: impl Fn(usize) -> bool) -> Vec<i64> {
        let mut free = self.nodes.clone();
        for (_, pods) in self.groups.iter().enumerate().filter(|(at, _)| stays(*at)).map(|(_, group)| group) {
            pods.iter().for_each(|(node, count)| free[*node] -= count);
        }
        free
    }

    fn fits(&self, stays: impl Fn(usize) -> bool) -> bool {
        some_way_exists(&mut self.free(stays), &self.gang)
    }

    fn world(&self) -> World {
        let mut world = World::default();
        for (at, count) in self.nodes.iter().enumerate() {
            world.node(&format!("n{at}"), &gpus(*count));
        }
        for (at, (priority, pods)) in self.groups.iter().enumerate() {
            let names: Vec<String> = pods.iter().map(|(node, _)| format!("n{node}")).collect();
            let pods: Vec<_> =
                pods.iter().zip(&names).map(|((_, count), node)| (*count, Some(node.as_str()))).collect();
            world.ranked_gang(&format!("g{at}"), *priority, &pods);
        }
        let gang: Vec<_> = self.gang.iter().map(|count| (*count, None)).collect();
        world.ranked_gang("mine", MINE, &gang);
        world
    }
}

/// What every node holds, without the order in which it came there.
fn held_by_nodes(world: &World) -> BTreeMap<String, BTreeSet<u32>> {
    let nodes = world.cluster.existing();
    nodes.map(|(_, node)| (node.name.to_string(), node.pods.iter().map(|id| id.0).collect())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Against every set of groups: it is evicted exactly where some set helps; the set is whole gangs of lower priority,
    /// helps, has nobody in it who need not go, and its highest priority is the lowest possible.
    #[test]
    fn victims_are_what_an_exhaustive_search_allows(small in small(), busy in option::of(0_usize..6)) {
        prop_assume!(small.free(|_| true).iter().all(|free| *free >= 0));
        let mut world = small.world();
        let busy = busy.filter(|busy| *busy < small.groups.len());
        if let Some(busy) = busy {
            world.cluster.set_busy(&format!("ns/g{busy}"), true);
        }
        let before = held_by_nodes(&world);
        let may_go = |at: usize| small.groups[at].0 < MINE && Some(at) != busy;
        let decision = decision(&mut world);
        let possible = !small.fits(|_| true) && small.fits(|at| !may_go(at));
        let Decision::Preempt { victims, .. } = &decision else {
            prop_assert!(!possible, "{decision:?}");
            if matches!(decision, Decision::Hold { .. }) {
                prop_assert_eq!(before, held_by_nodes(&world));
            }
            return Ok(());
        };
        prop_assert!(possible, "{:?}", decision);
        let group = |name: &str| name.trim_start_matches("ns/g").parse::<usize>().unwrap();
        let gone: BTreeSet<usize> = victims.iter().map(|victim| group(&victim.group)).collect();
        prop_assert!(gone.iter().all(|at| may_go(*at)));
        prop_assert_eq!(victims.len(), gone.iter().map(|at| small.groups[*at].1.len()).sum::<usize>());
        prop_assert!(small.fits(|at| !gone.contains(&at)));
        for spared in &gone {
            prop_assert!(!small.fits(|at| at == *spared || !gone.contains(&at)), "{} need not go", spared);
        }
        let highest = |gone: &mut dyn Iterator<Item = usize>| gone.map(|at| small.groups[at].0).max();
        let sets = 0_u32..1 << small.groups.len();
        let helps = sets.map(|set| move |at: &usize| set & (1 << at) != 0).filter(|is_in| {
            (0..small.groups.len()).filter(is_in).all(may_go) && small.fits(|at| !is_in(&at))
        });
        let least = helps.map(|is_in| highest(&mut (0..small.groups.len()).filter(&is_in))).min().unwrap();
        prop_assert_eq!(highest(&mut gone.iter().copied()), least);
    }

    /// Once those who were to go have gone, the gang is placed, whoever of lower priority waits for the same.
    #[test]
    fn the_gang_gets_what_was_made_for_it(small in small(), rivals in vec(1_i64..3, 0..3)) {
        prop_assume!(small.free(|_| true).iter().all(|free| *free >= 0));
        let mut world = small.world();
        let Decision::Preempt { victims, .. } = decision(&mut world) else { return Ok(()) };
        world.cluster.set_busy("ns/mine", false);
        for (at, count) in rivals.iter().enumerate() {
            world.ranked_pod(&format!("rival-{at}"), MINE - 1, (*count, None), |pod| {
                pod["spec"]["preemptionPolicy"] = json!("Never");
            });
        }
        for victim in &victims {
            let early = world.cluster.plan(1000);
            prop_assert!(!early.iter().any(|decision| matches!(decision, Decision::Preempt { .. })), "{:?}", early);
            world.cluster.remove_pod(&victim.uid);
        }
        let is_mine = |known: &str| world.cluster.node_of(known).is_some();
        let placed = (0..small.gang.len()).all(|at| is_mine(&format!("mine-{at}")));
        let plan = world.cluster.plan(1000);
        let places = |decision: &Decision| matches!(decision, Decision::Place { group, .. } if group == "ns/mine");
        prop_assert!(placed || plan.iter().any(places), "{:?}", plan);
    }
}
