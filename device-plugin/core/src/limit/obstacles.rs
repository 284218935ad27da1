//! Whether a node may say that the driver limits memory: not once a limit has failed, until that GPU's limits hold again.

use std::collections::{BTreeMap, BTreeSet};

use super::MemoryShare;
use crate::Holder;

/// What keeps the driver from limiting those who share GPUs, as far as it lasts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Obstacles {
    /// What failed when it was tried last: a container that is just ending loses its cgroup, and that is no obstacle.
    failed: BTreeMap<(String, Holder), String>,
    /// By the GPU's UUID. It stays though nobody shares the GPU any more: the next one would fare no better.
    lasting: BTreeMap<String, String>,
}

impl Obstacles {
    /// Takes in how the limits of the containers that run are: the fault, where one isn't enforced.
    pub fn observe<'a>(&mut self, limits: impl IntoIterator<Item = (&'a MemoryShare, Option<&'a str>)>) {
        let mut failed = BTreeMap::new();
        let (mut good, mut bad) = (BTreeSet::new(), BTreeSet::new());
        for (share, fault) in limits {
            let Some(fault) = fault else {
                good.insert(share.gpu.clone());
                continue;
            };
            bad.insert(share.gpu.clone());
            let who = (share.gpu.clone(), share.holder.clone());
            if self.failed.contains_key(&who) {
                self.lasting.insert(share.gpu.clone(), fault.to_owned());
            }
            failed.insert(who, fault.to_owned());
        }
        self.lasting.retain(|gpu, _| bad.contains(gpu) || !good.contains(gpu));
        self.failed = failed;
    }

    /// One of them, in words; none where every limit that was tried holds.
    pub fn first(&self) -> Option<&str> {
        self.lasting.values().next().map(String::as_str)
    }
}
