//! How the node's GPUs are connected: what decides which of them work well together.

use std::collections::BTreeMap;

/// How far two GPUs are from each other over PCIe, nearest first (`nvmlGpuTopologyLevel_t`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distance {
    /// On one board.
    Board,
    /// Behind one PCIe switch.
    Switch,
    /// Behind several PCIe switches, below one host bridge.
    Switches,
    /// Below one host bridge.
    HostBridge,
    /// On one NUMA node.
    Node,
    /// Anywhere in the machine, or unknown.
    #[default]
    Machine,
}

/// What connects two GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Active NVLinks between them, directly or through switches that both are on.
    pub nvlinks: u32,
    /// How far they are from each other without.
    pub distance: Distance,
}

/// What connects each pair of GPUs, by their UUIDs. A pair that isn't here is as far apart as can be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    links: BTreeMap<(String, String), Link>,
}

impl Topology {
    /// Sets what connects two GPUs, whichever is named first.
    pub fn connect(&mut self, one: &str, other: &str, link: Link) {
        self.links.insert(pair(one, other), link);
    }

    /// What connects two GPUs.
    pub fn link(&self, one: &str, other: &str) -> Link {
        self.links.get(&pair(one, other)).copied().unwrap_or_default()
    }

    /// Every pair that is known.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str, Link)> {
        self.links.iter().map(|((one, other), link)| (one.as_str(), other.as_str(), *link))
    }
}

fn pair(one: &str, other: &str) -> (String, String) {
    if one <= other { (one.to_owned(), other.to_owned()) } else { (other.to_owned(), one.to_owned()) }
}
