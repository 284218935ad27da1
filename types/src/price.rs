//! Prices: what people state (XPL per GPU-hour) and what the chain multiplies (wei per device-second).

use std::{fmt, str::FromStr};

use crate::{ParseXplError, Xpl, id::serde_as_text};

const SECONDS_PER_HOUR: u128 = 3600;

/// XPL for one GPU for one hour, as queues and jobs state it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PricePerGpuHour(pub Xpl);

impl PricePerGpuHour {
    /// What the chain charges: `floor(wei per hour / 3600)`, so the rounding is in the payer's favour.
    pub fn per_second(self) -> WeiPerGpuSecond {
        WeiPerGpuSecond(self.0.wei() / SECONDS_PER_HOUR)
    }
}

impl fmt::Display for PricePerGpuHour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for PricePerGpuHour {
    type Err = ParseXplError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

serde_as_text!(PricePerGpuHour);

/// Wei for one GPU for one second: a price class as the contract holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WeiPerGpuSecond(pub u128);

impl WeiPerGpuSecond {
    /// `device_ms × price / 1000`, rounded down, in the payer's favour: the contract's own formula.
    ///
    /// `None` when the product is more than 128 bits hold, which no honest price reaches.
    #[must_use]
    pub fn for_device_millis(self, device_ms: u64) -> Option<Xpl> {
        self.0.checked_mul(u128::from(device_ms)).map(|product| Xpl::from_wei(product / 1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_roundings_are_in_the_payers_favour() {
        let price: PricePerGpuHour = "1".parse().unwrap();
        assert_eq!(price.per_second(), WeiPerGpuSecond(277_777_777_777_777));
        assert_eq!(WeiPerGpuSecond(3).for_device_millis(999), Some(Xpl::from_wei(2)));
        assert_eq!(WeiPerGpuSecond(u128::MAX).for_device_millis(2), None);
    }
}
