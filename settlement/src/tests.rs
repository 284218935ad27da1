//! From finished pods to credit, with the real contracts on a chain of one's own, and a key that isn't the provider's.

#[path = "../../chain/tests/anvil/support.rs"]
mod anvil;

use std::time::Duration;

use anvil::{Anvil, CHAIN_ID, KEY, PAYER, PERIOD, PROVIDER, WINDOW, key};
use clap::Parser as _;
use plasma_api::{SettlementBatch, settlement_batch::BatchPhase};
use plasma_chain::{Deployed, RentalState};
use plasma_runtime::prometheus::Registry;
use plasma_settlement_core::{Leaf, flag, price_hash};
use plasma_types::{JobUid, PodUid, RentalId, UnixMillis, Xpl};
use serde_json::json;

use crate::{
    api_server::Server,
    args::{Args, Verb},
    batches::{Batches, phase},
    bill::{Bill, Receipt},
    collect::Finished,
    metrics::Metrics,
    payout::Payouts,
    record::Recorder,
    settle::{Surroundings, deliver},
};

/// One XPL for a GPU and an hour.
const PRICE: &str = "1";

/// Settlement, between an API server and a chain.
struct World {
    anvil: Anvil,
    deployed: Deployed,
    rental: RentalId,
    around: Surroundings,
    recorder: Recorder,
    payouts: Payouts,
    /// The watermark when the rental was opened, in milliseconds.
    opened: u64,
}

impl World {
    /// With the key of this account.
    async fn new(key: &str) -> Option<Self> {
        let anvil = Anvil::start(&[])?;
        let deployed = anvil.deploy().await;
        let price: plasma_types::PricePerGpuHour = PRICE.parse().expect("a price");
        let deposit = Xpl::from_wei(10_u128.pow(18));
        let rental = anvil.open(&deployed, deposit, price_hash(&[price.per_second()])).await;
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), key).expect("written");
        let flags = [
            format!("--chain-rpc={}", anvil.url),
            format!("--chain-id={CHAIN_ID}"),
            format!("--contract={}", deployed.rental),
            format!("--providers={}", deployed.providers),
            format!("--key-file={}", file.path().display()),
            "--confirmations=1".to_owned(),
            "--batch-seconds=0".to_owned(),
            "--release-seconds=1".to_owned(),
        ];
        let flags = ["plasma-settlement", "run"].map(str::to_owned).into_iter().chain(flags);
        let Verb::Run(settings) = Args::parse_from(flags).verb else { panic!("it is to run") };
        let metrics = Metrics::register(&Registry::new());
        let around = Surroundings::new(*settings, Server::default().client(), metrics).expect("a key");
        let (recorder, payouts) = (Recorder::default(), Payouts::default());
        let mut world = Self { anvil, deployed, rental, around, recorder, payouts, opened: 0 };
        world.opened = world.state().await.through.0 * 1000;
        world.pass(10);
        Some(world)
    }

    /// Time passes on the chain, and a block comes.
    fn pass(&self, seconds: u32) {
        self.anvil.cast_rpc(&["evm_increaseTime", &seconds.to_string()]);
        self.anvil.cast_rpc(&["evm_mine"]);
    }

    async fn newest(&self) -> u64 {
        self.around.chain.newest_block().await.expect("a block").number
    }

    async fn state(&self) -> RentalState {
        self.around.chain.rental(self.rental, self.newest().await).await.expect("the rental")
    }

    /// A pod that held one GPU for so many milliseconds, and ended so many after the rental was opened.
    fn finished(&self, pod: u8, (end, lasted): (u64, u64)) -> Finished {
        let billing = json!({
            "payer": key(PAYER).address(), "rental": self.rental, "prices": [{ "pricePerGpuHour": PRICE }],
        });
        let leaf = Leaf {
            pod_uid: PodUid([pod; 16]),
            job_uid: JobUid([9; 16]),
            end: UnixMillis(self.opened + end),
            duration: plasma_types::Duration(lasted),
            device_ms: lasted,
            price_class: 0,
            node_index: 0,
            device_mask: 1,
            flags: flag::METERED,
        };
        let receipt = Receipt {
            queue: "q".to_owned(),
            billing: serde_json::from_value(billing).expect("a billing"),
            leaf,
            job: "j".to_owned(),
            note: None,
        };
        let pod_uid = leaf.pod_uid;
        let pod = serde_json::from_value(json!({
            "metadata": { "name": format!("p{pod}"), "namespace": "team" },
            "spec": { "nodeName": format!("n{pod}"), "containers": [] },
        }));
        let bill = Bill::Receipt(Box::new(receipt));
        Finished { pod: pod.expect("a pod"), pod_uid, seen: leaf.end, bill }
    }

    /// A round with these finished pods; how many of them are let go.
    async fn round(&mut self, finished: &[Finished]) -> usize {
        let mut batches = Batches::read(&self.around).await.expect("batches");
        let free = self.recorder.record(&self.around, finished, &mut batches, &Ok(())).await.len();
        let delivered = deliver(&self.around, &mut self.payouts, &mut batches, &Ok(())).await;
        assert!(delivered.expect("it goes on"), "the chain answers");
        free
    }

    /// Rounds and blocks until it is so.
    async fn rounds(&mut self, mut is: impl AsyncFnMut(&Self) -> bool) {
        for _ in 0..60 {
            self.round(&[]).await;
            if is(self).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.anvil.cast_rpc(&["evm_mine"]);
        }
        panic!("never: {:#?} {:#?}", self.batches().await, self.state().await);
    }

    async fn batches(&self) -> Vec<SettlementBatch> {
        Batches::read(&self.around).await.expect("batches").all().cloned().collect()
    }

    async fn are_final(&self) -> bool {
        self.batches().await.iter().all(|batch| phase(batch) == BatchPhase::Final)
    }

    async fn message(&self) -> String {
        let batches = self.batches().await;
        batches[0].status.clone().and_then(|status| status.message).unwrap_or_default()
    }

    fn pause(&self, seconds: &str) {
        let (providers, owner) = (self.deployed.providers.to_string(), key(PAYER).address().to_string());
        self.anvil.cast_send(PAYER, &[&providers, "setPauser(address)", &owner]);
        self.anvil.cast_send(PAYER, &[&providers, "pause(uint256)", seconds]);
    }
}

