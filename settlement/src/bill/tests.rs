//! Who pays for which pod, at what price, and from what.

use plasma_settlement_core::{Line, Told};
use plasma_types::UnixMillis;
use serde_json::{Value, json};

use super::*;
use crate::metrics::MeterMetrics;

mod parts;

const USED: Usage = Usage::Known { end: UnixMillis(9000), duration: Duration(8000), device_ms: 16_000 };

fn object<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).expect("an object of its kind")
}

/// A queue that bills namespace `team` for two models, and a node with GPUs of the dearer one.
fn prices(simulated: bool, allow_simulated: bool) -> Prices {
    let queue: ComputeQueue = object(json!({
        "apiVersion": "compute.plasma.dev/v1alpha1", "kind": "ComputeQueue", "metadata": {"name": "q"},
        "spec": {"namespaces": ["team"], "billing": {
            "payer": format!("0x{}", "11".repeat(20)), "rental": format!("0x{}", "22".repeat(32)),
            "prices": [{"gpuProduct": "A100", "pricePerGpuHour": "1"}, {"gpuProduct": "H100", "pricePerGpuHour": "3"}],
        }},
    }));
    let node: GpuNode = object(json!({
        "apiVersion": "compute.plasma.dev/v1alpha1", "kind": "GpuNode", "metadata": {"name": "n"},
        "spec": {"simulated": simulated,
            "gpus": [{"uuid": "GPU-1", "index": 0, "product": "H100", "memoryMib": 1}]},
    }));
    Prices {
        queues: HashMap::from([("q".to_owned(), queue)]),
        nodes: HashMap::from([("n".to_owned(), node)]),
        meters: Arc::new(Meters::new(MeterMetrics::new())),
        allow_simulated,
    }
}

fn pod(namespace: &str, queue: &str, node: &str) -> Pod {
    object(json!({
        "metadata": {"name": "p", "namespace": namespace, "annotations": {QUEUE_ANNOTATION: queue},
            "labels": {JOB_NAME_LABEL: "j", JOB_UID_LABEL: "123e4567-e89b-12d3-a456-426614174000"}},
        "spec": {"nodeName": node,
            "containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": "2"}}}]},
    }))
}

fn bill(prices: &Prices, pod: &Pod, usage: Usage) -> Bill {
    let over = Over { pod_uid: PodUid([5; 16]), pod: pod.clone(), usage, seen: UnixMillis(20_000) };
    prices.bill(&over, &Gone::default())
}

fn receipt(bill: Bill) -> Receipt {
    match bill {
        Bill::Receipt(receipt) => *receipt,
        Bill::Wait(reason, why) => panic!("it waits for {reason:?}: {why}"),
        Bill::Nothing => panic!("nothing to be paid"),
    }
}

#[test]
fn a_pod_is_billed_by_its_nodes_model() {
    let Receipt { leaf, job, .. } = receipt(bill(&prices(false, false), &pod("team", "q", "n"), USED));
    assert_eq!((leaf.price_class, leaf.device_ms, leaf.flags), (1, 16_000, flag::FROM_POD_STATUS));
    assert_eq!((leaf.pod_uid, job.as_str()), (PodUid([5; 16]), "j"));
}

#[test]
fn nobody_spends_from_a_queue_that_does_not_serve_his_namespace() {
    let crossing = bill(&prices(false, false), &pod("other", "q", "n"), USED);
    assert!(matches!(crossing, Bill::Wait(_, why) if why.contains("doesn't serve namespace other")));
}

#[test]
fn what_is_unknown_waits_and_says_for_what() {
    let no_queue = bill(&prices(false, false), &pod("team", "gone", "n"), USED);
    assert!(matches!(no_queue, Bill::Wait(_, why) if why.contains("ComputeQueue gone")));
    let no_node = bill(&prices(false, false), &pod("team", "q", "gone"), USED);
    assert!(matches!(no_node, Bill::Wait(_, why) if why.contains("GpuNode")));
    let mut no_gpus = prices(false, false);
    no_gpus.nodes.values_mut().for_each(|node| node.spec.gpus.clear());
    let no_gpus = bill(&no_gpus, &pod("team", "q", "n"), USED);
    assert!(matches!(no_gpus, Bill::Wait(_, why) if why.contains("has no GPU")));
    let mut unbilled = prices(false, false);
    unbilled.queues.values_mut().for_each(|queue| queue.spec.billing = None);
    let unbilled = bill(&unbilled, &pod("team", "q", "n"), USED);
    assert!(matches!(unbilled, Bill::Wait(_, why) if why.contains("bills no more")));
}

#[test]
fn what_never_started_is_let_go() {
    assert!(matches!(bill(&prices(false, false), &pod("team", "q", "n"), Usage::Nothing), Bill::Nothing));
}

