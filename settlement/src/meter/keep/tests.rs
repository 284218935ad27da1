//! What is kept stands for the records: after a restart nothing is lost, and nothing counts twice.

use std::sync::atomic::Ordering;

use plasma_settlement_core::{Life, Line, Told, Unit, Usage};
use plasma_types::{Duration as Span, PodUid, UnixMillis};
use serde_json::json;

use super::*;
use crate::{api_server::Server, meter::Need, metrics::MeterMetrics};

fn uid(pod: u8) -> PodUid {
    PodUid([pod; 16])
}

/// The n-th second of a device, for a pod.
fn second(sequence: u64, pod: u8) -> Line {
    let told = Told {
        id: "GPU-0".to_owned(),
        device: "GPU-0".to_owned(),
        board: "GPU-0".to_owned(),
        milli: 1000,
        kind: None,
        start: UnixMillis(sequence * 1000),
        end: UnixMillis(sequence * 1000 + 1000),
        healthy: Span(1000),
        last: false,
        simulated: false,
        exact: false,
    };
    Line::Of { pod: uid(pod), told: Some(told), over: false }
}

fn meters() -> Meters {
    Meters::new(MeterMetrics::new())
}

async fn restarted(server: &Server) -> (Keeper, Meters) {
    let (keeper, all) = Keeper::load(server.client(), "plasma-system").await.expect("it is read");
    let meters = meters();
    all.into_iter().for_each(|(node, sums)| meters.restore(&node, sums));
    (keeper, meters)
}

fn device_ms(meters: &Meters, pod: u8) -> u64 {
    let life = Life { created: UnixMillis(0), seen_over: UnixMillis(u64::MAX), ended: None, devices: 8 };
    match meters.view("n", uid(pod)).told.map(|told| told.usage(&life, Unit::Board)) {
        Some(Usage::Known { device_ms, .. }) => device_ms,
        _ => 0,
    }
}

/// As if so much time had passed since the last time that anything was kept.
fn pass(keeper: &mut Keeper, time: Duration) {
    keeper.kept.values_mut().for_each(|kept| kept.at -= time);
}

#[tokio::test]
async fn a_long_pods_records_are_kept_as_sums_and_each_counts_once_after_a_restart() {
    let server = Server::default();
    let (mut keeper, meters) = restarted(&server).await;
    let mut call = meters.begin("n", "j", 1);
    for sequence in 1..=5 {
        call.take(sequence, &second(sequence, 7)).unwrap();
    }
    assert!(keeper.keep(&meters).await.is_empty());
    assert_eq!(*call.acknowledged.borrow_and_update(), 0, "it isn't due");
    pass(&mut keeper, EVERY);
    call.take(6, &second(6, 7)).unwrap();
    assert!(keeper.keep(&meters).await.is_empty());
    assert_eq!(*call.acknowledged.borrow_and_update(), 6);
    call.take(7, &second(7, 7)).unwrap();

    let (mut keeper, meters) = restarted(&server).await;
    // The node never heard the acknowledgement.
    let call = meters.begin("n", "j", 1);
    for sequence in 1..=8 {
        call.take(sequence, &second(sequence, 7)).unwrap();
    }
    assert_eq!(device_ms(&meters, 7), 8000);
    pass(&mut keeper, EVERY);
    assert!(keeper.keep(&meters).await.is_empty(), "it is written over its own");
    assert_eq!(*server.writes.lock().unwrap(), 2);
    meters.forget(&meters.places(), |_, _| Need::Nobody);
    assert!(keeper.keep(&meters).await.is_empty());
    assert!(server.objects.lock().unwrap().is_empty(), "nobody needs it any more");
}

