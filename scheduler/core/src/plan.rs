//! The plan: in which order gangs are looked at, where their pods go, and what is missing where they can't.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use crate::{
    around,
    aside::Aside,
    choice::{Choice, Ground, scarcest_first},
    cluster::{Cluster, Group, Known, Lifted, VolumeStep, is_single},
    labels::Text,
    missing,
    node::{NodeId, PodId},
    pod::Kind,
    preempt::{self, Room},
    quantity::Quantity,
    question::Question,
    search::search,
};

/// After how many decisions a plan is carried out before more are made.
const MOST_DECISIONS: usize = 256;

/// What is said where nobody is evicted.
const IN_VAIN: &str = "; evicting pods of lower priority would not make room";
const GIVEN_UP: &str = "; whom of lower priority to evict for it was not found in so many tries";

/// What is decided about one group: a gang, or a pod of no gang.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Every pod that waits has a node. It counts as there already.
    Place {
        /// Which group: `namespace/name`, of a pod of no gang `namespace/pod:name`.
        group: String,
        /// A node for each pod.
        placements: Vec<Placement>,
    },
    /// Not every pod has a node, so none gets one.
    Hold {
        /// Which group.
        group: String,
        /// What is missing, in words and numbers.
        message: String,
        /// What is missing, one entry a reason.
        blockers: Vec<Blocker>,
    },
    /// Not every pod has a node, but will have one when others are gone. Until then the nodes are kept for it.
    Preempt {
        /// Which group.
        group: String,
        /// The priority of its pods: none of the victims' is as high.
        priority: i32,
        /// Who must go; nobody where it is enough that pods are ending already.
        victims: Vec<Victim>,
        /// The node that is kept for each pod.
        nominations: Vec<Placement>,
        /// Who must go, in words and numbers.
        message: String,
    },
    /// It isn't planned over.
    Aside {
        /// Which group.
        group: String,
        /// Why.
        why: Aside,
    },
}

/// A pod that must go for another group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its UID.
    pub uid: String,
    /// The group that goes as a whole: as in [`Decision::Place`], or `namespace/podgroup:name` of an upstream PodGroup.
    pub group: String,
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
    /// What must be done for its volumes before it is bound.
    pub volumes: Vec<VolumeStep>,
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

impl Decision {
    /// Says something more to it.
    fn and_says(mut self, more: &str) -> Self {
        if let Self::Hold { message, .. } = &mut self {
            message.push_str(more);
        }
        self
    }
}

/// Pods of a group that want the same: whatever takes one of them takes any other.
pub(crate) struct Alike {
    pub(crate) kind: Arc<Kind>,
    /// Ordered by name.
    pub(crate) pods: Vec<PodId>,
}

impl Cluster {
    /// Decides about the groups that wait, in their order, until so many pods have a node. What one takes, the next one
    /// doesn't see as free. Groups for which nothing can have changed since they were last looked at are passed over.
    pub fn plan(&mut self, most: usize) -> Vec<Decision> {
        let (mut decisions, mut placed, mut next) = (Vec::new(), 0, self.first_in_queue());
        self.attempts = preempt::ATTEMPTS;
        while let Some(at) = next {
            if placed >= most || decisions.len() >= MOST_DECISIONS {
                break;
            }
            let key = at.key().clone();
            if let Some(decision) = (!self.is_hopeless(&key)).then(|| self.decide(&key, false)).flatten() {
                if let Decision::Place { placements, .. } = &decision {
                    placed += placements.len();
                }
                decisions.push(decision);
            }
            next = self.next_in_queue(&at);
        }
        decisions
    }

    /// What so many of the groups that wait are told anew, in turns: numbers change while nothing is freed, too.
    pub fn explain(&mut self, most: usize) -> Vec<Decision> {
        self.attempts = 1;
        let after = self.explained.take();
        let mut next = match &after {
            Some(after) => self.next_in_queue(after),
            None => self.first_in_queue(),
        };
        let mut decisions = Vec::new();
        for _ in 0..most {
            let Some(at) = next.take() else { break };
            let key = at.key().clone();
            decisions.extend(self.decide(&key, true));
            next = self.next_in_queue(&at);
            self.explained = Some(at);
        }
        if next.is_none() {
            self.explained = None;
        }
        decisions
    }

