//! A batch is settled exactly once, wherever the program is killed and whatever the chain does.

use proptest::{collection::vec, prelude::*};

use super::*;

const PREV: Hash = Hash([1; 32]);
const HEAD: Hash = Hash([2; 32]);
/// Blocks after which one can't be undone.
const DEPTH: u64 = 2;

/// A transaction as the model's chain knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transaction {
    hash: Hash,
    nonce: u64,
    /// One that isn't ours to settle with: it only uses the nonce up.
    foreign: bool,
    /// The contract refused it, in the block that holds it.
    reverted: bool,
}

/// A chain with one account, one rental, and a pool that forgets.
#[derive(Default)]
struct Chain {
    blocks: Vec<Vec<Transaction>>,
    pool: Vec<Transaction>,
    reachable: bool,
    /// Whether the contract refuses the batch from now on: its transaction is mined, and reverts.
    refuses: bool,
    /// The same, until the pause ends.
    paused: bool,
    /// How often one was given to a node in a pause.
    sent_into_a_pause: usize,
    /// How many blocks can't be undone any more.
    final_ever: usize,
    settled_ever: usize,
}

impl Chain {
    fn nonce_at(&self, blocks: usize) -> u64 {
        self.blocks[..blocks].iter().flatten().count() as u64
    }

    fn settled(&self) -> Option<MinedAt> {
        let in_block = |(number, block): (usize, &Vec<Transaction>)| {
            let ours = block.iter().find(|transaction| !transaction.foreign && !transaction.reverted)?;
            Some(MinedAt { transaction: ours.hash, number: number as u64, block: Hash([number as u8; 32]) })
        };
        self.blocks.iter().enumerate().find_map(in_block)
    }

    fn mine(&mut self) {
        let nonce = self.nonce_at(self.blocks.len());
        let settled = self.settled().is_some();
        let position = self.pool.iter().position(|transaction| transaction.nonce == nonce);
        let mut chosen = position.map(|position| self.pool.remove(position));
        if let Some(transaction) = &mut chosen {
            transaction.reverted = (self.refuses || self.paused) && !transaction.foreign;
        }
        // The contract takes one successor of a head: a second one of ours does nothing.
        let settles = |transaction: Transaction| !transaction.foreign && !transaction.reverted;
        self.settled_ever += usize::from(!settled && chosen.is_some_and(settles));
        self.blocks.push(chosen.into_iter().collect());
        self.final_ever = self.final_ever.max(self.final_blocks());
    }

    fn final_blocks(&self) -> usize {
        self.blocks.len().saturating_sub(DEPTH as usize)
    }

    /// Takes the newest block away unless it is final; its transactions go back to the pool.
    fn reorganise(&mut self) {
        if self.blocks.len() <= self.final_ever {
            return;
        }
        let undone = self.blocks.pop().unwrap_or_default();
        let settled_before = self.settled().is_some();
        let settled_there = undone.iter().any(|transaction| !transaction.foreign && !transaction.reverted);
        self.settled_ever -= usize::from(settled_there && !settled_before);
        self.pool
            .extend(undone.into_iter().map(|transaction| Transaction { reverted: false, ..transaction }));
    }

    fn refusal(&self) -> Option<Refusal> {
        let refusal = |why: &str, passes| Some(Refusal { why: why.to_owned(), passes });
        match (self.refuses, self.paused) {
            (true, _) => refusal("RentalEnded", false),
            (false, true) => refusal("RentalsPaused", true),
            (false, false) => None,
        }
    }

    fn view(&self) -> ChainView {
        if !self.reachable {
            return ChainView::Unreachable;
        }
        let settled = self.settled();
        ChainView::Seen(Seen {
            rental_head: if settled.is_some() { HEAD } else { PREV },
            nonce: self.nonce_at(self.blocks.len()),
            final_nonce: self.nonce_at(self.final_ever),
            final_number: self.final_ever as u64 - 1,
            settled,
            refused: self.refusal().filter(|_| settled.is_none()),
        })
    }
}

/// What happens between two steps of the program.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Nothing,
    /// The program is killed after acting, before what it did is durable.
    KilledBeforeDurable,
    Mine,
    Reorganise,
    PoolForgets,
    ForeignTransaction,
    Unreachable,
    PauseBegins,
    PauseEnds,
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        4 => Just(Fate::Nothing),
        2 => Just(Fate::KilledBeforeDurable),
        4 => Just(Fate::Mine),
        1 => Just(Fate::Reorganise),
        1 => Just(Fate::PoolForgets),
        1 => Just(Fate::ForeignTransaction),
        1 => Just(Fate::Unreachable),
        1 => Just(Fate::PauseBegins),
        2 => Just(Fate::PauseEnds),
    ];
    vec(fate, 0..60)
}

struct Program {
    durable: Payment,
    signed: u8,
}

