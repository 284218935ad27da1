//! What is being recorded of one device and one holder, or of what nobody holds.

use serde::{Deserialize, Serialize};

use super::{Energy, Part, Quality, Record, WHOLE};
use crate::{Holder, Tenure};

/// More gaps than these in one record say nothing more.
const MOST_GAPS: usize = 8;

/// A span that is open: its record is still to be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Account {
    /// `None` where nobody holds it.
    pub(super) holder: Option<Holder>,
    pub(super) part: Part,
    pub(super) start_ms: u64,
    /// The board's counter at the start.
    start_mj: Option<u64>,
    used_mj: u64,
    healthy_ms: u64,
    pub(super) time: Quality,
    energy: Quality,
    gaps: Vec<String>,
}

/// A board's counter at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cut {
    pub(super) mj: u64,
    pub(super) epoch: u32,
    /// Whether it was read near enough to the moment.
    pub(super) near: bool,
}

impl Account {
    pub(super) fn open(holder: Option<Holder>, part: Part, at_ms: u64, cut: Option<Cut>) -> Self {
        Self {
            holder,
            part,
            start_ms: at_ms,
            start_mj: cut.map(|cut| cut.mj),
            used_mj: 0,
            healthy_ms: 0,
            time: Quality::Exact,
            energy: read_near(cut),
            gaps: Vec::new(),
        }
    }

    /// What nobody holds of a board.
    pub(super) fn idle(gpu_uuid: &str, milli_gpu: u32, at_ms: u64, cut: Option<Cut>) -> Self {
        Self::open(None, Part { milli_gpu, ..Part::whole(gpu_uuid) }, at_ms, cut)
    }

    /// The same, from there on.
    pub(super) fn go_on(&self, at_ms: u64, cut: Option<Cut>) -> Self {
        Self::open(self.holder.clone(), self.part.clone(), at_ms, cut)
    }

    pub(super) fn is_of(&self, pod_uid: &str) -> bool {
        self.holder.as_ref().is_some_and(|holder| holder.pod_uid == pod_uid)
    }

    /// Whether it is about the device of a holding, which is another pod's. An id is never given to two pods at once.
    pub(super) fn is_of_other(&self, tenure: &Tenure) -> bool {
        let other = |holder: &Holder| holder.pod_uid != tenure.holder.pod_uid;
        self.part.id == tenure.device && self.holder.as_ref().is_some_and(other)
    }

    /// A part of the span is over: what it took, and how long the device could be used in it.
    pub(super) fn add(&mut self, used_mj: u64, healthy_ms: u64, quality: Quality) {
        self.used_mj = self.used_mj.saturating_add(used_mj);
        self.healthy_ms = self.healthy_ms.saturating_add(healthy_ms);
        self.energy = self.energy.max(quality);
    }

    pub(super) fn note(&mut self, gap: &str) {
        if self.gaps.len() < MOST_GAPS && !self.gaps.iter().any(|noted| noted == gap) {
            self.gaps.push(gap.to_owned());
        }
    }

    /// Whether there is anything to record.
    pub(super) fn is_empty_at(&self, end_ms: u64) -> bool {
        end_ms <= self.start_ms && self.used_mj == 0
    }

    /// The record, without what only the ledger knows.
    pub(super) fn record(&self, end_ms: u64, driver_epoch: String) -> Record {
        let energy = self.start_mj.map(|start_mj| Energy {
            start_mj,
            end_mj: start_mj.saturating_add(self.used_mj),
            quality: self.energy,
            driver_epoch,
        });
        Record {
            sequence: 0,
            uuid: self.part.uuid.clone(),
            id: self.part.id.clone(),
            gpu_uuid: String::new(),
            product: String::new(),
            instance_product: self.part.product.clone(),
            milli_gpu: self.part.milli_gpu.min(WHOLE),
            holder: self.holder.clone(),
            start_ms: self.start_ms,
            end_ms,
            healthy_ms: self.healthy_ms,
            time_quality: self.time,
            energy,
            last: false,
            pod_is_over: false,
            simulated: false,
            gaps: self.gaps.clone(),
        }
    }
}

/// How good a counter's reading at a cut is.
pub(super) fn read_near(cut: Option<Cut>) -> Quality {
    if cut.is_none_or(|cut| cut.near) { Quality::Exact } else { Quality::Sampled }
}
