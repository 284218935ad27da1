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

/// [`search_counting`], whatever it took.
#[cfg(test)]
pub(crate) fn search(question: &Question) -> Option<Vec<Vec<usize>>> {
    search_counting(question).0
}

/// A node's index for each pod, kind by kind, or nothing where no way was found; and how many looks at nodes that took.
pub(crate) fn search_counting(question: &Question) -> (Option<Vec<Vec<usize>>>, usize) {
    let looks = question.nodes.len() * question.kinds.len();
    if !question.adds_up() {
        return (None, looks);
    }
    let mut search = Search::new(question);
    let found = search.run().then(|| search.levels.iter().map(Level::nodes).collect());
    (found, looks + search.looks)
}

struct Search<'a> {
    question: &'a Question,
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
    fn new(question: &'a Question) -> Self {
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
mod tests;
