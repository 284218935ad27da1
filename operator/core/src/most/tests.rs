//! The most that a pod may cost, beside what settlement would bill it for.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use plasma_api::compute_queue::Price;
use proptest::prelude::*;

use super::*;
use crate::fixtures::{job, queue};

const HOUR: u128 = 3600;

fn billing(prices: &[(Option<&str>, &str)]) -> Billing {
    let mut billing = queue().spec.billing.unwrap();
    let prices = prices.iter().map(|(model, price)| Price {
        gpu_product: model.map(str::to_owned),
        price_per_gpu_hour: price.parse().unwrap(),
    });
    billing.prices = prices.collect();
    billing
}

fn role(model: Option<&str>, asks: &[(&str, &str)]) -> Role {
    let mut role = job().spec.roles.remove(0);
    let pod = role.template.spec.as_mut().unwrap();
    pod.node_selector = model.map(|model| [(GPU_PRODUCT_LABEL.to_owned(), model.to_owned())].into());
    let limits = asks.iter().map(|(name, count)| ((*name).to_owned(), Quantity((*count).to_owned())));
    pod.containers[0].resources.as_mut().unwrap().limits = Some(limits.collect());
    role
}

/// What an hour of one pod costs at most, and the dearest price.
fn told(role: &Role, billing: &Billing) -> (Xpl, PricePerGpuHour) {
    let most = most(role, billing).unwrap().unwrap();
    (most.cost(1, HOUR).unwrap(), most.price)
}

fn xpl(text: &str) -> Xpl {
    text.parse().unwrap()
}

#[test]
fn a_part_costs_its_share_of_the_gpu() {
    let billing = billing(&[(None, "3.6")]);
    for (asks, hour) in [
        (&[("nvidia.com/gpu", "1")][..], "3.6"),
        (&[("nvidia.com/mig-1g.10gb", "1")], "0.5112"),
        (&[("nvidia.com/mig-3g.40gb", "2")], "3.0816"),
        (&[("nvidia.com/mig-1g.10gb.shared", "1")], "0.2556"),
        (&[("nvidia.com/gpu.shared", "3")], "5.4"),
        (&[("nvidia.com/gpu", "2"), ("nvidia.com/mig-1g.10gb", "1")], "7.7112"),
    ] {
        assert_eq!(told(&role(None, asks), &billing), (xpl(hour), "3.6".parse().unwrap()), "{asks:?}");
    }
    assert_eq!(most(&role(None, &[("cpu", "500m")]), &billing), Ok(None));
}

#[test]
fn a_part_with_a_price_of_its_own_may_cost_that() {
    let billing = billing(&[
        (Some("H100"), "3.5"),
        (Some("H100-MIG-1g.10gb"), "0.72"),
        (Some("H100-MIG-2g.20gb"), "9"),
    ]);
    let small = &[("nvidia.com/mig-1g.10gb", "2")];
    assert_eq!(told(&role(Some("H100"), small), &billing), (xpl("1.44"), "3.5".parse().unwrap()));
    let shared = &[("nvidia.com/mig-1g.10gb.shared", "1")];
    assert!(told(&role(Some("H100"), shared), &billing).0 < xpl("0.25"), "it is no whole part");
    let elsewhere = most(&role(Some("A100"), small), &billing);
    assert!(matches!(elsewhere, Err(Refusal::NoPrice { model, .. }) if model == "A100"));
}

#[test]
fn a_request_that_is_not_whole_is_refused_whatever_it_asks_for() {
    let refused = devices(&role(None, &[("nvidia.com/mig-1g.10gb", "500m")])).map(drop);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "role worker: nvidia.com/mig-1g.10gb must be a whole number, not \"500m\""
    );
}

#[test]
fn fractions_of_a_wei_are_rounded_up_and_what_no_number_holds_is_unknown() {
    // 1 wei a second, 142 thousandths of it.
    let billing = billing(&[(None, "0.0000000000000036")]);
    let most = most(&role(None, &[("nvidia.com/mig-1g.10gb", "1")]), &billing).unwrap().unwrap();
    assert_eq!(most.cost(1, 1), Some(Xpl::from_wei(1)));
    assert_eq!(most.cost(1, 8), Some(Xpl::from_wei(2)));
    assert_eq!(most.cost(u128::MAX, 2), None);
}

/// How settlement bills one device: as one of its kind where the queue has a price for such parts, else by its share of its
/// GPU, at the GPU's price. `None` where it has no price, and so bills nothing yet.
fn bill(billing: &Billing, board: &str, part: Option<&str>, milli: u16) -> Option<u128> {
    let sold_as = part.map(|profile| format!("{board}{PART}{profile}"));
    let is_own = |price: &&Price| sold_as.is_some() && price.gpu_product == sold_as;
    let own = billing.prices.iter().find(is_own).map(|price| (price, WHOLE));
    let by_share = || billing.class_of(Some(board)).map(|class| (&billing.prices[class], milli));
    own.or_else(by_share).map(|(price, milli)| price.price_per_gpu_hour.per_second().0 * u128::from(milli))
}

proptest! {
    /// Whatever the queue's prices, and whatever device the pod gets: it is billed no more than was reckoned with.
    #[test]
    fn no_bill_is_higher(
        prices in prop::collection::btree_map(
            prop::option::of(prop::sample::select(
                vec!["A", "B", "A-MIG-1g.10gb", "A-MIG-3g.40gb", "B-MIG-1g.10gb", "B-MIG-7g.80gb"])),
            1_u64..1000, 1..7),
        board in prop::sample::select(vec!["A", "B"]),
        profile in prop::sample::select(vec!["1g.10gb", "3g.40gb", "7g.80gb"]),
        (names_model, is_single, is_shared) in any::<(bool, bool, bool)>(),
        sharers in 2_u16..8,
        by_the_meters_share in any::<bool>(),
    ) {
        let prices: Vec<_> = prices.iter().map(|(model, price)| (*model, price.to_string())).collect();
        let prices: Vec<_> = prices.iter().map(|(model, price)| (*model, price.as_str())).collect();
        let billing = billing(&prices);
        let resource = if is_single { "nvidia.com/gpu".to_owned() } else { format!("nvidia.com/mig-{profile}") };
        let resource = if is_shared { format!("{resource}.shared") } else { resource };
        let model = if is_single { format!("{board}{PART}{profile}") } else { board.to_owned() };
        let role = role(names_model.then_some(model.as_str()), &[(&resource, "1")]);
        let milli = size::part(profile).unwrap() / if is_shared { sharers } else { 1 };
        // Where the meter's device isn't in the GpuNode any more, its share of the GPU is billed.
        let part = Some(profile).filter(|_| !is_shared && !by_the_meters_share);
        let Some(billed) = bill(&billing, board, part, milli) else { return Ok(()) };
        let most = most(&role, &billing).unwrap().unwrap();
        prop_assert!(most.milli_wei.unwrap() >= billed, "{most:?} {billed} {billing:?}");
    }
}