#[tokio::test]
async fn what_somebody_else_keeps_is_not_written_over_and_nothing_is_acknowledged() {
    let server = Server::default();
    let (mut keeper, meters) = restarted(&server).await;
    let mut call = meters.begin("n", "j", 1);
    call.take(1, &second(1, 7)).unwrap();
    assert!(keeper.keep(&meters).await.is_empty());
    let (_, theirs) = server.answer("POST", "", json!({ "metadata": { "name": "plasma-meter-n" } }));
    pass(&mut keeper, EVERY);
    let failures = keeper.keep(&meters).await;
    assert!(failures[0].1.to_string().contains("keeping what the meter of node n told"), "{failures:?}");
    assert_eq!(*call.acknowledged.borrow_and_update(), 0);
    assert_eq!(server.objects.lock().unwrap()["plasma-meter-n"], theirs);
    assert!(keeper.keep(&meters).await.is_empty(), "it isn't tried in each round");
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_found_again() {
    let server = Server::default();
    let (mut keeper, meters) = restarted(&server).await;
    let mut call = meters.begin("n", "j", 1);
    assert!(keeper.keep(&meters).await.is_empty());
    for sequence in 1..=4 {
        call.take(sequence, &second(sequence, 7)).unwrap();
        // The first one is a create, the others replace.
        server.loses_answer.store(sequence < 3, Ordering::Relaxed);
        keeper.kept.entry("n".to_owned()).or_insert_with(Kept::new);
        pass(&mut keeper, EVERY);
        assert_eq!(keeper.keep(&meters).await.is_empty(), sequence >= 3);
    }
    assert_eq!(*call.acknowledged.borrow_and_update(), 4);
    // Somebody touched it, and somebody took it away.
    server
        .objects
        .lock()
        .unwrap()
        .values_mut()
        .for_each(|object| object["metadata"]["resourceVersion"] = json!("x"));
    for sequence in 5..=6 {
        call.take(sequence, &second(sequence, 7)).unwrap();
        pass(&mut keeper, EVERY);
        assert!(keeper.keep(&meters).await.is_empty());
        assert_eq!(*call.acknowledged.borrow_and_update(), sequence);
        server.objects.lock().unwrap().clear();
    }
}

#[tokio::test]
async fn what_stands_for_more_records_than_came_is_left() {
    let server = Server::default();
    let (mut keeper, meters) = restarted(&server).await;
    let call = meters.begin("n", "j", 1);
    call.take(1, &second(1, 7)).unwrap();
    assert!(keeper.keep(&meters).await.is_empty());
    let place = Place { journal: "j".to_owned(), through: 2 };
    let more = serde_json::to_string(&Sums { place, ..Sums::default() }).unwrap();
    let theirs = json!({ "metadata": { "name": "plasma-meter-n" }, "data": { "node": "n", "sums": more } });
    let (_, theirs) = server.answer("POST", "", theirs);
    pass(&mut keeper, EVERY);
    assert_eq!(keeper.keep(&meters).await.len(), 1);
    assert_eq!(server.objects.lock().unwrap()["plasma-meter-n"], theirs);
}

#[tokio::test]
async fn many_records_are_kept_sooner() {
    let server = Server::default();
    let (mut keeper, meters) = restarted(&server).await;
    let call = meters.begin("n", "j", 1);
    for sequence in 1..=MANY {
        call.take(sequence, &second(sequence, 7)).unwrap();
    }
    assert!(keeper.keep(&meters).await.is_empty());
    pass(&mut keeper, SELDOM);
    assert!(keeper.keep(&meters).await.is_empty());
    assert_eq!(*server.writes.lock().unwrap(), 1);
}

#[tokio::test]
async fn what_cannot_be_read_is_left_where_it_is_and_the_others_are_read() {
    let server = Server::default();
    let sums = serde_json::to_string(&Sums::default()).unwrap();
    for (node, sums) in [("n", sums.as_str()), ("m", "{")] {
        let data = json!({ "node": node, "sums": sums });
        server.answer("POST", "", json!({ "metadata": { "name": name(node) }, "data": data }));
    }
    let (_, all) = Keeper::load(server.client(), "plasma-system").await.expect("it is read");
    assert_eq!(all.len(), 1);
    assert_eq!(server.objects.lock().unwrap().len(), 2);
}
