//! What a copy's watches tell it: one event after the other, each kind at its own pace, with gaps after which it lists
//! anew.

use std::collections::VecDeque;

use serde_json::Value;
use tokio::time::Instant;

use super::{network::Connection, rules::Known};
use crate::{
    cycle::Scheduler,
    observe::{Change, Observed},
};

/// The kinds that change here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pod,
    Node,
    Gang,
}

pub(super) const KINDS: [Kind; 3] = [Kind::Pod, Kind::Node, Kind::Gang];

/// Something that happened to an object, in the API server's order.
#[derive(Clone)]
pub(super) struct Event {
    pub(super) kind: Kind,
    pub(super) is_gone: bool,
    pub(super) object: Value,
}

/// How one kind is watched.
enum Watch {
    /// The connection broke: events are lost until it lists anew.
    Broken(Instant),
    /// These are still to be told; what comes after them begins there.
    Lists(VecDeque<Value>, usize),
    Follows,
}

/// A copy's watches.
pub(super) struct Watches(Vec<(Kind, Watch, usize)>);

impl Watches {
    pub(super) fn new() -> Self {
        Self(KINDS.map(|kind| (kind, Watch::Broken(Instant::now()), 0)).into())
    }

    /// Up to which event the pods and the nodes are known.
    pub(super) fn known(&self) -> Known {
        Known { pods: self.0[0].2, nodes: self.0[1].2 }
    }

    /// Tells some of what is to be told.
    pub(super) fn go_on(&mut self, connection: &Connection, scheduler: &mut Scheduler) {
        let world = &connection.world;
        let see = |kind: Kind, node: &Value| {
            if kind == Kind::Node {
                world.state().closed.is_shown(connection.copy, node);
            }
        };
        for (kind, watch, at) in &mut self.0 {
            let most = world.pace();
            match watch {
                Watch::Broken(until) if *until > Instant::now() => {}
                Watch::Broken(_) => {
                    tell(scheduler, *kind, Told::ListBegins);
                    let (objects, end) = world.list(*kind);
                    world.note(&format!("lists {kind:?}s"));
                    *watch = Watch::Lists(objects.into(), end);
                }
                Watch::Lists(left, end) => {
                    let now = left.len().min(most);
                    for object in left.drain(..now) {
                        see(*kind, &object);
                        tell(scheduler, *kind, Told::Is(object));
                    }
                    if left.is_empty() {
                        world.note(&format!("has listed {kind:?}s"));
                        tell(scheduler, *kind, Told::ListEnds);
                        (*at, *watch) = (*end, Watch::Follows);
                    }
                }
                Watch::Follows => {
                    if let Some(until) = world.breaks_off() {
                        *watch = Watch::Broken(until);
                        continue;
                    }
                    let (events, end) = world.events(*kind, *at, most);
                    *at = end;
                    for event in events {
                        world.note(&format!(
                            "shown: {kind:?} {} {}{}",
                            event.object["metadata"]["name"],
                            event.object["spec"]["nodeName"],
                            if event.is_gone { " gone" } else { "" }
                        ));
                        see(*kind, &event.object);
                        let told = if event.is_gone { Told::Gone } else { Told::Is };
                        tell(scheduler, *kind, told(event.object));
                    }
                }
            }
        }
    }
}

enum Told {
    ListBegins,
    Is(Value),
    Gone(Value),
    ListEnds,
}

fn tell(scheduler: &mut Scheduler, kind: Kind, told: Told) {
    macro_rules! change {
        () => {
            match told {
                Told::ListBegins => Change::ListBegins,
                Told::Is(object) => Change::Is(serde_json::from_value(object).unwrap()),
                Told::Gone(object) => Change::Gone(serde_json::from_value(object).unwrap()),
                Told::ListEnds => Change::ListEnds,
            }
        };
    }
    scheduler.observe(match kind {
        Kind::Pod => Observed::Pod(change!()),
        Kind::Node => Observed::Node(change!()),
        Kind::Gang => Observed::Gang(change!()),
    });
}
