//! Instants and spans as the chain and the receipts count them.

use serde::{Deserialize, Serialize};

/// An instant, in whole seconds since the Unix epoch: the chain's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixSeconds(pub u64);

/// An instant, in milliseconds since the Unix epoch: the receipts' clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

/// A span of time, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(pub u64);

impl UnixMillis {
    /// The first whole second that is not before this instant.
    pub fn ceil_seconds(self) -> UnixSeconds {
        UnixSeconds(self.0.div_ceil(1000))
    }

    /// The span since `earlier`; zero when `earlier` is later, as clocks of two nodes may disagree.
    pub fn since(self, earlier: Self) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

impl From<UnixSeconds> for UnixMillis {
    fn from(seconds: UnixSeconds) -> Self {
        Self(seconds.0.saturating_mul(1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_up_to_seconds_never_goes_before_the_instant() {
        assert_eq!(UnixMillis(1000).ceil_seconds(), UnixSeconds(1));
        assert_eq!(UnixMillis(1001).ceil_seconds(), UnixSeconds(2));
    }
}
