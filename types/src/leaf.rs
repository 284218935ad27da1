//! One receipt as 64 bytes, and what it is worth.

use crate::{Duration, JobUid, PodUid, UnixMillis, WeiPerGpuSecond, Xpl};

/// Flags of a leaf.
pub mod flag {
    /// The times are the meter's.
    pub const METERED: u8 = 1;
    /// The times are those of the pod's status.
    pub const FROM_POD_STATUS: u8 = 2;
    /// Stands in for one that can't be billed; worth nothing.
    pub const VOID: u8 = 4;
    /// The GPUs were a substitute's.
    pub const SIMULATED: u8 = 8;
    /// The pod was seen finished only after the watermark had passed its real end.
    pub const LATE: u8 = 16;
}

/// The device mask has a bit for each of 64 devices.
const MAX_DEVICES: u64 = 64;

/// What one pod used over one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The fields are those of the format.
pub struct Leaf {
    pub pod_uid: PodUid,
    pub job_uid: JobUid,
    pub end: UnixMillis,
    pub duration: Duration,
    pub device_ms: u64,
    pub price_class: u16,
    pub node_index: u32,
    pub device_mask: u64,
    pub flags: u8,
}

/// Why a leaf can't be packed or priced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// A number is larger than its place in the format.
    #[error("pod {0}: {1} doesn't fit its place in a leaf")]
    TooLarge(PodUid, &'static str),
    /// More device time than its devices could give in the duration.
    #[error("pod {0}: {1} device-milliseconds in {2} milliseconds are more than its {3} devices give")]
    TooLong(PodUid, u64, u64, u64),
    /// The rental has no such price.
    #[error("pod {0}: the rental has no price class {1}")]
    UnknownClass(PodUid, u16),
}

impl Leaf {
    /// The 64 bytes, big-endian.
    ///
    /// # Errors
    /// When a number doesn't fit.
    pub fn pack(&self) -> Result<[u8; 64], LeafError> {
        let mut bytes = [0; 64];
        bytes[..16].copy_from_slice(&self.pod_uid.0);
        bytes[16..32].copy_from_slice(&self.job_uid.0);
        self.put(&mut bytes[32..38], self.end.0, "its end")?;
        self.put(&mut bytes[38..43], self.duration.0, "its duration")?;
        self.put(&mut bytes[43..49], self.device_ms, "its device time")?;
        bytes[49..51].copy_from_slice(&self.price_class.to_be_bytes());
        bytes[51..55].copy_from_slice(&self.node_index.to_be_bytes());
        bytes[55..63].copy_from_slice(&self.device_mask.to_be_bytes());
        bytes[63] = self.flags;
        Ok(bytes)
    }

    fn put(&self, place: &mut [u8], value: u64, what: &'static str) -> Result<(), LeafError> {
        let bytes = value.to_be_bytes();
        let (high, low) = bytes.split_at(bytes.len() - place.len());
        if high.iter().any(|byte| *byte != 0) {
            return Err(LeafError::TooLarge(self.pod_uid, what));
        }
        place.copy_from_slice(low);
        Ok(())
    }

    /// Whether it stands in for one that can't be billed.
    pub fn is_void(&self) -> bool {
        self.flags & flag::VOID != 0
    }

    /// How many devices it may bill: those of its mask, or as many as a mask could name where it has none.
    pub fn devices(&self) -> u64 {
        if self.device_mask == 0 { MAX_DEVICES } else { u64::from(self.device_mask.count_ones()) }
    }

    /// The same with no more device time than its devices could give: where records contradict each other, the payer is
    /// believed.
    #[must_use]
    pub fn within_its_devices(self) -> Self {
        let most = self.duration.0.saturating_mul(self.devices());
        Self { device_ms: self.device_ms.min(most), ..self }
    }

    /// What the contract pays for it: `device_ms × price / 1000`, rounded down in the payer's favour. A void one is worth
    /// nothing, whatever else it says.
    ///
    /// # Errors
    /// Where the contract would refuse it.
    pub fn amount(&self, prices: &[WeiPerGpuSecond]) -> Result<Xpl, LeafError> {
        if self.is_void() {
            return Ok(Xpl::ZERO);
        }
        let devices = self.devices();
        if self.device_ms > self.duration.0.saturating_mul(devices) {
            return Err(LeafError::TooLong(self.pod_uid, self.device_ms, self.duration.0, devices));
        }
        let price = prices.get(usize::from(self.price_class));
        let price = price.ok_or(LeafError::UnknownClass(self.pod_uid, self.price_class))?;
        price.for_device_millis(self.device_ms).ok_or(LeafError::TooLarge(self.pod_uid, "what it is worth"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(device_mask: u64, device_ms: u64) -> Leaf {
        Leaf {
            pod_uid: PodUid([1; 16]),
            job_uid: JobUid([2; 16]),
            end: UnixMillis(5000),
            duration: Duration(1000),
            device_ms,
            price_class: 0,
            node_index: 0,
            device_mask,
            flags: flag::METERED,
        }
    }

    #[test]
    fn a_leaf_bills_no_more_than_the_devices_of_its_mask_give() {
        let prices = [WeiPerGpuSecond(1000)];
        for (mask, most) in [(0, 64_000), (0b100, 1000), (0b101, 2000), (u64::MAX, 64_000)] {
            assert_eq!(leaf(mask, most).amount(&prices), Ok(Xpl::from_wei(u128::from(most))));
            let more = leaf(mask, most + 1);
            assert!(matches!(more.amount(&prices), Err(LeafError::TooLong(..))), "{mask:#b}");
            assert_eq!(more.within_its_devices(), leaf(mask, most));
        }
    }

    #[test]
    fn a_void_leaf_is_worth_nothing_whatever_else_it_says() {
        let void = Leaf { flags: flag::VOID, price_class: 9, ..leaf(1, 99_999) };
        assert_eq!(void.amount(&[]), Ok(Xpl::ZERO));
    }
}
