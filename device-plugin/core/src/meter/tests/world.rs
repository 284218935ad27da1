//! A node as it really is, beside what the ledger makes of it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::*;
use crate::{End, Tenure};

pub(super) const RULES: fn() -> MeterRules = || MeterRules::for_looks_every(2_000);

/// A node as it really is, and what the ledger was told of it.
pub(super) struct World {
    pub(super) now: u64,
    pub(super) ledger: Ledger,
    pub(super) driver: Option<String>,
    pub(super) session: u64,
    pub(super) counters: Vec<u64>,
    pub(super) parts: Vec<Vec<Part>>,
    pub(super) tenures: Vec<Tenure>,
    pub(super) records: Vec<Record>,
    /// By board, what the readings that were taken add up to, and the last of them.
    pub(super) used: Vec<(u64, Option<u64>)>,
    /// The driver and the session of the last reading, as far as this process knows.
    pub(super) read_from: (Option<String>, Option<u64>),
    pub(super) peak: u64,
    pub(super) until_ms: u64,
}

impl World {
    /// Boards that are each given away in so many parts.
    pub(super) fn new(boards: &[u32]) -> Self {
        let part = |board: usize, of: u32, n: u32| match of {
            1 => Part::whole(&gpu(board)),
            of => {
                Part { id: format!("{}::{n}", gpu(board)), milli_gpu: 1000 / of, ..Part::whole(&gpu(board)) }
            }
        };
        let parts = boards.iter().enumerate();
        Self {
            now: 1_000_000,
            ledger: Ledger::default(),
            driver: Some("boot".to_owned()),
            session: 0,
            counters: vec![7_000; boards.len()],
            parts: parts.map(|(board, of)| (0..*of).map(|n| part(board, *of, n)).collect()).collect(),
            tenures: Vec::new(),
            records: Vec::new(),
            used: vec![(0, None); boards.len()],
            read_from: (None, None),
            peak: 0,
            until_ms: 0,
        }
    }

    pub(super) fn look(&mut self) {
        self.look_and_advance(self.now);
    }

    pub(super) fn look_and_advance(&mut self, complete_ms: u64) {
        let board = |at: usize| BoardLook {
            gpu_uuid: gpu(at),
            product: "H100".to_owned(),
            counter_mj: Some(self.counters[at]),
            usable: true,
            sick_parts: Vec::new(),
            parts: self.parts[at].clone(),
        };
        let boards = (0..self.counters.len()).map(board).collect();
        let (driver, session) = (self.driver.clone(), self.session);
        let look = MeterLook { at_ms: self.now, driver, session, simulated: false, boards };
        let is_another = match (&self.read_from.0, &self.driver) {
            (Some(was), Some(is)) => was != is,
            _ => self.read_from.1.is_some_and(|was| was != self.session),
        };
        self.read_from = (self.driver.clone(), Some(self.session));
        for ((used, last), now) in self.used.iter_mut().zip(&self.counters) {
            *used += match *last {
                // It began at zero in between.
                Some(last) if *now < last => *now,
                Some(last) if !is_another => now - last,
                // Where it began isn't known.
                _ => 0,
            };
            *last = Some(*now);
        }
        self.ledger.look(&look, &RULES());
        self.advance(complete_ms);
    }

    pub(super) fn reload(&mut self, name: Option<&str>) {
        self.session += 1;
        self.driver = name.map(str::to_owned);
    }

    pub(super) fn advance(&mut self, complete_ms: u64) {
        self.peak = self.peak.max(self.now);
        let out = self.ledger.advance(&self.tenures, Some(complete_ms), self.now, &RULES());
        for record in &out.records {
            assert!(record.end_ms >= self.until_ms, "promised to {}, came later: {record:?}", self.until_ms);
        }
        self.until_ms = out.until_ms.unwrap();
        self.records.extend(out.records);
    }

    /// So much time passes with looks, each with so much energy.
    pub(super) fn pass(&mut self, ms: u64, mj: u64) {
        let end = self.now + ms;
        while self.now < end {
            self.now = (self.now + 2_000).min(end);
            self.counters.iter_mut().for_each(|counter| *counter += mj);
            self.look();
        }
    }

