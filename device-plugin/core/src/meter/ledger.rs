//! All GPUs of the node: numbers their records, and knows which is a pod's last.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    BoardLook, MeterRules, Record,
    account::Account,
    board::{Board, seconds},
    counter::Source,
};
use crate::{End, Tenure};

/// How long it is remembered that a holding was recorded to its end: longer than one is still begun.
const REMEMBER_MS: u64 = 12 * 3_600_000;
/// When nobody told of holders for longer than this, it is said.
const SILENT_MS: u64 = 60_000;

/// What the node's GPUs did since the meter began, as far as it isn't recorded yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    boards: BTreeMap<String, Board>,
    /// The last record's number.
    sequence: u64,
    /// By the pod's UID, what was recorded to its end.
    done: BTreeMap<String, Done>,
    /// No record that ends before this will come.
    promised_ms: u64,
    /// Until when the holders were known.
    complete_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Done {
    at_ms: u64,
    /// When it ended: what its pod holds from later on is in another life. Earlier versions didn't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_ms: Option<u64>,
    devices: BTreeSet<String>,
    /// Whether it was said that nothing more of this pod will come.
    over: bool,
}

/// One look at all GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeterLook {
    /// When. Milliseconds since 1970.
    pub at_ms: u64,
    /// Names the load of the driver, where that can be known.
    pub driver: Option<String>,
    /// Counts how often this process loaded the library.
    pub session: u64,
    /// Whether a substitute of NVML said it.
    pub simulated: bool,
    /// The GPUs.
    pub boards: Vec<BoardLook>,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Out {
    /// New records, in order.
    pub records: Vec<Record>,
    /// All records that end before this have been given out; `None` while nobody knows the holders.
    pub until_ms: Option<u64>,
}

/// What is told of the holders.
pub(super) struct Told<'a> {
    pub(super) tenures: &'a [Tenure],
    pub(super) complete_ms: u64,
    pub(super) now_ms: u64,
    pub(super) promised_ms: u64,
    rules: &'a MeterRules,
    done: &'a mut BTreeMap<String, Done>,
}

impl Told<'_> {
    /// Until when the holders are known.
    pub(super) fn known_ms(&self) -> u64 {
        self.complete_ms.min(self.now_ms)
    }

    pub(super) fn is_done(&self, tenure: &Tenure) -> bool {
        let Some(done) = self.done.get(&tenure.holder.pod_uid) else { return false };
        let is_of_that_life = done.ended_ms.is_none_or(|ended_ms| tenure.started_ms <= ended_ms);
        is_of_that_life && (done.over || done.devices.contains(&tenure.device))
    }

    pub(super) fn done(&mut self, account: &Account, ended_ms: u64) {
        let Some(holder) = &account.holder else { return };
        let done = self.done.entry(holder.pod_uid.clone()).or_default();
        done.at_ms = self.now_ms;
        done.ended_ms = done.ended_ms.max(Some(ended_ms));
        done.devices.insert(account.part.id.clone());
    }

    /// Of a pod that lived more than once, the first life that isn't recorded to its end.
    fn tenure_of(&self, account: &Account) -> Option<&Tenure> {
        let same =
            |tenure: &&Tenure| tenure.device == account.part.id && account.is_of(&tenure.holder.pod_uid);
        let lives = self.tenures.iter().filter(same);
        lives.min_by_key(|tenure| (self.is_done(tenure), tenure.started_ms))
    }

    /// Whether a holding began after the one that an account is about, or with it.
    pub(super) fn came_after(&self, tenure: &Tenure, account: &Account) -> bool {
        self.tenure_of(account).is_some_and(|before| tenure.started_ms >= before.started_ms)
    }

    /// Whether all that ended before a moment may be promised to be recorded.
    pub(super) fn is_promised(&self, ms: u64) -> bool {
        self.known_ms() >= ms.saturating_add(self.rules.promised_after_ms)
    }

    /// The end of what an account is about, where there is one. What nobody tells of any more is over.
    pub(super) fn end_of(&self, account: &Account) -> Option<End> {
        account.holder.as_ref()?;
        self.tenure_of(account).map_or(Some(End { at_ms: 0, told: false }), |tenure| tenure.end)
    }
}

impl Ledger {
    /// Takes in a look.
    pub fn look(&mut self, look: &MeterLook, rules: &MeterRules) {
        let source = Source { driver: look.driver.as_deref(), session: look.session };
        for seen in &look.boards {
            let board = self.boards.entry(seen.gpu_uuid.clone());
            let board = board.or_insert_with(|| Board::new(&seen.gpu_uuid, look.at_ms));
            board.look(look.at_ms, seen, (source, look.simulated), rules);
        }
    }

