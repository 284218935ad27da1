//! Against a real chain with the real contracts: anvil on loopback, started for each test.
//!
//! Needs `npm ci` in `contracts/`; without it the tests say that they were left out, and with `CI=true` they fail.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // A test that can't go on says so and ends.

mod support;

use std::time::Duration;

use plasma_chain::{Chain, ChainError, Deployed, Fees, Key, Release, RentalState, Revert, Sent, Settlement};
use plasma_settlement_core::{Batch, Leaf, Position, Terms, genesis, plan_batch, price_hash};
use plasma_types::{
    Address, Duration as Span, Hash, JobUid, PodUid, RentalId, UnixMillis, WeiPerGpuSecond, Xpl,
};
use support::{Anvil, CHAIN_ID, KEY, PAYER, PERIOD, PROVIDER, WINDOW, key, mined, send, unsigned};

const PRICES: [WeiPerGpuSecond; 2] = [WeiPerGpuSecond(1000), WeiPerGpuSecond(277_777_777_777_777)];

/// A chain with the contracts and an open rental.
struct World {
    anvil: Anvil,
    chain: Chain,
    deployed: Deployed,
    key: Key,
    rental: RentalId,
    start: Position,
}

impl World {
    /// Deploys and opens with a deposit.
    async fn new(deposit: Xpl) -> Option<Self> {
        let anvil = Anvil::start(&[])?;
        let (key, payer, provider) = (key(KEY), key(PAYER), key(PROVIDER).address());
        let deployed = anvil.deploy().await;
        let contract = deployed.rental;
        let chain = anvil.chain(CHAIN_ID, contract);
        let rental = anvil.open(&deployed, deposit, price_hash(&PRICES)).await;
        let state = chain.rental(rental, chain.newest_block().await.expect("a block").number).await;
        let state = state.expect("the rental is open");
        assert_eq!((state.balance, state.provider, state.payer), (deposit, provider, payer.address()));
        assert_eq!(state.period, Span(u64::from(PERIOD) * 1000));
        assert_eq!(state.head, genesis(CHAIN_ID, contract, rental));
        let start = Position { head: state.head, next_sequence: 0, through: state.through };
        Some(Self { anvil, chain, deployed, key, rental, start })
    }

    /// A batch of pods, each of which held one GPU for so many milliseconds, by now.
    fn batch(&self, from: Position, pods: &[(u8, u64)]) -> Batch {
        let leaf = |(pod, duration): &(u8, u64)| Leaf {
            pod_uid: PodUid([*pod; 16]),
            job_uid: JobUid([1; 16]),
            end: UnixMillis(from.through.0 * 1000 + 1),
            duration: Span(*duration),
            device_ms: *duration,
            price_class: 1,
            node_index: 0,
            device_mask: 0,
            flags: 2,
        };
        let leaves: Vec<_> = pods.iter().map(leaf).collect();
        let terms = Terms { prices: &PRICES, period: Span(u64::from(PERIOD) * 1000) };
        plan_batch(from, &leaves, terms, 200).expect("packs").expect("a batch")
    }

    fn call(&self, batch: &Batch) -> Vec<u8> {
        self.call_signed_by(&self.key, batch)
    }

    fn call_signed_by(&self, key: &Key, batch: &Batch) -> Vec<u8> {
        let leaves = batch.packed().expect("packs");
        let (prev_head, to, total) = (batch.from.head, batch.to, batch.total);
        let prices = PRICES.to_vec();
        let settlement = Settlement { rental: self.rental, prev_head, to, prices, leaves, total };
        let signature = key.sign_hash(settlement.digest(CHAIN_ID, self.deployed.rental));
        settlement.encode(&signature.expect("signs"))
    }

    /// Why the contract would refuse it.
    async fn refusal(&self, from: Address, call: &[u8]) -> Revert {
        match self.chain.estimate_gas(from, call).await {
            Err(ChainError::Reverted(revert)) => revert,
            other => panic!("it isn't refused: {other:?}"),
        }
    }

    async fn newest(&self) -> u64 {
        self.chain.newest_block().await.expect("a block").number
    }

