//! Writes that are refused for minutes: by a policy that denies, or for a webhook that nobody answers. Who isn't meant by it
//! must not wait for that, and who is loses nothing.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use tokio::time::Instant;

use super::{
    closed,
    controllers::{GANGS, standing},
    rules::{free, members},
    world::World,
};

/// For how long, after a refusal, those it meant may still keep room for what nobody knows of.
const AFTERMATH: Duration = Duration::from_secs(90);
/// For how long somebody may wait beside room for him, where nothing but a refusal of others is wrong.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is refused, and of whom.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// A gang, or a pod of none; if nobody in particular, everybody's writes are refused.
    whose: Option<&'static str>,
    what: What,
    code: u16,
    until: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
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
const WHOM: [Option<&str>; 6] = [Some("g0"), Some("g1"), Some("g2"), Some("s0"), Some("s1"), None];

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
                code: state.dice.pick(&[403, 500, 503]),
                until: Instant::now() + Duration::from_secs(30) + state.dice.millis(170_000),
            };
            state.refusals.now = Some(refusal.clone());
            state.refusals.waits.clear();
            refusal
        };
        self.note(&format!("from now on {refusal:?}"));
    }

    /// The code with which a request is refused now.
    pub(super) fn refuses(&self, line: &str, body: &Value) -> Option<u16> {
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
            let waits = &mut self.state().refusals.waits;
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
        let refused =
            objects.pods.get(refused).map_or(refused, |pod| pod["metadata"]["uid"].as_str().unwrap());
        let others = |priority: i32, group: &str| -> usize {
            let before = |(other, above, ..): &&(String, i32, usize, usize)| {
                other != group && (other == refused || *above > priority)
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
            group != refused && *waits > 0 && is_whole && room >= *waits
        };
        standing.iter().filter(has_room).map(|(group, ..)| group.clone()).collect()
    }
}
