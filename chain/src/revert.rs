//! What the contracts say when they refuse: the error's name and values, and the way out.

use ethers_core::abi::Token;
use plasma_types::Address;

use crate::abi;

/// A refusal in the contract's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revert {
    /// The error's name; empty where it isn't one of ours.
    name: String,
    words: String,
}

impl std::fmt::Display for Revert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words)
    }
}

impl Revert {
    /// What a node says of one without giving its bytes.
    pub(crate) fn told(message: &str) -> Self {
        Self { name: String::new(), words: message.to_owned() }
    }

    /// By the bytes of it.
    pub(crate) fn decode(data: &[u8]) -> Self {
        let selector = data.get(..4).unwrap_or_default();
        let rest = data.get(4..).unwrap_or_default();
        let is_it = |signature: &[u8]| selector.len() == 4 && signature.starts_with(selector);
        let Some(error) = abi::errors().find(|error| is_it(error.signature().as_bytes())) else {
            return Self::told(&format!("reverted with 0x{}", hex::encode(data)));
        };
        let values = error.decode(rest).unwrap_or_default();
        let named =
            error.inputs.iter().zip(values).map(|(input, value)| format!("{}: {}", input.name, shown(value)));
        let said = format!("{}({})", error.name, named.collect::<Vec<_>>().join(", "));
        let words = match way_out(&error.name) {
            Some(way_out) => format!("{said}: {way_out}"),
            None => said,
        };
        Self { name: error.name.clone(), words }
    }

    /// Whether it passes by itself, with nothing that anybody has to do: a pause ends.
    pub fn passes(&self) -> bool {
        self.name == "RentalsPaused"
    }
}

/// A value as people write it: numbers in decimal, bytes and accounts with `0x`.
fn shown(value: Token) -> String {
    match value {
        Token::Uint(number) => number.to_string(),
        Token::Address(account) => Address(account.0).to_string(),
        Token::FixedBytes(bytes) | Token::Bytes(bytes) => format!("0x{}", hex::encode(bytes)),
        other => other.to_string(),
    }
}

