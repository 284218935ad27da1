//! Writes that are refused for minutes: by a policy that denies, or for a webhook that fails or doesn't answer. Who isn't meant by it
//! must not wait for that, and who is loses nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use super::{
    closed,
    controllers::{GANGS, standing},
    rules::{free, members, uid},
    world::World,
};

/// For how long, after a refusal, those it meant may still keep room for what nobody knows of.
const AFTERMATH: Duration = Duration::from_secs(90);
/// For how long somebody may wait beside room for him, where nothing but a refusal of others is wrong.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long refusals last.
const SHORTEST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(200);

/// What is refused, and of whom.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// A gang, or the pods of none; if nobody in particular, everybody's writes are refused.
    whose: Option<&'static str>,
    what: What,
    /// With this code; nothing where there is no answer at all.
    code: Option<u16>,
    until: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Bindings,
    GangStatus,
    PodStatus,
    Events,
    Deletions,
    /// Whatever is written.
    Writes,
}

const KINDS: [What; 6] =
    [What::Bindings, What::GangStatus, What::PodStatus, What::Events, What::Deletions, What::Writes];
const WHOM: [Option<&str>; 5] = [Some("g0"), Some("g1"), Some("g2"), Some("s"), None];

impl Refusal {
    /// Whether it refuses this request.
    fn means(&self, line: &str, body: &Value) -> bool {
        let parts: Vec<&str> = line.split(['/', ' ']).collect();
        let what = match parts.as_slice() {
            ["GET", ..] => return false,
            ["POST", "pods", _, "binding"] => What::Bindings,
            [_, "gangs", _, "status"] => What::GangStatus,
            [_, "pods", _, "status"] => What::PodStatus,
            ["DELETE", "pods", _] => What::Deletions,
            [.., "events"] | [.., "events", _] => What::Events,
            _ => What::Writes,
        };
        let about = if what == What::Events {
            body["regarding"]["name"].as_str().unwrap_or_default()
        } else {
            parts.get(2).copied().unwrap_or_default()
        };
        let is_his = |name: &str| about.split('-').next() == Some(name);
        (self.what == what || self.what == What::Writes) && self.whose.is_none_or(is_his)
    }
}

/// What was refused, and what followed from it.
#[derive(Default)]
pub(super) struct Refusals {
    now: Option<Refusal>,
    /// Since when somebody waits beside room for him.
    waits: BTreeMap<String, Instant>,
    /// How often somebody was found who waits so while others are refused.
    pub(super) looks: usize,
}

impl World {
    /// Now and then something is refused for a while.
    pub(super) fn begin_refusal(&self) {
        let refusal = {
            let mut state = self.state();
            let is_over = |refusal: &Refusal| refusal.until + AFTERMATH < Instant::now();
            if !self.weather().refusals
                || !state.refusals.now.as_ref().is_none_or(is_over)
                || !state.dice.one_in(6)
            {
                return;
            }
            let refusal = Refusal {
                whose: state.dice.pick(&WHOM),
                what: state.dice.pick(&KINDS),
                code: state.dice.pick(&[Some(403), Some(500), Some(503), None]),
                until: Instant::now() + SHORTEST + state.dice.millis(170_000),
            };
            state.refusals.now = Some(refusal.clone());
            state.refusals.waits.clear();
            refusal
        };
        self.note(&format!("from now on {refusal:?}"));
    }

    /// This is refused from now on for as long as refusals last.
    pub(super) fn refuse(&self, whose: &'static str, what: What, code: Option<u16>) {
        let refusal = Refusal { whose: Some(whose), what, code, until: Instant::now() + LONGEST };
        self.note(&format!("from now on {refusal:?}"));
        self.state().refusals.now = Some(refusal);
    }

    /// The code with which a request is refused now, or that it gets no answer.
    pub(super) fn refuses(&self, line: &str, body: &Value) -> Option<Option<u16>> {
        let state = self.state();
        let refusal = state.refusals.now.as_ref().filter(|_| !state.is_calm)?;
        (refusal.until > Instant::now() && refusal.means(line, body)).then_some(refusal.code)
    }

    /// The scheduler has deleted a pod: not one that is on no node, of which there is nothing to undo.
    pub(super) fn check_deletion(&self, pod: &Value) {
        if pod["spec"]["nodeName"].is_null() {
            self.fail(&format!("{} is deleted, and was on no node", pod["metadata"]["name"]));
        }
    }

    /// Where nothing is wrong but that others are refused, nobody waits for long beside room for him.
    pub(super) fn check_patience(&self) {
        let weather = self.weather();
        let is_mild = weather.faults == 0 && !weather.kills && !weather.pauses;
        let whose = self.state().refusals.now.as_ref().and_then(|refusal| refusal.whose);
        let Some(whose) = whose.filter(|_| is_mild) else { return };
        let waiting = self.waiting_beside_room(whose);
        let longest = {
            let refusals = &mut self.state().refusals;
            refusals.looks += waiting.len();
            let waits = &mut refusals.waits;
            waits.retain(|group, _| waiting.contains(group));
            for group in waiting {
                waits.entry(group).or_insert_with(Instant::now);
            }
            let longest = waits.iter().min_by_key(|(_, since)| **since);
            longest.map(|(group, since)| (group.clone(), since.elapsed()))
        };
        if let Some((group, time)) = longest.filter(|(_, time)| *time > PATIENCE) {
            self.fail(&format!("{group} waits for {time:?} beside room for it, while {whose} is refused"));
        }
    }

    /// The groups that wait, and for which there is room beside all that those might get who are refused, or come first.
    fn waiting_beside_room(&self, refused: &str) -> Vec<String> {
        let objects = self.objects();
        let open = |name: &String| closed::is_open(&objects.nodes[name]);
        let free: usize = free(&objects).iter().filter(|(name, _)| open(name)).map(|(_, free)| free).sum();
        let standing = standing(&objects);
        // Pods of no gang are groups by their UIDs.
        let lone = objects.pods.iter().filter(|(name, _)| name.split('-').next() == Some(refused));
        let lone: BTreeSet<String> = lone.map(|(_, pod)| uid(pod)).collect();
        let is_refused = |group: &str| group == refused || lone.contains(group);
        let others = |priority: i32, group: &str| -> usize {
            let before = |(other, above, ..): &&(String, i32, usize, usize)| {
                other != group && (is_refused(other) || *above > priority)
            };
            standing.iter().filter(before).map(|(.., waits)| waits).sum()
        };
        let has_room = |(group, priority, bound, waits): &&(String, i32, usize, usize)| {
            let gang = GANGS.iter().find(|(gang, ..)| gang == group);
            let is_whole = gang.is_none_or(|(gang, least, _)| {
                let (stays, waits) = members(&objects, gang);
                objects.gangs.contains_key(*gang) && *bound == stays && stays + waits >= *least
            });
            let room = free.saturating_sub(others(*priority, group));
            !is_refused(group) && *waits > 0 && is_whole && room >= *waits
        };
        standing.iter().filter(has_room).map(|(group, ..)| group.clone()).collect()
    }
}
