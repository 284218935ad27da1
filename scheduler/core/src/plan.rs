//! The plan: in which order gangs are looked at, where their pods go, and what is missing where they can't.

use std::cmp::Reverse;

use crate::{
    missing,
    node::Node,
    pod::{Pod, shared_resource},
    quantity::Quantity,
    question::Question,
    search::search,
};

/// The cluster at one instant.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The nodes, with what is free on each.
    pub nodes: Vec<Node>,
    /// The gangs whose pods all exist and wait.
    pub waiting: Vec<Gang>,
}

/// Pods that are placed all or nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gang {
    /// `namespace/name`.
    pub key: String,
    /// Higher goes first.
    pub priority: i32,
    /// When it was created, in seconds; older goes first among equals.
    pub created: i64,
    /// The pods to be placed, every one of them.
    pub pods: Vec<Pod>,
}

/// What is to be done, gang by gang.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// One decision for each waiting gang, in the order in which they were looked at.
    pub decisions: Vec<Decision>,
}

/// What is decided about one gang.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Every pod has a node.
    Place {
        /// Which gang.
        gang: String,
        /// A node for each pod.
        placements: Vec<Placement>,
    },
    /// Not every pod has a node, so none gets one.
    Hold {
        /// Which gang.
        gang: String,
        /// What is missing, in words and numbers.
        message: String,
        /// What is missing, one entry a reason.
        blockers: Vec<Blocker>,
    },
}

/// One pod's node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The pod's name.
    pub pod: String,
    /// The pod's UID.
    pub uid: String,
    /// The node's name.
    pub node: String,
}

/// One reason why a gang can't be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// A CamelCase reason.
    pub reason: &'static str,
    /// What it is about.
    pub subject: String,
    /// How many nodes it rules out.
    pub nodes: usize,
    /// How much the whole gang needs, or one pod where it is about a single node; nothing where it isn't about an amount.
    pub needed: Option<Quantity>,
    /// How much is free: in sum on nodes that may be used for it, or on the best single one.
    pub free: Option<Quantity>,
}

/// Decides about every waiting gang. What one gang takes, the next one doesn't see as free.
pub fn plan(snapshot: &Snapshot) -> Plan {
    let mut nodes = snapshot.nodes.clone();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let mut gangs: Vec<&Gang> = snapshot.waiting.iter().collect();
    gangs.sort_by_key(|gang| (Reverse(gang.priority), gang.created, &gang.key));
    let decisions = gangs.into_iter().map(|gang| decide(gang, &mut nodes));
    Plan { decisions: decisions.collect() }
}

