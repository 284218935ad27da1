//! Money: XPL, counted in wei.

use std::{fmt, iter::Sum, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Decimal places of one XPL: the chain's native coin has 18.
const DECIMALS: usize = 18;
const WEI_PER_XPL: u128 = 10u128.pow(DECIMALS as u32);

/// An amount of XPL, held as whole wei (1 XPL = 10¹⁸ wei). Never a float.
///
/// Text is decimal XPL (`"2.5"`), in serde too; [`Xpl::wei`] gives the integer that the chain knows.
/// 128 bits hold 3.4 × 10²⁰ XPL, more than will ever exist; arithmetic is checked all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xpl(u128);

/// Why a text is not an amount of XPL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseXplError {
    /// Not digits with at most one point between them.
    #[error("{0:?} is not a decimal amount of XPL: write digits with at most one point, such as \"2.5\"")]
    NotDecimal(String),
    /// Finer than one wei.
    #[error("{0:?} has more than 18 decimal places: one wei is 0.000000000000000001 XPL")]
    TooFine(String),
    /// More than the type holds.
    #[error("{0:?} XPL is more than can exist")]
    TooLarge(String),
}

impl Xpl {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// An amount of whole wei.
    pub const fn from_wei(wei: u128) -> Self {
        Self(wei)
    }

    /// The amount in wei.
    pub const fn wei(self) -> u128 {
        self.0
    }

    /// The sum, or `None` when it is more than can exist.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` when it would be below zero.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The difference, zero where it would be below.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `self × factor`, or `None` when it is more than can exist.
    #[must_use]
    pub fn checked_mul(self, factor: u128) -> Option<Self> {
        self.0.checked_mul(factor).map(Self)
    }
}

/// Saturates: a sum beyond 3.4 × 10²⁰ XPL can only come from corrupt input, and must not look small.
impl Sum for Xpl {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, |total, amount| Self(total.0.saturating_add(amount.0)))
    }
}

impl FromStr for Xpl {
    type Err = ParseXplError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (whole, fraction) = match text.split_once('.') {
            Some((_, "")) => return Err(ParseXplError::NotDecimal(text.to_owned())),
            Some(parts) => parts,
            None => (text, ""),
        };
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return Err(ParseXplError::NotDecimal(text.to_owned()));
        }
        if fraction.len() > DECIMALS {
            return Err(ParseXplError::TooFine(text.to_owned()));
        }
        let too_large = || ParseXplError::TooLarge(text.to_owned());
        let whole: u128 = whole.parse().map_err(|_| too_large())?;
        let fraction: u128 = format!("{fraction:0<DECIMALS$}").parse().map_err(|_| too_large())?;
        let wei = whole.checked_mul(WEI_PER_XPL).and_then(|wei| wei.checked_add(fraction));
        wei.map(Self).ok_or_else(too_large)
    }
}

/// Decimal XPL without trailing zeros: `2.5`, `0.000000000000000001`, `7`.
impl fmt::Display for Xpl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / WEI_PER_XPL, self.0 % WEI_PER_XPL);
        if fraction == 0 {
            return f.pad(&whole.to_string());
        }
        let fraction = format!("{fraction:0DECIMALS$}");
        f.pad(&format!("{whole}.{}", fraction.trim_end_matches('0')))
    }
}

impl Serialize for Xpl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Xpl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimal_text_is_exact_wei() {
        assert_eq!("2.5".parse::<Xpl>(), Ok(Xpl::from_wei(2_500_000_000_000_000_000)));
        assert_eq!("0.000000000000000001".parse::<Xpl>(), Ok(Xpl::from_wei(1)));
        assert_eq!("7".parse::<Xpl>().map(Xpl::wei), Ok(7 * WEI_PER_XPL));
    }

    #[test]
    fn what_is_not_a_plain_decimal_is_refused_by_its_reason() {
        for text in ["", ".", ".5", "5.", "-1", "+1", "1e3", "1.2.3", "1 ", "١"] {
            assert_eq!(text.parse::<Xpl>(), Err(ParseXplError::NotDecimal(text.to_owned())), "{text:?}");
        }
        let fine = "0.0000000000000000001";
        assert_eq!(fine.parse::<Xpl>(), Err(ParseXplError::TooFine(fine.to_owned())));
        let large = "999999999999999999999999";
        assert_eq!(large.parse::<Xpl>(), Err(ParseXplError::TooLarge(large.to_owned())));
    }

    proptest! {
        #[test]
        fn text_round_trips(wei in any::<u128>()) {
            let amount = Xpl::from_wei(wei);
            prop_assert_eq!(amount.to_string().parse::<Xpl>(), Ok(amount));
        }

        #[test]
        fn parsing_never_panics(text in ".{0,50}") {
            let _ = text.parse::<Xpl>();
        }
    }
}
