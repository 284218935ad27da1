//! What a finished pod is billed from: its node's meter, or its status where there is no meter. Never the one in place of
//! the other without saying why.

use plasma_types::{Duration, UnixMillis};

use crate::{CLOCKS, PodMeter};

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
    /// When its first container started, by its status; `None` where its status doesn't say for how long it ran.
    pub began: Option<UnixMillis>,
    /// When its last container ended, by the node's clock; `None` where its status doesn't say.
    pub ended: Option<UnixMillis>,
    /// When it was seen to run no more, by our clock.
    pub seen_over: UnixMillis,
    /// What the meter has told of it.
    pub told: Option<&'a PodMeter>,
    /// All that ended before this moment, by our clock, is told.
    pub complete_until: Option<UnixMillis>,
    /// Whether the node's meter calls.
    pub connected: bool,
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
    /// It has one since then, by our clock.
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
    /// Not all, maybe; but its status doesn't say for how long it ran, so nobody knows more.
    NobodyKnowsMore,
}

/// Why a pod's status bills it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its node has no meter.
    NoMeter,
    /// Its node has a meter no more, which had not told all.
    MeterGone,
    /// The kubelet took it before the meter's journal began.
    BeforeTheMeter,
    /// An administrator gave the meter's records up.
    GivenUp,
}

/// What bills the pod.
pub fn source(evidence: &Evidence<'_>) -> Source {
    let Evidence { meter, admitted, told, .. } = *evidence;
    let is_complete = told.is_some_and(PodMeter::is_complete);
    let all = if is_complete { Some(Source::Meter(Extent::All)) } else { None };
    match meter {
        NodeMeter::None => all.filter(|_| covers(evidence)).unwrap_or_else(|| without_meter(evidence)),
        // What a meter tells of a pod that is older than its journal can't be all of it.
        NodeMeter::Since(since) if admitted < since => match by_status(evidence, Why::BeforeTheMeter) {
            Source::Meter(_) if !is_complete => so_far(evidence),
            source => source,
        },
        NodeMeter::Since(_) => all.unwrap_or_else(|| so_far(evidence)),
        // Its records may be the end of a life that began long before them.
        NodeMeter::Unknown => given_up(evidence).unwrap_or_else(|| gone(evidence)),
    }
}

/// What bills a pod of which its node's meter hasn't told all.
fn so_far(evidence: &Evidence<'_>) -> Source {
    let no_more = || is_long_over(evidence).then_some(Source::Meter(Extent::NoMore));
    given_up(evidence).or_else(no_more).unwrap_or_else(|| gone(evidence))
}

/// What bills a pod of a node that isn't said to have a meter, where records don't tell all of it.
fn without_meter(evidence: &Evidence<'_>) -> Source {
    // It calls: what it has of this pod is on its way.
    if evidence.connected && given_up(evidence).is_none() && !is_long_over(evidence) {
        return Source::Wait;
    }
    let had_one = evidence.connected || evidence.told.is_some() || evidence.complete_until.is_some();
    by_status(evidence, if had_one { Why::MeterGone } else { Why::NoMeter })
}

/// Its status, unless that doesn't say for how long it ran, and the meter told of some time.
fn by_status(evidence: &Evidence<'_>, why: Why) -> Source {
    let is_told = evidence.told.is_some_and(PodMeter::tells_time);
    if evidence.began.is_none() && is_told {
        return Source::Meter(Extent::NobodyKnowsMore);
    }
    Source::Status(why)
}

fn given_up(evidence: &Evidence<'_>) -> Option<Source> {
    let given_up = evidence.given_up.is_some_and(|until| evidence.admitted <= until);
    given_up.then(|| by_status(evidence, Why::GivenUp))
}

fn gone(evidence: &Evidence<'_>) -> Source {
    if evidence.node_is_gone { Source::Meter(Extent::NodeGone) } else { Source::Wait }
}

/// Whether the meter tells of it from its beginning. Where it isn't known since when there is a meter, only this tells a whole
/// life from the end of one.
fn covers(evidence: &Evidence<'_>) -> bool {
    let began = evidence.began.map(|began| began.0.saturating_add(CLOCKS.0));
    let told = evidence.told.and_then(PodMeter::begin);
    began.zip(told).is_some_and(|(began, told)| told.0 <= began)
}

