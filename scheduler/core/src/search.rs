//! The search: how many pods of each kind go to which node, so that every pod of a gang has one.
//!
//! Depth-first, with a stack of its own (a gang may have more pods than a thread has frames). Three things keep it
//! short: pods of a kind aren't told apart, only counted; nodes that differ in nothing that the gang asks about aren't
//! either; and before a kind's turn it is counted whether it and the next ones would have places enough, were they alone.

use crate::question::Question;

/// How many looks at a node are spent on one gang after the straight way down led nowhere. What is spent blocks the
/// only loop there is, so it must stay well under a second; a gang that isn't placed by then counts as not placeable.
const LOOKS: usize = 500_000;

/// For how many kinds at a time it is counted whether they still have places.
const AHEAD: usize = 8;

/// A node's index for each pod, kind by kind, or nothing where no way was found.
pub(crate) fn search(question: &Question<'_>) -> Option<Vec<Vec<usize>>> {
    if !question.adds_up() {
        return None;
    }
    let mut search = Search::new(question);
    search.run().then(|| search.levels.iter().map(Level::nodes).collect())
}

struct Search<'a> {
    question: &'a Question<'a>,
    /// By node, then by resource: what is free beside the pods placed so far.
    free: Vec<Vec<i128>>,
    /// One for each kind that had its turn.
    levels: Vec<Level>,
    /// How many nodes were looked at since the search had to turn back for the first time.
    looks: usize,
    has_turned_back: bool,
}

/// A kind's turn: nodes in the order in which they are tried, and how many pods each was given.
struct Level {
    order: Vec<Candidate>,
    /// How many pods each node got; as long as the part of the order that was decided.
    counts: Vec<i128>,
    /// How many pods of the kind have no node yet.
    left: i128,
}

/// A node that can take pods of the kind whose turn it is.
struct Candidate {
    node: usize,
    /// How many.
    room: i128,
    /// How many the nodes after it take together.
    room_after: i128,
    /// Whether it can't be told from the one before: then it gets at most as many.
    is_like_previous: bool,
}

impl Level {
    fn nodes(&self) -> Vec<usize> {
        let copies = |(candidate, count): (&Candidate, &i128)| {
            std::iter::repeat_n(candidate.node, usize::try_from(*count).unwrap_or(0))
        };
        self.order.iter().zip(&self.counts).flat_map(copies).collect()
    }
}

impl<'a> Search<'a> {
    fn new(question: &'a Question<'a>) -> Self {
        Self { question, free: question.free.clone(), levels: Vec::new(), looks: 0, has_turned_back: false }
    }

    /// Whether every pod got a node.
    fn run(&mut self) -> bool {
        loop {
            let is_next_kinds_turn = self.levels.last().is_none_or(|level| level.left == 0);
            if is_next_kinds_turn && self.levels.len() == self.question.kinds.len() {
                return true;
            }
            let goes_on = if is_next_kinds_turn { self.begin_kind() } else { self.fill_next_node() };
            if !goes_on && !self.turn_back() {
                return false;
            }
        }
    }

    /// The turn of the next kind, unless it, or one soon after it, can't have places enough any more.
    fn begin_kind(&mut self) -> bool {
        let kind = self.levels.len();
        let question = self.question;
        for ahead in (kind..question.kinds.len()).take(AHEAD) {
            self.look(self.free.len());
            if question.places(ahead, &self.free) < question.kinds[ahead].count {
                return false;
            }
        }
        let order = self.order(kind);
        self.levels.push(Level { order, counts: Vec::new(), left: question.kinds[kind].count });
        true
    }

    /// Nodes that can take pods of the kind: the one with least left over of what these ask for first, so that large
    /// pods keep their places. Nodes that can't be told apart are neighbours.
    fn order(&self, kind: usize) -> Vec<Candidate> {
        let asks = &self.question.kinds[kind].asks;
        let asked = |node: usize| {
            asks.iter().zip(&self.free[node]).filter(|(asked, _)| **asked > 0).map(|(_, free)| *free)
        };
        // All that the gang asks about: which kinds may go there, and what is free.
        let nature = |node: usize| (self.question.group[node], &self.free[node]);
        let room = |node: usize| self.question.room(kind, node, &self.free);
        let mut nodes: Vec<(usize, i128)> = (0..self.free.len()).map(|node| (node, room(node))).collect();
        nodes.retain(|(_, room)| *room > 0);
        nodes.sort_by(|(a, _), (b, _)| {
            asked(*a).cmp(asked(*b)).then_with(|| nature(*a).cmp(&nature(*b))).then_with(|| a.cmp(b))
        });
        let mut room_after = 0_i128;
        let mut order = Vec::with_capacity(nodes.len());
        for (place, (node, room)) in nodes.iter().enumerate().rev() {
            let previous = place.checked_sub(1).map(|previous| nodes[previous].0);
            let is_like_previous = previous.is_some_and(|previous| nature(previous) == nature(*node));
            order.push(Candidate { node: *node, room: *room, room_after, is_like_previous });
            room_after = room_after.saturating_add(*room);
        }
        order.reverse();
        order
    }