#[test]
fn simulated_gpus_are_worth_nothing_unless_allowed() {
    let flags = |allowed| receipt(bill(&prices(true, allowed), &pod("team", "q", "n"), USED)).leaf.flags;
    assert_eq!(flags(false), flag::FROM_POD_STATUS | flag::SIMULATED | flag::VOID);
    assert_eq!(flags(true), flag::FROM_POD_STATUS | flag::SIMULATED);
}

#[test]
fn one_that_vanished_while_it_ran_is_recorded_and_worth_nothing() {
    let ran = Usage::Unknown { end: UnixMillis(77) };
    // Not even its node needs to be known.
    let leaf = receipt(bill(&prices(false, false), &pod("team", "q", "gone"), ran)).leaf;
    assert_eq!((leaf.device_ms, leaf.end), (0, UnixMillis(77)));
}

/// 2026-01-01T00:00:00Z.
const NEW_YEAR: u64 = 1_767_225_600_000;

/// A node whose meter's journal began at new year, and which has two GPUs of the dearer model and one of the cheaper.
fn metering() -> Prices {
    let mut prices = prices(false, false);
    let gpu = |index: i32, product: &str| {
        object(json!({ "uuid": format!("GPU-{index}"), "index": index, "product": product, "memoryMib": 1 }))
    };
    for node in prices.nodes.values_mut() {
        node.spec.gpus = vec![gpu(0, "H100"), gpu(1, "H100"), gpu(2, "A100")];
        node.spec.meter = Some(object(json!({ "since": "2026-01-01T00:00:00Z" })));
    }
    prices
}

/// A pod that the kubelet took at that second of the year, and whose container ended ten seconds later.
fn ran_at(second: u64) -> Over {
    let at = |second: u64| format!("2026-01-01T00:00:{second:02}Z");
    let mut pod = pod("team", "q", "n");
    pod.metadata.creation_timestamp = Some(object(json!(at(second))));
    pod.status = Some(object(json!({ "startTime": at(second), "containerStatuses": [{
        "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "terminated": { "exitCode": 0, "startedAt": at(second), "finishedAt": at(second + 10) } },
    }] })));
    Over { pod_uid: PodUid([5; 16]), pod, usage: USED, seen: UnixMillis(NEW_YEAR + 55_000) }
}

/// The meter of that node says that the pod held a GPU for these milliseconds of the year, healthy for so long of it.
fn tell(prices: &Prices, (node, gpu): (&str, i32), span: (u64, u64), (healthy, over): (u64, bool)) {
    take(prices, node, whole(gpu, span, healthy), over);
}

/// A whole GPU of a node, held for these milliseconds of the year.
fn whole(gpu: i32, (start, end): (u64, u64), healthy: u64) -> Told {
    Told {
        id: format!("GPU-{gpu}"),
        device: format!("GPU-{gpu}"),
        board: format!("GPU-{gpu}"),
        milli: 1000,
        kind: None,
        start: UnixMillis(NEW_YEAR + start),
        end: UnixMillis(NEW_YEAR + end),
        healthy: Duration(healthy),
        last: true,
        simulated: false,
        exact: false,
    }
}

fn take(prices: &Prices, node: &str, told: Told, over: bool) {
    let sequence = prices.meters.places().get(node).map_or(0, |place| place.through) + 1;
    let call = prices.meters.begin(node, "journal", sequence);
    call.take(sequence, &Line::Of { pod: PodUid([5; 16]), told: Some(told), over }).expect("it is taken");
}

fn billed(prices: &Prices, over: &Over) -> Bill {
    prices.bill(over, &Gone::default())
}

#[test]
fn on_a_node_with_a_meter_a_pod_is_billed_for_what_the_meter_tells_and_waits_for_it() {
    let prices = metering();
    let waits = |why: &str| match billed(&prices, &ran_at(10)) {
        Bill::Wait(Reason::Meter, said) => said.contains(why) && said.contains("node n"),
        _ => false,
    };
    assert!(waits("isn't connected"));
    tell(&prices, ("n", 0), (10_250, 15_000), (4000, false));
    assert!(waits("isn't connected") && waits("gpunode n") && waits("delete its Node, which ends every pod"));
    tell(&prices, ("n", 1), (10_500, 15_500), (5000, true));
    let Receipt { leaf, note, .. } = receipt(billed(&prices, &ran_at(10)));
    assert_eq!((leaf.flags, leaf.device_ms, leaf.device_mask), (flag::METERED, 9000, 0b011));
    assert_eq!((leaf.duration, leaf.end), (Duration(5250), UnixMillis(NEW_YEAR + 15_500)));
    assert_eq!((leaf.price_class, note), (1, None));
}