    /// The rental as it is now.
    async fn state(&self) -> RentalState {
        self.chain.rental(self.rental, self.newest().await).await.expect("the rental")
    }

    async fn nonce(&self) -> u64 {
        let newest = self.chain.newest_block().await.expect("a block").number;
        self.chain.nonce(self.key.address(), newest).await.expect("a nonce")
    }

    /// Sends the batch's call, waits until a block holds it, and gives the signed bytes.
    async fn settle(&self, batch: &Batch) -> Vec<u8> {
        let what = (Some(self.chain.endpoint().contract), Xpl::ZERO, self.nonce().await);
        let raw = send(&self.chain, &self.key, what, self.call(batch)).await;
        mined(&self.chain, &self.key, what.2).await;
        raw
    }

    /// Moves the chain's clock past every watermark of these tests.
    fn wait_for_watermark(&self) {
        self.anvil.cast_rpc(&["evm_increaseTime", "5"]);
        self.anvil.cast_rpc(&["evm_mine"]);
    }
}

#[tokio::test]
async fn what_is_settled_is_read_back_to_the_wei_and_sent_twice_is_paid_once() {
    let Some(world) = World::new(Xpl::from_wei(10u128.pow(18))).await else { return };
    let batch = world.batch(world.start, &[(1, 1500), (2, 60_000)]);
    world.wait_for_watermark();
    let raw = world.settle(&batch).await;

    let settled = world.chain.settled_batches(world.rental).await.expect("events");
    assert_eq!(settled.len(), 1);
    let newest = world.chain.newest_block().await.expect("a block").number;
    let found = world.chain.settled_batch(world.rental, batch.head, newest).await;
    assert_eq!(found, Ok(settled.first().copied()));
    assert_eq!(world.chain.settled_batch(world.rental, Hash([9; 32]), newest).await, Ok(None));
    let event = settled[0].batch;
    assert_eq!((event.head, event.prev_head, event.total), (batch.head, batch.from.head, batch.total));
    assert_eq!((event.first_sequence, event.count, event.to), (0, 2, batch.to));
    assert_eq!(settled[0].transaction, plasma_types::keccak256(&raw));
    let pods = world.chain.settled_pods(world.rental).await.expect("events");
    let paid: Vec<_> = pods.iter().map(|pod| (pod.pod_uid, pod.sequence, pod.amount)).collect();
    let planned = batch.leaves.iter().zip(0..);
    let planned: Vec<_> = planned.map(|((leaf, amount), at)| (leaf.pod_uid, at, *amount)).collect();
    assert_eq!(paid, planned);
    let other = RentalId([8; 32]);
    let both = world.chain.settled(&[other, world.rental]).await.expect("events");
    assert_eq!(both, (vec![settled[0].batch], pods), "one search gives both");
    assert_eq!(world.chain.settled(&[]).await, Ok((vec![], vec![])), "none asked for is none, not all");

    // The same bytes, and the same call at another nonce: neither pays again.
    assert_eq!(world.chain.send(&raw).await, Ok(Sent::NonceUsed));
    world.settle(&batch).await;
    let newest = world.chain.newest_block().await.expect("a block").number;
    let state = world.chain.rental(world.rental, newest).await.expect("the rental");
    assert_eq!(state.balance, Xpl::from_wei(10u128.pow(18) - batch.total.wei()));
    assert_eq!((state.head, state.next_sequence, state.through), (batch.head, 2, batch.to));
    assert_eq!(world.chain.settled_pods(world.rental).await.expect("events").len(), 2);
}

#[tokio::test]
async fn what_the_balance_does_not_hold_is_owed() {
    let Some(world) = World::new(Xpl::from_wei(5)).await else { return };
    let batch = world.batch(world.start, &[(1, 1000)]);
    world.wait_for_watermark();
    world.settle(&batch).await;
    let newest = world.chain.newest_block().await.expect("a block").number;
    let state = world.chain.rental(world.rental, newest).await.expect("the rental");
    assert_eq!((state.balance, state.owed), (Xpl::ZERO, Xpl::from_wei(batch.total.wei() - 5)));
}

