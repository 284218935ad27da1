//! What parts and shares of GPUs cost, by the records as they come over the wire.

use std::{collections::BTreeMap, slice::from_ref};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use plasma_api::gpu_node::MigInstance;
use plasma_proto::meter::{Device, Holder, Record};

use super::*;
use crate::meter::parse::parse;

/// An instance of GPU-0, as its GpuNode has it.
const INSTANCE: &str = "H100-MIG-1g.10gb";

/// Four seconds of a device of GPU-0, as a plugin tells them that tells no ids.
fn device(uuid: &str, milli_gpu: u32) -> Device {
    let (uuid, gpu_uuid) = (uuid.to_owned(), "GPU-0".to_owned());
    Device { uuid, gpu_uuid, product: "H100".to_owned(), milli_gpu, ..Device::default() }
}

/// The same with the kubelet's id, and the model of the instance that it is, or is a share of.
fn identified(id: &str, instance_product: &str, milli_gpu: u32) -> Device {
    let (uuid, _) = id.split_once("::").unwrap_or((id, ""));
    let (id, instance_product) = (id.to_owned(), instance_product.to_owned());
    Device { id, instance_product, ..device(uuid, milli_gpu) }
}

/// The node's meter tells that the pod held these for four seconds: the class, the milliseconds and the mask of its bill.
fn bill_of(prices: &Prices, pod: u8, devices: &[Device]) -> (u16, u64, u64) {
    let pod = PodUid([pod; 16]);
    let first = prices.meters.places().get("n").map_or(0, |place| place.through) + 1;
    let call = prices.meters.begin("n", "journal", first);
    for (sequence, device) in (first..).zip(devices) {
        let pod_is_over = sequence + 1 == first + devices.len() as u64;
        let record = Record {
            sequence,
            device: Some(device.clone()),
            holder: Some(Holder { pod_uid: pod.to_string(), pod_is_over, ..Holder::default() }),
            start_ms: NEW_YEAR + 10_000,
            end_ms: NEW_YEAR + 14_000,
            healthy_ms: 4000,
            last: true,
            ..Record::default()
        };
        let (line, wrong) = parse(record);
        assert_eq!(wrong, None);
        call.take(sequence, &line).expect("it is taken");
    }
    let leaf = receipt(billed(prices, &Over { pod_uid: pod, ..ran_at(10) })).leaf;
    (leaf.price_class, leaf.device_ms, leaf.device_mask)
}

/// GPU-0 is divided, or not.
fn divide(prices: &mut Prices, is_divided: bool) {
    let part: MigInstance =
        object(json!({ "uuid": "MIG-1", "profile": "1g.10gb", "product": INSTANCE, "gpuInstance": 1,
        "computeInstance": 0, "memoryMib": 1 }));
    for node in prices.nodes.values_mut() {
        node.spec.gpus[0].instances = if is_divided { vec![part.clone()] } else { Vec::new() };
    }
}

/// The queue has a price for such parts.
fn price_instances(prices: &mut Prices) {
    for queue in prices.queues.values_mut() {
        let billing = queue.spec.billing.as_mut().expect("billing");
        billing.prices.push(object(json!({ "gpuProduct": INSTANCE, "pricePerGpuHour": "1" })));
    }
}

#[test]
fn two_shares_of_one_gpu_cost_two_shares() {
    let prices = metering();
    let share = |number: u8| identified(&format!("GPU-0::{number}"), "", 250);
    assert_eq!(bill_of(&prices, 1, &[share(0)]), (1, 1000, 0));
    assert_eq!(bill_of(&prices, 2, &[share(1), share(2)]), (1, 2000, 0));
    assert_eq!(bill_of(&prices, 3, &[identified("GPU-0", "", 1000)]), (1, 4000, 0b1), "a whole one");
    assert_eq!(bill_of(&prices, 4, &[device("GPU-0", 250)]), (1, 1000, 0), "an older plugin's record");
}