#[test]
fn of_two_models_the_cheaper_one_prices_the_pod() {
    let prices = metering();
    tell(&prices, ("n", 0), (10_000, 15_000), (5000, false));
    tell(&prices, ("n", 2), (10_000, 15_000), (5000, true));
    let leaf = receipt(billed(&prices, &ran_at(10))).leaf;
    assert_eq!((leaf.price_class, leaf.device_mask), (0, 0b101));
}

#[test]
fn a_mask_names_all_devices_or_none_since_it_says_how_many_a_receipt_may_bill() {
    let prices = metering();
    let part = Told {
        id: "MIG-1".to_owned(),
        device: "MIG-1".to_owned(),
        milli: 142,
        ..whole(1, (10_000, 15_000), 5000)
    };
    take(&prices, "n", part, false);
    tell(&prices, ("n", 0), (10_000, 15_000), (5000, true));
    let leaf = receipt(billed(&prices, &ran_at(10))).leaf;
    assert_eq!((leaf.device_ms, leaf.device_mask), (5710, 0), "more than one whole device gives");

    // A share of a board has its UUID.
    let prices = metering();
    let share = Told { id: "GPU-1::0".to_owned(), milli: 500, ..whole(1, (10_000, 15_000), 5000) };
    take(&prices, "n", share, false);
    tell(&prices, ("n", 0), (10_000, 15_000), (5000, true));
    let leaf = receipt(billed(&prices, &ran_at(10))).leaf;
    assert_eq!((leaf.device_ms, leaf.device_mask), (7500, 0));

    // One GPU under two ids, at one time: the records contradict each other.
    let prices = metering();
    tell(&prices, ("n", 0), (10_000, 15_000), (5000, false));
    let again = Told { id: "other".to_owned(), ..whole(0, (10_000, 15_000), 5000) };
    take(&prices, "n", again, true);
    let leaf = receipt(billed(&prices, &ran_at(10))).leaf;
    assert_eq!((leaf.device_ms, leaf.device_mask), (5000, 0b001), "the payer is believed");
}

#[test]
fn no_node_speaks_for_the_pod_of_another() {
    let prices = metering();
    tell(&prices, ("m", 0), (10_000, 15_000), (5000, true));
    assert!(matches!(billed(&prices, &ran_at(10)), Bill::Wait(Reason::Meter, _)));
}

#[test]
fn a_pod_that_is_older_than_the_meter_is_billed_from_its_status_and_that_is_said() {
    let mut prices = metering();
    for node in prices.nodes.values_mut() {
        node.spec.meter = Some(object(json!({ "since": "2026-01-01T00:00:11Z" })));
    }
    tell(&prices, ("n", 0), (11_000, 15_000), (4000, true));
    let Receipt { leaf, note, .. } = receipt(billed(&prices, &ran_at(10)));
    assert_eq!((leaf.flags, leaf.device_ms, leaf.device_mask), (flag::FROM_POD_STATUS, 16_000, 0));
    assert!(note.is_some_and(|note| note.contains("before the journal")));
}

#[test]
fn a_meter_whose_journal_cannot_be_read_is_not_no_meter() {
    let mut prices = metering();
    prices.nodes.values_mut().for_each(|node| node.spec.meter = Some(object(json!({}))));
    assert!(matches!(billed(&prices, &ran_at(10)), Bill::Wait(Reason::Meter, _)));
    tell(&prices, ("n", 0), (19_000, 20_000), (1000, true));
    assert!(
        matches!(billed(&prices, &ran_at(10)), Bill::Wait(Reason::Meter, _)),
        "that may be a part of its life"
    );
}

#[test]
fn what_an_administrator_gives_up_is_billed_from_the_status() {
    let mut prices = metering();
    let mut annotate = |text: &str| {
        for node in prices.nodes.values_mut() {
            let annotations = node.metadata.annotations.get_or_insert_default();
            annotations.insert(plasma_api::names::UNMETERED_UNTIL_ANNOTATION.to_owned(), text.to_owned());
        }
        billed(&prices, &ran_at(10))
    };
    assert!(
        matches!(annotate("soon"), Bill::Wait(Reason::Meter, why) if why.contains("\"soon\", which is no time"))
    );
    assert!(matches!(annotate("2026-01-01T00:00:09Z"), Bill::Wait(Reason::Meter, _)));
    let Receipt { leaf, note, .. } = receipt(annotate("2026-01-01T00:00:10Z"));
    assert_eq!(leaf.flags, flag::FROM_POD_STATUS);
    assert!(note.is_some_and(|note| note.contains("unmetered-until")));
}

