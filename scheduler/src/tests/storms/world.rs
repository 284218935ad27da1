//! The cluster in a storm: its API server, what has happened there so far, and what must hold at each write.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    closed::Closed,
    dice::Dice,
    network::Fate,
    refusals::Refusals,
    rules::{self, Known, Plans},
    watches::{Event, KINDS, Kind},
};
use crate::{
    cycle::Scheduler,
    tests::api_server::{ApiServer, Objects, failure},
};

/// For how long a binding may be under way of one who doesn't lead any more: the API server has ended it by then.
const LAST_REQUEST: Duration = Duration::from_secs(5);
/// How much of what happened is shown when a rule is broken.
const SHOWN: usize = 400;

/// What can happen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// Out of a hundred requests, so many go wrong.
    pub(super) faults: usize,
    pub(super) copies: usize,
    pub(super) kills: bool,
    pub(super) pauses: bool,
    pub(super) nodes_go: bool,
    /// Another scheduler binds its pods to the same nodes.
    pub(super) foreigners: bool,
    pub(super) priorities: bool,
    pub(super) gangs_go: bool,
    /// Pods of no gang are deleted, and made anew.
    pub(super) loners_go: bool,
    /// Writes are refused for minutes.
    pub(super) refusals: bool,
    /// Nodes are cordoned and tainted, and get other room and other labels.
    pub(super) nodes_change: bool,
    /// Pods of a gang fail, and stay beside those that take their places.
    pub(super) failed_stay: bool,
    /// Some pods that are deleted go on ending as long as the storm lasts.
    pub(super) never_end: bool,
}

#[derive(Clone)]
pub(super) struct World(Arc<Shared>);

struct Shared {
    server: ApiServer,
    begun: (Instant, Timestamp),
    weather: Weather,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) dice: Dice,
    pub(super) is_calm: bool,
    events: Vec<Event>,
    /// The objects as the last events left them.
    last: [BTreeMap<String, Value>; 3],
    pub(super) plans: Plans,
    pub(super) refusals: Refusals,
    pub(super) closed: Closed,
    /// Copies that are dead, and since when.
    dead: BTreeMap<usize, Instant>,
    paused: HashMap<usize, Instant>,
    /// What the copy that leads holds back at the end of its last cycle.
    pub(super) held: Held,
    notes: VecDeque<String>,
    /// The rule that was broken first.
    broken: Option<String>,
}

/// What a scheduler remembers that must be nothing when all is calm.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) assumed: usize,
    pub(super) kept: usize,
    pub(super) under_way: usize,
}

impl World {
    pub(super) fn new(seed: u64, weather: Weather) -> Self {
        let state = State {
            dice: Dice::new(seed),
            is_calm: false,
            events: Vec::new(),
            last: Default::default(),
            plans: Plans::default(),
            refusals: Refusals::default(),
            closed: Closed::default(),
            dead: BTreeMap::new(),
            paused: HashMap::new(),
            held: Held::default(),
            notes: VecDeque::new(),
            broken: None,
        };
        let server = ApiServer::default();
        server.objects().pods_linger = true;
        let begun = (Instant::now(), Timestamp::now());
        Self(Arc::new(Shared { server, begun, weather, state: Mutex::new(state) }))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    pub(super) fn objects(&self) -> MutexGuard<'_, Objects> {
        self.0.server.objects()
    }

    pub(super) fn weather(&self) -> Weather {
        self.0.weather
    }

    pub(super) fn throw<T>(&self, throw: impl FnOnce(&mut Dice) -> T) -> T {
        throw(&mut self.state().dice)
    }

    pub(super) fn now(&self) -> Timestamp {
        let (instant, timestamp) = self.0.begun;
        timestamp + SignedDuration::try_from(instant.elapsed()).unwrap()
    }

    /// Writes down what happens, for who looks for the reason of a broken rule.
    pub(super) fn note(&self, what: &str) {
        let at = self.0.begun.0.elapsed();
        let mut state = self.state();
        if state.notes.len() == SHOWN {
            state.notes.pop_front();
        }
        state.notes.push_back(format!("{:9.3} {what}", at.as_secs_f64()));
    }

    pub(super) fn notes(&self) -> String {
        self.state().notes.iter().cloned().collect::<Vec<_>>().join("\n")
    }

    // What copies go through.

    pub(super) fn kill(&self, copy: usize) {
        self.note(&format!("copy {copy} dies"));
        self.state().dead.insert(copy, Instant::now());
    }

