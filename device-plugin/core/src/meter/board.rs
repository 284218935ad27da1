//! One GPU's part of the ledger: an unbroken row of spans, cut where its holders or its driver change.
//!
//! Everything before `settled_ms` is final. A change is given the counter's value that was read nearest to it; that one
//! value ends the spans before it and begins those after, so nothing is lost between them, whoever's it is. What is
//! told of only later, and would change what is final, counts from there on.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    BoardLook, MeterRules, Part, Quality, Record, WHOLE,
    account::{Account, Cut, read_near},
    counter::{Counter, Source},
    ledger::Told,
    split::split,
    usable::Usable,
};
use crate::{End, Tenure};

/// A GPU that nobody holds and that wasn't seen for so long is gone.
const GONE_AFTER_MS: u64 = 3_600_000;
/// A holding that ended so long ago and was never recorded won't be.
const OLD_AFTER_MS: u64 = 6 * 3_600_000;

/// When a holding may begin.
enum Turn {
    At(u64),
    /// It began then, as far as is told, and the end of the one before, which was earlier, is still to be told.
    HeldUpSince(u64),
    /// It began before the one that has the device now, as far as is told, and that one isn't over.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Board {
    gpu_uuid: String,
    product: String,
    parts: Vec<Part>,
    simulated: bool,
    born_ms: u64,
    /// Everything before is final.
    pub(super) settled_ms: u64,
    /// The counter there; `None` where it was never read.
    cut: Option<Cut>,
    pub(super) accounts: Vec<Account>,
    counter: Counter,
    usable: Usable,
    /// The same of its parts that are devices of their own, by their UUIDs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    parts_usable: BTreeMap<String, Usable>,
    last_look_ms: u64,
    /// Since when a change waits for a look after it. Of no use to another process.
    #[serde(skip)]
    waits_since: Option<u64>,
}

impl Board {
    /// A board that is seen for the first time.
    pub(super) fn new(gpu_uuid: &str, at_ms: u64) -> Self {
        Self {
            gpu_uuid: gpu_uuid.to_owned(),
            product: String::new(),
            parts: Vec::new(),
            simulated: false,
            born_ms: at_ms,
            settled_ms: at_ms,
            cut: None,
            accounts: vec![Account::idle(gpu_uuid, WHOLE, at_ms, None)],
            counter: Counter::default(),
            usable: Usable::default(),
            parts_usable: BTreeMap::new(),
            last_look_ms: at_ms,
            waits_since: None,
        }
    }

