//! Amounts as planning counts them: by a small number instead of a name, in whole units, CPUs in thousandths.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::quantity::{Quantity, Resources};

/// A resource, by its place in [`ResourceNames`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ResourceId(u32);

impl ResourceId {
    /// How many pods.
    pub(crate) const PODS: Self = Self(0);
    const CPU: Self = Self(1);

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// What every node has: these names are never forgotten.
const EVERYWHERE: [&str; 4] = ["pods", "cpu", "memory", "ephemeral-storage"];

/// The names of the resources that somebody mentions: a handful, unless somebody means harm.
#[derive(Debug)]
pub(crate) struct ResourceNames {
    names: Vec<String>,
    ids: HashMap<String, ResourceId>,
    /// Numbers that are nobody's any more.
    vacant: Vec<ResourceId>,
}

impl Default for ResourceNames {
    fn default() -> Self {
        let mut names = Self { names: Vec::new(), ids: HashMap::new(), vacant: Vec::new() };
        for name in EVERYWHERE {
            names.id(name);
        }
        names
    }
}

impl ResourceNames {
    /// The resource of that name. There are more numbers than names fit into memory.
    pub(crate) fn id(&mut self, name: &str) -> ResourceId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = self.vacant.pop().unwrap_or_else(|| {
            self.names.push(String::new());
            ResourceId(u32::try_from(self.names.len() - 1).unwrap_or(u32::MAX))
        });
        name.clone_into(&mut self.names[id.index()]);
        self.ids.insert(name.to_owned(), id);
        id
    }

    /// Forgets the names that nobody mentions any more: others get their numbers.
    pub(crate) fn retain(&mut self, mentioned: &HashSet<ResourceId>) {
        let Self { names, ids, vacant } = self;
        ids.retain(|_, id| {
            let stays = id.index() < EVERYWHERE.len() || mentioned.contains(id);
            if !stays {
                names[id.index()] = String::new();
                vacant.push(*id);
            }
            stays
        });
        // Lowest first, whatever order they were found in.
        vacant.sort_unstable_by(|a, b| b.cmp(a));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
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

/// A few amounts, ordered by resource. Pods alike share them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Amounts(Arc<[(ResourceId, i64)]>);

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

/// So many resources have a place of their own in each tally that names one of them: more than a cluster has, so that whoever
/// asks for thousands of names makes only those nodes' tallies long that he asks about.
const COMMON: usize = 32;

/// Amounts of every resource; what isn't there is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// By their numbers.
    common: Vec<i64>,
    /// Of higher numbers, those that aren't zero, in order.
    rare: Vec<(ResourceId, i64)>,
}

impl Tally {
    /// One amount.
    pub(crate) fn get(&self, id: ResourceId) -> i64 {
        match self.common.get(id.index()) {
            Some(amount) => *amount,
            None if id.index() < COMMON => 0,
            None => self.rare_at(id).map_or(0, |at| self.rare[at].1),
        }
    }

    /// The resources of which there is something.
    pub(crate) fn named(&self) -> impl Iterator<Item = ResourceId> {
        let common = (0..).map(ResourceId).zip(&self.common).filter(|(_, amount)| **amount != 0);
        common.map(|(id, _)| id).chain(self.rare.iter().map(|(id, _)| *id))
    }

    /// Adds amounts; saturates, so that nonsense looks full, never free.
    pub(crate) fn add(&mut self, amounts: &Amounts) {
        for (id, amount) in amounts.iter() {
            self.set(id, self.get(id).saturating_add(amount));
        }
    }

    /// Takes amounts away.
    pub(crate) fn subtract(&mut self, amounts: &Amounts) {
        for (id, amount) in amounts.iter() {
            self.set(id, self.get(id).saturating_sub(amount));
        }
    }

    fn set(&mut self, id: ResourceId, amount: i64) {
        if id.index() < COMMON {
            if self.common.len() <= id.index() {
                self.common.resize(id.index() + 1, 0);
            }
            self.common[id.index()] = amount;
            return;
        }
        match self.rare_at(id) {
            Ok(at) if amount == 0 => drop(self.rare.remove(at)),
            Ok(at) => self.rare[at].1 = amount,
            Err(_) if amount == 0 => {}
            Err(at) => self.rare.insert(at, (id, amount)),
        }
    }

    fn rare_at(&self, id: ResourceId) -> Result<usize, usize> {
        self.rare.binary_search_by_key(&id, |(named, _)| *named)
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
    fn a_resource_of_a_thousand_is_counted_as_any_other_and_makes_no_tally_long() {
        let mut names = ResourceNames::default();
        let name = |number: u32| format!("x/{number}");
        (0..70_000).for_each(|number| drop(names.amounts(&resources(&[(&name(number), "1")]))));
        let asked = ["x/3", "x/40", "x/65535", "x/69999"].map(|name| (name, "2"));
        let (some, mut tally) = (names.amounts(&resources(&asked)), Tally::default());
        tally.add(&some);
        tally.add(&some);
        for number in [3, 4, 40, 65_531, 65_535, 65_536, 69_998, 69_999] {
            let is_asked = asked.iter().any(|(asked, _)| *asked == name(number));
            assert_eq!(tally.get(names.id(&name(number))), if is_asked { 4 } else { 0 }, "{number}");
        }
        assert_eq!(tally.named().map(|id| names.name(id)).collect::<Vec<_>>(), asked.map(|(name, _)| name));
        assert!(tally.common.len() + tally.rare.len() <= COMMON + asked.len());
        tally.subtract(&some);
        tally.subtract(&some);
        assert_eq!((tally.named().count(), tally.rare.len()), (0, 0));
    }

    #[test]
    fn what_nobody_mentions_is_forgotten_and_its_number_is_anothers() {
        let mut names = ResourceNames::default();
        let [a, b, c] = ["x/a", "x/b", "x/c"].map(|name| names.id(name));
        names.retain(&[b].into());
        assert_eq!((names.name(a), names.name(b), names.name(c)), ("", "x/b", ""));
        assert_eq!(names.id("x/b"), b);
        let [d, e, f] = ["x/d", "x/a", "x/f"].map(|name| names.id(name));
        assert_eq!((d, e), (a, c));
        assert!(![a, b, c].contains(&f));
        assert_eq!((names.name(a), names.name(c), names.name(f)), ("x/d", "x/a", "x/f"));
        assert_eq!(names.id("cpu"), ResourceId::CPU, "every node has it");
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