    /// Whether nothing that the group could hope for has happened since it was last looked at in vain.
    fn is_hopeless(&self, key: &str) -> bool {
        let hoped = self.find_group(key).and_then(|group| group.hoped);
        hoped.is_some_and(|(freed, around)| {
            let now = self.changes.hopes();
            if around == u64::MAX { freed == now.0 } else { around == now.1 }
        })
    }

    /// Decides about one group. One that was held before and is held again says so only where it is to explain itself:
    /// what exactly is missing is found by looking at every node.
    fn decide(&mut self, key: &Text, explains: bool) -> Option<Decision> {
        let group = self.find_group(key)?;
        let (tells, was_held) = (explains || !group.is_held, group.is_held);
        let (decision, is_through) = match self.ready(key, group)? {
            Err(why) => (Some(Decision::Aside { group: key.to_string(), why }), true),
            Ok(all) => match self.find_most(key, all) {
                (alike, Some(places)) => (Some(self.place(key, &alike, places)), true),
                (alike, None) => self.make_room(key, &alike, (tells, was_held)),
            },
        };
        let is_held = matches!(decision, None | Some(Decision::Hold { .. }));
        let looks_around = self.looks_around(key);
        let (freed, around) = self.changes.hopes();
        if let Some(group) = self.find_group_mut(key) {
            let hopes = (freed, if looks_around { around } else { u64::MAX });
            match is_through {
                true => group.hoped = Some(hopes),
                // The next plan looks at it again; who only explains leaves that as it was.
                false if !explains => group.hoped = None,
                false => {}
            }
            group.is_held = is_held;
        }
        decision
    }

    /// What becomes of a group that fits nowhere, said where it is to be said; and whether that is all that can be done.
    fn make_room(
        &mut self,
        key: &Text,
        alike: &[Alike],
        (tells, was_held): (bool, bool),
    ) -> (Option<Decision>, bool) {
        let made = preempt::make_room(self, key, alike);
        let is_through = !matches!(made, Room::Later);
        let hold = |made: &Room| match made {
            Room::Ending(pods) => Decision::Hold {
                group: key.to_string(),
                message: format!("waits for {pods} pods to end that are ending; nodes are kept for it"),
                blockers: Vec::new(),
            },
            Room::InVain => missing::hold(self, key, alike).and_says(IN_VAIN),
            Room::GivenUp => missing::hold(self, key, alike).and_says(GIVEN_UP),
            _ => missing::hold(self, key, alike),
        };
        match made {
            Room::Made(decision) => (Some(decision), true),
            // What was said before holds until it is looked at.
            Room::Later if was_held => (None, false),
            other => (tells.then(|| hold(&other)), is_through),
        }
    }

    fn looks_around(&self, key: &str) -> bool {
        let Some(group) = self.find_group(key) else { return false };
        let looks = |known: &Known| {
            let kind = &known.pod.kind;
            kind.looks_around() || kind.volumes.is_some() || known.pod.problem.is_some()
        };
        self.members(group).any(looks) || self.shunning().next().is_some()
    }

    /// The pods to be placed, or why they aren't yet. Nothing where nothing is to be said.
    fn ready(&self, key: &str, group: &Group) -> Option<Result<Vec<Alike>, Aside>> {
        if group.gang.as_ref().is_some_and(|gang| gang.is_terminating) {
            return None;
        }
        if let Some(why) = self.pod_group_aside(key, group) {
            return Some(Err(why));
        }
        if group.gang.is_none() && !is_single(key) && !key.contains("/podgroup:") {
            return Some(Err(Aside::GangMissing));
        }
        let members: Vec<&Known> = self.members(group).collect();
        let needed = self.needed(key, group);
        if members.len() < needed {
            return Some(Err(Aside::Gathering { there: members.len(), needed }));
        }
        let waiting = || members.iter().copied().filter(|known| known.waits());
        if waiting().next().is_none() {
            return self.strangers(key).next().map(|_| Err(Aside::OfAnotherJob));
        }
        let gated = || waiting().filter_map(|known| known.pod.gate.as_ref());
        if let Some(gate) = gated().min() {
            // What a gate means for a pod of no gang the API server has said on the pod itself.
            let (gate, pods, of) = (gate.to_string(), gated().count(), members.len());
            return (!is_single(key)).then_some(Err(Aside::Gated { gate, pods, of }));
        }
        if let Some(problem) = waiting().find_map(|known| known.pod.problem.as_deref()) {
            return Some(Err(Aside::Refused(problem.clone())));
        }
        Some(Ok(self.alike(group)))
    }

