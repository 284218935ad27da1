//! Against a real chain with the real contract: anvil on loopback, started for each test.
//!
//! Needs `npm ci` in `contracts/`; without it the tests say that they were left out, and with `CI=true` they fail.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // A test that can't go on says so and ends.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use plasma_chain::{Chain, ChainError, Endpoint, Fees, Key, Opening, Sent, Settlement, Unsigned};
use plasma_settlement_core::{Batch, Leaf, Position, genesis, plan_batch, price_hash};
use plasma_types::{
    Address, Duration as Span, Hash, JobUid, PodUid, RentalId, UnixMillis, UnixSeconds, WeiPerGpuSecond, Xpl,
};

const CHAIN_ID: u64 = 31337;
const PRICES: [WeiPerGpuSecond; 2] = [WeiPerGpuSecond(1000), WeiPerGpuSecond(277_777_777_777_777)];
/// The first account that every anvil has: known to everyone. Here it is payer and provider at once.
const KEY: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

/// A running anvil; killed when it goes out of scope.
struct Anvil {
    process: Child,
    url: String,
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Anvil {
    /// Starts one on a free port; `None` where the binary isn't there.
    fn start(arguments: &[&str]) -> Option<Self> {
        let binary = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../contracts/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil");
        if !binary.exists() {
            assert!(std::env::var("CI").is_err(), "no anvil: run npm ci in contracts/");
            eprintln!("left out: no anvil, run npm ci in contracts/");
            return None;
        }
        let mut process = Command::new(binary)
            .args(["--host", "127.0.0.1", "--port", "0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("anvil starts");
        let mut lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        let address = lines
            .by_ref()
            .find_map(|line| line.expect("a line").trim().strip_prefix("Listening on ").map(str::to_owned));
        // Its output must go on being read, or it stops at a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { process, url: format!("http://{}", address.expect("anvil says where it listens")) })
    }

    fn chain(&self, chain_id: u64, contract: Address) -> Chain {
        Chain::new(Endpoint { url: self.url.clone(), chain_id, contract }).expect("an address")
    }

    /// Asks for something that only anvil does.
    fn cast_rpc(&self, arguments: &[&str]) {
        let cast = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../contracts/node_modules/@foundry-rs/cast-linux-amd64/bin/cast");
        let done = Command::new(cast).args(["rpc", "--rpc-url", &self.url]).args(arguments).output();
        let done = done.expect("cast runs");
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

/// A chain with the contract and an open rental.
struct World {
    anvil: Anvil,
    chain: Chain,
    key: Key,
    rental: RentalId,
    start: Position,
}

impl World {
    /// Deploys and opens with a deposit.
    async fn new(deposit: Xpl) -> Option<Self> {
        let anvil = Anvil::start(&[])?;
        let key = key();
        let nowhere = anvil.chain(CHAIN_ID, Address([0; 20]));
        // keccak256(rlp([deployer, 0]))[12..] of this account: what anvil's first contract is always called.
        let contract: Address = "0x5fbdb2315678afecb367f032d93f642f64180aa3".parse().expect("an address");
        send(&nowhere, &key, (None, Xpl::ZERO, 0), Chain::creation_code()).await;
        mined(&nowhere, &key, 0).await;
        let chain = anvil.chain(CHAIN_ID, contract);
        let opening = Opening {
            provider: key.address(),
            end: UnixSeconds(4_000_000_000),
            notice: 60,
            claim_window: 600,
            price_hash: price_hash(&PRICES),
            terms_hash: Hash([0; 32]),
            salt: Hash([7; 32]),
        };
        send(&chain, &key, (Some(contract), deposit, 1), opening.encode()).await;
        mined(&chain, &key, 1).await;
        let rental = opening.rental(CHAIN_ID, contract, key.address());
        let state = chain.rental(rental, chain.newest_block().await.expect("a block").number).await;
        let state = state.expect("the rental is open");
        assert_eq!(state.balance, deposit);
        assert_eq!(state.head, genesis(CHAIN_ID, contract, rental));
        let start = Position { head: state.head, next_sequence: 0, through: state.through };
        Some(Self { anvil, chain, key, rental, start })
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
        plan_batch(from, &leaves, &PRICES, 200).expect("packs").expect("a batch")
    }

    fn call(&self, batch: &Batch) -> Vec<u8> {
        let leaves = batch.packed().expect("packs");
        let (prev_head, to) = (batch.from.head, batch.to);
        Settlement { rental: self.rental, prev_head, to, prices: PRICES.to_vec(), leaves }.encode()
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

fn key() -> Key {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), KEY).expect("written");
    Key::from_file(file.path(), None).expect("a key")
}

fn unsigned((to, value, nonce): (Option<Address>, Xpl, u64), data: Vec<u8>, fees: Fees) -> Unsigned {
    Unsigned { chain_id: CHAIN_ID, nonce, to, value, data, gas: 5_000_000, fees }
}

async fn send(chain: &Chain, key: &Key, what: (Option<Address>, Xpl, u64), data: Vec<u8>) -> Vec<u8> {
    let fees = chain.fees().await.expect("fees");
    let signed = key.sign(&unsigned(what, data, fees)).expect("signs");
    assert_eq!(chain.send(&signed.raw).await, Ok(Sent::Taken));
    signed.raw
}

/// Waits until a block holds the transaction with the nonce: anvil answers before it has made one.
async fn mined(chain: &Chain, key: &Key, nonce: u64) {
    for _ in 0..200 {
        let newest = chain.newest_block().await.expect("a block").number;
        if chain.nonce(key.address(), newest).await.expect("a nonce") > nonce {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("no block took nonce {nonce}");
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
    let refusal = world.chain.estimate_gas(world.key.address(), &stray).await;
    assert!(
        matches!(&refusal, Err(ChainError::Reverted(why)) if why.starts_with("HeadMismatch(")),
        "{refusal:?}"
    );
    let good = world.call(&world.batch(world.start, &[(1, 1000)]));
    let refusal = world.chain.estimate_gas(Address([3; 20]), &good).await;
    assert!(
        matches!(&refusal, Err(ChainError::Reverted(why)) if why.starts_with("NotAllowed(")),
        "{refusal:?}"
    );
    let none = world.chain.rental(RentalId([8; 32]), 0).await;
    assert!(none.is_err(), "at block 0 there is no contract");
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
