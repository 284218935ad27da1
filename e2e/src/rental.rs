//! A second payer's rental, and a queue that is paid from it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kube::{Api, api::PostParams};
use plasma_api::ComputeQueue;
use plasma_chain::{Key, Opening, Sent, Unsigned};
use plasma_settlement_core::price_hash;
use plasma_types::{Address, Hash, PricePerGpuHour, RentalId, UnixSeconds, Xpl};
use serde_json::json;

use crate::{NAMESPACE, QUEUE, World};

/// The development chain's third account, the payer: the whole world knows its key.
const PAYER_KEY: &str = "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a";
/// Enough for a test.
const DEPOSIT: Xpl = Xpl::from_wei(1_000_000_000_000_000_000);
/// More than opening a rental takes.
const GAS: u64 = 500_000;

/// Opens a rental that was never settled, and makes a queue that bills it; the queue's name.
///
/// # Panics
/// Where the chain or the cluster refuses.
pub async fn fresh_queue(world: &World) -> String {
    // A payer opens one rental for a salt, ever; the tests may run on this chain again.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_millis();
    let mut salt = [0; 32];
    salt[16..].copy_from_slice(&now.to_be_bytes());
    let name = format!("fresh-{now}");
    let queues: Api<ComputeQueue> = Api::all(world.client.clone());
    let billing = queues.get(QUEUE).await.expect("the queue").spec.billing.expect("a queue that bills");
    let newest = world.chain.newest_block().await.expect("a block").number;
    let provider = world.chain.rental(billing.rental, newest).await.expect("a rental").provider;
    let price: PricePerGpuHour = billing.prices[0].price_per_gpu_hour;
    let opening = Opening {
        provider,
        acknowledger: Address([0; 20]),
        // Wide enough for everything to be paid at once, though the bucket begins empty.
        ceiling: Xpl::from_wei(100_000_000_000_000_000),
        end: UnixSeconds(4_000_000_000),
        max_lateness: 86_400,
        notice: 60,
        claim_window: 3600,
        window: 60,
        period: 86_400,
        price_hash: price_hash(&[price.per_second()]),
        terms_hash: Hash([0; 32]),
        salt: Hash(salt),
    };
    let key = payer();
    send(world, &key, &opening).await;
    let endpoint = world.chain.endpoint();
    let rental = opening.rental(endpoint.chain_id, endpoint.contract, key.address());
    is_open(world, rental).await;
    let queue = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": { "namespaces": [NAMESPACE], "billing": {
            "payer": key.address(), "rental": rental, "prices": [{ "pricePerGpuHour": price }],
        } },
    }))
    .expect("a queue");
    queues.create(&PostParams::default(), &queue).await.expect("a queue");
    name
}

async fn is_open(world: &World, rental: RentalId) {
    let begun = Instant::now();
    loop {
        let newest = world.chain.newest_block().await.expect("a block").number;
        let Err(fault) = world.chain.rental(rental, newest).await else { return };
        assert!(begun.elapsed() < Duration::from_secs(30), "the rental isn't open: {fault}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

async fn send(world: &World, key: &Key, opening: &Opening) {
    let endpoint = world.chain.endpoint();
    let newest = world.chain.newest_block().await.expect("a block").number;
    let transaction = Unsigned {
        chain_id: endpoint.chain_id,
        nonce: world.chain.nonce(key.address(), newest).await.expect("a nonce"),
        to: Some(endpoint.contract),
        value: DEPOSIT,
        data: opening.encode(),
        gas: GAS,
        fees: world.chain.fees().await.expect("fees"),
    };
    let signed = key.sign(&transaction).expect("it is signed");
    assert_eq!(world.chain.send(&signed.raw).await.expect("an answer"), Sent::Taken);
}

/// Keys are read from files, as programs do.
fn payer() -> Key {
    let file = std::env::temp_dir().join(format!("plasma-e2e-payer-{}", std::process::id()));
    std::fs::write(&file, PAYER_KEY).expect("the key is written");
    let key = Key::from_file(&file, None);
    std::fs::remove_file(&file).expect("the key is removed");
    key.expect("a key")
}
