//! The outbox: asks the core what to do next for the oldest open batch, does it, and makes it durable.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{Api, ResourceExt as _, api::PostParams};
use plasma_api::{
    SettlementBatch, SettlementBatchStatus,
    condition::{self, Holds, Statement},
    settlement_batch::{Attempt, BatchPhase},
};
use plasma_chain::{ChainError, Fees, Sent, Settlement};
use plasma_settlement_core::{ChainView, Follow, MinedAt, Payment, Refusal, Seen, Stage, follow};
use plasma_types::Hash;

use crate::{
    batches::{self, Batches, is_under_way},
    failure::Failure,
    settle::{Surroundings, now_seconds},
};

/// Steps of one batch in one round, at most: a bound, not a limit that is reached.
const STEPS: usize = 8;

/// Follows payments, one batch after the other: one key, one transaction under way.
pub(crate) struct Deliverer<'a> {
    around: &'a Surroundings,
}

/// What one step of one batch came to.
struct Step {
    /// The batch as it stands now.
    batch: SettlementBatch,
    /// Whether there is nothing more to do in this round.
    waits: bool,
    /// Whether the chain answered.
    reachable: bool,
}

impl<'a> Deliverer<'a> {
    pub(crate) fn new(around: &'a Surroundings) -> Self {
        Self { around }
    }

    /// Brings each rental's oldest open batch forward, one transaction at a time; whether the chain answered.
    ///
    /// A batch that the contract refuses holds up its own rental alone. `may_begin`: whether one may take a nonce that has
    /// none, or only those go on that have one.
    pub(crate) async fn deliver(
        &self,
        batches: &mut Batches,
        chain: &Result<(), ChainError>,
        may_begin: bool,
    ) -> Result<bool, Failure> {
        self.around.metrics.open_batches.set(i64::try_from(batches.open()).unwrap_or(i64::MAX));
        let turns = batches.turns();
        if let Err(fault) = chain {
            for batch in turns {
                batches.put(self.wait_for_chain(batch, fault).await?);
            }
            return Ok(false);
        }
        let mut reachable = true;
        for batch in turns {
            let name = batch.name_any();
            let was_under_way = is_under_way(&batch);
            if !was_under_way && !may_begin {
                continue;
            }
            match self.advance(batch, batches).await {
                Ok(came_to) => {
                    reachable &= came_to.reachable;
                    // One key, one transaction at a time: the next one begins when this one is final.
                    if is_under_way(&came_to.batch) || !came_to.reachable {
                        break;
                    }
                }
                Err(failure) => {
                    self.around.try_again(&name, &failure);
                    // A new one isn't begun while it is unknown whether this one is.
                    if was_under_way || matches!(failure, Failure::Kube(..)) {
                        break;
                    }
                }
            }
        }
        Ok(reachable)
    }

    /// Brings one batch forward until it has to wait.
    async fn advance(&self, mut batch: SettlementBatch, batches: &mut Batches) -> Result<Step, Failure> {
        let mut reachable = true;
        for _ in 0..STEPS {
            let step = self.step(batch).await?;
            batches.put(step.batch.clone());
            batch = step.batch;
            reachable &= step.reachable;
            if batches::phase(&batch) == BatchPhase::Final {
                self.around.metrics.final_batches.inc();
                break;
            }
            if step.waits {
                break;
            }
        }
        Ok(Step { batch, waits: true, reachable })
    }

    /// Says on the batch that the chain doesn't answer.
    async fn wait_for_chain(
        &self,
        batch: SettlementBatch,
        fault: &ChainError,
    ) -> Result<SettlementBatch, Failure> {
        let mut status = batch.status.clone().unwrap_or_default();
        status.phase.get_or_insert(BatchPhase::Recorded);
        status.message = Some(fault.to_string());
        tell(&mut status, Some(fault));
        self.write(batch, status).await
    }

    async fn step(&self, batch: SettlementBatch) -> Result<Step, Failure> {
        let payment = batches::payment(&batch)?;
        let (next, fault) = match self.look(&batch, &payment).await {
            Ok(seen) => (follow(&payment, &ChainView::Seen(seen), now_seconds()), None),
            // The chain knows no such rental, or the node won't say: that concerns this batch alone.
            Err(Failure::Chain(no)) if no.is_answer() => (Follow::Wait(no.to_string()), None),
            Err(Failure::Chain(fault)) => {
                (follow(&payment, &ChainView::Unreachable, now_seconds()), Some(fault))
            }
            Err(other) => return Err(other),
        };
        self.around.metrics.chain_reachable.set(i64::from(fault.is_none()));
        let mut status = batch.status.clone().unwrap_or_default();
        status.phase.get_or_insert(BatchPhase::Recorded);
        let waits = self.act(next, &batch, &mut status).await?;
        if let Some(fault) = &fault {
            status.message = Some(fault.to_string());
        }
        tell(&mut status, fault.as_ref());
        Ok(Step { batch: self.write(batch, status).await?, waits, reachable: fault.is_none() })
    }

