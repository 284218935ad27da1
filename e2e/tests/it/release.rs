//! What was settled becomes the provider's credit by itself, once nobody may contest it any more.

use std::time::{Duration, Instant};

use kube::Api;
use plasma_api::ComputeQueue;
use plasma_e2e::{NAMESPACE, QUEUE, World, job, settled};

#[tokio::test]
async fn a_batch_whose_window_is_over_is_released() {
    let world = World::connect().await;
    let queues: Api<ComputeQueue> = Api::all(world.client.clone());
    let billing = queues.get(QUEUE).await.expect("the queue").spec.billing.expect("a queue that bills");
    let state = async || {
        let newest = world.chain.newest_block().await.expect("a block").number;
        world.chain.rental(billing.rental, newest).await.expect("the rental")
    };
    let made = world.create(NAMESPACE, job("released", (1, 1), "sleep 1")).await.expect("a job");
    world.wait(&made, "paid", 120, |job| settled(job) == 1).await;
    let ours = state().await.settled_batch;
    assert!(ours > 0, "its batch has a number");
    // The cluster's rental has a window of a minute, and its settlement looks every twenty seconds.
    let begun = Instant::now();
    while state().await.released_batch < ours {
        assert!(begun.elapsed() < Duration::from_secs(300), "not released: {:?}", state().await);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    world.delete(&made).await;
}