/// Whether the meter says that all is told up to long after the pod's end.
fn is_long_over(evidence: &Evidence<'_>) -> bool {
    evidence.complete_until.is_some_and(|until| match evidence.ended {
        // A node's clock that is set tells an end that is long before it, or still to come.
        Some(ended) => {
            let seen = evidence.seen_over;
            let ended = ended.max(UnixMillis(seen.0.saturating_sub(CLOCKS.0))).min(seen);
            until.since(ended) >= AFTER_THE_END
        }
        None => until.since(evidence.seen_over) >= AFTER_IT_WAS_SEEN,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Told;

    const START: UnixMillis = UnixMillis(1_000_000);
    const END: UnixMillis = UnixMillis(2_000_000);

    fn evidence(told: &PodMeter) -> Evidence<'_> {
        Evidence {
            meter: NodeMeter::Since(UnixMillis(500_000)),
            admitted: START,
            began: Some(START),
            ended: Some(END),
            seen_over: UnixMillis(END.0 + 2000),
            told: Some(told),
            complete_until: None,
            connected: false,
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
        let none = Evidence { meter: NodeMeter::None, told: None, ..evidence(&told) };
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

    #[test]
    fn an_end_by_a_clock_that_was_wrong_neither_ends_the_wait_nor_holds_it_up() {
        let begun = begun();
        let says = |ended: u64, until: u64| {
            let complete_until = Some(UnixMillis(until));
            source(&Evidence { ended: Some(UnixMillis(ended)), complete_until, ..evidence(&begun) })
        };
        let (hour, seen) = (3_600_000, END.0 + 2000);
        assert_eq!(says(END.0 - hour.min(END.0), seen - CLOCKS.0 + 119_999), Source::Wait);
        assert_eq!(says(END.0 + hour, seen + 119_999), Source::Wait);
        assert_eq!(says(END.0 + hour, seen + 120_000), Source::Meter(Extent::NoMore));
    }

    /// A meter that told of so much time, and nothing after it.
    fn told_from(start: u64, complete: bool) -> PodMeter {
        let mut meter = begun();
        meter.add(&Told {
            id: "a".to_owned(),
            device: "a".to_owned(),
            board: "a".to_owned(),
            milli: crate::WHOLE,
            kind: None,
            start: UnixMillis(start),
            end: END,
            healthy: Duration(END.0 - start),
            last: complete,
            simulated: false,
            exact: false,
        });
        if complete {
            meter.end();
        }
        meter
    }

    #[test]
    fn while_it_is_not_known_since_when_there_is_a_meter_a_pod_waits_whatever_was_told() {
        // The records of a pod that is older than the journal end like those of one that isn't.
        let last_minute = told_from(END.0 - 60_000, true);
        let complete_until = Some(UnixMillis(END.0 + 700_000));
        let unknown = Evidence { meter: NodeMeter::Unknown, complete_until, ..evidence(&last_minute) };
        assert_eq!(source(&unknown), Source::Wait);
        let given_up = Evidence { given_up: Some(START), ..unknown };
        assert_eq!(source(&given_up), Source::Status(Why::GivenUp), "there is a way out");
        let gone = Evidence { node_is_gone: true, ..unknown };
        assert_eq!(source(&gone), Source::Meter(Extent::NodeGone));
    }

    #[test]
    fn where_its_status_tells_nothing_what_was_told_bills_a_pod() {
        let told = told_from(START.0, false);
        let since = NodeMeter::Since(UnixMillis(START.0 + 1));
        let silent = Evidence { meter: since, began: None, ended: None, ..evidence(&told) };
        assert_eq!(source(&silent), Source::Wait, "the new journal may tell its end");
        let gone = Evidence { node_is_gone: true, ..silent };
        assert_eq!(source(&gone), Source::Meter(Extent::NodeGone));
        let given_up = Evidence { given_up: Some(START), ..silent };
        assert_eq!(source(&given_up), Source::Meter(Extent::NobodyKnowsMore));
        let all = told_from(START.0, true);
        assert_eq!(source(&Evidence { told: Some(&all), ..silent }), Source::Meter(Extent::NobodyKnowsMore));
        let no_meter = Evidence { meter: NodeMeter::None, ..silent };
        assert_eq!(source(&no_meter), Source::Meter(Extent::NobodyKnowsMore));
        let nothing = Evidence { told: None, ..silent };
        assert_eq!(source(&nothing), Source::Status(Why::BeforeTheMeter), "nobody tells anything");
    }

    #[test]
    fn complete_records_bill_a_pod_whose_nodes_meter_has_gone() {
        let (all, part) = (told_from(START.0 + 900, true), told_from(START.0 + 900, false));
        let last_minute = told_from(END.0 - 60_000, true);
        let gone = |told| source(&Evidence { meter: NodeMeter::None, ..evidence(told) });
        assert_eq!(gone(&all), Source::Meter(Extent::All));
        assert_eq!(gone(&part), Source::Status(Why::MeterGone), "and it is said");
        assert_eq!(gone(&last_minute), Source::Status(Why::MeterGone), "it began before the journal");
        let never = Evidence { meter: NodeMeter::None, told: None, ..evidence(&all) };
        assert_eq!(source(&never), Source::Status(Why::NoMeter));
        let calls = Evidence { connected: true, ..never };
        assert_eq!(source(&calls), Source::Wait, "what it tells of this pod is on its way");
        let complete_until = Some(UnixMillis(END.0 + 120_000));
        assert_eq!(source(&Evidence { complete_until, ..calls }), Source::Status(Why::MeterGone));
    }
}
