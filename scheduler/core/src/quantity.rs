//! Kubernetes quantities, exactly: thousandths in 128-bit integers, rounded up as Kubernetes rounds.

use std::{collections::BTreeMap, fmt, str::FromStr};

/// An amount of a resource, in thousandths of its unit: milli-CPU, milli-bytes, milli-GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(pub i128);

/// Why a text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a quantity such as 500m, 2, 1.5Gi or 1e3")]
pub struct ParseQuantityError(pub String);

/// Suffixes with the factor to thousandths, as numerator and denominator.
const SUFFIXES: &[(&str, i128, i128)] = &[
    ("n", 1, 1_000_000),
    ("u", 1, 1000),
    ("m", 1, 1),
    ("", 1000, 1),
    ("k", 1000 * 1000, 1),
    ("M", 1000 * 1000_i128.pow(2), 1),
    ("G", 1000 * 1000_i128.pow(3), 1),
    ("T", 1000 * 1000_i128.pow(4), 1),
    ("P", 1000 * 1000_i128.pow(5), 1),
    ("E", 1000 * 1000_i128.pow(6), 1),
    ("Ki", 1000 << 10, 1),
    ("Mi", 1000 << 20, 1),
    ("Gi", 1000 << 30, 1),
    ("Ti", 1000 << 40, 1),
    ("Pi", 1000 << 50, 1),
    ("Ei", 1000 << 60, 1),
];

impl Quantity {
    /// A whole number of units.
    pub const fn whole(units: i128) -> Self {
        Self(units * 1000)
    }
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map(Self).ok_or_else(|| ParseQuantityError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<i128> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 25 {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let decimals = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let (factor, divisor) = scale(suffix)?;
    let numerator = digits.checked_mul(factor)?;
    let denominator = decimals.checked_mul(divisor)?;
    let magnitude = numerator.checked_add(denominator - 1)? / denominator;
    Some(if negative { -magnitude } else { magnitude })
}

fn scale(suffix: &str) -> Option<(i128, i128)> {
    if let Some((_, factor, divisor)) = SUFFIXES.iter().find(|(name, ..)| *name == suffix) {
        return Some((*factor, *divisor));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    if exponent < 0 { Some((1000, power)) } else { Some((power.checked_mul(1000)?, 1)) }
}

/// Whole units where it is whole, else thousandths.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 % 1000 == 0 { write!(f, "{}", self.0 / 1000) } else { write!(f, "{}m", self.0) }
    }
}

/// Amounts by resource name; what isn't named is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Resources(pub(crate) BTreeMap<String, Quantity>);

impl Resources {
    /// The amount of one resource.
    #[cfg(test)]
    pub(crate) fn get(&self, name: &str) -> Quantity {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// Adds the other amounts; saturates, so that nonsense looks full, never free.
    pub(crate) fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let entry = self.0.entry(name.clone()).or_default();
            entry.0 = entry.0.saturating_add(amount.0);
        }
    }

    /// Raises each amount to at least the other's.
    pub(crate) fn raise_to(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let entry = self.0.entry(name.clone()).or_default();
            *entry = (*entry).max(*amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, thousandths) in [
            ("1", 1000),
            ("500m", 500),
            ("1.5", 1500),
            ("0.1m", 1),
            ("1e3", 1_000_000),
            ("1E-3", 1),
            ("1Ki", 1_024_000),
            ("1.5Gi", 1_610_612_736_000),
            ("100n", 1),
            ("-2", -2000),
            (".5", 500),
            ("0", 0),
        ] {
            assert_eq!(text.parse(), Ok(Quantity(thousandths)), "{text}");
        }
        for text in ["", ".", "1.2.3", "1x", "1Kib", "m", "1e", "1 ", "--1", "99999999999999999999999999"] {
            assert!(text.parse::<Quantity>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "[-+.0-9eEKMGTPimnuk]{0,30}") {
            let _ = text.parse::<Quantity>();
        }

        #[test]
        fn text_round_trips(thousandths in -1_000_000_000_000_i128..1_000_000_000_000) {
            let quantity = Quantity(thousandths);
            prop_assert_eq!(quantity.to_string().parse(), Ok(quantity));
        }
    }
}
