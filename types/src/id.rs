//! Identities: what Kubernetes and the chain call things, parsed once at the edge.

use std::{fmt, str::FromStr};

/// Why a text is not an identity of the expected form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct ParseIdError {
    /// What was given.
    pub text: String,
    /// What it should have been, in words.
    pub expected: &'static str,
}

impl ParseIdError {
    pub(crate) fn new(text: &str, expected: &'static str) -> Self {
        Self { text: text.to_owned(), expected }
    }
}

/// Reads exactly `2 × N` hex digits.
pub(crate) fn decode_hex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let digits = digits.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let nibble = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

/// Declares a fixed number of bytes whose text is `0x` and hex digits, in serde too.
macro_rules! bytes_newtype {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $length]);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("0x")?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let expected = concat!("0x and ", $length, " bytes in hex");
                let bytes = text.strip_prefix("0x").and_then(crate::id::decode_hex);
                bytes.map(Self).ok_or_else(|| crate::ParseIdError::new(text, expected))
            }
        }

        crate::id::serde_as_text!($name);
    };
}
pub(crate) use bytes_newtype;

/// Serde through `Display` and `FromStr`.
macro_rules! serde_as_text {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;

bytes_newtype! {
    /// An account or a contract on the chain: 20 bytes, `0x…` in lower case as text.
    Address, 20
}

bytes_newtype! {
    /// A rental's key in the contract.
    RentalId, 32
}

/// Declares a Kubernetes UID: a UUID as 16 bytes, hyphenated text, in serde too.
macro_rules! uid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for (index, byte) in self.0.iter().enumerate() {
                    if matches!(index, 4 | 6 | 8 | 10) {
                        f.write_str("-")?;
                    }
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let wrong = || ParseIdError::new(text, "a UUID such as 123e4567-e89b-12d3-a456-426614174000");
                let hyphens = [8, 13, 18, 23];
                let placed = text.len() == 36
                    && text.bytes().enumerate().all(|(at, byte)| hyphens.contains(&at) == (byte == b'-'));
                if !placed {
                    return Err(wrong());
                }
                decode_hex(&text.replace('-', "")).map(Self).ok_or_else(wrong)
            }
        }

        serde_as_text!($name);
    };
}

uid_newtype! {
    /// The UID of a pod: unlike its name, it is never used twice.
    PodUid
}

uid_newtype! {
    /// The UID of a ComputeJob.
    JobUid
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_uid_must_be_a_hyphenated_uuid() {
        let good = "123e4567-e89b-12d3-a456-426614174000";
        assert_eq!(good.parse::<PodUid>().map(|uid| uid.to_string()), Ok(good.to_owned()));
        for wrong in ["", "123e4567e89b12d3a456426614174000", "123e4567-e89b-12d3-a456-42661417400g", "é"] {
            assert!(wrong.parse::<PodUid>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_address_must_have_its_prefix_and_length() {
        let good = "0x5fbdb2315678afecb367f032d93f642f64180aa3";
        assert_eq!(good.parse::<Address>().map(|address| address.to_string()), Ok(good.to_owned()));
        let checksummed = "0x5FbDB2315678afecb367f032d93F642f64180aa3";
        assert_eq!(checksummed.parse::<Address>(), good.parse(), "as wallets print it");
        assert!("5fbdb2315678afecb367f032d93f642f64180aa3".parse::<Address>().is_err());
        assert!("0x5fbd".parse::<Address>().is_err());
    }

    proptest! {
        #[test]
        fn uid_text_round_trips(bytes in any::<[u8; 16]>()) {
            prop_assert_eq!(JobUid(bytes).to_string().parse(), Ok(JobUid(bytes)));
        }

        #[test]
        fn parsing_never_panics(text in ".{0,40}") {
            let _ = text.parse::<PodUid>();
            let _ = text.parse::<Address>();
        }
    }
}
