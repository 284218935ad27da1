//! The meter: turns looks at the GPUs and what is told of their holders into records that add up.
//!
//! Pure: time, looks and holders come in, records come out, and the whole state can be written down and read back.
//! For each GPU the records follow each other without a gap, and their energy adds up to the differences of the board's
//! counter, to the millijoule: a moment at which something changes is given one value of the counter, which ends what
//! was before and begins what comes after.

mod account;
mod board;
mod clock;
mod counter;
mod ledger;
mod parts;
mod split;
mod usable;

use serde::{Deserialize, Serialize};

use crate::Holder;

pub use clock::{MeterClock, Reading};
pub use ledger::{Ledger, MeterLook, Out};
pub use parts::parts;

/// The meter's settings, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterRules {
    /// What is held is recorded this often, at least.
    pub held_period_ms: u64,
    /// What nobody holds is recorded this often, at least.
    pub idle_period_ms: u64,
    /// The kubelet may tell of a change this much later without any loss.
    pub told_within_ms: u64,
    /// What is told later than this counts from then on: what ended before was promised to be recorded.
    pub promised_after_ms: u64,
    /// A look after a change is waited for this long; then the last one counts.
    pub patience_ms: u64,
    /// A reading of the counter this near to a change is as good as one at the change.
    pub near_ms: u64,
    /// When looks are further apart than this, nobody looked in between.
    pub unseen_ms: u64,
}

impl MeterRules {
    /// For looks that are so far apart.
    pub fn for_looks_every(ms: u64) -> Self {
        Self {
            held_period_ms: 60_000,
            idle_period_ms: 600_000,
            told_within_ms: 5_000,
            promised_after_ms: 30_000,
            patience_ms: 30_000.max(ms.saturating_mul(3)),
            near_ms: 2_000.max(ms.saturating_mul(2)),
            unseen_ms: 15_000.max(ms.saturating_mul(6)),
        }
    }
}

/// One GPU as a look saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardLook {
    /// Its UUID.
    pub gpu_uuid: String,
    /// The model as the label `nvidia.com/gpu.product` has it.
    pub product: String,
    /// Its counter, in millijoules since the driver was loaded; `None` where it has none, or didn't answer.
    pub counter_mj: Option<u64>,
    /// Whether it can be used.
    pub usable: bool,
    /// The UUIDs of its parts that can't be used although it can.
    pub sick_parts: Vec<String>,
    /// What of it is given to pods, by the kubelet's id.
    pub parts: Vec<Part>,
}

/// What the kubelet gives away under one id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The kubelet's id.
    pub id: String,
    /// The device's UUID: several ids may share one.
    pub uuid: String,
    /// How much of the GPU it is, in thousandths.
    pub milli_gpu: u32,
    /// Of an instance of a divided GPU, and of a share of one: the model that it is sold as. Empty for a GPU.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub product: String,
}

impl Part {
    /// A whole GPU.
    pub fn whole(uuid: &str) -> Self {
        Self { id: uuid.to_owned(), uuid: uuid.to_owned(), milli_gpu: WHOLE, product: String::new() }
    }
}

/// A whole GPU, in thousandths.
const WHOLE: u32 = 1000;

/// Where a figure comes from, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Quality {
    /// Read from what counts it.
    Exact,
    /// Seen now and then.
    Sampled,
    /// A share of what several used together.
    Apportioned,
}

impl Quality {
    /// As a metric's label has it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Sampled => "sampled",
            Self::Apportioned => "apportioned",
        }
    }
}

/// Energy over a span, by the board's counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Energy {
    /// The counter at the start, in millijoules.
    pub start_mj: u64,
    /// The same at the end; for a share, the start and the share.
    pub end_mj: u64,
    /// How well it is known.
    pub quality: Quality,
    /// Names the load of the driver whose counter it is.
    pub driver_epoch: String,
}

/// One device over one span in which nothing about it changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// 1, 2, 3 … within the journal.
    pub sequence: u64,
    /// The device's UUID: several that a pod holds may share one.
    pub uuid: String,
    /// The kubelet's id of the device. Empty in records of versions that didn't write it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The board that it is, or is a part of.
    pub gpu_uuid: String,
    /// The board's model.
    pub product: String,
    /// Of an instance of a divided GPU, and of a share of one: the model that it is sold as. Empty for a GPU.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance_product: String,
    /// How much of the GPU it is, in thousandths.
    pub milli_gpu: u32,
    /// Who held it; `None` where nobody did, or nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
    /// Milliseconds since 1970.
    pub start_ms: u64,
    /// Milliseconds since 1970; not part of the span.
    pub end_ms: u64,
    /// Of the span, how long it could be used.
    pub healthy_ms: u64,
    /// How well the span's ends are known.
    pub time_quality: Quality,
    /// `None` where the GPU doesn't count it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<Energy>,
    /// The holder's last record of this device.
    pub last: bool,
    /// The last record of the holder's pod on this node.
    pub pod_is_over: bool,
    /// Whether a substitute of NVML said all this.
    pub simulated: bool,
    /// What couldn't be seen, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
}

impl Record {
    /// What was used, in millijoules.
    pub fn used_mj(&self) -> u64 {
        self.energy.as_ref().map_or(0, |energy| energy.end_mj.saturating_sub(energy.start_mj))
    }
}

#[cfg(test)]
mod tests;