#[test]
fn a_pod_without_a_gpu_never_waits_for_a_meter() {
    let mut over = ran_at(10);
    let value: Value = json!({ "nodeName": "n", "containers": [{ "name": "c" }] });
    over.pod.spec = Some(object(value));
    assert_eq!(receipt(billed(&metering(), &over)).leaf.flags, flag::FROM_POD_STATUS);
}

#[test]
fn an_end_that_the_meter_learnt_of_late_bills_nothing_after_the_one_that_the_status_tells() {
    let prices = metering();
    tell(&prices, ("n", 0), (10_000, 54_000), (44_000, true));
    let leaf = receipt(billed(&prices, &ran_at(10))).leaf;
    assert_eq!((leaf.device_ms, leaf.end), (11_000, UnixMillis(NEW_YEAR + 21_000)));
}

#[test]
fn a_pod_whose_statuses_were_lost_is_billed_for_what_the_meter_told() {
    let prices = metering();
    let mut lost = ran_at(10);
    lost.usage = Usage::Nothing;
    lost.pod.status = Some(object(json!({ "startTime": "2026-01-01T00:00:10Z" })));
    assert!(matches!(billed(&prices, &lost), Bill::Nothing), "nobody says that it ran");
    tell(&prices, ("n", 0), (10_000, 15_000), (5000, false));
    assert!(matches!(billed(&prices, &lost), Bill::Wait(Reason::Meter, _)));
    tell(&prices, ("n", 0), (15_000, 16_000), (1000, true));
    assert_eq!(receipt(billed(&prices, &lost)).leaf.device_ms, 6000);
}

#[test]
fn a_meter_that_was_switched_off_is_named_in_the_receipts_of_its_pods() {
    let mut prices = metering();
    prices.nodes.values_mut().for_each(|node| node.spec.meter = None);
    let at = |second: u64| UnixMillis(NEW_YEAR + second * 1000);
    let usage = Usage::Known { end: at(20), duration: Duration(10_000), device_ms: 20_000 };
    let over = Over { usage, ..ran_at(10) };
    tell(&prices, ("n", 0), (10_000, 15_000), (5000, false));
    let Receipt { leaf, note, .. } = receipt(billed(&prices, &over));
    assert_eq!(leaf.flags, flag::FROM_POD_STATUS);
    assert!(note.is_some_and(|note| note.contains("had not told all")));
    tell(&prices, ("n", 0), (15_000, 16_000), (1000, true));
    let Receipt { leaf, note, .. } = receipt(billed(&prices, &over));
    assert_eq!((leaf.flags, leaf.device_ms), (flag::METERED, 6000));
    assert!(note.is_some_and(|note| note.contains("no spec.meter any more")));
}

/// What an administrator says of the node.
fn annotate(prices: &mut Prices, text: &str) {
    for node in prices.nodes.values_mut() {
        let annotations = node.metadata.annotations.get_or_insert_default();
        annotations.insert(plasma_api::names::UNMETERED_UNTIL_ANNOTATION.to_owned(), text.to_owned());
    }
}

#[test]
fn a_device_that_its_node_does_not_have_is_not_billed_and_named() {
    let mut prices = metering();
    tell(&prices, ("n", 7), (10_000, 15_000), (5000, true));
    let Bill::Wait(Reason::Meter, why) = billed(&prices, &ran_at(10)) else { panic!("it is billed") };
    assert!(why.contains("GPU-7") && why.contains("gpunode n"), "{why}");
    annotate(&mut prices, "2026-01-01T00:00:10Z");
    assert_eq!(receipt(billed(&prices, &ran_at(10))).leaf.flags, flag::FROM_POD_STATUS);
}

#[test]
fn the_way_out_is_one_that_works() {
    let mut prices = metering();
    let call = prices.meters.begin("n", "journal", 1);
    let Bill::Wait(Reason::Meter, why) = billed(&prices, &ran_at(10)) else { panic!("it is billed") };
    assert!(!why.contains("delete"), "its meter is connected: {why}");
    drop(call);
    prices.nodes.values_mut().for_each(|node| node.spec.meter = Some(object(json!({}))));
    let Bill::Wait(Reason::Meter, why) = billed(&prices, &ran_at(10)) else { panic!("it is billed") };
    assert!(why.contains("spec.meter.since"), "{why}");
}

#[test]
fn an_annotation_that_cannot_be_read_holds_up_no_pod_of_which_all_is_told() {
    let mut prices = metering();
    annotate(&mut prices, "soon");
    assert!(
        matches!(billed(&prices, &ran_at(10)), Bill::Wait(Reason::Meter, why) if why.contains("no time"))
    );
    tell(&prices, ("n", 0), (10_000, 15_000), (5000, true));
    assert_eq!(receipt(billed(&prices, &ran_at(10))).leaf.flags, flag::METERED);
}
