//! For each kind of pod that waits: the nodes that can take one, in the order in which they are to be filled. Kept up by
//! looking only at nodes that changed.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    amounts::{ResourceId, ResourceNames},
    cluster::Moment,
    filter,
    node::{Node, NodeId},
    pod::Kind,
    read::Shared,
};

/// For how many kinds the order is remembered.
const REMEMBERED: usize = 32;

/// What is free on a node of what is scarcest: nodes with least of it are filled first, so that large pods keep their
/// places.
type Fullness = [i64; 2];

/// The nodes for one kind of pod.
#[derive(Debug)]
pub(crate) struct Choice {
    kind: Arc<Kind>,
    /// What it asks for, the scarcest first.
    scarcest: Vec<ResourceId>,
    /// By node: how many pods of the kind fit, and where that puts it in the order.
    rooms: Vec<Option<(i64, Fullness)>>,
    order: BTreeSet<(Fullness, NodeId)>,
    places: i128,
    seen: Moment,
    asked_at: u64,
}

impl Choice {
    fn new(kind: Arc<Kind>, names: &ResourceNames) -> Self {
        let scarcest = scarcest_first(std::iter::once(&*kind), names);
        Self {
            kind,
            scarcest,
            rooms: Vec::new(),
            order: BTreeSet::new(),
            places: 0,
            seen: Moment::default(),
            asked_at: 0,
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

    fn look(&mut self, id: NodeId, node: &Node, shared: &Shared) {
        if self.rooms.len() <= id.index() {
            self.rooms.resize(id.index() + 1, None);
        }
        if let Some((room, fullness)) = self.rooms[id.index()].take() {
            self.places -= i128::from(room);
            self.order.remove(&(fullness, id));
        }
        let room = room(&self.kind, node, shared);
        if room > 0 {
            let free = |at: usize| self.scarcest.get(at).map_or(0, |resource| node.free(*resource));
            let fullness = [free(0), free(1)];
            self.rooms[id.index()] = Some((room, fullness));
            self.places += i128::from(room);
            self.order.insert((fullness, id));
        }
    }
}

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

/// How many pods of a kind a node can take.
pub(crate) fn room(kind: &Kind, node: &Node, shared: &Shared) -> i64 {
    if !node.exists {
        return 0;
    }
    let room = node.room(&kind.requests);
    // The cheaper question first: most nodes of a busy cluster are full.
    if room == 0 || filter::refusal(kind, node, shared).is_some() {
        return 0;
    }
    if kind.ports.is_empty() { room } else { 1 }
}

/// The choices of the kinds that were asked about last.
#[derive(Debug, Default)]
pub(crate) struct Choices {
    by_kind: HashMap<usize, Choice>,
    asked: u64,
}

/// What choices are made from.
pub(crate) struct Ground<'a> {
    pub(crate) nodes: &'a [Node],
    pub(crate) shared: &'a Shared,
    pub(crate) changes: &'a crate::cluster::Changes,
}

impl Choices {
    /// The nodes for a kind, as they are now.
    pub(crate) fn of(&mut self, kind: &Arc<Kind>, ground: &Ground<'_>) -> &Choice {
        self.asked += 1;
        let address = Arc::as_ptr(kind) as usize;
        if !self.by_kind.contains_key(&address) && self.by_kind.len() >= REMEMBERED {
            self.forget_one();
        }
        let choice = self
            .by_kind
            .entry(address)
            .or_insert_with(|| Choice::new(kind.clone(), &ground.shared.resources));
        let all = || ground.nodes.iter().zip(0..);
        let is_new = choice.asked_at == 0;
        choice.asked_at = self.asked;
        match ground.changes.since(choice.seen).filter(|_| !is_new) {
            Some(changed) => changed.for_each(|id| choice.look(id, &ground.nodes[id.index()], ground.shared)),
            None => all().for_each(|(node, number)| choice.look(NodeId(number), node, ground.shared)),
        }
        choice.seen = ground.changes.now();
        choice
    }

    fn forget_one(&mut self) {
        let oldest =
            self.by_kind.iter().min_by_key(|(_, choice)| choice.asked_at).map(|(address, _)| *address);
        if let Some(oldest) = oldest {
            self.by_kind.remove(&oldest);
        }
    }
}
