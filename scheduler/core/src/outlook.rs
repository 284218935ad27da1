//! What is known of where pods of a kind could go, without looking at every node again: before which node of the order
//! there is no place, and how many places there are at most. Both hold until nodes change, and are kept up by looking at
//! those nodes only.

use std::{cell::Cell, collections::HashMap, sync::Arc};

use crate::{
    cluster::{Concerns, Moment},
    filter,
    node::{Node, NodeId},
    order::{END, Ground, Measure, Orders, Place, begin, measure, place},
    pod::Kind,
};

/// After so many sweeps in which nobody asked for a kind it is forgotten.
const REMEMBERED: u64 = 1_024;

/// Which kind: where it is in memory. The outlook keeps it there.
pub(crate) type KindId = usize;

pub(crate) fn id_of(kind: &Arc<Kind>) -> KindId {
    Arc::as_ptr(kind) as KindId
}

/// So many pods of a kind, of a group of that priority, found no room; nor do more, or such of lower priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failure {
    gains: u64,
    pods: i128,
    priority: i32,
}

/// The outlook for pods of one kind.
#[derive(Debug)]
struct Outlook {
    kind: Arc<Kind>,
    measure: Measure,
    /// No node before it can take one.
    from: Place,
    seen: Moment,
    /// No more than so many would find a place, those among them that are kept for others.
    most: i128,
    /// How often nodes got more room that can take one.
    gains: u64,
    grown_seen: Moment,
    failed: Option<Failure>,
    asked: u64,
}

impl Outlook {
    fn new(kind: Arc<Kind>, ground: Ground<'_>) -> Self {
        let measure = measure(&kind, &ground.shared.resources);
        Self {
            from: begin(&kind, measure),
            measure,
            kind,
            seen: ground.changes.nodes.now(),
            most: i128::MAX,
            gains: 0,
            grown_seen: ground.changes.grown.now(),
            failed: None,
            asked: 0,
        }
    }

    /// Nodes that got more room may give hope.
    fn notice_growth(&mut self, ground: Ground<'_>) {
        match ground.changes.grown.since(self.grown_seen) {
            Some(grown) => {
                for id in grown {
                    let room = hope(&self.kind, &ground.nodes[id.index()]);
                    self.most = self.most.saturating_add(i128::from(room));
                    self.gains += u64::from(room > 0);
                }
            }
            None => (self.most, self.gains) = (i128::MAX, self.gains + 1),
        }
        self.grown_seen = ground.changes.grown.now();
    }

    /// Nodes that changed may have a place.
    fn notice_changes(&mut self, ground: Ground<'_>) {
        let changed = ground.changes.nodes.since(self.seen);
        match changed.filter(|changed| changed.size_hint().0 <= ground.nodes.len()) {
            Some(changed) => {
                for id in changed {
                    let node = &ground.nodes[id.index()];
                    let here = place(self.measure, id, node);
                    if here < self.from && room(&self.kind, node) > 0 {
                        self.from = here;
                    }
                }
            }
            None => self.from = begin(&self.kind, self.measure),
        }
        self.seen = ground.changes.nodes.now();
    }

    fn has_failed(&self, pods: i128, priority: i32) -> bool {
        self.failed.is_some_and(|failed| {
            failed.gains == self.gains && failed.pods <= pods && failed.priority >= priority
        })
    }
}

/// How many pods of a kind a node can take.
pub(crate) fn room(kind: &Kind, node: &Node) -> i64 {
    if !node.exists {
        return 0;
    }
    let room = node.room(&kind.requests);
    // The cheaper question first: most nodes of a busy cluster are full.
    if room == 0 || !filter::allows(kind, node) {
        return 0;
    }
    if kind.ports.is_empty() { room } else { 1 }
}

/// How many pods of a kind a node could take, were what is kept on it for others free.
fn hope(kind: &Kind, node: &Node) -> i64 {
    if !node.keeps() {
        return room(kind, node);
    }
    let room = node.room_with_kept(&kind.requests);
    if !node.exists || room == 0 || filter::is_lasting_refusal(kind, node) { 0 } else { room }
}

/// What a group that was looked at in vain waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vain {
    /// Its kinds, and how many pods of each.
    pub(crate) kinds: Box<[(KindId, i128)]>,
    /// How much hope there had been for all of them.
    gains: u64,
    /// What had happened around, of what decides beside room.
    around: Option<(Concerns, u64)>,
    /// Its priority, where nothing but its kind and how many it is decides whether there is room.
    counted: Option<i32>,
    /// Whether nothing but its kinds, how many it is and its priority decides whether others can be evicted for it.
    pub(crate) is_alone: bool,
}

/// What beside its kinds decides whether there is room for a group.
pub(crate) struct Beside {
    pub(crate) around: Option<(Concerns, u64)>,
    pub(crate) counted: Option<i32>,
    pub(crate) is_alone: bool,
}

/// The outlooks for all kinds that wait.
#[derive(Debug, Default)]
pub(crate) struct Outlooks {
    by_kind: HashMap<KindId, Outlook>,
    orders: Orders,
    sweep: u64,
    /// How many nodes were looked at, ever.
    pub(crate) looks: Cell<u64>,
}

