//! A plan is a sweep over the groups that wait: who may have room is looked at, in order, and decided about.
//!
//! Looking costs time that the only loop there is doesn't have: after so many looks at nodes a plan ends, and the next one
//! goes on. Who comes first is always looked at first; but some looks are kept for those further back, so that nobody in
//! front whose hope is roused again and again keeps them waiting for ever.

use std::ops::Bound;

use crate::{
    cluster::{Cluster, Hope, Look, Turn},
    elastic::{Missed, Wanted},
    labels::Text,
    plan::Decision,
    preempt::{Fate, Room, Sought},
};

/// After how many decisions a plan is carried out before more are made.
const MOST_DECISIONS: usize = 256;
/// How many looks at nodes one plan spends before it leaves the rest to the next one: a tenth of a second or less. Half of
/// them are for those in front.
const LOOKS: u64 = 1_000_000;

/// What is said where nobody is evicted.
const IN_VAIN: &str = "; evicting pods of lower priority would not make room";
const GIVEN_UP: &str = "; whom of lower priority to evict for it was not found in so many tries";

/// What a plan has come to.
struct Sweep {
    decisions: Vec<Decision>,
    placed: usize,
    most: usize,
    /// When so many looks were spent, ever, it ends.
    until: u64,
}

impl Sweep {
    fn is_enough(&self) -> bool {
        self.placed >= self.most || self.decisions.len() >= MOST_DECISIONS
    }
}

impl Cluster {
    /// Decides about the groups that wait, in their order, until so many pods have a node. What one takes, the next one
    /// doesn't see as free. Groups for which nothing can have changed since they were last looked at are passed over.
    pub fn plan(&mut self, most: usize) -> Vec<Decision> {
        let version = self.changes.version();
        if !self.has_more && self.swept == Some(version) {
            return Vec::new();
        }
        self.begin_sweep();
        self.has_more = false;
        let mut sweep = Sweep { decisions: Vec::new(), placed: 0, most, until: self.looks() + LOOKS / 2 };
        let front = self.sweep(Bound::Unbounded, &mut sweep);
        if let Some(front) = front.clone().filter(|_| !sweep.is_enough()) {
            sweep.until = self.looks() + LOOKS / 2;
            let from = self.swept_to.take().map_or(front.clone(), |last| last.max(front));
            self.swept_to = self.sweep(Bound::Included(from), &mut sweep);
        }
        (self.has_more, self.swept) = (self.has_more || front.is_some(), Some(version));
        sweep.decisions
    }

    /// Whether the last plan has left some for the next one: nothing needs to happen before that.
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// What so many of the groups that wait are told anew, in turns: numbers change while nothing is freed, too.
    pub fn explain(&mut self, most: usize) -> Vec<Decision> {
        self.begin_sweep();
        let until = self.looks() + LOOKS / 2;
        let mut decisions = Vec::new();
        for _ in 0..most {
            let after = self.explained.take().map_or(Bound::Unbounded, Bound::Excluded);
            let Some(turn) = self.next_in_queue(after).filter(|_| self.looks() < until) else { break };
            decisions.extend(self.decide(&turn, true));
            self.explained = Some(turn);
        }
        decisions
    }

    fn begin_sweep(&mut self) {
        self.outlooks.begin_sweep();
        self.explanations.begin(self.changes.lasting());
        self.prey.begin(&self.changes);
    }

    /// Looks at those that may have room, from one turn on. The next turn, where it ended before the last one.
    fn sweep(&mut self, from: Bound<Turn>, sweep: &mut Sweep) -> Option<Turn> {
        let mut next = self.next_with_hope(from);
        while let Some(turn) = next {
            if sweep.is_enough() || self.looks() >= sweep.until {
                return Some(turn);
            }
            if let Some(decision) = self.decide(&turn, false) {
                if let Decision::Place { placements, .. } = &decision {
                    sweep.placed += placements.len();
                }
                sweep.decisions.push(decision);
            }
            next = self.next_with_hope(Bound::Excluded(turn));
        }
        None
    }

    /// Decides about one group. One that was held before and is held again says so only where it is to explain itself.
    fn decide(&mut self, turn: &Turn, explains: bool) -> Option<Decision> {
        let key = turn.key();
        let group = self.find_group(key)?;
        let is_held = group.is_held;
        let all = match self.ready(key, group) {
            None => return self.settle(turn, Hope::Settled, false, None),
            Some(Err(why)) => {
                let aside = Decision::Aside { group: key.to_string(), why };
                return self.settle(turn, Hope::Settled, false, Some(aside));
            }
            Some(Ok(all)) => all,
        };
        let Look { has_hope, sought } = self.look_of(turn);
        let wanted = self.wanted(key, all);
        let missed = match if has_hope { self.find_most(key, &wanted) } else { Err(Missed::Now) } {
            Ok(places) => return Some(self.place(key, places)),
            Err(missed) => missed,
        };
        // Others may be tried, or those who were tried first may have room by now.
        self.has_more |= !matches!(missed, Missed::Now);
        if let Missed::NotAll = missed {
            let hold = explains.then(|| self.hold(key, &wanted, Fate::NotTried));
            return self.settle(turn, Hope::Open, is_held, hold);
        }
        let sought = match sought {
            // It stays what was found out then, with what had happened by then.
            Some(sought) => sought,
            None => match self.make_room(key, &wanted) {
                Room::Made(decision) => {
                    return self.settle(turn, Hope::Open, false, Some(decision));
                }
                Room::Not(fate) => Sought::new(self, &wanted.all, fate),
            },
        };
        let hold = (explains || !is_held).then(|| self.hold(key, &wanted, sought.fate));
        let hope = match missed {
            Missed::Now => Hope::Vain(self.vain(&wanted), sought),
            Missed::Since(Some(then)) => Hope::Vain(then, sought),
            Missed::Since(None) | Missed::NotAll => Hope::Open,
        };
        self.settle(turn, hope, true, hold)
    }

    /// Remembers what the group waits for now.
    fn settle(
        &mut self,
        turn: &Turn,
        hope: Hope,
        is_held: bool,
        decision: Option<Decision>,
    ) -> Option<Decision> {
        self.set_hope(turn, hope);
        if let Some(group) = self.find_group_mut(turn.key()) {
            group.is_held = is_held;
        }
        decision
    }

    /// Says why there is no room.
    fn hold(&mut self, key: &Text, wanted: &Wanted, fate: Fate) -> Decision {
        let held = match fate {
            Fate::Ending(pods) => {
                return Decision::Hold {
                    group: key.to_string(),
                    message: format!("waits for {pods} pods to end that are ending; nodes are kept for it"),
                    blockers: Vec::new(),
                };
            }
            _ => self.missing(key, wanted),
        };
        match fate {
            Fate::InVain => held.and_says(IN_VAIN),
            Fate::GivenUp => held.and_says(GIVEN_UP),
            Fate::Ending(_) | Fate::NotTried => held,
        }
    }

    /// How many nodes were looked at, ever.
    pub(crate) fn looks(&self) -> u64 {
        self.outlooks.looks.get()
    }

    /// So many more were.
    pub(crate) fn looked(&self, nodes: usize) {
        self.outlooks.looks.set(self.looks() + nodes as u64);
    }
}
