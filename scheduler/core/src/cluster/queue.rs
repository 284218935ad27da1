//! The groups that wait, in their order, and what each hopes for.
//!
//! What was answered with no is remembered, so that nobody asks again before the answer could be another. The words for it:
//!
//! | word | is about | says |
//! | --- | --- | --- |
//! | `Outlook` | one kind of pod | before which node there is no place, how many places there are at most, and what failed |
//! | `Vain` | one group | which kinds it found no room for, and how much hope there had been: with more there may be room |
//! | `Sought` | one group | what came of the search whom to evict for it, and what chances there had been |
//! | `Fate` | one such search | why no room is made |
//! | `Prey` | all priorities | the `Herd` of each (who may be evicted by it), and the fates of groups alike |
//! | `Hope` | one group in the queue | that it wasn't looked at yet, that it can only wait, or both of `Vain` and `Sought` |
//! | `Look` | one group, now | which of the two questions is asked again |
//! | `Explanations` | groups alike | what they are told is missing, as long as no node changes |

use std::ops::Bound;

use super::{Cluster, Turn};
use crate::{order::Ground, outlook::Vain, preempt::Sought};

/// What a group hopes for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hope {
    /// It wasn't looked at since something about it has changed.
    Open,
    /// It isn't looked at before something about it changes.
    Settled,
    /// It was looked at in vain, and so was whom to evict for it.
    Vain(Vain, Sought),
}

/// What is to be looked at for a group.
pub(crate) struct Look {
    /// Whether it may have room.
    pub(crate) has_hope: bool,
    /// What came of the search whom to evict for it, where another would come to the same.
    pub(crate) sought: Option<Sought>,
}

impl Cluster {
    /// The next group that waits.
    pub(crate) fn next_in_queue(&self, from: Bound<Turn>) -> Option<Turn> {
        Some(self.queue.range((from, Bound::Unbounded)).next()?.0.clone())
    }

    /// The next group for which something may have come to be possible.
    pub(crate) fn next_with_hope(&mut self, from: Bound<Turn>) -> Option<Turn> {
        let lowest = self.lowest_priority();
        let Self { queue, outlooks, nodes, shared, changes, prey, .. } = self;
        let ground = Ground { nodes, shared, changes };
        let mut rest = queue.range((from, Bound::Unbounded));
        let next = rest.find(|(_, hope)| match hope {
            Hope::Open => true,
            Hope::Settled => false,
            Hope::Vain(vain, sought) => {
                let is_worth_it = || sought.has_chance(changes, lowest) && !prey.knows(vain, sought, changes);
                outlooks.has_hope(vain, ground) || is_worth_it()
            }
        });
        next.map(|(turn, _)| turn.clone())
    }

    /// What is to be looked at for a group.
    pub(crate) fn look_of(&mut self, turn: &Turn) -> Look {
        let lowest = self.lowest_priority();
        let Self { queue, outlooks, nodes, shared, changes, .. } = self;
        let Some(Hope::Vain(vain, sought)) = queue.get(turn) else {
            return Look { has_hope: true, sought: None };
        };
        let has_hope = outlooks.has_hope(vain, Ground { nodes, shared, changes });
        let is_open = has_hope || sought.has_chance(changes, lowest);
        Look { has_hope, sought: Some(sought.clone()).filter(|_| !is_open) }
    }

    fn lowest_priority(&self) -> Option<i32> {
        self.priorities.keys().next().copied()
    }

    /// Remembers what a group that still waits hopes for.
    pub(crate) fn set_hope(&mut self, turn: &Turn, hope: Hope) {
        if let Some(known) = self.queue.get_mut(turn) {
            *known = hope;
        }
    }

    /// Groups for which nodes are kept are looked at again: somebody may have taken one.
    pub(crate) fn rouse_reserved(&mut self) {
        for key in self.reservations.keys() {
            let turn = self.groups.get(key).and_then(|group| group.queued.as_ref());
            if let Some(hope) = turn.and_then(|turn| self.queue.get_mut(turn)) {
                *hope = Hope::Open;
            }
        }
        self.changes.group();
    }
}

#[cfg(test)]
impl Cluster {
    /// Forgets whatever was remembered of what was looked at in vain.
    pub(crate) fn forget_hopes(&mut self) {
        self.queue.values_mut().for_each(|hope| *hope = Hope::Open);
        (self.outlooks, self.explanations, self.prey) = Default::default();
        (self.swept, self.swept_to) = (None, None);
    }
}