#[tokio::test]
async fn pods_are_paid_by_a_key_of_the_provider_and_their_batches_released() {
    let Some(mut world) = World::new(KEY).await else { return };
    let pods = [world.finished(1, (2000, 1500)), world.finished(2, (3000, 3_600_001))];
    assert_eq!(world.round(&pods).await, 2, "both have a receipt");
    world.rounds(async |world| world.are_final().await).await;
    let paid = world.around.chain.settled_pods(world.rental).await.expect("events");
    let paid: Vec<_> = paid.iter().map(|pod| (pod.pod_uid.0[0], pod.sequence, pod.amount.wei())).collect();
    let expected = 1500 * 277_777_777_777_777 / 1000;
    assert_eq!(paid, [(1, 0, expected), (2, 1, 0)], "one lasted longer than the rental's period");
    world.pass(WINDOW - 30);
    let third = [world.finished(3, (4000, 1000))];
    assert_eq!(world.round(&third).await, 1);
    world.rounds(async |world| world.are_final().await).await;
    assert_eq!(world.state().await.released_batch, 0, "their windows are open");
    world.pass(60);
    world.rounds(async |world| world.state().await.released_batch == 1).await;
    world.pass(WINDOW);
    world.rounds(async |world| world.state().await.released_batch == 2).await;
    // The next batch goes on after it.
    let fourth = [world.finished(4, (5000, 1000))];
    assert_eq!(world.round(&fourth).await, 1);
    world.rounds(async |world| world.are_final().await).await;
    assert_eq!(world.state().await.settled_batch, 3);
}

