//! What happens to a small cluster, one thing after the other.

use proptest::{option, prelude::*};

use super::{NODES, PODS};
use crate::StorageKind;

/// Something that happens to a small cluster.
#[derive(Clone, Debug)]
pub(super) enum Happens {
    Node {
        node: usize,
        gpus: i64,
        zone: usize,
        is_cordoned: bool,
    },
    NodeGone(usize),
    Pod {
        pod: usize,
        asks: Asks,
    },
    /// The API server shows a pod on the node to which we sent it.
    Bound(usize),
    /// A pod of another scheduler.
    Foreign {
        pod: usize,
        node: usize,
        gpus: i64,
        priority: i32,
        app: usize,
        /// Where it isn't of the namespace of the others, how it is about them.
        abroad: Option<Abroad>,
    },
    Ending(usize, i64),
    Later(i64),
    Finished(usize, &'static str),
    Gone(usize),
    /// A pod that was sent to a node isn't bound.
    GivenUp(usize),
    /// A pod's status changes in what planning doesn't read.
    Echo(usize),
    Gang {
        gang: usize,
        min_member: usize,
        priority: i32,
    },
    PodGroup {
        min_count: usize,
    },
    Budget {
        app: usize,
        allowed: i64,
    },
    BudgetGone,
    /// A claim that isn't bound; only one pod may use it at once, or all on one node.
    Claim {
        claim: usize,
        is_for_one: bool,
    },
    /// A volume that the nodes of one zone reach.
    Volume {
        volume: usize,
        zone: usize,
    },
    StorageGone(StorageKind, usize),
    ReservationsEnd,
    /// Somebody who was to be evicted can't be.
    Spared(usize),
    Explained,
    /// What nobody mentions any more is dropped: nodes that come back get others' places.
    Forgotten,
}

/// What a pod asks for.
#[derive(Clone, Debug)]
pub(super) struct Asks {
    pub(super) gpus: i64,
    pub(super) priority: i32,
    pub(super) app: usize,
    pub(super) group: Option<usize>,
    pub(super) how: How,
}

/// How a pod of another namespace is about those of ours.
#[derive(Clone, Copy, Debug)]
pub(super) enum Abroad {
    Plainly,
    /// Not where a pod of this app is, of our namespace by its name, or of any.
    Apart {
        app: usize,
        from_all: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    Plainly,
    /// Not on a node, or in a zone, with a pod of this app.
    Apart(usize, &'static str),
    /// Where a pod of this app is.
    Together(usize, &'static str),
    /// Not where a pod of this app is, of the other namespace by its name, or of any.
    ApartFromAbroad {
        app: usize,
        from_all: bool,
    },
    Spread,
    InZone(usize),
    WithPort,
    WithClaim(usize),
    WithoutPreempting,
}

fn asks() -> impl Strategy<Value = Asks> {
    let key = || prop_oneof![Just("kubernetes.io/hostname"), Just("zone")];
    let how = prop_oneof![
        4 => Just(How::Plainly),
        1 => (0_usize..3, key()).prop_map(|(app, key)| How::Apart(app, key)),
        1 => (0_usize..3, key()).prop_map(|(app, key)| How::Together(app, key)),
        1 => (0_usize..3, any::<bool>()).prop_map(|(app, from_all)| How::ApartFromAbroad { app, from_all }),
        1 => Just(How::Spread),
        1 => (0_usize..2).prop_map(How::InZone),
        1 => Just(How::WithPort),
        2 => (0_usize..2).prop_map(How::WithClaim),
        1 => Just(How::WithoutPreempting),
    ];
    let group = option::weighted(0.6, 0_usize..4);
    (1_i64..4, 0_i32..3, 0_usize..3, group, how).prop_map(|(gpus, priority, app, group, how)| Asks {
        gpus,
        priority,
        app,
        group,
        how,
    })
}

fn abroad() -> impl Strategy<Value = Abroad> {
    let apart = (0_usize..3, any::<bool>()).prop_map(|(app, from_all)| Abroad::Apart { app, from_all });
    prop_oneof![Just(Abroad::Plainly), apart]
}

/// In how many seconds a pod is to be gone.
fn ends() -> impl Strategy<Value = i64> {
    prop_oneof![Just(-100), Just(0), Just(0), Just(0), Just(500), Just(100_000)]
}

pub(super) fn happens() -> impl Strategy<Value = Happens> {
    let pod = || 0..PODS;
    prop_oneof![
        3 => (0..NODES, 0_i64..6, 0_usize..2, proptest::bool::weighted(0.2))
            .prop_map(|(node, gpus, zone, is_cordoned)| Happens::Node { node, gpus, zone, is_cordoned }),
        1 => (0..NODES).prop_map(Happens::NodeGone),
        6 => (pod(), asks()).prop_map(|(pod, asks)| Happens::Pod { pod, asks }),
        3 => pod().prop_map(Happens::Bound),
        3 => (pod(), 0..NODES, 0_i64..4, 0_i32..3, 0_usize..3, option::of(abroad()))
            .prop_map(|(pod, node, gpus, priority, app, abroad)| Happens::Foreign { pod, node, gpus, priority, app, abroad }),
        1 => (pod(), ends()).prop_map(|(pod, seconds)| Happens::Ending(pod, seconds)),
        1 => prop_oneof![Just(61), Just(290)].prop_map(Happens::Later),
        1 => (pod(), prop_oneof![Just("Succeeded"), Just("Failed")])
            .prop_map(|(pod, phase)| Happens::Finished(pod, phase)),
        3 => pod().prop_map(Happens::Gone),
        1 => pod().prop_map(Happens::GivenUp),
        1 => pod().prop_map(Happens::Echo),
        1 => (0_usize..3, 1_usize..4, 0_i32..3)
            .prop_map(|(gang, min_member, priority)| Happens::Gang { gang, min_member, priority }),
        1 => (1_usize..4).prop_map(|min_count| Happens::PodGroup { min_count }),
        1 => (0_usize..3, 0_i64..2).prop_map(|(app, allowed)| Happens::Budget { app, allowed }),
        1 => Just(Happens::BudgetGone),
        1 => (0_usize..2, any::<bool>()).prop_map(|(claim, is_for_one)| Happens::Claim { claim, is_for_one }),
        2 => (0_usize..2, 0_usize..2).prop_map(|(volume, zone)| Happens::Volume { volume, zone }),
        1 => (prop_oneof![Just(StorageKind::Claim), Just(StorageKind::Volume)], 0_usize..2)
            .prop_map(|(kind, which)| Happens::StorageGone(kind, which)),
        1 => Just(Happens::ReservationsEnd),
        1 => pod().prop_map(Happens::Spared),
        1 => Just(Happens::Explained),
        1 => Just(Happens::Forgotten),
    ]
}