    /// Gives the next node as many pods as it takes.
    fn fill_next_node(&mut self) -> bool {
        let Some(level) = self.levels.last() else { return false };
        let Some(candidate) = level.order.get(level.counts.len()) else { return false };
        let mut most = candidate.room.min(level.left);
        if let (true, Some(previous)) = (candidate.is_like_previous, level.counts.last()) {
            most = most.min(*previous);
        }
        if most < level.left.saturating_sub(candidate.room_after) {
            return false;
        }
        self.give(most);
        true
    }

    /// Takes back the last choice that has an alternative, and chooses that: one pod fewer on that node.
    fn turn_back(&mut self) -> bool {
        self.has_turned_back = true;
        while self.levels.last().is_some() {
            while let Some((count, least)) = self.take_back() {
                if count > least {
                    self.give(count - 1);
                    return self.looks <= LOOKS;
                }
            }
            self.levels.pop();
        }
        false
    }

    fn give(&mut self, count: i128) {
        self.look(1);
        let Some(kind) = self.levels.len().checked_sub(1) else { return };
        let level = &mut self.levels[kind];
        let node = level.order[level.counts.len()].node;
        level.counts.push(count);
        level.left -= count;
        for (free, asked) in self.free[node].iter_mut().zip(&self.question.kinds[kind].asks) {
            *free -= asked * count;
        }
    }

    /// What the last node was given, and the least that it must be given for the ones after it to take the rest.
    fn take_back(&mut self) -> Option<(i128, i128)> {
        let kind = self.levels.len().checked_sub(1)?;
        let level = &mut self.levels[kind];
        let count = level.counts.pop()?;
        level.left += count;
        let candidate = &level.order[level.counts.len()];
        for (free, asked) in self.free[candidate.node].iter_mut().zip(&self.question.kinds[kind].asks) {
            *free += asked * count;
        }
        Some((count, level.left.saturating_sub(candidate.room_after).max(0)))
    }