#[test]
fn a_part_of_a_gpu_costs_its_share_or_what_the_queue_says_such_a_part_costs() {
    let mut prices = metering();
    divide(&mut prices, true);
    let whole = [device("MIG-1", 142), identified("MIG-1", INSTANCE, 142)];
    let shares = [device("MIG-1", 71), identified("MIG-1::1", INSTANCE, 71)];
    for (pod, (whole, share)) in (1..).step_by(2).zip(whole.iter().zip(&shares)) {
        let bills = (bill_of(&prices, pod, from_ref(whole)), bill_of(&prices, pod + 1, from_ref(share)));
        assert_eq!(bills, ((1, 568, 0), (1, 284, 0)), "shares of an H100");
    }
    price_instances(&mut prices);
    for (pod, (whole, share)) in (5..).step_by(2).zip(whole.into_iter().zip(shares)) {
        assert_eq!(bill_of(&prices, pod, &[whole]), (2, 4000, 0), "one such part");
        assert_eq!(bill_of(&prices, pod + 1, &[share]), (1, 284, 0), "who shares one hasn't got one");
    }
}

#[test]
fn a_part_that_has_all_of_its_gpus_computing_is_billed_as_a_part_though_its_uuid_is_no_gpus() {
    const BIGGEST: &str = "H100-MIG-7g.80gb";
    let mut prices = metering();
    divide(&mut prices, true);
    for node in prices.nodes.values_mut() {
        for part in &mut node.spec.gpus[0].instances {
            (part.profile, part.product) = ("7g.80gb".to_owned(), BIGGEST.to_owned());
        }
    }
    let told = [device("MIG-1", 1000), identified("MIG-1", BIGGEST, 1000)];
    for (pod, told) in (1..).zip(&told) {
        assert_eq!(bill_of(&prices, pod, from_ref(told)), (1, 4000, 0), "all of an H100's slices");
    }
    for queue in prices.queues.values_mut() {
        let billing = queue.spec.billing.as_mut().expect("billing");
        billing.prices.push(object(json!({ "gpuProduct": BIGGEST, "pricePerGpuHour": "2" })));
    }
    for (pod, told) in (3..).zip(&told) {
        assert_eq!(bill_of(&prices, pod, from_ref(told)), (2, 4000, 0), "one such part");
    }
    // It is billed after its GPU was divided in another way, too.
    divide(&mut prices, false);
    for ((pod, told), class) in (5..).zip(&told).zip([1, 2]) {
        assert_eq!(bill_of(&prices, pod, from_ref(told)), (class, 4000, 0));
    }
}

#[test]
fn without_a_meter_a_part_costs_its_share_of_its_board_and_a_whole_gpu_is_no_part() {
    let mut prices = metering();
    divide(&mut prices, true);
    price_instances(&mut prices);
    let bill_of = |prices: &Prices, resource: &str| {
        let limits = BTreeMap::from([(resource.to_owned(), Quantity("1".to_owned()))]);
        let mut asks = pod("team", "q", "n");
        let containers = &mut asks.spec.as_mut().expect("a spec").containers;
        containers[0].resources.as_mut().expect("resources").limits = Some(limits);
        let leaf = receipt(bill(prices, &asks, USED)).leaf;
        assert_eq!(leaf.flags & flag::FROM_POD_STATUS, flag::FROM_POD_STATUS);
        leaf.price_class
    };
    prices.nodes.values_mut().for_each(|node| node.spec.meter = None);
    assert_eq!(bill_of(&prices, "nvidia.com/mig-1g.10gb"), 1, "at an H100's price");
    assert_eq!(bill_of(&prices, "nvidia.com/gpu"), 1, "the other GPU, which is whole");
    prices.nodes.values_mut().for_each(|node| node.spec.gpus.truncate(1));
    assert_eq!(bill_of(&prices, "nvidia.com/gpu"), 2, "where all are divided, one such part");
}

#[test]
fn what_a_gpu_is_divided_into_later_changes_no_bill() {
    let mut prices = metering();
    price_instances(&mut prices);
    let then = identified("MIG-1", INSTANCE, 142);
    for (pod, is_divided) in [(1, true), (2, false)] {
        divide(&mut prices, is_divided);
        assert_eq!(bill_of(&prices, pod, from_ref(&then)), (2, 4000, 0), "divided: {is_divided}");
    }
    // Nor does another model's name in its GPU's place.
    prices.nodes.values_mut().for_each(|node| node.spec.gpus[0].product = "A100".to_owned());
    assert_eq!(bill_of(&prices, 3, &[identified("GPU-0", "", 1000)]).0, 1);
    assert_eq!(
        bill_of(&prices, 4, &[device("GPU-0", 1000)]).0,
        0,
        "where the records don't say it, it is looked up"
    );
}