#[tokio::test]
async fn a_refusal_is_told_in_the_contracts_words_before_gas_is_spent() {
    let Some(world) = World::new(Xpl::from_wei(5)).await else { return };
    let from = Position { head: Hash([9; 32]), ..world.start };
    let stray = world.call(&world.batch(from, &[(1, 1000)]));
    let refusal = world.refusal(world.key.address(), &stray).await;
    assert!(refusal.to_string().starts_with("HeadMismatch(") && !refusal.passes(), "{refusal}");
    let good = world.batch(world.start, &[(1, 1000)]);
    world.wait_for_watermark();
    let anybody = Address([3; 20]);
    let sent = world.chain.estimate_gas(anybody, &world.call(&good)).await;
    assert!(sent.is_ok(), "who sends it doesn't matter: {sent:?}");
    // The provider's own account is no key of it unless it says so.
    let refusal = world.refusal(anybody, &world.call_signed_by(&key(PROVIDER), &good)).await;
    assert!(refusal.to_string().starts_with("UnknownSigner("), "{refusal}");
    let none = world.chain.rental(RentalId([8; 32]), 0).await;
    assert!(none.is_err(), "at block 0 there is no contract");
}

#[tokio::test]
async fn whose_key_signs_is_the_providers_contracts_word() {
    let Some(world) = World::new(Xpl::from_wei(5)).await else { return };
    let (provider, ours) = (key(PROVIDER).address(), world.key.address());
    let providers = world.deployed.providers;
    let newest = world.newest().await;
    let ask = async |contract, of, key| world.chain.is_signer(contract, (of, key), newest).await;
    assert_eq!(ask(providers, provider, ours).await, Ok(true));
    assert_eq!(ask(providers, provider, provider).await, Ok(false), "it never said so");
    assert_eq!(ask(providers, ours, ours).await, Ok(false), "no provider");
    let nobody = Address([9; 20]);
    assert_eq!(ask(nobody, provider, ours).await, Err(ChainError::NotProviders(nobody)));
}

#[tokio::test]
async fn a_pause_refuses_for_a_moment_and_moves_deadlines_on() {
    let Some(world) = World::new(Xpl::from_wei(10u128.pow(18))).await else { return };
    let batch = world.batch(world.start, &[(1, 1000)]);
    world.wait_for_watermark();
    let providers = world.deployed.providers.to_string();
    let owner = key(PAYER).address().to_string();
    world.anvil.cast_send(PAYER, &[&providers, "setPauser(address)", &owner]);
    world.anvil.cast_send(PAYER, &[&providers, "pause(uint256)", "600"]);
    let refusal = world.refusal(world.key.address(), &world.call(&batch)).await;
    assert!(refusal.passes(), "{refusal}");
    assert!(refusal.to_string().contains("the pause ends by itself"), "{refusal}");
    let clock = async || world.chain.deadline_clock(world.deployed.providers, world.newest().await).await;
    let before = clock().await;
    world.anvil.cast_rpc(&["evm_increaseTime", "300"]);
    world.anvil.cast_rpc(&["evm_mine"]);
    assert_eq!(clock().await, before, "the clock of deadlines stands still");
    world.anvil.cast_rpc(&["evm_increaseTime", "300"]);
    world.anvil.cast_rpc(&["evm_mine"]);
    // The same bytes that were refused.
    world.settle(&batch).await;
    assert_eq!(world.state().await.head, batch.head);
}

