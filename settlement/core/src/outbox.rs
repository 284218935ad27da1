//! Following one batch's payment: what to do next, given what is durable and what the chain shows.
//!
//! Recorded → Reserved(nonce) → Signed → Broadcast → Mined → Final. Each step is durable before the next, so a crash
//! between any two repeats a step and never skips one. What is sent twice is the same bytes; a new nonce is taken only
//! when the old one was used up in a block that can't be undone and the batch isn't settled.

use plasma_types::{Hash, UnixSeconds};

/// How long the first transaction may stay out of blocks before its fee is raised; twice as long for each that follows,
/// since every attempt is kept, and an object holds only so many.
const PATIENCE_SECONDS: u64 = 30;
/// So many transactions are signed at one nonce at most: the last waits four hours, and pays three times what the first did.
/// From then on the newest is sent again and again; a chain whose fees stay above it is for a person to look at.
const MOST_ATTEMPTS: usize = 11;

/// A block that holds a transaction of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinedAt {
    /// The transaction.
    pub transaction: Hash,
    /// The block's number.
    pub number: u64,
    /// The block's hash.
    pub block: Hash,
}

/// How far the payment is, as it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The receipts are durable, nothing else.
    Recorded,
    /// A nonce is set aside.
    Reserved,
    /// A transaction is signed.
    Signed,
    /// A node took the transaction.
    Broadcast,
    /// It is in a block that may be undone.
    Mined(MinedAt),
    /// It is in a block that can't be undone.
    Final(MinedAt),
}

/// One signed transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its hash.
    pub hash: Hash,
    /// When it was signed.
    pub signed: UnixSeconds,
}

/// What is durable of one batch's payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The head that it follows.
    pub prev_head: Hash,
    /// The head after it.
    pub head: Hash,
    /// How far it is.
    pub stage: Stage,
    /// Its nonce, once one is set aside.
    pub nonce: Option<u64>,
    /// Everything that was signed at that nonce, oldest first.
    pub attempts: Vec<Attempt>,
}

/// What the chain shows now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainView {
    /// It can't be asked.
    Unreachable,
    /// It answered.
    Seen(Seen),
}

/// A consistent look at the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The rental's head.
    pub rental_head: Hash,
    /// Our account's next nonce at the newest block.
    pub nonce: u64,
    /// Our account's next nonce at the newest block that can't be undone.
    pub final_nonce: u64,
    /// The number of the newest block that can't be undone.
    pub final_number: u64,
    /// Where the batch was settled, by the contract's own event on the canonical chain.
    pub settled: Option<MinedAt>,
    /// Whether the contract would refuse the batch now.
    pub refused: Option<Refusal>,
}

/// Why the contract would refuse a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// In the contract's own words.
    pub why: String,
    /// Whether it passes by itself, as a pause does: what waits for that is neither sent into its revert nor begun anew.
    pub passes: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Follow {
    /// Nothing for now: why.
    Wait(String),
    /// Set this nonce aside.
    Reserve(u64),
    /// Sign a first transaction at the nonce, or another one that pays more.
    Sign {
        /// Whether it replaces an earlier one, and must pay at least an eighth more.
        replaces: bool,
    },
    /// Send the newest attempt's bytes.
    Send,
    /// Note the stage.
    Note(Stage),
    /// The nonce went to another transaction for good, or nothing was signed at it yet, and the batch isn't settled:
    /// begin again at `Recorded`, for this reason.
    StartOver(String),
}

/// The next step of one batch's payment.
pub fn follow(payment: &Payment, chain: &ChainView, now: UnixSeconds) -> Follow {
    let ChainView::Seen(seen) = chain else { return Follow::Wait("the chain can't be reached".to_owned()) };
    if let Stage::Final(_) = payment.stage {
        return Follow::Wait("paid".to_owned());
    }
    // The contract's event decides, whichever of our transactions caused it and whatever we remember of it.
    if let Some(at) = seen.settled {
        return match payment.stage {
            _ if at.number <= seen.final_number => Follow::Note(Stage::Final(at)),
            Stage::Mined(noted) if noted == at => {
                Follow::Wait(format!("block {} is not final yet", at.number))
            }
            _ => Follow::Note(Stage::Mined(at)),
        };
    }
    match payment.stage {
        // It was in a block, and that block is gone.
        Stage::Mined(_) => Follow::Note(Stage::Broadcast),
        Stage::Recorded => begin(payment, seen),
        Stage::Reserved => match why_not(payment, seen) {
            // Nothing was signed at the nonce, so that giving it back can't pay twice; keeping it would hold up others.
            Some(why) => Follow::StartOver(why),
            None => Follow::Sign { replaces: false },
        },
        Stage::Signed | Stage::Broadcast => {
            unless_used_up(payment, seen).unwrap_or_else(|| push(payment, seen, now))
        }
        Stage::Final(_) => Follow::Wait("paid".to_owned()),
    }
}

fn begin(payment: &Payment, seen: &Seen) -> Follow {
    why_not(payment, seen).map_or(Follow::Reserve(seen.nonce), Follow::Wait)
}

/// Why a transaction would be in vain now.
fn why_not(payment: &Payment, seen: &Seen) -> Option<String> {
    if seen.rental_head != payment.prev_head {
        let (head, prev) = (seen.rental_head, payment.prev_head);
        return Some(format!("the rental's head on chain is {head}, the batch follows {prev}"));
    }
    seen.refused.as_ref().map(|refusal| format!("the contract would refuse the batch: {}", refusal.why))
}

/// When the nonce is behind us and the batch isn't settled: another transaction had it, or ours was reverted.
fn unless_used_up(payment: &Payment, seen: &Seen) -> Option<Follow> {
    let nonce = payment.nonce?;
    if nonce < seen.final_nonce {
        return Some(Follow::StartOver(format!(
            "nonce {nonce} went to another transaction, or ours reverted"
        )));
    }
    (nonce < seen.nonce)
        .then(|| Follow::Wait(format!("nonce {nonce} was used in a block that is not final yet")))
}

fn push(payment: &Payment, seen: &Seen, now: UnixSeconds) -> Follow {
    // What a node holds already may be mined and revert, which only costs its gas. Nobody else's payment waits longer for
    // that: while there is a pause, nobody's can be made.
    if let Some(Refusal { why, passes: true }) = &seen.refused {
        return Follow::Wait(format!("the contract would refuse the batch: {why}"));
    }
    let attempts = payment.attempts.len();
    let signed = payment.attempts.last().map_or(now, |attempt| attempt.signed);
    let patience = PATIENCE_SECONDS << attempts.saturating_sub(1).min(MOST_ATTEMPTS);
    // One that the contract refuses by now can't be signed anew: what is out must use the nonce up, or nobody else's
    // payment can follow.
    let may_raise = attempts < MOST_ATTEMPTS && why_not(payment, seen).is_none();
    if may_raise && now.0.saturating_sub(signed.0) >= patience {
        return Follow::Sign { replaces: true };
    }
    // A node may have dropped it: the same bytes again do no harm.
    Follow::Send
}

#[cfg(test)]
mod tests;
