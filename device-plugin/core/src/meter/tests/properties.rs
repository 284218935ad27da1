//! Whatever happens, in whatever order.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::world::World;
use crate::Tenure;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    Look {
        ms: u64,
        mj: u64,
    },
    /// Nobody looks, whatever is used.
    Unseen {
        ms: u64,
        mj: u64,
    },
    Reset,
    Reload(Option<bool>),
    Hold {
        board: usize,
        part: usize,
        late_ms: u64,
    },
    End {
        late_ms: u64,
    },
    ClockBack {
        ms: u64,
    },
    Restart,
    /// The kubelet is silent for so long.
    Silent {
        ms: u64,
    },
}

fn event(calm: bool) -> impl Strategy<Value = Event> {
    let late = if calm { 3_000_u64 } else { 200_000 };
    let looks = prop_oneof![
        6 => (1_u64..4_000, 0_u64..5_000).prop_map(|(ms, mj)| Event::Look { ms, mj }),
        2 => (0_usize..3, 0_usize..4, 0..late)
            .prop_map(|(board, part, late_ms)| Event::Hold { board, part, late_ms }),
        2 => (0..late).prop_map(|late_ms| Event::End { late_ms }),
        1 => Just(Event::Restart),
    ];
    let storms = prop_oneof![
        (1_u64..400_000, 0_u64..900_000).prop_map(|(ms, mj)| Event::Unseen { ms, mj }),
        Just(Event::Reset),
        any::<Option<bool>>().prop_map(Event::Reload),
        (1_u64..100_000).prop_map(|ms| Event::ClockBack { ms }),
        (1_u64..100_000).prop_map(|ms| Event::Silent { ms }),
    ];
    let storms = prop_oneof![2 => looks.clone(), 1 => storms];
    if calm { looks.boxed() } else { storms.boxed() }
}

impl World {
    /// Every pod ends, and what was recorded of it all is right.
    fn ends_and_adds_up(&mut self) -> Result<(), TestCaseError> {
        let open: Vec<String> = self.tenures.iter().map(|one| one.holder.pod_uid.clone()).collect();
        open.iter().for_each(|pod| self.end(pod, self.now));
        self.close();
        self.check_energy()?;
        self.check_rows()?;
        self.check_ends()
    }

    fn happens(&mut self, event: &Event, pods: &mut u32) {
        match *event {
            Event::Look { ms, mj } => {
                self.now += ms;
                self.counters.iter_mut().for_each(|counter| *counter += mj);
                self.look();
            }
            Event::Unseen { ms, mj } => {
                self.now += ms;
                self.counters.iter_mut().for_each(|counter| *counter += mj);
                self.advance(self.now);
            }
            Event::Reset => self.counters.iter_mut().for_each(|counter| *counter /= 7),
            Event::Reload(None) => self.reload(None),
            Event::Reload(Some(same)) => {
                let name = if same { "boot".to_owned() } else { format!("boot {}", self.session) };
                self.reload(Some(&name));
            }
            Event::Hold { board, part, late_ms } => {
                let board = board % self.parts.len();
                let part = part % self.parts[board].len();
                let id = &self.parts[board][part].id;
                // The kubelet gives it away when its pod is over; the clock may have gone back since.
                if self.tenures.iter().all(|one| one.device != *id || one.end.is_some()) {
                    *pods += 1;
                    let started = self.now.saturating_sub(late_ms) / 1000 * 1000;
                    self.hold(&format!("pod {pods}"), board, part, started);
                }
            }
            Event::End { late_ms } => {
                if let Some(open) = self.tenures.iter().find(|one| one.end.is_none()) {
                    let (pod, at) = (open.holder.pod_uid.clone(), self.now.saturating_sub(late_ms));
                    self.end(&pod, at / 1000 * 1000);
                }
            }
            Event::ClockBack { ms } => self.now -= ms,
            Event::Restart => self.restart(),
            Event::Silent { ms } => self.advance(self.now.saturating_sub(ms)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Counter resets, lost looks, clocks that go back, drivers and libraries that are loaded anew, restarts, a silent
    /// kubelet, news that come minutes late: what the records say was used is what the readings add up to.
    #[test]
    fn energy_always_adds_up(events in vec(event(false), 1..80), shared in 1_u32..4) {
        let mut world = World::new(&[1, shared]);
        let mut pods = 0;
        world.look();
        events.iter().for_each(|event| world.happens(event, &mut pods));
        // The clock is where it was before it went back.
        world.now = world.now.max(world.peak) + 10_000;
        world.look();
        world.ends_and_adds_up()?;
    }

    /// Where the kubelet tells in time and the clock goes on, a holder's records cover its time to the millisecond,
    /// through any restarts.
    #[test]
    fn time_told_in_time_is_covered_exactly(events in vec(event(true), 1..120)) {
        let mut world = World::new(&[1, 1, 2]);
        let mut pods = 0;
        world.look();
        events.iter().for_each(|event| world.happens(event, &mut pods));
        world.ends_and_adds_up()?;
        let mut free = BTreeMap::new();
        for (at, tenure) in world.tenures.iter().enumerate() {
            let end = tenure.end.unwrap().at_ms;
            // A device has one holder at a time, whatever the clock said when it began.
            let free = free.entry(&tenure.device).or_insert(1_000_000);
            let before = std::mem::replace(free, end.max(*free));
            let in_order = |(other, one): (usize, &Tenure)| {
                one.device != tenure.device || at.cmp(&other) == tenure.started_ms.cmp(&one.started_ms)
                    || tenure.started_ms == one.started_ms
            };
            // Of two that began in another order, as far as the clock says, the sum alone is certain.
            if !world.tenures.iter().enumerate().all(in_order) {
                continue;
            }
            let ms: u64 = world.of(&tenure.holder.pod_uid).iter().map(|one| one.end_ms - one.start_ms).sum();
            prop_assert_eq!(ms, end.saturating_sub(tenure.started_ms.max(before)), "{:?}", tenure);
        }
    }
}