impl Outlooks {
    fn of(&mut self, kind: &Arc<Kind>, ground: Ground<'_>) -> &mut Outlook {
        let outlook = self.by_kind.entry(id_of(kind)).or_insert_with(|| Outlook::new(kind.clone(), ground));
        outlook.asked = self.sweep;
        outlook
    }

    /// A sweep over those that wait begins. What nobody has asked for in a long time is forgotten.
    pub(crate) fn begin_sweep(&mut self) {
        self.sweep += 1;
        if self.sweep.is_multiple_of(REMEMBERED) {
            let last = self.sweep - REMEMBERED;
            self.by_kind.retain(|_, outlook| outlook.asked >= last);
        }
    }

    /// The fullest nodes that together take so many pods of a kind, with how many each takes; nothing where there are none.
    pub(crate) fn find(
        &mut self,
        kind: &Arc<Kind>,
        pods: i128,
        ground: Ground<'_>,
    ) -> Option<Vec<(NodeId, i64)>> {
        let is_trial = ground.changes.is_trial();
        let outlook = self.of(kind, ground);
        if !is_trial {
            outlook.notice_growth(ground);
            if outlook.most < pods {
                return None;
            }
        }
        self.refresh(kind, ground);
        let Self { by_kind, orders, looks, .. } = self;
        let outlook = by_kind.get_mut(&id_of(kind))?;
        let (mut found, mut places, mut first) = (Vec::new(), 0_i128, None);
        for here @ (_, id) in orders.last(outlook.measure)?.from(outlook.from) {
            looks.set(looks.get() + 1);
            let room = room(kind, &ground.nodes[id.index()]);
            if room > 0 {
                first.get_or_insert(here);
                found.push((id, room));
                places += i128::from(room);
            }
            if places >= pods {
                outlook.from = first.unwrap_or(outlook.from);
                return Some(found);
            }
        }
        outlook.from = first.unwrap_or(END);
        if !is_trial {
            outlook.most = places.saturating_add(kept(kind, ground));
        }
        None
    }

    /// Brings up to date what [`Self::walk`] walks on.
    pub(crate) fn refresh(&mut self, kind: &Arc<Kind>, ground: Ground<'_>) {
        let outlook = self.of(kind, ground);
        outlook.notice_changes(ground);
        let measure = outlook.measure;
        self.orders.of(measure, ground);
    }

    /// The nodes that can take a pod of the kind, the fullest first, as they were when this was brought up to date.
    pub(crate) fn walk<'a>(
        &'a self,
        kind: &'a Arc<Kind>,
        nodes: &'a [Node],
    ) -> impl Iterator<Item = NodeId> + 'a {
        let outlook = self.by_kind.get(&id_of(kind));
        let order = outlook.and_then(|outlook| Some((self.orders.last(outlook.measure)?, outlook.from)));
        let places = order.into_iter().flat_map(|(order, from)| order.from(from));
        places.map(|(_, id)| id).filter(move |id| {
            self.looks.set(self.looks.get() + 1);
            room(kind, &nodes[id.index()]) > 0
        })
    }

    /// A group was looked at in vain: what it waits for.
    pub(crate) fn vain(
        &mut self,
        kinds: &[(&Arc<Kind>, i128)],
        Beside { around, counted, is_alone }: Beside,
        ground: Ground<'_>,
    ) -> Vain {
        let mut gains = 0_u64;
        for (kind, pods) in kinds {
            let outlook = self.of(kind, ground);
            gains = gains.wrapping_add(outlook.gains);
            if let Some(priority) = counted
                && !outlook.has_failed(*pods, priority)
            {
                outlook.failed = Some(Failure { gains: outlook.gains, pods: *pods, priority });
            }
        }
        let kinds = kinds.iter().map(|(kind, pods)| (id_of(kind), *pods)).collect();
        Vain { kinds, gains, around, counted, is_alone }
    }

    /// Whether such a group may have room now.
    pub(crate) fn has_hope(&mut self, vain: &Vain, ground: Ground<'_>) -> bool {
        let (mut gains, sweep) = (0_u64, self.sweep);
        let mut has_failed = false;
        for (kind, pods) in &vain.kinds {
            let Some(outlook) = self.by_kind.get_mut(kind) else { return true };
            outlook.asked = sweep;
            outlook.notice_growth(ground);
            if outlook.most < *pods {
                return false;
            }
            gains = gains.wrapping_add(outlook.gains);
            has_failed |= vain.counted.is_some_and(|priority| outlook.has_failed(*pods, priority));
        }
        let is_moved =
            vain.around.as_ref().is_some_and(|(which, then)| *then != ground.changes.surroundings(which));
        is_moved || gains != vain.gains && !has_failed
    }
}

/// How many more pods of a kind nodes could take, were what is kept on them for others free.
fn kept(kind: &Kind, ground: Ground<'_>) -> i128 {
    let kept = ground.nodes.iter().filter(|node| node.keeps());
    kept.map(|node| i128::from(hope(kind, node))).fold(0, i128::saturating_add)
}