    /// The waiting pods by what they want, the largest first: they have the fewest places.
    pub(crate) fn alike(&self, group: &Group) -> Vec<Alike> {
        let mut by_kind: HashMap<*const Kind, Alike> = HashMap::new();
        for id in &group.members {
            let Some(known) = self.known(*id) else { continue };
            if known.waits() && self.is_member(group, &known.pod) {
                let kind = &known.pod.kind;
                let alike = || Alike { kind: kind.clone(), pods: Vec::new() };
                by_kind.entry(Arc::as_ptr(kind)).or_insert_with(alike).pods.push(*id);
            }
        }
        let name = |id: &PodId| self.known(*id).map(|known| known.pod.name.clone());
        let mut alike: Vec<Alike> = by_kind.into_values().collect();
        alike.iter_mut().for_each(|alike| alike.pods.sort_by_cached_key(name));
        let scarcest = scarcest_first(alike.iter().map(|alike| &*alike.kind), &self.shared.resources);
        alike.sort_by_cached_key(|alike| {
            let asks: Vec<i64> = scarcest.iter().map(|id| alike.kind.requests.get(*id)).collect();
            (Reverse(asks), alike.pods.first().and_then(name))
        });
        alike
    }

    /// Finds a node for every pod: those that are kept for the group are its own, and those that are kept for pods of lower
    /// priority it may take. Changes nothing else.
    pub(crate) fn find_room(&mut self, alike: &[Alike]) -> Option<Vec<NodeId>> {
        if !self.has_promises() {
            return self.find_places(alike);
        }
        let reserved = preempt::take_reserved(self, alike);
        let mut places = self.find_places(alike);
        if places.is_none()
            && let Some((priority, _)) = preempt::standing(self, alike)
        {
            let promised = self.promised_below(priority);
            let lifted: Vec<Lifted> = promised.into_iter().filter_map(|pod| self.lift(pod)).collect();
            if !lifted.is_empty() {
                places = self.find_places(alike);
                lifted.into_iter().for_each(|lifted| self.lay_back(lifted));
                if places.is_some() {
                    self.rouse_reserved();
                }
            }
        }
        reserved.into_iter().for_each(|(pod, node)| self.reserve(pod, node));
        places
    }

    /// Finds a node for every pod, and changes nothing.
    pub(crate) fn find_places(&mut self, alike: &[Alike]) -> Option<Vec<NodeId>> {
        if around::matters(self, alike) {
            return around::place(self, alike);
        }
        if let [only] = alike {
            return self.place_alike(only);
        }
        let question = Question::new(self, alike);
        search(&question).map(|found| question.places_of(&found))
    }

    /// The pods count as on their nodes from now on.
    fn place(&mut self, key: &Text, alike: &[Alike], places: Vec<NodeId>) -> Decision {
        let mut placements = Vec::with_capacity(places.len());
        for (pod, node) in alike.iter().flat_map(|alike| &alike.pods).zip(places) {
            self.assume_at(*pod, node);
            let Some(known) = self.known(*pod) else { continue };
            let node = self.nodes[node.index()].name.to_string();
            placements.push(Placement {
                pod: known.pod.name.to_string(),
                uid: known.pod.uid.to_string(),
                node,
                volumes: self.volume_steps(&known.pod.uid),
            });
        }
        self.changes.around();
        self.set_busy(key, true);
        Decision::Place { group: key.to_string(), placements }
    }

    /// Pods of one kind fill one node after the other: whether they all fit is a matter of counting.
    fn place_alike(&mut self, alike: &Alike) -> Option<Vec<NodeId>> {
        let choice = self.choice(&alike.kind);
        if choice.places() < i128::try_from(alike.pods.len()).unwrap_or(i128::MAX) {
            return None;
        }
        let copies = choice.nodes().flat_map(|(node, room)| {
            std::iter::repeat_n(node, usize::try_from(room).unwrap_or(0).min(alike.pods.len()))
        });
        Some(copies.take(alike.pods.len()).collect())
    }

    /// The nodes for a kind, as they are now.
    pub(crate) fn choice(&mut self, kind: &Arc<Kind>) -> &Choice {
        let Self { choices, nodes, shared, changes, .. } = self;
        choices.of(kind, &Ground { nodes, shared, changes })
    }
}

#[cfg(test)]
mod tests;