#[tokio::test]
async fn no_batch_takes_a_nonce_while_a_release_may_be_undone() {
    let Some(mut world) = World::new(KEY).await else { return };
    let first = [world.finished(1, (2000, 1500))];
    world.round(&first).await;
    world.rounds(async |world| world.are_final().await).await;
    world.pass(WINDOW);
    world.anvil.cast_rpc(&["evm_mine"]);
    world.anvil.cast_rpc(&["evm_setAutomine", "false"]);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    world.round(&[]).await;
    let second = [world.finished(2, (3000, 1500))];
    assert_eq!(world.round(&second).await, 1, "its receipt waits for nothing");
    let nonce = async |world: &World| {
        let batch = world.batches().await.into_iter().next_back().expect("a batch");
        batch.status.and_then(|status| status.nonce)
    };
    assert_eq!(nonce(&world).await, None, "the release is out");
    world.anvil.cast_rpc(&["evm_mine"]);
    assert_eq!(world.state().await.released_batch, 1);
    world.round(&[]).await;
    assert_eq!(nonce(&world).await, None, "its block may be undone");
    world.anvil.cast_rpc(&["evm_mine"]);
    world.round(&[]).await;
    assert_eq!(nonce(&world).await, Some(2));
    world.anvil.cast_rpc(&["evm_setAutomine", "true"]);
    world.rounds(async |world| world.are_final().await).await;
}

#[tokio::test]
async fn a_pause_is_waited_for_and_nothing_is_sent_into_it() {
    let Some(mut world) = World::new(KEY).await else { return };
    world.pause("600");
    let pods = [world.finished(1, (2000, 1500))];
    assert_eq!(world.round(&pods).await, 1, "its receipt waits for nothing");
    for _ in 0..3 {
        world.round(&[]).await;
    }
    let batch = &world.batches().await[0];
    let status = batch.status.clone().expect("a status");
    assert_eq!((status.phase, status.nonce), (Some(BatchPhase::Recorded), None));
    let message = world.message().await;
    assert!(message.contains("RentalsPaused") && message.contains("ends by itself"), "{message}");
    world.pass(600);
    world.rounds(async |world| world.are_final().await).await;
}

#[tokio::test]
async fn what_was_sent_before_a_pause_survives_it() {
    let Some(mut world) = World::new(KEY).await else { return };
    world.anvil.cast_rpc(&["evm_setAutomine", "false"]);
    let pods = [world.finished(1, (2000, 1500))];
    world.round(&pods).await;
    assert_eq!(phase(&world.batches().await[0]), BatchPhase::Broadcast);
    // No block took it, and the node forgets it.
    world.anvil.cast_rpc(&["anvil_dropAllTransactions"]);
    world.anvil.cast_rpc(&["evm_setAutomine", "true"]);
    world.pause("600");
    for _ in 0..3 {
        world.round(&[]).await;
        world.anvil.cast_rpc(&["evm_mine"]);
    }
    let batch = &world.batches().await[0];
    let attempts = batch.status.as_ref().map(|status| status.attempts.len());
    assert_eq!((phase(batch), attempts), (BatchPhase::Broadcast, Some(1)), "held back, not given up");
    let nonce = world.around.chain.nonce(world.around.key.address(), world.newest().await).await;
    assert_eq!(nonce, Ok(0), "nothing was mined of ours");
    world.pass(600);
    world.rounds(async |world| world.are_final().await).await;
    assert_eq!(world.batches().await[0].status.as_ref().map(|status| status.attempts.len()), Some(1));
}

#[tokio::test]
async fn a_key_that_the_provider_has_not_registered_records_nothing() {
    // Not even the provider's own.
    let Some(mut world) = World::new(PROVIDER).await else { return };
    let pods = [world.finished(1, (2000, 1500))];
    assert_eq!(world.round(&pods).await, 0);
    assert_eq!(world.batches().await, []);
    let providers = world.deployed.providers.to_string();
    let account = key(PROVIDER).address().to_string();
    world.anvil.cast_send(PROVIDER, &[&providers, "setSigner(address,bool)", &account, "true"]);
    assert_eq!(world.round(&pods).await, 1);
    world.rounds(async |world| world.are_final().await).await;
    let period = world.batches().await[0].spec.period;
    assert_eq!(period, Some(plasma_types::Duration(u64::from(PERIOD) * 1000)));
}
