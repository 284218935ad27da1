//! The plan: in which order gangs are looked at, where their pods go, and what is missing where they can't.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use crate::{
    filter::{self, Refusal},
    node::Node,
    pod::Pod,
    quantity::{Quantity, Resources},
};

/// How many placements are tried for one gang before it counts as not placeable. Identical pods need none of these.
const SEARCH_STEPS: usize = 20_000;

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
    /// How much the whole gang needs, where it is about an amount.
    pub needed: Option<Quantity>,
    /// How much is free on nodes that the gang may use, where it is about an amount.
    pub free: Option<Quantity>,
}

/// Decides about every waiting gang. What one gang takes, the next one doesn't see as free.
pub fn plan(snapshot: &Snapshot) -> Plan {
    let mut nodes = snapshot.nodes.clone();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let mut gangs: Vec<&Gang> = snapshot.waiting.iter().collect();
    gangs.sort_by_key(|gang| (Reverse(gang.priority), gang.created, &gang.key));
    let decisions = gangs.into_iter().map(|gang| match place(gang, &mut nodes) {
        Some(placements) => Decision::Place { gang: gang.key.clone(), placements },
        None => hold(gang, &nodes),
    });
    Plan { decisions: decisions.collect() }
}

/// Finds a node for every pod and takes what they need from the nodes, or changes nothing.
fn place(gang: &Gang, nodes: &mut [Node]) -> Option<Vec<Placement>> {
    let mut pods: Vec<&Pod> = gang.pods.iter().collect();
    // The largest first: they have the fewest places. Alike ones stay neighbours, and their order is fixed.
    pods.sort_by(|a, b| size(b).cmp(&size(a)).then_with(|| a.name.cmp(&b.name)));
    let mut search = Search { nodes, pods: &pods, chosen: Vec::new(), steps: SEARCH_STEPS };
    if !search.run() {
        return None;
    }
    let chosen = search.chosen;
    let placement = |(pod, index): (&&Pod, usize)| Placement {
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        node: nodes[index].name.clone(),
    };
    Some(pods.iter().zip(chosen).map(placement).collect())
}

/// Pods that are larger in extended resources come first, then in everything else.
fn size(pod: &Pod) -> (Vec<Quantity>, Vec<Quantity>) {
    let is_extended = |name: &str| name.contains('/');
    let amounts = |extended: bool| {
        let chosen = pod.requests.0.iter().filter(|(name, _)| is_extended(name) == extended);
        chosen.map(|(_, amount)| *amount).collect()
    };
    (amounts(true), amounts(false))
}

/// Depth-first over pods, best nodes first, with a bound on the steps.
struct Search<'a> {
    nodes: &'a mut [Node],
    pods: &'a [&'a Pod],
    /// The node's index for each pod placed so far.
    chosen: Vec<usize>,
    steps: usize,
}

impl Search<'_> {
    /// Whether every pod got a node. If not, the nodes are as they were.
    fn run(&mut self) -> bool {
        let Some(pod) = self.pods.get(self.chosen.len()).copied() else { return true };
        let mut tried: Vec<Node> = Vec::new();
        for index in self.candidates(pod) {
            if self.steps == 0 {
                return false;
            }
            self.steps -= 1;
            // A node just like one that led nowhere leads nowhere.
            let like = Node { name: String::new(), ..self.nodes[index].clone() };
            if pod.affinity.is_none() && tried.contains(&like) {
                continue;
            }
            self.nodes[index].free.subtract(&pod.requests);
            self.chosen.push(index);
            if self.run() {
                return true;
            }
            self.chosen.pop();
            self.nodes[index].free.add(&pod.requests);
            tried.push(like);
        }
        false
    }

    /// Nodes that can take the pod: the one with least left over of what the pod asks for first.
    fn candidates(&self, pod: &Pod) -> Vec<usize> {
        let fits = |index: &usize| filter::refusal(pod, &self.nodes[*index]).is_none();
        let mut fitting: Vec<usize> = (0..self.nodes.len()).filter(fits).collect();
        fitting.sort_by_key(|index| left_over(pod, &self.nodes[*index].free));
        fitting
    }
}

