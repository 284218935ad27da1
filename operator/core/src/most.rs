//! The most that a pod may cost before anybody knows which devices it gets: what settlement could bill at the dearest.
//!
//! A part of a divided GPU is billed as its share of the GPU, or as one device where the queue has a price for such parts,
//! `…-MIG-1g.10gb` (`docs/design/0003-settlement.md`); which of the two, settlement decides by what the meter tells. So both
//! are looked at here. A share of a GPU is half of it at most.

use std::collections::BTreeMap;

use plasma_api::{
    compute_job::Role,
    compute_queue::{Billing, Price},
    names::GPU_PRODUCT_LABEL,
    size::{self, WHOLE},
};
use plasma_types::{PricePerGpuHour, Xpl};

use crate::refusal::Refusal;

/// Between the model of a GPU and the profile of its part, in the model that the part is sold as.
const PART: &str = "-MIG-";

/// The most that a pod of a role may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Most {
    /// The dearest price that any of its devices may be billed at.
    pub(crate) price: PricePerGpuHour,
    /// Thousandths of a wei each second; `None` where that is more than a number holds.
    milli_wei: Option<u128>,
}

impl Most {
    /// What so many pods cost in so many seconds each, rounded up. `None` where it is more than a number holds.
    pub(crate) fn cost(&self, pods: u128, seconds: u128) -> Option<Xpl> {
        let milli_wei = self.milli_wei?.checked_mul(pods)?.checked_mul(seconds)?;
        Some(Xpl::from_wei(milli_wei.div_ceil(u128::from(WHOLE))))
    }
}

/// One way to bill a device: at a price, for so many thousandths of a GPU.
type Way = (PricePerGpuHour, u16);

/// The most that a pod of the role may cost; `None` where it asks for no device.
///
/// # Errors
/// A request that is no whole number, or a model that the queue has no price for.
pub(crate) fn most(role: &Role, billing: &Billing) -> Result<Option<Most>, Refusal> {
    let selector = role.template.spec.as_ref().and_then(|spec| spec.node_selector.as_ref());
    let model = selector.and_then(|selector| selector.get(GPU_PRODUCT_LABEL)).map(String::as_str);
    let mut sum: Option<Most> = None;
    for (resource, count) in devices(role)? {
        let ways = ways(resource, model, billing);
        let Some(price) = ways.iter().map(|(price, _)| *price).max() else {
            let model = model.unwrap_or("(any)").to_owned();
            return Err(Refusal::NoPrice { role: role.name.clone(), model });
        };
        let dearest =
            ways.iter().map(|way| milli_wei(way, count)).try_fold(0, |most, way| Some(most.max(way?)));
        let before = sum.unwrap_or(Most { price, milli_wei: Some(0) });
        let milli_wei = before.milli_wei.zip(dearest).and_then(|(one, other)| one.checked_add(other));
        sum = Some(Most { price: before.price.max(price), milli_wei });
    }
    Ok(sum)
}

fn milli_wei((price, milli): &Way, count: u32) -> Option<u128> {
    price.per_second().0.checked_mul(u128::from(*milli))?.checked_mul(u128::from(count))
}

/// All the ways in which a device of the resource may be billed, on nodes of that model, or of any.
fn ways(resource: &str, model: Option<&str>, billing: &Billing) -> Vec<Way> {
    let size = size::of(resource);
    let prices = || billing.prices.iter();
    let mut ways: Vec<Way> = match model {
        None => prices().map(|price| (price.price_per_gpu_hour, size.milli)).collect(),
        Some(model) => {
            let class = billing.class_of(Some(model)).map(|class| &billing.prices[class]);
            class.map(|price| (price.price_per_gpu_hour, size.milli)).into_iter().collect()
        }
    };
    if let Some(profile) = size.profile {
        let of_such = prices().filter(|price| is_part_of(price, model, profile));
        ways.extend(of_such.map(|price| (price.price_per_gpu_hour, WHOLE)));
    }
    // Where all GPUs are divided alike, the node's model is that of their parts.
    if let Some((board, profile)) = model.and_then(|model| model.rsplit_once(PART)) {
        let milli = size::part(profile).unwrap_or(WHOLE).min(size.milli);
        let of_boards = prices().filter(|price| is_of(price, board));
        ways.extend(of_boards.map(|price| (price.price_per_gpu_hour, milli)));
    }
    ways
}

/// Whether it is the price of a part of that profile, of a GPU of that model. A long model is cut in its parts' names.
fn is_part_of(price: &Price, model: Option<&str>, profile: &str) -> bool {
    let Some((of, its)) = price.gpu_product.as_deref().and_then(|product| product.rsplit_once(PART)) else {
        return false;
    };
    its == profile && model.is_none_or(|model| model.starts_with(of))
}

/// Whether it may be the price of a whole GPU whose model begins so.
fn is_of(price: &Price, model: &str) -> bool {
    price.gpu_product.as_deref().is_none_or(|product| product.starts_with(model) && !product.contains(PART))
}

/// The devices that each pod of the role gets, by resource.
///
/// # Errors
/// A request that is no whole number.
pub(crate) fn devices(role: &Role) -> Result<BTreeMap<&str, u32>, Refusal> {
    let Some(spec) = &role.template.spec else { return Ok(BTreeMap::new()) };
    plasma_api::devices(spec).map_err(|fault| Refusal::GpuRequest { role: role.name.clone(), fault })
}

/// How many whole GPUs each pod of an admitted role gets.
pub(crate) fn gpus(role: &Role) -> u32 {
    role.template.spec.as_ref().and_then(|spec| plasma_api::gpus(spec).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