    pub(super) fn is_dead(&self, copy: usize) -> bool {
        self.state().dead.contains_key(&copy)
    }

    /// The copy stands still for so long, and so do its requests.
    pub(super) fn pause(&self, copy: usize, pause: Duration) {
        self.note(&format!("copy {copy} stands still for {pause:?}"));
        self.state().paused.insert(copy, Instant::now() + pause);
    }

    pub(super) async fn until_resumed(&self, copy: usize) {
        let until = self.state().paused.get(&copy).copied();
        if let Some(until) = until.filter(|until| *until > Instant::now()) {
            tokio::time::sleep_until(until).await;
        }
    }

    /// How long a copy waits before its next cycle.
    pub(super) fn step(&self) -> Duration {
        let mut state = self.state();
        let most = if state.is_calm { 800 } else { 300 };
        Duration::from_millis(2) + state.dice.millis(most)
    }

    // The network.

    /// What becomes of a request, and how long it and its answer take.
    pub(super) fn fate(&self, line: &str) -> (Fate, Duration, Duration) {
        let faults = self.0.weather.faults;
        let mut state = self.state();
        let is_calm = state.is_calm;
        let dice = &mut state.dice;
        let slow = if !is_calm && dice.one_in(20) { 3000 } else { 60 };
        let (there, back) = (dice.millis(slow), dice.millis(slow));
        if is_calm || dice.below(100) >= faults {
            return (Fate::Arrives, there, back);
        }
        let fate = match dice.below(10) {
            0 | 1 => Fate::IsLost,
            2 | 3 => Fate::ReplyIsLost,
            4 | 5 => Fate::IsLate,
            6 | 7 => Fate::IsRepeated { gets_second: dice.one_in(2) },
            _ if line.ends_with("/binding") && dice.one_in(3) => Fate::Refused(403),
            _ => Fate::Refused(dice.pick(&[409, 429, 500, 503])),
        };
        (fate, there, back)
    }

    /// A request arrives. Nothing where the API server has ended it: its sender is gone for too long.
    pub(super) fn ask(&self, copy: usize, line: &str, body: &Value) -> Option<(u16, Value)> {
        let dead = self.state().dead.get(&copy).copied();
        let is_lone = line.ends_with("/binding") && !self.has_gang(line);
        if is_lone && dead.is_some_and(|since| since.elapsed() > LAST_REQUEST) {
            return None;
        }
        if let Some(code) = self.refuses(line, body) {
            self.note(&format!("{copy} may not {line}: {code:?}"));
            return code.map(failure);
        }
        let deleted =
            line.strip_prefix("DELETE pods/").and_then(|name| self.objects().pods.get(name).cloned());
        let answer = self.objects().answer(line, body);
        if !line.starts_with("GET") {
            let what = if line.contains("leases") || line.contains("events") { &Value::Null } else { body };
            self.note(&format!("{copy} did {line}: {} {}", answer.0, brief(what)));
            self.has_changed();
        }
        if line.ends_with("/binding") && answer.0 < 300 {
            let uid = body["metadata"]["uid"].as_str().unwrap_or_default();
            self.check_binding(uid);
        }
        let begins_plan = !body["status"]["journal"].is_null() && line.starts_with("PUT gangs/");
        if begins_plan && answer.0 < 300 {
            self.state().plans.is_journalled(body);
            self.check_plan(body);
        }
        if let Some(pod) = deleted.filter(|_| answer.0 < 300) {
            self.check_deletion(&pod);
        }
        Some(answer)
    }

    fn has_gang(&self, line: &str) -> bool {
        let name = line.split('/').nth(1).unwrap_or_default();
        self.objects().pods.get(name).is_some_and(|pod| !rules::gang_of(pod).is_empty())
    }

    // The watches.

    /// What has changed since the last time becomes events.
    pub(super) fn has_changed(&self) {
        let objects = self.objects();
        let mut state = self.state();
        for (kind, place) in KINDS.into_iter().zip(0..) {
            let now = of_kind(&objects, kind);
            let before = std::mem::replace(&mut state.last[place], now.clone());
            let is_same = |name: &str, object: &Value| {
                now.get(name).is_some_and(|now| now["metadata"]["uid"] == object["metadata"]["uid"])
            };
            for (_, object) in before.iter().filter(|(name, object)| !is_same(name, object)) {
                state.events.push(Event { kind, is_gone: true, object: object.clone() });
            }
            for (_, object) in now.iter().filter(|(name, object)| before.get(*name) != Some(object)) {
                state.events.push(Event { kind, is_gone: false, object: object.clone() });
            }
        }
        let end = state.events.len();
        state.plans.pods_change(&objects.pods, end);
    }

