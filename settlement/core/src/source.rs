//! What a finished pod is billed from: its node's meter, or its status where there is no meter. Never the one in place of
//! the other without saying why.

use plasma_types::{Duration, UnixMillis};

use crate::PodMeter;

/// So long after a pod's end a meter may still tell of it, by the node's own word that all is told: two periods.
const AFTER_THE_END: Duration = Duration(120_000);
/// The same where nobody knows when it ended, after it was seen to run no more: the clocks are two.
const AFTER_IT_WAS_SEEN: Duration = Duration(600_000);

/// What is known of a pod and of its node's meter.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The meter that its node has.
    pub meter: NodeMeter,
    /// When the kubelet took the pod, and with it its devices; by the node's clock.
    pub admitted: UnixMillis,
    /// When its last container ended, by the node's clock; `None` where its status doesn't say.
    pub ended: Option<UnixMillis>,
    /// When it was seen to run no more, by our clock.
    pub seen_over: UnixMillis,
    /// What the meter has told of it.
    pub told: Option<&'a PodMeter>,
    /// All that ended before this moment, by the node's clock, is told.
    pub complete_until: Option<UnixMillis>,
    /// Until when an administrator gave up what the meter would have told.
    pub given_up: Option<UnixMillis>,
    /// Whether the node is gone for good, and its meter with it.
    pub node_is_gone: bool,
}

/// The meter of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeMeter {
    /// It has none.
    None,
    /// It has one, and since when can't be told.
    Unknown,
    /// It has one since then, by the node's clock.
    Since(UnixMillis),
}

/// What bills a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// What the meter told.
    Meter(Extent),
    /// The pod's status.
    Status(Why),
    /// Nothing yet: the meter will tell more.
    Wait,
}

/// How much the meter told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All.
    All,
    /// Not the pod's end, though all that ended long after it is told: what came is all that will.
    NoMore,
    /// Its node is gone: what came is all that will.
    NodeGone,
}

/// Why a pod's status bills it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its node has no meter.
    NoMeter,
    /// The kubelet took it before the meter's journal began.
    BeforeTheMeter,
    /// An administrator gave the meter's records up.
    GivenUp,
}

/// What bills the pod.
pub fn source(evidence: &Evidence<'_>) -> Source {
    let Evidence { meter, admitted, given_up, .. } = *evidence;
    match meter {
        NodeMeter::None => return Source::Status(Why::NoMeter),
        // What a meter tells of a pod that is older than its journal can't be all of it.
        NodeMeter::Since(since) if admitted < since => return Source::Status(Why::BeforeTheMeter),
        NodeMeter::Since(_) | NodeMeter::Unknown => {}
    }
    if evidence.told.is_some_and(PodMeter::is_complete) {
        return Source::Meter(Extent::All);
    }
    if given_up.is_some_and(|until| admitted <= until) {
        return Source::Status(Why::GivenUp);
    }
    let is_late = |until: UnixMillis| match evidence.ended {
        Some(ended) => until.since(ended) >= AFTER_THE_END,
        None => until.since(evidence.seen_over) >= AFTER_IT_WAS_SEEN,
    };
    if evidence.complete_until.is_some_and(is_late) {
        return Source::Meter(Extent::NoMore);
    }
    if evidence.node_is_gone { Source::Meter(Extent::NodeGone) } else { Source::Wait }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: UnixMillis = UnixMillis(1_000_000);
    const END: UnixMillis = UnixMillis(2_000_000);

    fn evidence(told: &PodMeter) -> Evidence<'_> {
        Evidence {
            meter: NodeMeter::Since(UnixMillis(500_000)),
            admitted: START,
            ended: Some(END),
            seen_over: UnixMillis(END.0 + 2000),
            told: Some(told),
            complete_until: None,
            given_up: None,
            node_is_gone: false,
        }
    }

    fn begun() -> PodMeter {
        PodMeter::default()
    }

    fn all() -> PodMeter {
        let mut meter = begun();
        meter.end();
        meter
    }

    #[test]
    fn a_pod_on_a_node_with_a_meter_waits_until_all_is_told() {
        let told = begun();
        assert_eq!(source(&evidence(&told)), Source::Wait);
        assert_eq!(source(&Evidence { told: None, ..evidence(&told) }), Source::Wait);
        assert_eq!(source(&evidence(&all())), Source::Meter(Extent::All));
        let unknown = Evidence { meter: NodeMeter::Unknown, ..evidence(&told) };
        assert_eq!(source(&unknown), Source::Wait, "its journal can't be read: that is not no meter");
    }

    #[test]
    fn its_status_bills_a_pod_without_a_meter_and_one_that_is_older_than_the_meter() {
        let told = all();
        let none = Evidence { meter: NodeMeter::None, ..evidence(&told) };
        assert_eq!(source(&none), Source::Status(Why::NoMeter));
        let later = Evidence { meter: NodeMeter::Since(UnixMillis(START.0 + 1)), ..evidence(&told) };
        assert_eq!(source(&later), Source::Status(Why::BeforeTheMeter), "though the meter saw its end");
        let with_it = Evidence { meter: NodeMeter::Since(START), ..evidence(&told) };
        assert_eq!(source(&with_it), Source::Meter(Extent::All));
    }

    #[test]
    fn what_an_administrator_gave_up_is_billed_from_the_status_unless_all_is_told() {
        let (begun, all) = (begun(), all());
        let given_up = |told, until| source(&Evidence { given_up: Some(until), ..evidence(told) });
        assert_eq!(given_up(&begun, START), Source::Status(Why::GivenUp));
        assert_eq!(given_up(&begun, UnixMillis(START.0 - 1)), Source::Wait, "a later pod isn't given up");
        assert_eq!(given_up(&all, START), Source::Meter(Extent::All));
    }

    #[test]
    fn what_came_is_all_once_the_meter_says_so_or_the_node_is_gone() {
        let begun = begun();
        let says =
            |until: u64| source(&Evidence { complete_until: Some(UnixMillis(until)), ..evidence(&begun) });
        assert_eq!(says(END.0 + 119_999), Source::Wait);
        assert_eq!(says(END.0 + 120_000), Source::Meter(Extent::NoMore));
        let untold = |until: u64| {
            let evidence = Evidence { ended: None, ..evidence(&begun) };
            source(&Evidence { complete_until: Some(UnixMillis(until)), ..evidence })
        };
        assert_eq!(untold(END.0 + 601_999), Source::Wait, "nobody knows when it ended");
        assert_eq!(untold(END.0 + 602_000), Source::Meter(Extent::NoMore));
        let gone = Evidence { node_is_gone: true, ..evidence(&begun) };
        assert_eq!(source(&gone), Source::Meter(Extent::NodeGone));
    }
}
