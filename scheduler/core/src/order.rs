//! Nodes in the order in which they are filled: those with least left of what is scarcest come first, so that large pods
//! keep their places. One order serves all kinds of pods to whom the same is scarcest.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound,
};

use crate::{
    amounts::{ResourceId, ResourceNames},
    cluster::{Changes, Moment},
    node::{Node, NodeId},
    pod::Kind,
    read::Shared,
};

/// How many orders are remembered.
const REMEMBERED: usize = 16;

/// The two resources by whose rest nodes are ordered.
pub(crate) type Measure = [Option<ResourceId>; 2];

/// Where a node is in an order: what is free of either, then the node.
pub(crate) type Place = ([i64; 2], NodeId);

/// After every node.
pub(crate) const END: Place = ([i64::MAX; 2], NodeId(u32::MAX));

/// What these kinds ask for, extended resources first: of those there is least.
pub(crate) fn scarcest_first<'a>(
    kinds: impl Iterator<Item = &'a Kind>,
    names: &ResourceNames,
) -> Vec<ResourceId> {
    let asked =
        kinds.flat_map(|kind| kind.requests.iter()).filter(|(_, amount)| *amount > 0).map(|(id, _)| id);
    let mut asked: Vec<ResourceId> = asked.collect();
    asked.sort_by_key(|id| (*id == ResourceId::PODS, !names.name(*id).contains('/'), *id));
    asked.dedup();
    asked
}

/// What a pod of this kind asks for that is scarcest.
pub(crate) fn measure(kind: &Kind, names: &ResourceNames) -> Measure {
    let scarcest = scarcest_first(std::iter::once(kind), names);
    [scarcest.first().copied(), scarcest.get(1).copied()]
}

/// Before the first node that has what a pod of this kind asks for of the scarcest.
pub(crate) fn begin(kind: &Kind, measure: Measure) -> Place {
    let least = measure[0].map_or(i64::MIN, |resource| kind.requests.get(resource));
    ([least, i64::MIN], NodeId(0))
}

/// Where the node is.
pub(crate) fn place(measure: Measure, id: NodeId, node: &Node) -> Place {
    (measure.map(|resource| resource.map_or(0, |resource| node.free(resource))), id)
}

/// What answers are made from.
#[derive(Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub(crate) nodes: &'a [Node],
    pub(crate) shared: &'a Shared,
    pub(crate) changes: &'a Changes,
}

/// The nodes that exist, in order.
#[derive(Debug, Default)]
pub(crate) struct Order {
    places: Vec<Option<Place>>,
    order: BTreeSet<Place>,
    seen: Moment,
    asked: u64,
}

impl Order {
    fn look(&mut self, measure: Measure, id: NodeId, node: &Node) {
        if self.places.len() <= id.index() {
            self.places.resize(id.index() + 1, None);
        }
        let now = node.exists.then(|| place(measure, id, node));
        let before = std::mem::replace(&mut self.places[id.index()], now);
        if before != now {
            if let Some(before) = before {
                self.order.remove(&before);
            }
            self.order.extend(now);
        }
    }

    /// The nodes from here on.
    pub(crate) fn from(&self, place: Place) -> impl Iterator<Item = Place> + '_ {
        self.order.range((Bound::Included(place), Bound::Unbounded)).copied()
    }
}

/// The orders that were asked for last.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    by_measure: HashMap<Measure, Order>,
    asked: u64,
}

impl Orders {
    /// The order by this measure, as it is now.
    pub(crate) fn of(&mut self, measure: Measure, ground: Ground<'_>) -> &Order {
        self.asked += 1;
        if !self.by_measure.contains_key(&measure) && self.by_measure.len() >= REMEMBERED {
            let oldest = self.by_measure.iter().min_by_key(|(_, order)| order.asked).map(|(of, _)| *of);
            oldest.into_iter().for_each(|oldest| drop(self.by_measure.remove(&oldest)));
        }
        let order = self.by_measure.entry(measure).or_default();
        let is_new = order.asked == 0;
        order.asked = self.asked;
        match ground.changes.nodes.since(order.seen).filter(|_| !is_new) {
            Some(changed) => changed.for_each(|id| order.look(measure, id, &ground.nodes[id.index()])),
            None => {
                let numbered = ground.nodes.iter().zip(0..);
                numbered.for_each(|(node, number)| order.look(measure, NodeId(number), node));
            }
        }
        order.seen = ground.changes.nodes.now();
        order
    }

    /// The order by this measure, as it was when it was last asked for.
    pub(crate) fn last(&self, measure: Measure) -> Option<&Order> {
        self.by_measure.get(&measure)
    }
}
