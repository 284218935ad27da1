//! Whatever is cut, killed, repeated or lost between a node and settlement: each record counts once, and none is
//! acknowledged that would be missed.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{Life, Unit, Usage, WHOLE};

fn uid(pod: u8) -> PodUid {
    PodUid([pod; 16])
}

/// A second of a device for a pod: the n-th record is the n-th second, so that each can be told from the others.
fn line(pod: u8, sequence: u64, over: bool) -> Line {
    let told = Told {
        id: format!("GPU-{pod}"),
        device: format!("GPU-{pod}"),
        board: format!("GPU-{pod}"),
        milli: WHOLE,
        kind: None,
        start: UnixMillis(sequence * 1000),
        end: UnixMillis(sequence * 1000 + 1000),
        healthy: Duration(1000),
        last: over,
        simulated: false,
        exact: false,
    };
    Line::Of { pod: uid(pod), told: Some(told), over }
}

fn opened() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.open("j", 1);
    ledger
}

fn device_ms(meter: &PodMeter) -> u64 {
    let life = Life { created: UnixMillis(0), seen_over: UnixMillis(u64::MAX), ended: None, devices: 64 };
    match meter.usage(&life, Unit::Board) {
        Usage::Known { device_ms, .. } => device_ms,
        _ => 0,
    }
}

#[test]
fn what_nobody_needs_is_acknowledged_at_once_and_a_pods_records_once_it_is_not_needed() {
    let mut ledger = opened();
    ledger.take(1, Line::Nobody).unwrap();
    assert_eq!(ledger.acknowledged(), 1);
    ledger.take(2, line(7, 2, false)).unwrap();
    ledger.take(3, Line::Nobody).unwrap();
    assert_eq!(ledger.acknowledged(), 1, "nobody has said yet whether pod 7 is needed");
    let looked = ledger.place().clone();
    ledger.take(4, line(8, 4, true)).unwrap();
    assert_eq!(ledger.forget(&looked, |_| false), 1);
    assert_eq!(ledger.acknowledged(), 3, "pod 8 came after the look");
}

#[test]
fn a_record_that_is_in_changes_nothing_and_one_that_is_missing_is_named() {
    let mut ledger = opened();
    assert_eq!(ledger.take(1, line(7, 1, false)), Ok(true));
    assert_eq!(ledger.take(1, line(7, 1, false)), Ok(false));
    let before = ledger.clone();
    assert_eq!(ledger.take(3, line(7, 3, false)), Err(OutOfOrder { got: 3, after: 1 }));
    assert_eq!(ledger, before);
    assert_eq!(ledger.take(u64::MAX, Line::Nobody), Err(OutOfOrder { got: u64::MAX, after: 1 }));
}

#[test]
fn sums_that_are_durable_stand_for_the_records_up_to_them() {
    let mut ledger = opened();
    for sequence in 1..=3 {
        ledger.take(sequence, line(7, sequence, false)).unwrap();
    }
    let sums = ledger.sums();
    ledger.take(4, line(7, 4, false)).unwrap();
    ledger.take(5, line(8, 5, false)).unwrap();
    ledger.is_durable(&sums.place);
    assert_eq!(ledger.acknowledged(), 3);
    ledger.is_durable(&ledger.sums().place);
    assert_eq!(ledger.acknowledged(), 5);
    assert_eq!(ledger.pods(), 2, "they are still needed");
    ledger.take(6, Line::Nobody).unwrap();
    assert_eq!(ledger.acknowledged(), 6, "and hold nothing back that comes later");
}

#[test]
fn a_new_journal_keeps_what_the_lost_one_told_and_counts_anew() {
    let mut ledger = opened();
    ledger.take(1, line(7, 1, false)).unwrap();
    ledger.take(2, line(7, 2, false)).unwrap();
    ledger.complete(UnixMillis(9000), UnixMillis(9000)).unwrap();
    ledger.open("k", 1);
    assert_eq!((ledger.acknowledged(), ledger.complete_until()), (0, None));
    ledger.take(1, line(7, 5, true)).unwrap();
    assert_eq!(ledger.acknowledged(), 0);
    assert_eq!(device_ms(ledger.pod(uid(7)).unwrap()), 3000);
    let lost = Place { journal: "j".to_owned(), through: 2 };
    ledger.is_durable(&lost);
    assert_eq!((ledger.forget(&lost, |_| false), ledger.acknowledged()), (0, 0), "that was another journal");
}

#[test]
fn a_node_that_was_told_to_forget_goes_on_where_it_is() {
    // Settlement was restarted without anything kept: nobody needed what was acknowledged.
    let mut ledger = Ledger::default();
    ledger.open("j", 41);
    assert_eq!(ledger.acknowledged(), 40);
    assert_eq!(ledger.take(41, line(7, 41, true)), Ok(true));
}

#[test]
fn that_all_is_told_up_to_the_future_is_not_believed_then_or_later() {
    let mut ledger = opened();
    let (now, hour) = (UnixMillis(1_000_000), Duration(3_600_000));
    ledger.complete(UnixMillis(995_000), now).unwrap();
    let ahead = UnixMillis(now.0 + hour.0);
    assert_eq!(ledger.complete(ahead, now), Err(FromTheFuture { ahead: hour }));
    assert_eq!(ledger.complete_until(), Some(UnixMillis(995_000)));
    // The node's clock was put right.
    ledger.complete(UnixMillis(1_001_000), UnixMillis(1_006_000)).unwrap();
    assert_eq!(ledger.complete_until(), Some(UnixMillis(1_001_000)));
    ledger.complete(UnixMillis(now.0 + CLOCKS.0), now).unwrap();
    assert_eq!(ledger.complete_until(), Some(UnixMillis(now.0 + CLOCKS.0)), "clocks differ by so much");
}

