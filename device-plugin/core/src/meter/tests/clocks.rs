//! A node whose clock is set, forward and back, while pods come and go on it.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::world::World;
use crate::{ContainerSeen, MeterClock, PodSeen, Reading};

/// What the clock shows at the machine's start, where it is right.
const EPOCH: u64 = 1_000_000;

#[derive(Clone, Debug)]
enum Event {
    Pass {
        ms: u64,
    },
    /// Somebody sets the node's clock: so far it is off then. Far enough apart that a kubelet's times can be told apart.
    Set {
        off_ms: i64,
    },
    /// The kubelet gives a device to a pod, and its word comes a moment later; meanwhile the clock may be set.
    Hold {
        board: usize,
        late_ms: u64,
        set: Option<i64>,
    },
    End {
        late_ms: u64,
        set: Option<i64>,
    },
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    let off = || (-45_i64..180).prop_map(|off| off * 20_000);
    let set = || prop::option::weighted(0.3, off());
    prop_oneof![
        4 => (1_u64..90_000).prop_map(|ms| Event::Pass { ms }),
        2 => off().prop_map(|off_ms| Event::Set { off_ms }),
        3 => (0_usize..2, 1_u64..3_000, set()).prop_map(|(board, late_ms, set)| Event::Hold { board, late_ms, set }),
        3 => (1_u64..3_000, set()).prop_map(|(late_ms, set)| Event::End { late_ms, set }),
        1 => Just(Event::Restart),
    ]
}

/// A node with a clock that can be set, and what its meter makes of it.
struct Node {
    world: World,
    clock: MeterClock,
    since_boot: u64,
    off_ms: i64,
    /// Of each pod, from when to when it held its device: so long after the machine started.
    truth: BTreeMap<String, (u64, Option<u64>)>,
    /// Of each pod, what the kubelet tells, and what was made of it when it was told first.
    told: BTreeMap<String, (PodSeen, PodSeen)>,
}

impl Node {
    fn new() -> Self {
        let clock = MeterClock::new(Reading { boot_ms: 0, wall_ms: EPOCH });
        let mut node = Self {
            world: World::new(&[1, 1]),
            clock,
            since_boot: 0,
            off_ms: 0,
            truth: BTreeMap::new(),
            told: BTreeMap::new(),
        };
        node.world.look();
        node
    }

    fn wall_ms(&self) -> u64 {
        (EPOCH + self.since_boot).checked_add_signed(self.off_ms).unwrap()
    }

    fn look_at_clocks(&mut self) {
        self.clock.observe(Reading { boot_ms: self.since_boot, wall_ms: self.wall_ms() });
    }

    /// With a look at all every two seconds.
    fn pass(&mut self, ms: u64) {
        let end = self.since_boot + ms;
        while self.since_boot < end {
            self.since_boot = (self.since_boot + 2_000).min(end);
            self.look_at_clocks();
            self.world.now = self.clock.at(self.since_boot);
            self.world.counters.iter_mut().for_each(|counter| *counter += 700);
            self.world.look();
        }
    }

    /// What the kubelet says of this moment is heard later, as the pod's start or else its end; when it was, by the meter's
    /// clock.
    fn told_later(&mut self, pod: &str, is_start: bool, (late_ms, set): (u64, Option<i64>)) -> u64 {
        let wall_ms = self.wall_ms();
        self.off_ms = set.unwrap_or(self.off_ms);
        self.pass(late_ms);
        let (mut seen, _) = self.told.remove(pod).unwrap_or_else(|| (a_pod(pod), a_pod(pod)));
        let container = &mut seen.containers[0];
        *(if is_start { &mut container.started_ms } else { &mut container.finished_ms }) = Some(wall_ms);
        let made = self.clock.pod(seen.clone(), self.world.now);
        let container = made.containers[0].clone();
        self.told.insert(pod.to_owned(), (seen, made));
        (if is_start { container.started_ms } else { container.finished_ms }).unwrap()
    }

    fn happens(&mut self, event: &Event) {
        match *event {
            Event::Pass { ms } => self.pass(ms),
            // Twice between two looks nobody could tell apart.
            Event::Set { off_ms } => {
                self.off_ms = off_ms;
                self.look_at_clocks();
            }
            Event::Hold { board, late_ms, set } => {
                let device = &self.world.parts[board][0].id;
                if self.world.tenures.iter().any(|one| one.device == *device && one.end.is_none()) {
                    return;
                }
                let pod = format!("pod {}", self.truth.len());
                self.truth.insert(pod.clone(), (self.since_boot, None));
                let started_ms = self.told_later(&pod, true, (late_ms, set));
                self.world.hold(&pod, board, 0, started_ms);
            }
            Event::End { late_ms, set } => {
                let Some(open) = self.world.tenures.iter().find(|one| one.end.is_none()) else { return };
                let pod = open.holder.pod_uid.clone();
                self.truth.get_mut(&pod).unwrap().1 = Some(self.since_boot);
                let at_ms = self.told_later(&pod, false, (late_ms, set));
                self.world.end(&pod, at_ms);
            }
            Event::Restart => {
                self.world.restart();
                self.clock = serde_json::from_str(&serde_json::to_string(&self.clock).unwrap()).unwrap();
            }
        }
    }
}

/// One that has a device.
fn a_pod(uid: &str) -> PodSeen {
    let asks = BTreeMap::from([("nvidia.com/gpu".to_owned(), 1)]);
    let containers = vec![ContainerSeen { asks, ..ContainerSeen::default() }];
    PodSeen { uid: uid.to_owned(), containers, ..PodSeen::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// However the node's clock is set: each pod is recorded for as long as it ran, to the millisecond; a GPU's records
    /// follow each other from the first look to the last, which is as long as it was; and no two pods hold one at once.
    #[test]
    fn each_pod_is_recorded_for_as_long_as_it_ran(events in vec(event(), 1..80)) {
        let mut node = Node::new();
        node.pass(10_000);
        events.iter().for_each(|event| node.happens(event));
        while node.world.tenures.iter().any(|one| one.end.is_none()) {
            node.happens(&Event::End { late_ms: 500, set: None });
        }
        node.pass(720_000);
        prop_assert_eq!(node.world.now, EPOCH + node.since_boot);
        node.world.check_rows()?;
        node.world.check_ends()?;
        for (seen, made) in node.told.values() {
            prop_assert_eq!(&node.clock.pod(seen.clone(), node.world.now), made, "told again");
        }
        for (pod, (from, to)) in &node.truth {
            let spans: Vec<_> = node.world.of(pod).iter().map(|one| (one.start_ms, one.end_ms)).collect();
            let ms: u64 = spans.iter().map(|(start, end)| end - start).sum();
            prop_assert_eq!(ms, to.unwrap() - from, "{}: {:?}", pod, spans);
            prop_assert_eq!(spans.first().map(|span| span.0), Some(EPOCH + from), "{}: {:?}", pod, spans);
        }
    }
}