    pub(super) fn list(&self, kind: Kind) -> (Vec<Value>, usize) {
        let objects = self.objects();
        let state = self.state();
        (of_kind(&objects, kind).values().cloned().collect(), state.events.len())
    }

    /// Up to so many events of a kind from that place on, and the place after them.
    pub(super) fn events(&self, kind: Kind, from: usize, most: usize) -> (Vec<Event>, usize) {
        let state = self.state();
        let mut told = Vec::new();
        for (at, event) in state.events.iter().enumerate().skip(from) {
            if event.kind == kind {
                if told.len() == most {
                    return (told, at);
                }
                told.push(event.clone());
            }
        }
        (told, state.events.len())
    }

    /// How much a watch tells at once.
    pub(super) fn pace(&self) -> usize {
        let mut state = self.state();
        if state.is_calm || state.dice.one_in(3) {
            return usize::MAX;
        }
        state.dice.below(4)
    }

    /// Until when a watch is broken, where it breaks now.
    pub(super) fn breaks_off(&self) -> Option<Instant> {
        let mut state = self.state();
        let breaks = !state.is_calm && state.dice.one_in(60);
        breaks.then(|| Instant::now() + state.dice.millis(10_000))
    }

    // The rules.

    /// What the scheduler has decided: from here on it answers for it.
    pub(super) fn remember_plans(&self, scheduler: &Scheduler, known: Known) {
        let news = {
            let objects = self.objects();
            self.state().plans.remember(&objects, scheduler, known)
        };
        news.iter().for_each(|news| self.note(news));
        self.state().held = Held {
            assumed: scheduler.state.cluster.on_their_way(),
            kept: scheduler.state.cluster.kept(),
            under_way: scheduler.under_way(),
        };
    }

    fn check_binding(&self, uid: &str) {
        let broken = {
            let objects = self.objects();
            let state = self.state();
            let most = |node: &str, until: usize| most_room(&state.events, node, until);
            state.plans.judge(&objects, uid, most)
        };
        if let Some(broken) = broken {
            self.fail(&broken);
        }
    }

    /// No plan leaves a gang with fewer pods on nodes than its least, for all that was known.
    fn check_plan(&self, gang: &Value) {
        let wrong = {
            let state = self.state();
            let pods = state.events.iter().enumerate().filter(|(_, event)| event.kind == Kind::Pod);
            let pods = pods.map(|(at, event)| (at, &event.object, event.is_gone));
            state.plans.falls_short(gang, pods)
        };
        if let Some(wrong) = wrong {
            self.fail(&wrong);
        }
    }

    /// A rule is broken: the storm ends when that is looked at.
    pub(super) fn fail(&self, why: &str) {
        let notes = self.notes();
        self.state().broken.get_or_insert_with(|| format!("{notes}\n{why}"));
    }

    pub(super) fn look(&self) {
        let broken = self.state().broken.take();
        if let Some(broken) = broken {
            panic!("{broken}");
        }
    }

    /// The gangs of which some pods are on nodes, but not enough.
    pub(super) fn half_gangs(&self) -> BTreeSet<String> {
        rules::half_gangs(&self.objects())
    }
}

/// The most GPUs that a node had since so many events were known.
fn most_room(events: &[Event], node: &str, until: usize) -> usize {
    let mut most = 0;
    for (at, event) in events.iter().enumerate() {
        if event.kind == Kind::Node && event.object["metadata"]["name"] == node {
            let gpus = rules::gpus(&event.object);
            most = if at < until { gpus } else { most.max(gpus) };
        }
    }
    most
}

fn of_kind(objects: &Objects, kind: Kind) -> &BTreeMap<String, Value> {
    match kind {
        Kind::Pod => &objects.pods,
        Kind::Node => &objects.nodes,
        Kind::Gang => &objects.gangs,
    }
}

/// What of a body says what is being done.
fn brief(body: &Value) -> String {
    let status = &body["status"];
    let parts = [
        &body["target"]["name"],
        &status["phase"],
        &status["journal"],
        &status["nominatedNodeName"],
        &status["conditions"][0]["reason"],
        &body["preconditions"]["uid"],
    ];
    let parts = parts.into_iter().filter(|part| !part.is_null()).map(ToString::to_string);
    parts.collect::<Vec<_>>().join(" ")
}