#[test]
fn a_meter_whose_clock_is_an_hour_ahead_is_believed_by_ours() {
    let mut ledger = opened();
    let (now, hour) = (UnixMillis(9_000_000), 3_600_000);
    ledger.first_shows(UnixMillis(now.0 + hour), now);
    ledger.complete(UnixMillis(now.0 + hour - 30_000), now).unwrap();
    assert_eq!(ledger.complete_until(), Some(UnixMillis(now.0 - 30_000)));
    let kept = Ledger::from_sums(ledger.sums());
    assert_eq!(kept.clock().ours(UnixMillis(hour)), UnixMillis(0), "also while nobody calls");
    // The node started again, and its clock is right.
    ledger.first_shows(now, now);
    assert!(ledger.complete(UnixMillis(now.0 + hour), now).is_err());
    ledger.first_shows(UnixMillis(0), now);
    assert_eq!(ledger.clock(), &NodeClock::default(), "an older meter doesn't say");
    let old: Sums = serde_json::from_str(r#"{"place":{"journal":"j","through":3},"pods":{}}"#).unwrap();
    assert_eq!(Ledger::from_sums(old).clock(), &NodeClock::default());
}

/// What happens between a node and settlement.
#[derive(Clone, Debug)]
enum Event {
    /// The node's meter writes a record: of a pod, or of nobody.
    Record { pod: Option<u8>, over: bool },
    /// The stream delivers so many records.
    Deliver(usize),
    /// The stream is cut, and the node begins again.
    Cut,
    /// The acknowledgement reaches the node.
    Acknowledge,
    /// A round: which pods are recorded, so that nobody needs them.
    Round,
    /// The sums are made durable.
    Keep,
    /// Settlement is killed, and goes on from what is durable.
    Kill,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (proptest::option::of(0_u8..4), proptest::bool::weighted(0.2)).prop_map(|(pod, over)| Event::Record { pod, over }),
        4 => (1_usize..4).prop_map(Event::Deliver),
        1 => Just(Event::Cut),
        2 => Just(Event::Acknowledge),
        2 => Just(Event::Round),
        1 => Just(Event::Keep),
        1 => Just(Event::Kill),
    ];
    vec(event, 1..120)
}

/// A node, settlement, and what is durable.
#[derive(Default)]
struct World {
    journal: Vec<Line>,
    forgotten: u64,
    sent: u64,
    over: BTreeSet<u8>,
    ledger: Ledger,
    kept: Sums,
    billed: BTreeMap<PodUid, u64>,
}

impl World {
    fn begin(&mut self) {
        self.sent = self.forgotten;
        self.ledger.open("j", self.forgotten + 1);
    }

    fn deliver(&mut self, count: usize) {
        for _ in 0..count {
            let Some(line) = self.journal.get(usize::try_from(self.sent).unwrap()) else { return };
            self.sent += 1;
            self.ledger.take(self.sent, line.clone()).unwrap();
        }
    }

    /// Bills each pod of which all is told, durably, and then needs it no more.
    fn round(&mut self) {
        let looked = self.ledger.place().clone();
        for pod in (0..4).map(uid) {
            let complete = self.ledger.pod(pod).filter(|meter| meter.is_complete());
            if let Some(device_ms) = complete.map(device_ms) {
                self.billed.entry(pod).or_insert(device_ms);
            }
        }
        self.ledger.forget(&looked, |pod| !self.billed.contains_key(&pod));
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Record { pod, over } => {
                let pod = pod.filter(|pod| !self.over.contains(pod));
                self.over.extend(pod.filter(|_| over));
                let sequence = self.journal.len() as u64 + 1;
                self.journal.push(pod.map_or(Line::Nobody, |pod| line(pod, sequence, over)));
            }
            Event::Deliver(count) => self.deliver(count),
            Event::Cut => self.begin(),
            Event::Acknowledge => self.forgotten = self.forgotten.max(self.ledger.acknowledged()),
            Event::Round => self.round(),
            Event::Keep => {
                self.kept = self.ledger.sums();
                self.ledger.is_durable(&self.kept.place);
            }
            Event::Kill => {
                self.ledger = Ledger::from_sums(self.kept.clone());
                self.begin();
            }
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_or_doubled_whatever_is_cut_or_killed(events in events()) {
        let mut world = World::default();
        world.begin();
        for event in events {
            world.happens(event);
        }
        for pod in 0..4 {
            world.happens(Event::Record { pod: Some(pod), over: true });
        }
        world.happens(Event::Deliver(1000));
        world.round();
        for pod in 0..4 {
            let is_its = |line: &&Line| matches!(line, Line::Of { pod: of, .. } if *of == uid(pod));
            let seconds = world.journal.iter().filter(is_its).count() as u64;
            prop_assert_eq!(world.billed.get(&uid(pod)), Some(&(seconds * 1000)), "pod {}", pod);
        }
        prop_assert_eq!(world.ledger.acknowledged(), world.journal.len() as u64, "nobody needs anything any more");
    }
}