impl Program {
    /// One step: decide, act, and unless killed in between, make it durable.
    fn step(&mut self, chain: &mut Chain, now: UnixSeconds, killed: bool) {
        let mut next = self.durable.clone();
        match follow(&self.durable, &chain.view(), now) {
            Follow::Wait(_) => {}
            Follow::Reserve(nonce) => {
                next.nonce = Some(nonce);
                next.stage = Stage::Reserved;
            }
            // The estimate of its gas is refused: nothing can be signed.
            Follow::Sign { .. } if chain.refusal().is_some() && chain.settled().is_none() => {}
            Follow::Sign { .. } => {
                self.signed += 1;
                next.attempts.push(Attempt { hash: Hash([self.signed; 32]), signed: now });
                next.stage = Stage::Signed;
            }
            Follow::Send => {
                let (attempt, nonce) = (self.durable.attempts.last().unwrap(), self.durable.nonce.unwrap());
                let transaction = Transaction { hash: attempt.hash, nonce, foreign: false, reverted: false };
                chain.sent_into_a_pause += usize::from(chain.paused);
                if !chain.pool.contains(&transaction) {
                    chain.pool.push(transaction);
                }
                next.stage = Stage::Broadcast;
            }
            Follow::Note(stage) => next.stage = stage,
            Follow::StartOver(_) => {
                next.stage = Stage::Recorded;
                next.nonce = None;
                next.attempts.clear();
            }
        }
        if !killed {
            self.durable = next;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn a_batch_is_settled_exactly_once_whatever_happens(fates in fates()) {
        let mut chain = Chain { reachable: true, blocks: vec![vec![]; 3], final_ever: 1, ..Chain::default() };
        let payment = Payment { prev_head: PREV, head: HEAD, stage: Stage::Recorded, nonce: None, attempts: vec![] };
        let mut program = Program { durable: payment, signed: 0 };
        let calm = std::iter::repeat_n([Fate::Nothing, Fate::Nothing, Fate::Mine], 20).flatten();
        let calm = std::iter::once(Fate::PauseEnds).chain(calm);
        for (tick, fate) in fates.into_iter().chain(calm).enumerate() {
            chain.reachable = !matches!(fate, Fate::Unreachable);
            let before = program.durable.stage;
            program.step(&mut chain, UnixSeconds(tick as u64 * 10), matches!(fate, Fate::KilledBeforeDurable));
            if let Stage::Final(_) = before {
                prop_assert_eq!(program.durable.stage, before, "what is final stays so");
            }
            match fate {
                Fate::Mine => chain.mine(),
                Fate::Reorganise => chain.reorganise(),
                // Others send theirs again; filling a gap that they leave for good is not the outbox's task yet.
                Fate::PoolForgets => chain.pool.retain(|transaction| transaction.foreign),
                Fate::ForeignTransaction => {
                    let nonce = chain.nonce_at(chain.blocks.len());
                    chain.pool.insert(0, Transaction { hash: Hash([255; 32]), nonce, foreign: true, reverted: false });
                }
                Fate::PauseBegins => chain.paused = true,
                Fate::PauseEnds => chain.paused = false,
                Fate::Nothing | Fate::KilledBeforeDurable | Fate::Unreachable => {}
            }
        }
        prop_assert!(matches!(program.durable.stage, Stage::Final(_)), "{:?}", program.durable);
        prop_assert_eq!((chain.settled_ever, chain.sent_into_a_pause), (1, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    /// Whatever came before, a batch that the contract refuses for good ends up without a nonce: those of other rentals go on.
    #[test]
    fn a_batch_that_is_refused_holds_up_no_other(fates in fates()) {
        let mut chain = Chain { reachable: true, blocks: vec![vec![]; 3], final_ever: 1, ..Chain::default() };
        let payment = Payment { prev_head: PREV, head: HEAD, stage: Stage::Recorded, nonce: None, attempts: vec![] };
        let mut program = Program { durable: payment, signed: 0 };
        let mut tick = 0;
        let mut turn = |chain: &mut Chain, killed| {
            tick += 10;
            program.step(chain, UnixSeconds(tick), killed);
            program.durable.clone()
        };
        // Blocks without its transaction: it is out, and then the node forgets it.
        for fate in fates.iter().filter(|fate| !matches!(fate, Fate::Mine)) {
            turn(&mut chain, matches!(fate, Fate::KilledBeforeDurable));
        }
        chain.pool.clear();
        chain.refuses = true;
        for _ in 0..60 {
            turn(&mut chain, false);
            chain.mine();
        }
        let durable = turn(&mut chain, false);
        prop_assert_eq!((durable.stage, durable.nonce), (Stage::Recorded, None));
        prop_assert_eq!(chain.settled_ever, 0);
    }
}

fn paying(stage: Stage, nonce: Option<u64>) -> Payment {
    let attempts = vec![Attempt { hash: Hash([9; 32]), signed: UnixSeconds(100) }];
    Payment { prev_head: PREV, head: HEAD, stage, nonce, attempts }
}

fn seen() -> Seen {
    Seen { rental_head: PREV, nonce: 5, final_nonce: 5, final_number: 10, settled: None, refused: None }
}

#[test]
fn an_unreachable_chain_means_wait_at_every_stage() {
    let at = MinedAt { transaction: PREV, number: 1, block: PREV };
    for stage in [Stage::Recorded, Stage::Reserved, Stage::Signed, Stage::Broadcast, Stage::Mined(at)] {
        let next = follow(&paying(stage, Some(5)), &ChainView::Unreachable, UnixSeconds(999));
        assert_eq!(next, Follow::Wait("the chain can't be reached".to_owned()));
    }
}

#[test]
fn a_used_nonce_is_looked_at_and_given_up_only_when_that_is_final() {
    let used = Seen { nonce: 6, ..seen() };
    let next = follow(&paying(Stage::Broadcast, Some(5)), &ChainView::Seen(used.clone()), UnixSeconds(100));
    assert!(matches!(next, Follow::Wait(_)), "{next:?}");
    let final_ = Seen { final_nonce: 6, ..used };
    let next = follow(&paying(Stage::Broadcast, Some(5)), &ChainView::Seen(final_), UnixSeconds(100));
    assert!(matches!(next, Follow::StartOver(_)), "{next:?}");
}

#[test]
fn a_batch_that_does_not_follow_the_heads_is_never_sent() {
    let other = Seen { rental_head: Hash([8; 32]), ..seen() };
    let next = follow(&paying(Stage::Recorded, None), &ChainView::Seen(other), UnixSeconds(0));
    assert!(matches!(next, Follow::Wait(why) if why.contains("head on chain")));
}

#[test]
fn a_transaction_that_no_block_takes_is_replaced_by_one_that_pays_more() {
    let view = ChainView::Seen(seen());
    assert_eq!(follow(&paying(Stage::Broadcast, Some(5)), &view, UnixSeconds(129)), Follow::Send);
    assert_eq!(
        follow(&paying(Stage::Broadcast, Some(5)), &view, UnixSeconds(130)),
        Follow::Sign { replaces: true }
    );
}

#[test]
fn each_raise_waits_twice_as_long_as_the_one_before_and_they_come_to_an_end() {
    let waits = |attempts: usize| {
        let attempt = Attempt { hash: Hash([9; 32]), signed: UnixSeconds(0) };
        let payment = Payment { attempts: vec![attempt; attempts], ..paying(Stage::Broadcast, Some(5)) };
        let raises = |now: u64| {
            let next = follow(&payment, &ChainView::Seen(seen()), UnixSeconds(now));
            next == Follow::Sign { replaces: true }
        };
        (0..100_000).find(|now| raises(*now))
    };
    assert_eq!([1, 2, 3, 10].map(waits), [30, 60, 120, 15_360].map(Some));
    assert_eq!([11, 60].map(waits), [None, None], "every attempt is kept, and an object holds only so many");
}

#[test]
fn what_a_node_never_took_is_raised_too() {
    let view = ChainView::Seen(seen());
    assert_eq!(follow(&paying(Stage::Signed, Some(5)), &view, UnixSeconds(110)), Follow::Send);
    let next = follow(&paying(Stage::Signed, Some(5)), &view, UnixSeconds(130));
    assert_eq!(next, Follow::Sign { replaces: true });
}

#[test]
fn a_nonce_at_which_nothing_was_signed_is_given_back_when_the_batch_would_be_refused() {
    let refusal = Refusal { why: "ClaimDeadlinePassed".to_owned(), passes: false };
    let refused = Seen { refused: Some(refusal), ..seen() };
    let reserved = Payment { attempts: vec![], ..paying(Stage::Reserved, Some(5)) };
    let next = follow(&reserved, &ChainView::Seen(refused.clone()), UnixSeconds(0));
    assert!(matches!(&next, Follow::StartOver(why) if why.contains("ClaimDeadlinePassed")), "{next:?}");
    // Once bytes exist they may be anywhere: the nonce stays theirs.
    let next = follow(&paying(Stage::Signed, Some(5)), &ChainView::Seen(refused.clone()), UnixSeconds(100));
    assert_eq!(next, Follow::Send);
    // Nor can others be signed: what is out is sent until it is in a block, though it reverts there.
    let next = follow(&paying(Stage::Broadcast, Some(5)), &ChainView::Seen(refused), UnixSeconds(9999));
    assert_eq!(next, Follow::Send);
}

#[test]
fn what_waits_for_a_pause_to_end_is_neither_sent_nor_given_up() {
    let refusal = Refusal { why: "RentalsPaused".to_owned(), passes: true };
    let paused = ChainView::Seen(Seen { refused: Some(refusal), ..seen() });
    for (stage, nonce) in [(Stage::Recorded, None), (Stage::Signed, Some(5)), (Stage::Broadcast, Some(5))] {
        let next = follow(&paying(stage, nonce), &paused, UnixSeconds(9999));
        assert!(matches!(&next, Follow::Wait(why) if why.contains("RentalsPaused")), "{stage:?}: {next:?}");
    }
    // Once it is over, the same bytes go out again, or others that pay more.
    assert_eq!(
        follow(&paying(Stage::Signed, Some(5)), &ChainView::Seen(seen()), UnixSeconds(110)),
        Follow::Send
    );
}
