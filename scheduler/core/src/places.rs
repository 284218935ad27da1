//! Where the pods of a group go, if all of them fit: by counting, by searching, or one by one beside those around.

use std::sync::Arc;

use crate::{
    around,
    cluster::{Cluster, Lifted, Whose},
    elastic::Wanted,
    labels::Text,
    node::{NodeId, PodId},
    order::Ground,
    outlook::{Beside, Vain},
    plan::{Alike, Decision, Placement},
    pod::Kind,
    preempt,
    question::Question,
    search::search_counting,
};

/// A node for each pod of a group, in an order in which each may go to its node beside those before it.
pub(crate) type Places = Vec<(PodId, NodeId)>;

impl Alike {
    /// How many pods, in the type of amounts.
    pub(crate) fn count(&self) -> i128 {
        i128::try_from(self.pods.len()).unwrap_or(i128::MAX)
    }
}

impl Cluster {
    /// Finds a node for every pod: those that are kept for the group are its own, and those that are kept for pods of lower
    /// priority it may take. Changes nothing else.
    pub(crate) fn find_room(&mut self, alike: &[Alike]) -> Option<Places> {
        let has_reserved = self.has_promises() && self.has_reserved(alike);
        let places = if has_reserved { None } else { self.find_places(alike) };
        if places.is_some() || !self.has_promises() {
            return places;
        }
        self.changes.begin_trial();
        let reserved = preempt::take_reserved(self, alike);
        let mut places = if has_reserved { self.find_places(alike) } else { None };
        let mut has_taken = false;
        if places.is_none()
            && let Some((priority, _)) = preempt::standing(self, alike)
        {
            let promised = self.promised_below(priority);
            let lifted: Vec<Lifted> = promised.into_iter().filter_map(|pod| self.lift(pod)).collect();
            if !lifted.is_empty() {
                places = self.find_places(alike);
                has_taken = places.is_some();
                lifted.into_iter().for_each(|lifted| self.lay_back(lifted));
            }
        }
        reserved.into_iter().for_each(|(pod, node)| self.reserve(pod, node));
        self.changes.end_trial();
        if has_taken {
            self.rouse_reserved();
        }
        places
    }

    /// Whether nodes are kept for some of the pods.
    pub(crate) fn has_reserved(&self, alike: &[Alike]) -> bool {
        let mut pods = alike.iter().flat_map(|alike| &alike.pods);
        pods.any(|pod| self.known(*pod).is_some_and(|known| known.reserved.is_some()))
    }

    /// Finds a node for every pod, and changes nothing.
    pub(crate) fn find_places(&mut self, alike: &[Alike]) -> Option<Places> {
        if around::matters(self, alike) {
            // What isn't there for each kind alone needn't be looked for together.
            let is_there =
                self.changes.is_trial() || alike.iter().all(|alike| self.place_alike(alike).is_some());
            return if is_there { around::place(self, alike) } else { None };
        }
        if let [only] = alike {
            return self.place_alike(only);
        }
        let is_there = self.changes.is_trial() || alike.iter().all(|alike| self.place_alike(alike).is_some());
        let question = is_there.then(|| Question::open(self, alike))?;
        let (found, looks) = search_counting(&question);
        self.looked(looks + self.nodes.len() * alike.len());
        found.map(|found| question.places_of(&found, alike))
    }

    /// Pods of one kind fill one node after the other: whether they all fit is a matter of counting.
    fn place_alike(&mut self, alike: &Alike) -> Option<Places> {
        let Self { outlooks, nodes, changes, shared, .. } = self;
        let found = outlooks.find(&alike.kind, alike.count(), Ground { nodes, shared, changes })?;
        Some(fill(found.into_iter(), alike))
    }

    /// Brings up to date where pods of the kind may go.
    pub(crate) fn refresh(&mut self, kind: &Arc<Kind>) {
        let Self { outlooks, nodes, changes, shared, .. } = self;
        outlooks.refresh(kind, Ground { nodes, shared, changes });
    }

    /// The nodes that can take a pod of the kind, the fullest first.
    pub(crate) fn walk<'a>(&'a self, kind: &'a Arc<Kind>) -> impl Iterator<Item = NodeId> + 'a {
        self.outlooks.walk(kind, &self.nodes)
    }

    /// What a group waits for that was looked at in vain.
    pub(crate) fn vain(&mut self, wanted: &Wanted) -> Vain {
        let alike = &wanted.all;
        let is_mixed = alike.len() > 1;
        // Which of several kinds are chosen is no matter of counting.
        let (chooses, is_searched) = (wanted.has_choice() && is_mixed, wanted.enough > 1);
        let mut concerns = around::concerns(self, alike);
        let looks_around = concerns.any();
        if chooses && is_searched {
            concerns.pods = Some(Whose::Anybodys);
        }
        let then = self.changes.surroundings(&concerns);
        let around = concerns.any().then_some((concerns, then));
        let is_alone = !looks_around && !chooses && self.is_alone(alike);
        let is_counted = !is_mixed && !looks_around && !self.has_reserved(alike);
        let counted = preempt::standing(self, alike).filter(|_| is_counted).map(|(priority, _)| priority);
        let least = |pods: usize| i128::try_from(pods).unwrap_or(i128::MAX);
        let kinds: Vec<(&Arc<Kind>, i128)> =
            wanted.least().map(|(alike, pods)| (&alike.kind, least(pods))).collect();
        let Self { outlooks, nodes, changes, shared, .. } = self;
        outlooks.vain(&kinds, Beside { around, counted, is_alone }, Ground { nodes, shared, changes })
    }

    /// The pods count as on their nodes from now on.
    pub(crate) fn place(&mut self, key: &Text, places: Places) -> Decision {
        let mut placements = Vec::with_capacity(places.len());
        for (pod, node) in places {
            self.assume_at(pod, node);
            let Some(known) = self.known(pod) else { continue };
            let node = self.nodes[node.index()].name.to_string();
            placements.push(Placement {
                pod: known.pod.name.to_string(),
                uid: known.pod.uid.to_string(),
                node,
                volumes: self.volume_steps(&known.pod.uid),
            });
        }
        self.set_busy(key, true);
        Decision::Place { group: key.to_string(), placements }
    }
}

/// The pods on these nodes, one node after the other.
pub(crate) fn fill(nodes: impl Iterator<Item = (NodeId, i64)>, alike: &Alike) -> Places {
    let pods = alike.pods.len();
    let copies = |(node, room)| std::iter::repeat_n(node, usize::try_from(room).unwrap_or(0).min(pods));
    alike.pods.iter().copied().zip(nodes.flat_map(copies)).collect()
}