    fn look(&mut self, nodes: usize) {
        if self.has_turned_back {
            self.looks += nodes;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        filter,
        node::Node,
        plan::Gang,
        pod::{Affinity, NodeTerm, Operator, Pod, Requirement},
        quantity::{Quantity, Resources},
    };

    const HOST: &str = "kubernetes.io/hostname";

    /// A node as clusters have them: with a name in a label, which no other node has.
    fn node(index: usize, gpus: i128, cpu: i128) -> Node {
        let free = [("x/gpu".to_owned(), Quantity::whole(gpus)), ("cpu".to_owned(), Quantity::whole(cpu))];
        let labels = [(HOST.to_owned(), format!("n{index}")), ("even".to_owned(), (index % 2).to_string())];
        Node {
            name: format!("n{index}"),
            labels: labels.into(),
            free: Resources(free.into()),
            ..Node::default()
        }
    }

    /// Where a pod wants to go.
    #[derive(Clone, Copy, Debug)]
    enum Wish {
        Anywhere,
        Even,
        NotTo(usize),
        By(usize),
    }

    fn pod(index: usize, (gpus, cpu): (i128, i128), wish: Wish) -> Pod {
        let asks = [("x/gpu".to_owned(), Quantity::whole(gpus)), ("cpu".to_owned(), Quantity::whole(cpu))];
        let mut pod = Pod { name: format!("p{index}"), requests: Resources(asks.into()), ..Pod::default() };
        let host = |operator, index: usize, field: bool| {
            let key = if field { "metadata.name" } else { HOST }.to_owned();
            let requirement = vec![Requirement { key, operator, values: vec![format!("n{index}")] }];
            let term = if field {
                NodeTerm { match_fields: requirement, ..NodeTerm::default() }
            } else {
                NodeTerm { match_expressions: requirement, ..NodeTerm::default() }
            };
            Some(Affinity { node_selector_terms: vec![term] })
        };
        match wish {
            Wish::Anywhere => {}
            Wish::Even => pod.node_selector = [("even".to_owned(), "0".to_owned())].into(),
            Wish::NotTo(index) => pod.affinity = host(Operator::NotIn, index, false),
            Wish::By(index) => pod.affinity = host(Operator::In, index, true),
        }
        pod
    }

    fn gang(pods: impl IntoIterator<Item = (i128, i128)>) -> Gang {
        let pods = pods.into_iter().enumerate().map(|(index, asks)| pod(index, asks, Wish::Anywhere));
        Gang { pods: pods.collect(), ..Gang::default() }
    }

    fn nodes(count: usize, gpus: i128) -> Vec<Node> {
        (0..count).map(|index| node(index, gpus, 100)).collect()
    }

    /// Whether a way was found, and after how many looks at a node.
    fn found(gang: &Gang, nodes: &[Node]) -> (bool, usize) {
        let question = Question::new(gang, nodes);
        let mut search = Search::new(&question);
        let found = question.adds_up() && search.run();
        (found, search.looks)
    }

    fn fits(pod: &Pod, node: &Node) -> bool {
        filter::eligibility(pod, node).is_none() && node.free.lacking(&pod.requests).is_none()
    }

    /// Whether any way at all places every pod: the slow, obvious answer, pod by pod and node by node.
    fn some_way_exists(pods: &[Pod], nodes: &mut [Node]) -> bool {
        let Some((first, rest)) = pods.split_first() else { return true };
        (0..nodes.len()).any(|index| {
            if !fits(first, &nodes[index]) {
                return false;
            }
            nodes[index].free.subtract(&first.requests);
            let found = some_way_exists(rest, nodes);
            nodes[index].free.add(&first.requests);
            found
        })
    }

    #[test]
    fn a_gang_that_cannot_fit_by_counting_is_turned_away_without_a_search() {
        let mixed = |large, small| gang([(5, 1)].repeat(large).into_iter().chain([(3, 1)].repeat(small)));
        // The last of its many kinds may go nowhere.
        let mut particular = gang((10..20).map(|cpu| (1, cpu)));
        particular.pods.push(pod(99, (1, 1), Wish::By(99)));
        for (nodes, pods) in [
            (nodes(16, 8), gang([(8, 1); 17])),
            (nodes(4, 4), gang([(1, 1); 17])),
            (nodes(16, 8), gang([(5, 1); 17])),
            // Each kind alone has places enough, but 15 × 5 + 18 × 3 is one too many for 16 × 8.
            (nodes(16, 8), mixed(15, 18)),
            (nodes(16, 8), particular),
        ] {
            assert_eq!(found(&pods, &nodes), (false, 0));
        }
    }

    #[test]
    fn what_a_later_kind_cannot_have_any_more_is_seen_before_the_kinds_between_are_placed() {
        // Eight pods of half a node's GPUs leave at most four nodes whole, and five pods need all CPUs of a node.
        let mixed = [(4, 1); 8].into_iter().chain([(2, 1); 4]).chain([(1, 100); 5]);
        let (found, looks) = found(&gang(mixed), &nodes(8, 8));
        assert!(!found);
        assert!(looks < 300, "{looks} looks");
    }

    #[test]
    fn a_mixed_gang_that_cannot_fit_is_turned_away_after_few_looks() {
        // In sum it is just enough, and each kind alone has places: 10 nodes with 5 + 3, 6 with 3 + 3, 4 are over.
        let mixed = gang([(5, 1); 10].into_iter().chain([(3, 1); 26]));
        let (found, looks) = found(&mixed, &nodes(16, 8));
        assert!(!found);
        assert!(looks < 1000, "{looks} looks");
    }

    #[test]
    fn a_gang_of_more_pods_than_a_thread_has_frames_is_placed() {
        let alike = gang(std::iter::repeat_n((1, 0), 100_000));
        assert_eq!(found(&alike, &nodes(12_500, 8)), (true, 0));
        let all_different = gang((0..1500).map(|index| (1, index)));
        let placed = |count| {
            found(&all_different, &(0..count).map(|index| node(index, 5, 9000)).collect::<Vec<_>>()).0
        };
        assert!(placed(300));
        assert!(!placed(299));
    }

    #[test]
    fn the_search_gives_up_after_so_many_looks() {
        // 24 pods of different sizes that fill 8 nodes but for one unit each: most ways lead nowhere, late.
        let pods = gang((0..24).map(|index| (11 + index * 7 % 13, 0)));
        let sum: i128 = (0..24).map(|index| 11 + index * 7 % 13).sum();
        let nodes: Vec<Node> = (0..8).map(|index| node(index, sum / 8 + 1, 100)).collect();
        let (_, looks) = found(&pods, &nodes);
        assert!(looks <= LOOKS + AHEAD * nodes.len() + 1, "{looks} looks");
    }

    fn wish() -> impl Strategy<Value = Wish> {
        prop_oneof![
            4 => Just(Wish::Anywhere),
            1 => Just(Wish::Even),
            1 => (0_usize..4).prop_map(Wish::NotTo),
            1 => (0_usize..4).prop_map(Wish::By),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_way_is_found_exactly_when_there_is_one(
            free in vec((0_i128..6, 0_i128..6), 1..5),
            cordoned in 0_usize..8,
            asks in vec(((0_i128..4, 0_i128..3), wish()), 1..7),
        ) {
            let mut nodes: Vec<Node> =
                free.iter().enumerate().map(|(index, (gpus, cpu))| node(index, *gpus, *cpu)).collect();
            if let Some(node) = nodes.get_mut(cordoned) {
                node.unschedulable = true;
            }
            let pods = asks.iter().enumerate().map(|(index, (asks, wish))| pod(index, *asks, *wish));
            let gang = Gang { pods: pods.collect(), ..Gang::default() };
            let question = Question::new(&gang, &nodes);
            let found = search(&question);
            prop_assert_eq!(found.is_some(), some_way_exists(&gang.pods, &mut nodes.clone()));
            let places = question.kinds.iter().zip(found.into_iter().flatten());
            for (pod, index) in places.flat_map(|(kind, places)| kind.pods.iter().zip(places)) {
                prop_assert!(fits(pod, &nodes[index]));
                nodes[index].free.subtract(&pod.requests);
            }
        }
    }
}