    pub(super) fn look(
        &mut self,
        at_ms: u64,
        look: &BoardLook,
        from: (Source<'_>, bool),
        rules: &MeterRules,
    ) {
        self.last_look_ms = self.last_look_ms.max(at_ms);
        self.product.clone_from(&look.product);
        self.parts.clone_from(&look.parts);
        self.simulated = from.1;
        if let Some(mj) = look.counter_mj {
            self.counter.observe(self.last_look_ms, mj, from.0);
        }
        self.look_at_parts(look, rules);
        if let Some((from, to)) = self.usable.observe(self.last_look_ms, look.usable, rules.unseen_ms) {
            self.note(&format!("nobody looked at the GPU for {}", seconds(to - from)));
        }
    }

    /// A part that is there for the first time was until now as the board was; one that is held and gone can't be used.
    fn look_at_parts(&mut self, look: &BoardLook, rules: &MeterRules) {
        let held: BTreeSet<&str> = self.accounts.iter().map(|account| account.part.uuid.as_str()).collect();
        let seen: BTreeSet<&str> = look.parts.iter().map(|part| part.uuid.as_str()).collect();
        for uuid in seen.iter().filter(|uuid| **uuid != self.gpu_uuid) {
            self.parts_usable.entry((*uuid).to_owned()).or_insert_with(|| self.usable.clone());
        }
        self.parts_usable.retain(|uuid, _| seen.contains(uuid.as_str()) || held.contains(uuid.as_str()));
        for (uuid, usable) in &mut self.parts_usable {
            let is_well = look.usable && seen.contains(uuid.as_str()) && !look.sick_parts.contains(uuid);
            usable.observe(self.last_look_ms, is_well, rules.unseen_ms);
        }
    }

    /// How long of a span a device could be used.
    fn usable_within(&self, uuid: &str, from: u64, to: u64) -> u64 {
        self.parts_usable.get(uuid).unwrap_or(&self.usable).within(from, to)
    }

    pub(super) fn note(&mut self, gap: &str) {
        self.accounts.iter_mut().for_each(|account| account.note(gap));
    }

    pub(super) fn latest_ms(&self) -> u64 {
        self.settled_ms.max(self.last_look_ms)
    }

    /// Whether nobody holds it, and it wasn't seen for long.
    pub(super) fn is_gone(&self, now_ms: u64) -> bool {
        self.accounts.iter().all(|account| account.holder.is_none())
            && self.last_look_ms.saturating_add(GONE_AFTER_MS) < now_ms
    }

    /// Ends it.
    pub(super) fn retire(&mut self, told: &Told<'_>, rules: &MeterRules, records: &mut Vec<Record>) {
        self.settle(self.at(self.last_look_ms, told), rules);
        let idle = std::mem::take(&mut self.accounts);
        records.extend(idle.iter().filter_map(|account| self.close(account, false)));
    }

    /// Whether a holding of one of its parts is still to be begun.
    pub(super) fn awaits(&self, tenure: &Tenure, told: &Told<'_>) -> bool {
        let has_it = self.parts.iter().any(|part| part.id == tenure.device);
        // What was over before anybody looked, or long ago, is no business of this ledger.
        let is_old = tenure.end.is_some_and(|end| {
            end.at_ms <= self.born_ms || end.at_ms.saturating_add(OLD_AFTER_MS) < told.now_ms
        });
        has_it && !is_old && self.account_of(tenure).is_none() && !told.is_done(tenure)
    }

    fn account_of(&self, tenure: &Tenure) -> Option<usize> {
        let same =
            |account: &Account| account.part.id == tenure.device && account.is_of(&tenure.holder.pod_uid);
        self.accounts.iter().position(same)
    }

    /// A moment as it counts here: what is final, or was promised to be, isn't changed.
    fn at(&self, ms: u64, told: &Told<'_>) -> u64 {
        ms.max(self.settled_ms).max(told.promised_ms)
    }

    /// The first moment after what is final at which something changes.
    pub(super) fn next_change(&self, told: &Told<'_>) -> Option<u64> {
        let starts = told.tenures.iter().filter(|tenure| self.awaits(tenure, told));
        let starts = starts.filter_map(|tenure| match self.turn_of(tenure, told) {
            Turn::At(ms) | Turn::HeldUpSince(ms) => Some(ms),
            Turn::Unknown => None,
        });
        let ends =
            self.accounts.iter().filter_map(|account| Some(self.at(self.end_of(account, told)?.at_ms, told)));
        let epoch = self.counter.next_begin(self.cut.map(|cut| cut.epoch));
        starts.chain(ends).chain(epoch.map(|begin| self.at(begin.at_ms, told))).min()
    }

    /// When a holding begins that is still to be begun.
    fn turn_of(&self, tenure: &Tenure, told: &Told<'_>) -> Turn {
        let started = tenure.started_ms;
        let other = |account: &&Account| account.is_of_other(tenure);
        let Some(before) = self.accounts.iter().find(other) else { return Turn::At(self.at(started, told)) };
        match self.end_of(before, told) {
            Some(end) => Turn::At(self.at(started.max(end.at_ms), told)),
            None if told.came_after(tenure, before) => Turn::HeldUpSince(self.at(started, told)),
            None => Turn::Unknown,
        }
    }

    /// The end of what an account is about, where there is one. The kubelet gives a device away again when the pod before
    /// is over: where nobody told of that end for long, it was when the next one began, at the latest.
    fn end_of(&self, account: &Account, told: &Told<'_>) -> Option<End> {
        told.end_of(account).or_else(|| {
            let next = told.tenures.iter().filter(|next| {
                account.is_of_other(next) && told.came_after(next, account) && self.awaits(next, told)
            });
            let at_ms = next.map(|next| next.started_ms).min()?;
            told.is_promised(at_ms).then_some(End { at_ms, told: false })
        })
    }

    /// Makes final what can be, and records what is over.
    pub(super) fn advance(&mut self, told: &mut Told<'_>, rules: &MeterRules, records: &mut Vec<Record>) {
        while let Some(at_ms) = self.next_change(told).filter(|at_ms| self.is_ripe(*at_ms, told, rules)) {
            self.settle(at_ms, rules);
            self.turn(told, records);
        }
        self.record_periods(told, rules, records);
        self.counter.forget_before(self.settled_ms, self.cut.map(|cut| cut.epoch));
        self.usable.forget_before(self.settled_ms);
        self.parts_usable.values_mut().for_each(|usable| usable.forget_before(self.settled_ms));
    }

    /// Whether all that came before a change has been told, and there was a look after it, or it was waited for.
    fn is_ripe(&mut self, at_ms: u64, told: &Told<'_>, rules: &MeterRules) -> bool {
        // Also what the driver did waits for the holders: one of them may have ended before it.
        if told.known_ms() < at_ms.saturating_add(rules.told_within_ms) {
            return false;
        }
        let held_up =
            |tenure: &Tenure| matches!(self.turn_of(tenure, told), Turn::HeldUpSince(ms) if ms <= at_ms);
        if told.tenures.iter().any(|tenure| self.awaits(tenure, told) && held_up(tenure)) {
            return false;
        }
        if self.last_look_ms >= at_ms {
            self.waits_since = None;
            return true;
        }
        let since = *self.waits_since.get_or_insert(told.now_ms);
        let waited = told.now_ms.saturating_sub(since) >= rules.patience_ms;
        if waited {
            self.note("nobody could look at the GPU when this ended or began");
        }
        waited
    }

    /// Makes everything before a moment final: what was used is divided among those who were there.
    fn settle(&mut self, at_ms: u64, rules: &MeterRules) {
        let mut used_mj = 0;
        if let Some(cut) = &mut self.cut
            && let Some(reading) = self.counter.nearest(at_ms, cut.epoch)
        {
            let mj = reading.mj.max(cut.mj);
            used_mj = mj - cut.mj;
            *cut = Cut { mj, near: reading.at_ms.abs_diff(at_ms) <= rules.near_ms, ..*cut };
        }
        let weights: Vec<u32> = self.accounts.iter().map(|account| account.part.milli_gpu).collect();
        let shared = if self.accounts.len() > 1 { Quality::Apportioned } else { Quality::Exact };
        let quality = shared.max(read_near(self.cut));
        let device = |account: &Account| self.usable_within(&account.part.uuid, self.settled_ms, at_ms);
        let healthy: Vec<u64> = self.accounts.iter().map(device).collect();
        let shares = split(used_mj, &weights).into_iter().zip(healthy);
        for (account, (share, healthy_ms)) in self.accounts.iter_mut().zip(shares) {
            account.add(share, healthy_ms, quality);
        }
        self.settled_ms = at_ms;
    }

    /// At the moment up to which all is final: ends what ends there, and begins what begins.
    fn turn(&mut self, told: &mut Told<'_>, records: &mut Vec<Record>) {
        let at_ms = self.settled_ms;
        self.end_what_ended(told, records);
        let begin = self.counter.next_begin(self.cut.map(|cut| cut.epoch));
        if let Some(begin) = begin.filter(|begin| self.at(begin.at_ms, told) <= at_ms) {
            let before = std::mem::take(&mut self.accounts);
            records.extend(before.iter().filter_map(|account| self.close(account, false)));
            let was_read = self.cut.is_some();
            self.cut = Some(Cut { mj: begin.mj, epoch: begin.epoch, near: true });
            self.accounts = before.iter().map(|account| account.go_on(at_ms, self.cut)).collect();
            if was_read {
                self.note("the driver's energy counter began anew");
            }
        }
        // What was over before it was told of begins and ends at once, and the next one of its device begins after it.
        while let Some(tenure) = self.next_to_begin(told) {
            self.begin(&tenure);
            self.leave_the_rest_idle(records);
            self.end_what_ended(told, records);
        }
        self.leave_the_rest_idle(records);
    }

    /// What begins at the moment up to which all is final, the first first.
    fn next_to_begin(&self, told: &Told<'_>) -> Option<Tenure> {
        let begins =
            |tenure: &&Tenure| matches!(self.turn_of(tenure, told), Turn::At(ms) if ms <= self.settled_ms);
        let awaited = told.tenures.iter().filter(|tenure| self.awaits(tenure, told));
        awaited.filter(begins).min_by_key(|tenure| tenure.started_ms).cloned()
    }

    fn begin(&mut self, tenure: &Tenure) {
        let Some(part) = self.parts.iter().find(|part| part.id == tenure.device) else { return };
        let mut account = Account::open(Some(tenure.holder.clone()), part.clone(), self.settled_ms, self.cut);
        let late = self.settled_ms.saturating_sub(tenure.started_ms);
        if late > 0 {
            account.time = Quality::Sampled;
            let late = seconds(late);
            account.note(&format!("it was held {late} before this, which was told or looked at too late"));
        }
        // What nobody holds comes last.
        let at = self.accounts.iter().position(|other| other.holder.is_none()).unwrap_or(self.accounts.len());
        self.accounts.insert(at, account);
    }

    fn end_what_ended(&mut self, told: &mut Told<'_>, records: &mut Vec<Record>) {
        let at_ms = self.settled_ms;
        let ends: Vec<Option<End>> = self.accounts.iter().map(|account| self.end_of(account, told)).collect();
        for (mut account, end) in std::mem::take(&mut self.accounts).into_iter().zip(ends) {
            match end {
                Some(end) if self.at(end.at_ms, told) <= at_ms => {
                    match told.end_of(&account) {
                        Some(end) if end.told => {}
                        Some(_) => {
                            account.note("its pod vanished: it counts until it was known to be there last");
                        }
                        None => {
                            account.note("nobody told of its end: it counts until another pod had the device")
                        }
                    }
                    if !end.told || end.at_ms < at_ms {
                        account.time = Quality::Sampled;
                    }
                    // What nobody tells of any more ended just now.
                    told.done(&account, if end.at_ms == 0 { at_ms } else { end.at_ms });
                    records.extend(self.close(&account, true));
                }
                _ => self.accounts.push(account),
            }
        }
    }

    /// Beside what is held there is always the rest, as long as there is any.
    fn leave_the_rest_idle(&mut self, records: &mut Vec<Record>) {
        let held = self.accounts.iter().filter(|account| account.holder.is_some());
        let held: u32 = held.map(|account| account.part.milli_gpu).fold(0, u32::saturating_add);
        let rest = WHOLE.saturating_sub(held);
        let idle = self.accounts.pop_if(|account| account.holder.is_none());
        match idle {
            Some(idle) if idle.part.milli_gpu == rest => return self.accounts.push(idle),
            Some(idle) => records.extend(self.close(&idle, false)),
            None => {}
        }
        if rest > 0 {
            self.accounts.push(Account::idle(&self.gpu_uuid, rest, self.settled_ms, self.cut));
        }
    }

    /// Records what has gone on for a period, up to the last look before which all was told.
    fn record_periods(&mut self, told: &Told<'_>, rules: &MeterRules, records: &mut Vec<Record>) {
        let told_until = told.known_ms().saturating_sub(rules.told_within_ms);
        let looked = match self.cut {
            Some(_) => self.counter.last_until(told_until),
            None => Some(told_until.min(self.last_look_ms)),
        };
        let before_change = |at_ms: &u64| self.next_change(told).is_none_or(|next| *at_ms < next);
        let is_new = |at_ms: &u64| *at_ms > self.settled_ms && *at_ms >= told.promised_ms;
        let Some(at_ms) = looked.filter(is_new).filter(before_change) else { return };
        let period = |account: &Account| {
            if account.holder.is_some() { rules.held_period_ms } else { rules.idle_period_ms }
        };
        let is_due = |account: &Account| at_ms.saturating_sub(account.start_ms) >= period(account);
        if !self.accounts.iter().any(is_due) {
            return;
        }
        self.settle(at_ms, rules);
        for account in std::mem::take(&mut self.accounts) {
            if is_due(&account) {
                records.extend(self.close(&account, false));
                self.accounts.push(account.go_on(at_ms, self.cut));
            } else {
                self.accounts.push(account);
            }
        }
    }

    /// Its record, unless there is nothing to tell.
    fn close(&self, account: &Account, last: bool) -> Option<Record> {
        if account.is_empty_at(self.settled_ms) && !last {
            return None;
        }
        let epoch = self.cut.map(|cut| self.counter.name(cut.epoch)).unwrap_or_default();
        let record = account.record(self.settled_ms, epoch);
        let (gpu_uuid, product) = (self.gpu_uuid.clone(), self.product.clone());
        Some(Record { gpu_uuid, product, last, simulated: self.simulated, ..record })
    }
}

/// A duration for people.
pub(super) fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}