/// Finds a node for every pod and takes what they need from the nodes, or changes nothing and says what is missing.
fn decide(gang: &Gang, nodes: &mut [Node]) -> Decision {
    let question = Question::new(gang, nodes);
    let Some(found) = search(&question) else { return missing::hold(gang, &question, nodes) };
    let places = question.kinds.iter().zip(found).flat_map(|(kind, places)| kind.pods.iter().zip(places));
    let place = |(pod, index): (&&Pod, usize)| {
        nodes[index].free.subtract(&pod.requests);
        if shared_resource(&pod.requests).is_some() {
            nodes[index].sharing.insert(pod.namespace.clone());
        }
        Placement { pod: pod.name.clone(), uid: pod.uid.clone(), node: nodes[index].name.clone() }
    };
    Decision::Place { gang: gang.key.clone(), placements: places.map(place).collect() }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::quantity::Resources;

    const GPU: &str = "nvidia.com/gpu";

    fn gpus(count: i128) -> Resources {
        Resources([(GPU.to_owned(), Quantity::whole(count))].into())
    }

    fn node(index: usize, free: i128) -> Node {
        Node { name: format!("n{index}"), free: gpus(free), ..Node::default() }
    }

    fn gang(key: &str, pods: &[i128]) -> Gang {
        let pod = |(index, asked): (usize, &i128)| Pod {
            name: format!("{key}-{index}"),
            uid: format!("{key}-{index}-uid"),
            requests: gpus(*asked),
            ..Pod::default()
        };
        Gang { key: key.to_owned(), pods: pods.iter().enumerate().map(pod).collect(), ..Gang::default() }
    }

    fn snapshot(free: &[i128], waiting: Vec<Gang>) -> Snapshot {
        Snapshot { nodes: free.iter().enumerate().map(|(index, free)| node(index, *free)).collect(), waiting }
    }

    #[test]
    fn a_gang_is_placed_whole_or_not_at_all() {
        let plan = plan(&snapshot(&[2, 1], vec![gang("a", &[1, 1]), gang("b", &[1, 1])]));
        assert!(matches!(&plan.decisions[0], Decision::Place { placements, .. } if placements.len() == 2));
        let Decision::Hold { message, blockers, .. } = &plan.decisions[1] else { panic!("{plan:?}") };
        assert_eq!(
            message,
            "no room for 2 pods at once: 2 of 2 nodes may be used; needs 2 nvidia.com/gpu, 1 free"
        );
        assert_eq!(blockers[0].free, Some(Quantity::whole(1)));
    }

    #[test]
    fn the_fullest_node_that_fits_is_taken_so_that_large_pods_keep_their_place() {
        let plan = plan(&snapshot(&[8, 1, 4], vec![gang("a", &[1])]));
        let Decision::Place { placements, .. } = &plan.decisions[0] else { panic!("{plan:?}") };
        assert_eq!(placements[0].node, "n1");
    }

    #[test]
    fn higher_priority_goes_first_then_age() {
        let urgent = Gang { priority: 1, created: 9, ..gang("urgent", &[1]) };
        let old = Gang { created: 1, ..gang("old", &[1]) };
        let young = Gang { created: 2, ..gang("a-young", &[1]) };
        let plan = plan(&snapshot(&[2], vec![young, old, urgent]));
        let order = plan.decisions.iter().map(|decision| match decision {
            Decision::Place { gang, .. } => gang.as_str(),
            Decision::Hold { .. } => "held",
        });
        assert_eq!(order.collect::<Vec<_>>(), ["urgent", "old", "held"]);
    }

    #[test]
    fn unlike_pods_find_the_one_way_in_which_they_fit() {
        // Largest first and best fit would put 3 beside 3 and leave 2+2 nowhere: 3+2, 3+2 is the only way.
        let plan = plan(&snapshot(&[5, 5], vec![gang("a", &[3, 2, 3, 2])]));
        assert!(matches!(plan.decisions[0], Decision::Place { .. }), "{plan:?}");
    }

    #[test]
    fn a_node_that_is_ruled_out_is_counted_under_its_reason() {
        let mut world = snapshot(&[4], vec![gang("a", &[1])]);
        world.nodes[0].unschedulable = true;
        let Decision::Hold { message, .. } = &plan(&world).decisions[0] else { panic!() };
        let expected = "no room for 1 pods at once: 0 of 1 nodes may be used; needs 1 nvidia.com/gpu, 0 free; \
                        1 ruled out by NodeUnschedulable spec.unschedulable";
        assert_eq!(message, expected);
    }

    /// Whether any way at all places every pod: the slow, obvious answer.
    fn some_way_exists(free: &mut [i128], pods: &[i128]) -> bool {
        let Some((first, rest)) = pods.split_first() else { return true };
        (0..free.len()).any(|index| {
            if free[index] < *first {
                return false;
            }
            free[index] -= first;
            let found = some_way_exists(free, rest);
            free[index] += first;
            found
        })
    }

    proptest! {
        #[test]
        fn small_gangs_are_placed_exactly_when_some_way_exists(free in vec(0_i128..6, 1..4), pods in vec(1_i128..4, 1..6)) {
            let plan = plan(&snapshot(&free, vec![gang("a", &pods)]));
            let placed = matches!(plan.decisions[0], Decision::Place { .. });
            prop_assert_eq!(placed, some_way_exists(&mut free.clone(), &pods));
        }

        #[test]
        fn no_node_shares_its_gpus_between_namespaces(
            free in vec(0_i128..5, 1..4),
            sharing in vec(0_usize..4, 3),
            gangs in vec((0_usize..3, vec(1_i128..3, 1..4)), 1..6),
        ) {
            let shared = |count| Resources([("nvidia.com/gpu.shared".to_owned(), Quantity::whole(count))].into());
            let namespace = |index: usize| format!("tenant-{index}");
            let mut world = snapshot(&free, Vec::new());
            for (node, already) in world.nodes.iter_mut().zip(sharing) {
                node.free = shared(node.free.get(GPU).0 / 1000);
                node.sharing.extend((already < 3).then(|| namespace(already)));
            }
            for (index, (tenant, pods)) in gangs.iter().enumerate() {
                let mut gang = gang(&format!("g{index}"), pods);
                for (pod, count) in gang.pods.iter_mut().zip(pods) {
                    (pod.namespace, pod.requests) = (namespace(*tenant), shared(*count));
                }
                world.waiting.push(gang);
            }
            let mut on: BTreeMap<String, BTreeSet<String>> =
                world.nodes.iter().map(|node| (node.name.clone(), node.sharing.clone())).collect();
            for decision in plan(&world).decisions {
                let Decision::Place { gang, placements } = decision else { continue };
                let gang = world.waiting.iter().find(|waiting| waiting.key == gang).unwrap();
                for placement in placements {
                    on.get_mut(&placement.node).unwrap().insert(gang.pods[0].namespace.clone());
                }
            }
            prop_assert!(on.values().all(|namespaces| namespaces.len() <= 1), "{on:?}");
        }

        #[test]
        fn no_node_is_ever_over_committed_and_every_gang_is_whole(
            free in vec(0_i128..9, 1..5),
            gangs in vec(vec(1_i128..4, 1..5), 1..6),
        ) {
            let waiting: Vec<Gang> = gangs.iter().enumerate().map(|(i, pods)| gang(&format!("g{i}"), pods)).collect();
            let world = snapshot(&free, waiting.clone());
            let plan = plan(&world);
            prop_assert_eq!(&plan, &super::plan(&world), "the same world gives the same plan");
            let mut used: BTreeMap<String, i128> = BTreeMap::new();
            for decision in &plan.decisions {
                let Decision::Place { gang, placements } = decision else { continue };
                let pods = &waiting.iter().find(|waiting| waiting.key == *gang).unwrap().pods;
                prop_assert_eq!(placements.len(), pods.len());
                for placement in placements {
                    let pod = pods.iter().find(|pod| pod.uid == placement.uid).unwrap();
                    *used.entry(placement.node.clone()).or_default() += pod.requests.get(GPU).0 / 1000;
                }
            }
            for (index, free) in free.iter().enumerate() {
                let taken = used.get(&format!("n{index}")).copied().unwrap_or(0);
                prop_assert!(taken <= *free);
            }
        }
    }
}
