//! The nodes that can take a pod of some kind, in the order in which they are to be filled, and how many each can take. Kept
//! up by looking only at nodes that changed: for those who ask again and again while pods are taken off nodes and put back.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    amounts::ResourceNames,
    cluster::Moment,
    node::{Node, NodeId},
    order::{Ground, Measure, Place, measure, place},
    outlook::room,
    pod::Kind,
};

/// The nodes for one kind of pod.
#[derive(Debug)]
pub(crate) struct Choice {
    kind: Arc<Kind>,
    measure: Measure,
    /// By node: how many pods of the kind fit, and where it is in the order.
    rooms: Vec<Option<(i64, Place)>>,
    order: BTreeSet<Place>,
    places: i128,
    seen: Moment,
    is_new: bool,
}

impl Choice {
    pub(crate) fn new(kind: Arc<Kind>, names: &ResourceNames) -> Self {
        Self {
            measure: measure(&kind, names),
            kind,
            rooms: Vec::new(),
            order: BTreeSet::new(),
            places: 0,
            seen: Moment::default(),
            is_new: true,
        }
    }

    /// How many pods of the kind would find a place if they were alone.
    pub(crate) fn places(&self) -> i128 {
        self.places
    }

    /// The nodes that can take one, the fullest first, with how many each can take.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (NodeId, i64)> {
        self.order.iter().map(|(_, node)| (*node, self.room(*node)))
    }

    /// How many pods of the kind fit on a node.
    pub(crate) fn room(&self, node: NodeId) -> i64 {
        self.rooms.get(node.index()).copied().flatten().map_or(0, |(room, _)| room)
    }

    /// Brings it up to date.
    pub(crate) fn refresh(&mut self, ground: Ground<'_>) {
        match ground.changes.nodes.since(self.seen).filter(|_| !self.is_new) {
            Some(changed) => changed.for_each(|id| self.look(id, &ground.nodes[id.index()])),
            None => {
                let numbered = ground.nodes.iter().zip(0..);
                numbered.for_each(|(node, number)| self.look(NodeId(number), node));
            }
        }
        (self.seen, self.is_new) = (ground.changes.nodes.now(), false);
    }

    fn look(&mut self, id: NodeId, node: &Node) {
        if self.rooms.len() <= id.index() {
            self.rooms.resize(id.index() + 1, None);
        }
        if let Some((room, place)) = self.rooms[id.index()].take() {
            self.places -= i128::from(room);
            self.order.remove(&place);
        }
        let room = room(&self.kind, node);
        if room > 0 {
            let place = place(self.measure, id, node);
            self.rooms[id.index()] = Some((room, place));
            self.places += i128::from(room);
            self.order.insert(place);
        }
    }
}
