//! Releasing: mature batches are passed, so that what they drew is the provider's credit. Now and then, many at once.
//!
//! The contract passes each batch once, in order, so what is forgotten here is tried again and never done twice: nothing is
//! made durable. For the outbox it is a transaction of somebody else who has the same key, which it survives anywhere; it
//! goes out only while no batch is under way, and no batch takes a nonce while it is out.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use plasma_chain::{ChainError, Fees, Release, Sent};
use plasma_settlement_core::{Kept, Progress, Span, Unreleased, is_ripe, unreleased};
use plasma_types::{Hash, RentalId};

use crate::{batches::Batches, failure::Failure, settle::Surroundings};

/// How long batches wait for a release that no block takes. Then it is forgotten: one that is mined later does no harm.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is remembered between rounds. Nothing of it is needed after a restart.
#[derive(Default)]
pub(crate) struct Payouts {
    /// When each rental was last looked at, or first seen.
    looked: HashMap<RentalId, Instant>,
    /// The newest release, until a block that can't be undone took it, or none did.
    out: Option<Out>,
    /// What it paid for gas: the next one at its nonce pays more.
    before: Option<(u64, Fees)>,
}

struct Out {
    nonce: u64,
    since: Instant,
}

impl Payouts {
    /// Whether a release is out: no batch takes a nonce meanwhile. One that is in a block which may be undone is out still: a
    /// batch with the next nonce would have to wait for it for ever. One that no block took leaves its nonce to a batch.
    pub(crate) async fn is_out(&mut self, around: &Surroundings) -> Result<bool, ChainError> {
        let Some(out) = &self.out else { return Ok(false) };
        let (chain, account) = (&around.chain, around.key.address());
        let newest = chain.newest_block().await?;
        let is_mined = out.nonce < chain.nonce(account, newest.number).await?;
        let is_out = if is_mined {
            let block = chain.final_number(&newest, around.settings.confirmations).await?;
            chain.nonce(account, block).await? <= out.nonce
        } else {
            out.since.elapsed() < PATIENCE
        };
        if !is_out {
            self.out = None;
        }
        Ok(is_out)
    }

    /// Releases what is mature of one rental at most, where it is time.
    pub(crate) async fn pay_out(
        &mut self,
        around: &Surroundings,
        batches: &Batches,
    ) -> Result<(), (RentalId, Failure)> {
        let seconds = around.settings.release_seconds;
        if seconds == 0 || self.out.is_some() || batches.is_any_under_way() {
            return Ok(());
        }
        let every = Duration::from_secs(seconds);
        for rental in batches.rentals() {
            if self.looked.entry(rental).or_insert_with(Instant::now).elapsed() < every {
                continue;
            }
            self.looked.insert(rental, Instant::now());
            let released = self.release(around, rental, &batches.spans(rental)).await;
            released.map_err(|failure| (rental, failure))?;
            if self.out.is_some() {
                break;
            }
        }
        Ok(())
    }

    async fn release(
        &mut self,
        around: &Surroundings,
        rental: RentalId,
        recorded: &[Span],
    ) -> Result<(), Failure> {
        let heads = ripe(around, rental, recorded).await?;
        if heads.is_empty() {
            return Ok(());
        }
        let (chain, key) = (&around.chain, &around.key);
        let data = Release { rental, heads: heads.clone() }.encode();
        // As of the newest block, where somebody else may have released them already: anyone may.
        let gas = match chain.estimate_gas(key.address(), &data).await {
            Err(ChainError::Reverted(why)) => {
                tracing::info!("rental {rental}: nothing is released now: {why}");
                return Ok(());
            }
            gas => gas?,
        };
        let nonce = chain.nonce(key.address(), chain.newest_block().await?.number).await?;
        let before = self.before.filter(|(before, _)| *before == nonce).map(|(_, fees)| fees);
        let fees = chain.fees().await?.replacing(before);
        let signed = around.sign(nonce, data, (gas, fees))?;
        // Before it is sent: an answer that is lost says nothing.
        self.out = Some(Out { nonce, since: Instant::now() });
        self.before = Some((nonce, fees));
        match chain.send(&signed.raw).await? {
            Sent::Taken => tracing::info!("rental {rental}: releasing {} batches", heads.len()),
            Sent::NonceUsed | Sent::Underpriced => self.out = None,
        }
        Ok(())
    }
}

/// The heads of the batches that can be released, as of a block that can't be undone.
async fn ripe(around: &Surroundings, rental: RentalId, recorded: &[Span]) -> Result<Vec<Hash>, Failure> {
    let chain = &around.chain;
    let newest = chain.newest_block().await?;
    let block = chain.final_number(&newest, around.settings.confirmations).await?;
    let state = chain.rental(rental, block).await?;
    let progress = Progress {
        head: state.head,
        settled: state.settled_batch,
        acknowledged: state.acknowledged_batch,
        released: state.released_batch,
    };
    let Some(next) = unreleased(recorded, &progress) else {
        let message = "a batch that isn't released is not recorded here, so its head isn't known: whoever has it may release it";
        return Err(Failure::Rental(rental, message.to_owned()));
    };
    if next.is_empty() {
        return Ok(Vec::new());
    }
    let clock = chain.deadline_clock(around.settings.providers, block).await?;
    let mut heads = Vec::new();
    for batch in next {
        let Unreleased { head, .. } = batch;
        let kept = chain.kept_batch(rental, head, block).await?;
        let kept = Kept { number: kept.number, matures_at: kept.matures_at };
        if !is_ripe(&batch, &progress, kept, clock) {
            break;
        }
        heads.push(head);
    }
    Ok(heads)
}