/// What stays free beside the pod, extended resources before the others.
fn left_over(pod: &Pod, free: &Resources) -> (Vec<Quantity>, Vec<Quantity>) {
    let is_extended = |name: &str| name.contains('/');
    let rest = |extended: bool| {
        let names = pod.requests.0.iter().filter(|(name, _)| is_extended(name) == extended);
        names.map(|(name, asked)| Quantity(free.get(name).0 - asked.0)).collect()
    };
    (rest(true), rest(false))
}

/// Says what is missing: why each node is ruled out, and what the gang needs of what is short.
fn hold(gang: &Gang, nodes: &[Node]) -> Decision {
    let mut by_refusal: BTreeMap<Refusal, BTreeSet<&str>> = BTreeMap::new();
    let mut eligible: BTreeSet<&str> = BTreeSet::new();
    for (pod, node) in gang.pods.iter().flat_map(|pod| nodes.iter().map(move |node| (pod, node))) {
        match filter::eligibility(pod, node) {
            Some(refusal) => drop(by_refusal.entry(refusal).or_default().insert(&node.name)),
            None => drop(eligible.insert(&node.name)),
        }
    }
    let mut needed = Resources::default();
    gang.pods.iter().for_each(|pod| needed.add(&pod.requests));
    let usable = || nodes.iter().filter(|node| eligible.contains(node.name.as_str()));
    let mut blockers: Vec<Blocker> = shortages(gang, &needed, usable);
    blockers.extend(by_refusal.iter().map(|(refusal, names)| Blocker {
        reason: refusal.reason(),
        subject: refusal.subject().to_owned(),
        nodes: names.len(),
        needed: None,
        free: None,
    }));
    let message = message(gang, &blockers, nodes.len(), eligible.len());
    Decision::Hold { gang: gang.key.clone(), message, blockers }
}

/// Resources of which the eligible nodes have too little for the gang, or too little in one piece for some pod.
fn shortages<'a, I: Iterator<Item = &'a Node>>(
    gang: &Gang,
    needed: &Resources,
    usable: impl Fn() -> I,
) -> Vec<Blocker> {
    let short = |name: &str, amount: Quantity| {
        let free = Quantity(usable().map(|node| node.free.get(name).0.max(0)).sum());
        let too_small =
            |node: &Node| gang.pods.iter().any(|pod| pod.requests.get(name) > node.free.get(name));
        let nodes = usable().filter(|node| too_small(node)).count();
        let blocker = Blocker {
            reason: "InsufficientResource",
            subject: name.to_owned(),
            nodes,
            needed: Some(amount),
            free: Some(free),
        };
        (amount.0 > 0 && (amount > free || nodes > 0)).then_some(blocker)
    };
    needed.0.iter().filter_map(|(name, amount)| short(name, *amount)).collect()
}

fn message(gang: &Gang, blockers: &[Blocker], nodes: usize, eligible: usize) -> String {
    let pods = gang.pods.len();
    if nodes == 0 {
        return format!("no room for {pods} pods: the cluster has no nodes");
    }
    let mut parts = vec![format!("{eligible} of {nodes} nodes may be used")];
    for Blocker { reason, subject, nodes, needed, free } in blockers {
        parts.push(match (needed, free) {
            (Some(needed), Some(free)) => format!("needs {needed} {subject}, {free} free"),
            _ => format!("{nodes} ruled out by {reason} {subject}"),
        });
    }
    if !blockers.iter().any(|blocker| blocker.needed.is_some()) && eligible > 0 {
        parts.push("what is free is enough in sum, but not where the pods could use it together".to_owned());
    }
    format!("no room for {pods} pods at once: {}", parts.join("; "))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

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