/// What can be done about it. Those that nobody but a program can cause have none: their names and values say all.
fn way_out(name: &str) -> Option<&'static str> {
    Some(match name {
        "UnknownRental" => {
            "the contract has no such rental: check the rental's id, and that this is its chain and contract"
        }
        "RentalExists" => "the payer used this salt before: choose another one",
        "InvalidTerms" => "the rule says what the terms must keep",
        "ProviderNotOpen" => {
            "the provider isn't registered, offers no device, or has too little stake for what it offers: it registers, adds \
             nodes (setNode) or adds stake (addStake)"
        }
        "RentalsPaused" => "opening, topping up and settling stand still: the pause ends by itself",
        "NotAllowed" | "CallerNotAllowed" => "another account may do this: use that one's key",
        "HeadMismatch" => {
            "the batch doesn't follow the rental's head, and wasn't settled: it must be numbered anew"
        }
        "UnknownBatch" => "no settled batch of the rental led to this head",
        "UnknownSigner" => {
            "the key that signed isn't one of the provider's: the provider lets it sign (Providers.setSigner), or its own \
             key is mounted"
        }
        "PricesMismatch" => "the rental holds other prices: make a queue with the prices that were agreed",
        "PriceTooHigh" => "a price must be below 2^128 wei a device-second: open a rental with another one",
        "WatermarkOutside" => {
            "the batch's receipts end at or before the watermark, after the chain's clock, or after the rental: wait where \
             the clock is behind, open a new rental where it has ended"
        }
        "ClaimDeadlinePassed" => "the time for settling and topping up is over: open a new rental",
        "ClaimDeadlineNotReached" => {
            "the provider may settle until then: wait, or withdraw what isn't locked"
        }
        "RentalRefunded" => "the rental was refunded: open a new one",
        "AmountLocked" => "the rest is what the provider may have earned: take back at most so much",
        "NothingToMove" => "nothing was sent, or nothing is there to be claimed",
        "TransferFailed" => "the receiver didn't take the coins: name one that does",
        "BatchOutOfOrder" => "batches are released one after the other: begin with the one that comes next",
        "BatchNotMature" => "it isn't acknowledged, and may be contested until then: wait",
        "BatchTooDear" => "its receipts are worth more than 2^96 wei: make void what is priced absurdly",
        "TooLateToContest" => {
            "a contest comes before the batch is acknowledged and before its window is over"
        }
        "UnknownProvider" => "nobody registered as a provider under this address: register first",
        "ProviderExists" => "the address is registered: change what it has instead",
        "TooManyDevices" => "a node has at most 64 devices: register it as two nodes",
        "StakeTooLow" => "so many devices need so much stake: add stake, or retire devices",
        "StillUnbonding" => "the stake is bound until then: wait",
        "PauseTooLong" => "ask for a shorter pause",
        "PauseTooSoon" => "the last pause was too short a time ago: wait until then",
        "NotPaused" => "there is no pause to end",
        "LeafOutOfOrder" | "LeafEndOutside" | "LeafTooOld" | "LeafTooLong" | "UnknownPriceClass"
        | "MalformedLeaves" => {
            "a receipt breaks a rule that settlement keeps by itself: its version and the contract's don't belong together"
        }
        "NoArbiter" => "governance has named no arbiter, so nobody could judge",
        "BondTooSmall" => "send at least so much",
        "ContestOver" => "the arbiter's time is over: lapse ends the contest",
        "ContestRunning" => "the arbiter still has time: wait",
        "NotContestable" => "a receipt is contested once, and not after it was struck",
        "NoContest" => "there is no open contest of this receipt",
        "EvidenceMismatch" => {
            "no settled batch of the rental has these leaves, total and watermark after this head"
        }
        "EvidencePricesMismatch" => "the rental holds other prices",
        "NoSuchLeaf" => "the batch has fewer leaves",
        "NoFault" => "the two receipts bill neither one pod nor one device for a common millisecond",
        "LeafProvesNothing" => "it bills nothing, or its times were moved: contest it instead",
        "AlreadyStruck" => "the provider was slashed for both before",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{uint, word};

    fn error(name: &str) -> &'static ethers_core::abi::ethabi::AbiError {
        abi::errors().find(|error| error.name == name).expect(name)
    }

    #[test]
    fn a_revert_is_told_by_name_and_values_and_with_its_way_out() {
        let mut data = error("ClaimDeadlinePassed").signature().as_bytes()[..4].to_vec();
        data.extend(ethers_core::abi::encode(&[word([0x11; 32]), uint(77_u64)]));
        let revert = Revert::decode(&data);
        let said = format!("ClaimDeadlinePassed(rental: 0x{}, deadline: 77): the time for", "11".repeat(32));
        assert!(revert.to_string().starts_with(&said), "{revert}");
        assert!(!revert.passes());
        assert_eq!(Revert::decode(&[1, 2]), Revert::told("reverted with 0x0102"));
    }

    #[test]
    fn a_pause_alone_passes_by_itself() {
        let passing: Vec<&str> = abi::errors()
            .filter(|error| Revert::decode(&error.signature().as_bytes()[..4]).passes())
            .map(|error| error.name.as_str())
            .collect();
        assert_eq!(passing, ["RentalsPaused"]);
    }

    #[test]
    fn every_error_has_a_way_out_but_those_that_only_a_program_causes() {
        let mut without: Vec<&str> =
            abi::errors().map(|error| error.name.as_str()).filter(|name| way_out(name).is_none()).collect();
        without.sort_unstable();
        without.dedup();
        let known = [
            "DifferentProviders",
            "InvalidParameters",
            "InvalidShortString",
            "OwnableInvalidOwner",
            "OwnableUnauthorizedAccount",
            "ReentrancyGuardReentrantCall",
            "SafeCastOverflowedUintDowncast",
            "SameLeaf",
            "StringTooLong",
            "WrongContracts",
            "ZeroAddress",
        ];
        assert_eq!(without, known);
    }
}
