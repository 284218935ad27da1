//! Amounts as planning counts them: by a small number instead of a name, in whole units, CPUs in thousandths.

use std::collections::HashMap;

use crate::quantity::{Quantity, Resources};

/// A resource, by its place in [`ResourceNames`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ResourceId(u16);

impl ResourceId {
    /// How many pods.
    pub(crate) const PODS: Self = Self(0);
    const CPU: Self = Self(1);

    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The names of all resources that were ever seen: a handful.
#[derive(Debug)]
pub(crate) struct ResourceNames {
    names: Vec<String>,
    ids: HashMap<String, ResourceId>,
}

impl Default for ResourceNames {
    fn default() -> Self {
        let mut names = Self { names: Vec::new(), ids: HashMap::new() };
        for name in ["pods", "cpu", "memory", "ephemeral-storage"] {
            names.id(name);
        }
        names
    }
}

impl ResourceNames {
    /// The resource of that name. After 65,535 of them, all new ones are the last one: an API server with so many names
    /// has other troubles, and what is confused with another is counted as more than it is, not less.
    pub(crate) fn id(&mut self, name: &str) -> ResourceId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = ResourceId(u16::try_from(self.names.len()).unwrap_or(u16::MAX));
        self.names.push(name.to_owned());
        self.ids.insert(name.to_owned(), id);
        id
    }

    /// A resource's name.
    pub(crate) fn name(&self, id: ResourceId) -> &str {
        self.names.get(id.index()).map_or("", String::as_str)
    }

    /// The amounts in the units of planning, rounded up as kube-scheduler rounds.
    pub(crate) fn amounts(&mut self, resources: &Resources) -> Amounts {
        let amount = |(name, quantity): (&String, &Quantity)| {
            let id = self.id(name);
            (id, in_units(id, *quantity))
        };
        let mut amounts: Vec<(ResourceId, i64)> = resources.0.iter().map(amount).collect();
        amounts.sort_unstable();
        amounts.dedup_by_key(|(id, _)| *id);
        Amounts(amounts.into())
    }
}

fn in_units(id: ResourceId, quantity: Quantity) -> i64 {
    let units = if id == ResourceId::CPU { quantity.0 } else { div_ceil(quantity.0, 1000) };
    i64::try_from(units).unwrap_or(if units < 0 { i64::MIN } else { i64::MAX })
}

fn div_ceil(dividend: i128, divisor: i128) -> i128 {
    dividend.div_euclid(divisor) + i128::from(dividend.rem_euclid(divisor) != 0)
}

/// An amount of planning as people read it.
pub(crate) fn as_quantity(id: ResourceId, amount: i128) -> Quantity {
    if id == ResourceId::CPU { Quantity(amount) } else { Quantity::whole(amount) }
}

/// A few amounts, ordered by resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Amounts(Box<[(ResourceId, i64)]>);

impl Amounts {
    /// Each amount.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ResourceId, i64)> {
        self.0.iter().copied()
    }

    /// One amount; zero where it isn't named.
    pub(crate) fn get(&self, id: ResourceId) -> i64 {
        self.0.iter().find(|(named, _)| *named == id).map_or(0, |(_, amount)| *amount)
    }

    /// The amounts with another amount of one resource.
    #[cfg(test)]
    pub(crate) fn with(&self, id: ResourceId, amount: i64) -> Self {
        let mut amounts: Vec<_> = self.iter().filter(|(named, _)| *named != id).collect();
        amounts.push((id, amount));
        amounts.sort_unstable();
        Self(amounts.into())
    }
}

/// Amounts of every resource, by its number; what isn't there is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally(Vec<i64>);

impl Tally {
    /// One amount.
    pub(crate) fn get(&self, id: ResourceId) -> i64 {
        self.0.get(id.index()).copied().unwrap_or(0)
    }

    /// Adds amounts; saturates, so that nonsense looks full, never free.
    pub(crate) fn add(&mut self, amounts: &Amounts) {
        for (id, amount) in amounts.iter() {
            let entry = self.entry(id);
            *entry = entry.saturating_add(amount);
        }
    }

    /// Takes amounts away.
    pub(crate) fn subtract(&mut self, amounts: &Amounts) {
        for (id, amount) in amounts.iter() {
            let entry = self.entry(id);
            *entry = entry.saturating_sub(amount);
        }
    }

    fn entry(&mut self, id: ResourceId) -> &mut i64 {
        if self.0.len() <= id.index() {
            self.0.resize(id.index() + 1, 0);
        }
        &mut self.0[id.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(amounts: &[(&str, &str)]) -> Resources {
        Resources(amounts.iter().map(|(name, text)| ((*name).to_owned(), text.parse().unwrap())).collect())
    }

    #[test]
    fn cpus_count_in_thousandths_and_everything_else_in_whole_units_rounded_up() {
        let mut names = ResourceNames::default();
        let amounts = names.amounts(&resources(&[("cpu", "1500m"), ("memory", "1500m"), ("x/gpu", "2")]));
        let (memory, gpu) = (names.id("memory"), names.id("x/gpu"));
        assert_eq!((amounts.get(ResourceId::CPU), amounts.get(memory), amounts.get(gpu)), (1500, 2, 2));
        assert_eq!(as_quantity(ResourceId::CPU, 1500).to_string(), "1500m");
        assert_eq!(as_quantity(gpu, 2).to_string(), "2");
        assert_eq!(names.name(gpu), "x/gpu");
    }

    #[test]
    fn a_tally_takes_and_gives_back_and_never_wraps() {
        let mut names = ResourceNames::default();
        let some = names.amounts(&resources(&[("cpu", "2"), ("x/gpu", "1")]));
        let (mut tally, gpu) = (Tally::default(), names.id("x/gpu"));
        tally.subtract(&some);
        assert_eq!(tally.get(gpu), -1);
        tally.add(&some);
        assert_eq!((tally.get(gpu), tally.get(ResourceId::CPU)), (0, 0));
        tally.add(&some.with(gpu, i64::MAX));
        tally.add(&some);
        assert_eq!(tally.get(gpu), i64::MAX);
    }
}