#[tokio::test]
async fn batches_are_released_in_order_once_their_window_is_over() {
    let Some(world) = World::new(Xpl::from_wei(10u128.pow(18))).await else { return };
    let first = world.batch(world.start, &[(1, 1000)]);
    world.wait_for_watermark();
    world.settle(&first).await;
    let second = world.batch(first.position(), &[(2, 1000)]);
    world.settle(&second).await;
    let state = world.state().await;
    assert_eq!((state.settled_batch, state.acknowledged_batch, state.released_batch), (2, 0, 0));
    let kept = async |head| world.chain.kept_batch(world.rental, head, world.newest().await).await;
    assert_eq!(kept(second.head).await.map(|batch| batch.number), Ok(2));
    assert_eq!(kept(Hash([9; 32])).await.map(|batch| batch.number), Ok(0), "it has none such");
    let release = |heads: &[Hash]| Release { rental: world.rental, heads: heads.to_vec() }.encode();
    let anybody = Address([3; 20]);
    let refusal = world.refusal(anybody, &release(&[first.head])).await;
    assert!(refusal.to_string().starts_with("BatchNotMature("), "{refusal}");
    world.anvil.cast_rpc(&["evm_increaseTime", &WINDOW.to_string()]);
    world.anvil.cast_rpc(&["evm_mine"]);
    let refusal = world.refusal(anybody, &release(&[second.head])).await;
    assert!(refusal.to_string().starts_with("BatchOutOfOrder("), "{refusal}");
    let clock = world.chain.deadline_clock(world.deployed.providers, world.newest().await).await;
    assert!(kept(second.head).await.expect("kept").matures_at <= clock.expect("a clock"));
    let what = (Some(world.deployed.rental), Xpl::ZERO, world.nonce().await);
    send(&world.chain, &world.key, what, release(&[first.head, second.head])).await;
    mined(&world.chain, &world.key, what.2).await;
    assert_eq!(world.state().await.released_batch, 2);
}

#[tokio::test]
async fn a_reorganisation_takes_the_event_away_and_the_same_bytes_bring_it_back() {
    let Some(world) = World::new(Xpl::from_wei(10u128.pow(18))).await else { return };
    let batch = world.batch(world.start, &[(1, 1000)]);
    world.wait_for_watermark();
    let raw = world.settle(&batch).await;
    assert_eq!(world.chain.settled_batches(world.rental).await.map(|all| all.len()), Ok(1));
    world.anvil.cast_rpc(&["anvil_reorg", "1", "[]"]);
    assert_eq!(world.chain.settled_batches(world.rental).await, Ok(vec![]));
    let nonce = world.nonce().await;
    assert_eq!(world.chain.send(&raw).await, Ok(Sent::Taken));
    mined(&world.chain, &world.key, nonce).await;
    assert_eq!(world.chain.settled_batches(world.rental).await.map(|all| all.len()), Ok(1));
}

#[tokio::test]
async fn what_the_pool_holds_is_known_and_a_replacement_must_pay_more() {
    let Some(world) = World::new(Xpl::from_wei(10u128.pow(18))).await else { return };
    world.anvil.cast_rpc(&["evm_setAutomine", "false"]);
    let batch = world.batch(world.start, &[(1, 1000)]);
    let what = (Some(world.chain.endpoint().contract), Xpl::ZERO, world.nonce().await);
    let raw = send(&world.chain, &world.key, what, world.call(&batch)).await;
    assert_eq!(world.chain.send(&raw).await, Ok(Sent::Taken), "already known is as good as taken");
    let fees = world.chain.fees().await.expect("fees");
    let cheaper = Fees { max: fees.max - 1, tip: fees.tip };
    let cheaper = world.key.sign(&unsigned(what, world.call(&batch), cheaper)).expect("signs");
    assert_eq!(world.chain.send(&cheaper.raw).await, Ok(Sent::Underpriced));
    let dearer = world.key.sign(&unsigned(what, world.call(&batch), fees.raised())).expect("signs");
    assert_eq!(world.chain.send(&dearer.raw).await, Ok(Sent::Taken));
}

#[tokio::test]
async fn another_chain_and_no_chain_are_told_apart() {
    let Some(anvil) = Anvil::start(&[]) else { return };
    let other = anvil.chain(9745, Address([0; 20]));
    let wrong = other.check_chain_id().await;
    assert_eq!(wrong, Err(ChainError::WrongChain { expected: 9745, found: CHAIN_ID }));
    drop(anvil);
    let gone = tokio::time::timeout(Duration::from_secs(20), other.check_chain_id()).await;
    assert!(matches!(gone, Ok(Err(ChainError::Unreachable { .. }))), "{gone:?}");
}