    pub(super) fn hold(&mut self, pod: &str, board: usize, part: usize, started_ms: u64) {
        let device = self.parts[board][part].id.clone();
        self.tenures.push(Tenure { device, holder: holder(pod), started_ms, end: None });
    }

    pub(super) fn end(&mut self, pod: &str, at_ms: u64) {
        let of_pod = self.tenures.iter_mut().filter(|one| one.holder.pod_uid == pod && one.end.is_none());
        of_pod.for_each(|one| one.end = Some(End { at_ms: at_ms.max(one.started_ms), told: true }));
    }

    /// Everything is written down, and read by another process.
    pub(super) fn restart(&mut self) {
        let written = serde_json::to_string(&self.ledger).unwrap();
        self.ledger = serde_json::from_str(&written).unwrap();
        self.session = 0;
        self.read_from.1 = None;
    }

    /// Lets every open span be recorded.
    pub(super) fn close(&mut self) {
        self.pass(20_000, 1);
        self.now += 700_000;
        self.look();
        self.now += 20_000;
        self.advance(self.now);
    }

    pub(super) fn of(&self, pod: &str) -> Vec<&Record> {
        let is_of = |record: &&Record| record.holder.as_ref().is_some_and(|holder| holder.pod_uid == pod);
        self.records.iter().filter(is_of).collect()
    }

    pub(super) fn check_energy(&self) -> Result<(), TestCaseError> {
        for (board, (used, _)) in self.used.iter().enumerate() {
            let of_board = self.records.iter().filter(|record| record.gpu_uuid == gpu(board));
            prop_assert_eq!(of_board.map(Record::used_mj).sum::<u64>(), *used, "GPU {}", board);
        }
        Ok(())
    }

    /// The records of a GPU that is given away as a whole follow each other: it has one holder at a time.
    pub(super) fn check_rows(&self) -> Result<(), TestCaseError> {
        let numbers: Vec<u64> = self.records.iter().map(|record| record.sequence).collect();
        prop_assert_eq!(numbers, (1..=self.records.len() as u64).collect::<Vec<_>>());
        let mut ends = BTreeMap::new();
        for record in &self.records {
            prop_assert!(
                record.start_ms <= record.end_ms && record.healthy_ms <= record.end_ms - record.start_ms
            );
            if self.parts.iter().any(|parts| parts.len() == 1 && parts[0].uuid == record.gpu_uuid)
                && let Some(before) = ends.insert(&record.gpu_uuid, record.end_ms)
            {
                prop_assert_eq!(before, record.start_ms);
            }
        }
        Ok(())
    }

    /// Of each pod and device one record is the last, and of each pod one says that it is over.
    pub(super) fn check_ends(&self) -> Result<(), TestCaseError> {
        let mut over = BTreeSet::new();
        for record in self.records.iter().filter(|record| record.holder.is_some()) {
            let pod = &record.holder.as_ref().unwrap().pod_uid;
            prop_assert!(!over.contains(pod), "{} comes after its pod was over", record.sequence);
            if record.pod_is_over {
                prop_assert!(record.last);
                over.insert(pod.clone());
            }
        }
        let is_its_business = |tenure: &&Tenure| tenure.end.is_some_and(|end| end.at_ms > 1_000_000);
        for tenure in self.tenures.iter().filter(is_its_business) {
            let records = self.of(&tenure.holder.pod_uid);
            prop_assert!(over.contains(&tenure.holder.pod_uid), "{:?} is over: {:?}", tenure, records);
        }
        Ok(())
    }
}

pub(super) fn gpu(at: usize) -> String {
    format!("GPU-{at}")
}

pub(super) fn holder(pod: &str) -> Holder {
    Holder {
        pod_uid: pod.to_owned(),
        namespace: "n".to_owned(),
        pod: "p".to_owned(),
        container: "c".to_owned(),
    }
}