    /// Makes final what can be. `complete_ms` is until when `tenures` are all that were; nothing is final before that is
    /// known once.
    pub fn advance(
        &mut self,
        tenures: &[Tenure],
        complete_ms: Option<u64>,
        now_ms: u64,
        rules: &MeterRules,
    ) -> Out {
        let Some(complete_ms) = complete_ms else { return Out::default() };
        self.note_silence(complete_ms);
        let (promised_ms, done) = (self.promised_ms, &mut self.done);
        let mut told = Told { tenures, complete_ms, now_ms, promised_ms, rules, done };
        let mut records = Vec::new();
        for board in self.boards.values_mut() {
            board.advance(&mut told, rules, &mut records);
            if board.is_gone(told.known_ms()) {
                board.retire(&told, rules, &mut records);
            }
        }
        self.boards.retain(|_, board| !board.accounts.is_empty());
        let until = told.known_ms().saturating_sub(rules.promised_after_ms);
        let next = self.boards.values().filter_map(|board| board.next_change(&told)).min();
        self.promised_ms = self.promised_ms.max(next.map_or(until, |next| next.min(until)));
        self.say_which_pods_are_over(tenures, (complete_ms, now_ms), rules, &mut records);
        self.done.retain(|_, done| done.at_ms.saturating_add(REMEMBER_MS) > now_ms);
        for record in &mut records {
            self.sequence += 1;
            record.sequence = self.sequence;
        }
        Out { records, until_ms: Some(self.promised_ms) }
    }

    /// Says with all that is being recorded what couldn't be seen, or isn't as it seems.
    pub fn note(&mut self, gap: &str) {
        self.boards.values_mut().for_each(|board| board.note(gap));
    }

    /// The last moment that it knows of: no later one may come before it.
    pub fn latest_ms(&self) -> u64 {
        let boards = self.boards.values().map(Board::latest_ms);
        boards.chain([self.promised_ms, self.complete_ms]).max().unwrap_or_default()
    }

    /// The number of the last record.
    pub fn last_sequence(&self) -> u64 {
        self.sequence
    }

    /// What is held as far as is known, and until when that was so: for a process that goes on.
    pub fn open(&self) -> (Vec<Tenure>, u64) {
        let accounts = self.boards.values().flat_map(|board| &board.accounts);
        let tenure = |account: &Account| {
            let holder = account.holder.clone()?;
            Some(Tenure { device: account.part.id.clone(), holder, started_ms: account.start_ms, end: None })
        };
        (accounts.filter_map(tenure).collect(), self.complete_ms)
    }

    /// The pods that were recorded to their end lately, by UID, and when that was.
    pub fn ended(&self) -> Vec<(String, u64)> {
        let over = self.done.iter().filter(|(_, done)| done.over);
        over.filter_map(|(uid, done)| Some((uid.clone(), done.ended_ms?))).collect()
    }

    /// What must not be forgotten, beside the records: which GPUs are followed since when, and who holds what.
    pub fn outline(&self) -> (Vec<String>, Vec<Tenure>) {
        (self.boards.keys().cloned().collect(), self.open().0)
    }

    fn note_silence(&mut self, complete_ms: u64) {
        let silent = complete_ms.saturating_sub(self.complete_ms);
        if self.complete_ms > 0 && silent > SILENT_MS {
            let gap = format!("nobody told of pods for {}", seconds(silent));
            self.note(&gap);
        }
        self.complete_ms = self.complete_ms.max(complete_ms);
    }

    /// A pod is over with the last record of its last device.
    fn say_which_pods_are_over(
        &mut self,
        tenures: &[Tenure],
        (complete_ms, now_ms): (u64, u64),
        rules: &MeterRules,
        records: &mut [Record],
    ) {
        let uid = |record: &Record| record.holder.as_ref().map(|holder| holder.pod_uid.clone());
        let ended: BTreeSet<String> = records.iter().filter(|record| record.last).filter_map(uid).collect();
        for pod in ended {
            let (promised_ms, done) = (self.promised_ms, &mut self.done);
            let told = Told { tenures, complete_ms, now_ms, promised_ms, rules, done };
            let still_holds = |board: &Board| {
                board.accounts.iter().any(|account| account.is_of(&pod))
                    || tenures.iter().any(|one| one.holder.pod_uid == pod && board.awaits(one, &told))
            };
            if self.boards.values().any(still_holds) {
                continue;
            }
            if let Some(last) = records.iter_mut().rfind(|record| uid(record).as_ref() == Some(&pod)) {
                last.pod_is_over = true;
                self.done.entry(pod).or_default().over = true;
            }
        }
    }
}