    /// Does what comes next and notes it, for `write` to make durable; whether the batch has to wait after it.
    async fn act(
        &self,
        next: Follow,
        batch: &SettlementBatch,
        status: &mut SettlementBatchStatus,
    ) -> Result<bool, Failure> {
        status.message = None;
        match next {
            Follow::Wait(why) => {
                status.message = Some(why);
                return Ok(true);
            }
            Follow::Reserve(nonce) => {
                (status.phase, status.nonce) = (Some(BatchPhase::Reserved), Some(nonce));
            }
            Follow::Sign { replaces } => match self.sign(batch, status, replaces).await {
                Ok(()) => {}
                // Nothing was signed: looked at anew in the next round.
                Err(Failure::Chain(fault)) => {
                    status.message = Some(fault.to_string());
                    return Ok(true);
                }
                Err(other) => return Err(other),
            },
            Follow::Send => {
                status.message = self.send(batch).await?;
                status.phase = Some(BatchPhase::Broadcast);
                return Ok(true);
            }
            Follow::Note(stage) => note(status, stage),
            Follow::StartOver(why) => {
                tracing::warn!("{}: {why}; beginning again", batch.name_any());
                let signed = !status.attempts.is_empty();
                let phase = if signed { BatchPhase::Reverted } else { BatchPhase::Recorded };
                (status.phase, status.nonce) = (Some(phase), None);
                status.attempts.clear();
                status.message = Some(why);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One look at the chain, all of it as of the newest block.
    async fn look(&self, batch: &SettlementBatch, payment: &Payment) -> Result<Seen, Failure> {
        let chain = &self.around.chain;
        let newest = chain.newest_block().await?;
        let final_number = chain.final_number(&newest, self.around.settings.confirmations).await?;
        let account = self.around.key.address();
        let rental = chain.rental(batch.spec.rental, newest.number).await?;
        // A head that hasn't moved needs no search.
        let settled = if rental.head == batch.spec.prev_head {
            None
        } else {
            chain.settled_batch(batch.spec.rental, batch.spec.head, newest.number).await?
        };
        let settled =
            settled.map(|at| MinedAt { transaction: at.transaction, number: at.number, block: at.block });
        self.around.metrics.tell_rental(batch.spec.rental, &rental);
        // Before anything is signed, and before anything is signed anew.
        let asks = !matches!(payment.stage, Stage::Mined(_) | Stage::Final(_));
        let is_next = asks && rental.head == batch.spec.prev_head;
        let refused = if is_next { self.refusal(batch).await? } else { None };
        Ok(Seen {
            rental_head: rental.head,
            nonce: chain.nonce(account, newest.number).await?,
            final_nonce: chain.nonce(account, final_number).await?,
            final_number,
            settled,
            refused,
        })
    }

    /// Whether the contract would refuse the batch now: found out before any gas is spent.
    async fn refusal(&self, batch: &SettlementBatch) -> Result<Option<Refusal>, Failure> {
        let data = self.call(batch)?;
        match self.around.chain.estimate_gas(self.around.key.address(), &data).await {
            Ok(_) => Ok(None),
            Err(ChainError::Reverted(revert)) => {
                Ok(Some(Refusal { why: revert.to_string(), passes: revert.passes() }))
            }
            Err(ChainError::Refused { message, .. }) => Ok(Some(Refusal { why: message, passes: false })),
            Err(fault) => Err(fault.into()),
        }
    }

    /// The call that settles the batch, signed by the provider's key.
    fn call(&self, batch: &SettlementBatch) -> Result<Vec<u8>, Failure> {
        let settlement = settlement(batch)?;
        let endpoint = self.around.chain.endpoint();
        let digest = settlement.digest(endpoint.chain_id, endpoint.contract);
        Ok(settlement.encode(&self.around.key.sign_hash(digest)?))
    }

    async fn sign(
        &self,
        batch: &SettlementBatch,
        status: &mut SettlementBatchStatus,
        replaces: bool,
    ) -> Result<(), Failure> {
        let data = self.call(batch)?;
        let (chain, key) = (&self.around.chain, &self.around.key);
        let gas = chain.estimate_gas(key.address(), &data).await?;
        let before = status.attempts.last().filter(|_| replaces).and_then(fees_of);
        let fees = chain.fees().await?.replacing(before);
        let nonce =
            status.nonce.ok_or_else(|| Failure::Batch(batch.name_any(), "it has no nonce".to_owned()))?;
        let signed = self.around.sign(nonce, data, (gas, fees))?;
        status.attempts.push(Attempt {
            raw: format!("0x{}", hex::encode(&signed.raw)),
            hash: signed.hash,
            max_fee_per_gas: fees.max.to_string(),
            max_priority_fee_per_gas: fees.tip.to_string(),
            signed_at: Time(Timestamp::now()),
        });
        status.phase = Some(BatchPhase::Signed);
        Ok(())
    }

    /// Sends the newest attempt; what the node says beside having it becomes the message.
    async fn send(&self, batch: &SettlementBatch) -> Result<Option<String>, Failure> {
        let malformed =
            || Failure::Batch(batch.name_any(), "its newest attempt holds no signed bytes".to_owned());
        let newest = batch.status.as_ref().and_then(|status| status.attempts.last());
        let raw = newest.and_then(|attempt| hex::decode(attempt.raw.trim_start_matches("0x")).ok());
        let told = match self.around.chain.send(&raw.ok_or_else(malformed)?).await {
            Ok(Sent::Taken) => None,
            // Looked at in the next step; never an occasion to send another one.
            Ok(Sent::NonceUsed) => Some("its nonce was used: looking what became of it".to_owned()),
            Ok(Sent::Underpriced) => Some("the node wants a higher fee: it will be raised".to_owned()),
            Err(fault) => Some(fault.to_string()),
        };
        Ok(told)
    }

    /// Writes the status; the object as it was read is the precondition.
    async fn write(
        &self,
        mut batch: SettlementBatch,
        status: SettlementBatchStatus,
    ) -> Result<SettlementBatch, Failure> {
        if batch.status.as_ref() == Some(&status) {
            return Ok(batch);
        }
        let (name, before) = (batch.name_any(), batches::phase(&batch));
        batch.status = Some(status);
        let api: Api<SettlementBatch> =
            Api::namespaced(self.around.client.clone(), &self.around.settings.namespace);
        let written = api.replace_status(&name, &PostParams::default(), &batch).await;
        let written =
            written.map_err(Failure::kube(format!("writing the status of SettlementBatch {name}")))?;
        if batches::phase(&written) != before {
            tracing::info!("{name}: {:?}", batches::phase(&written));
        }
        Ok(written)
    }
}

fn settlement(batch: &SettlementBatch) -> Result<Settlement, Failure> {
    let spec = &batch.spec;
    Ok(Settlement {
        rental: spec.rental,
        prev_head: spec.prev_head,
        to: spec.to,
        prices: batches::prices(batch)?,
        leaves: batches::packed(batch)?,
        total: spec.total,
    })
}

fn fees_of(attempt: &Attempt) -> Option<Fees> {
    let parse = |text: &str| text.parse().ok();
    Some(Fees { max: parse(&attempt.max_fee_per_gas)?, tip: parse(&attempt.max_priority_fee_per_gas)? })
}

fn note(status: &mut SettlementBatchStatus, stage: Stage) {
    let mut at = |at: Option<MinedAt>| {
        status.transaction = at.map(|at| at.transaction);
        status.block_number = at.map(|at| at.number);
        status.block_hash = at.map(|at: MinedAt| -> Hash { at.block });
    };
    match stage {
        Stage::Mined(mined) | Stage::Final(mined) => at(Some(mined)),
        Stage::Recorded | Stage::Reserved | Stage::Signed | Stage::Broadcast => at(None),
    }
    status.phase = Some(match stage {
        Stage::Recorded => BatchPhase::Recorded,
        Stage::Reserved => BatchPhase::Reserved,
        Stage::Signed => BatchPhase::Signed,
        Stage::Broadcast => BatchPhase::Broadcast,
        Stage::Mined(_) => BatchPhase::Mined,
        Stage::Final(_) => BatchPhase::Final,
    });
}

/// The conditions that go with a step.
fn tell(status: &mut SettlementBatchStatus, fault: Option<&ChainError>) {
    let now = Time(Timestamp::now());
    let reachable = match fault {
        None => ("ChainReachable", Holds::True, "Answered", String::new()),
        Some(fault) => ("ChainReachable", Holds::False, "NoAnswer", fault.to_string()),
    };
    let settled = match status.phase {
        Some(BatchPhase::Final) => {
            ("Settled", Holds::True, "Final", "paid in a block that can't be undone".to_owned())
        }
        _ => ("Settled", Holds::False, "NotFinal", status.message.clone().unwrap_or_default()),
    };
    for (kind, holds, reason, message) in [reachable, settled] {
        let statement = Statement { kind, holds, reason: reason.to_owned(), message };
        condition::merge(&mut status.conditions, statement, None, &now);
    }
}
