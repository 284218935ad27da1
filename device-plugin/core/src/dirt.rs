//! Dirty devices: those that somebody uses although no pod holds them. A pod that got one would share it with a stranger, or
//! miss the memory that a program left behind.

use std::{collections::BTreeMap, time::Duration};

use crate::Holdings;

/// What separates a device's id from the number of its share, where it is shared.
const SHARE: &str = "::";
/// So many processes are named.
const NAMED: usize = 3;

/// How a device is used, as NVML says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// The processes on it; `None` where NVML doesn't tell. In a PID namespace of its own a program may be told of none.
    pub processes: Option<Vec<u32>>,
    /// Used memory in bytes, without what the driver reserves for itself; `None` where NVML doesn't tell.
    pub memory_bytes: Option<u64>,
}

/// When a device counts as dirty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirtRules {
    /// Up to so much used memory is nobody's: the driver's own at rest. Bytes.
    pub tolerated_bytes: u64,
    /// How long a device may be used before it is known which pod holds it.
    pub grace: Duration,
}

/// What is known of each device's use. Times count from any moment, the same for all.
#[derive(Clone, Debug, Default)]
pub struct Dirt(BTreeMap<String, Use>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Use {
    /// Nobody uses it, as far as is known.
    #[default]
    Free,
    /// A pod holds it.
    Held,
    /// Its pod let go of it then; who still uses it in a later look is left over.
    Released(Duration),
    /// In use since then, and no pod is known: it may have started before its pod was known.
    Strange(Duration),
    /// In use, and not by a pod: how.
    Dirty(String),
}

impl Dirt {
    /// Takes in what a look that began at `looked` saw, and who holds what `now`. Devices that aren't in it are forgotten.
    pub fn observe(
        &mut self,
        rules: DirtRules,
        (looked, now): (Duration, Duration),
        seen: &BTreeMap<String, Occupancy>,
        holdings: &Holdings,
    ) {
        self.0.retain(|device, _| seen.contains_key(device));
        for (device, occupancy) in seen {
            let used = self.0.entry(device.clone()).or_default();
            let before = std::mem::take(used);
            *used = match (is_held(holdings, device), in_words(occupancy, rules)) {
                (Some(true), _) => Use::Held,
                // A pod's device may rest; only the kubelet says when it is over.
                (None, None) if before == Use::Held => before,
                (_, None) => Use::Free,
                (None, Some(_)) => before,
                (Some(false), Some(how)) => not_held(before, how, (looked, now), rules),
            };
        }
    }

    /// Why the device is dirty, if it is: how it is used.
    pub fn why(&self, device: &str) -> Option<&str> {
        match self.0.get(device)? {
            Use::Dirty(how) => Some(how),
            _ => None,
        }
    }

    /// Every dirty device, and why.
    pub fn all(&self) -> BTreeMap<String, String> {
        let dirty = self.0.iter().filter_map(|(device, used)| match used {
            Use::Dirty(how) => Some((device.clone(), how.clone())),
            _ => None,
        });
        dirty.collect()
    }
}

/// A device in use that no pod holds.
fn not_held(before: Use, how: String, (looked, now): (Duration, Duration), rules: DirtRules) -> Use {
    match before {
        Use::Held => Use::Released(now),
        Use::Released(since) if looked <= since => Use::Released(since),
        Use::Free => Use::Strange(looked),
        Use::Strange(since) if looked.saturating_sub(since) < rules.grace => Use::Strange(since),
        Use::Released(_) | Use::Strange(_) => Use::Dirty(how),
        // As it was found: figures change all the time, and are told elsewhere.
        Use::Dirty(how) => Use::Dirty(how),
    }
}

/// Whether a pod holds the device or a share of it; `None` where nobody knows.
fn is_held(holdings: &Holdings, device: &str) -> Option<bool> {
    let Holdings::Known(holders) = holdings else { return None };
    let is_it =
        |id: &str| id.strip_prefix(device).is_some_and(|rest| rest.is_empty() || rest.starts_with(SHARE));
    Some(holders.iter().any(|(id, holders)| is_it(id) && !holders.is_empty()))
}

/// How the device is used, if it is.
fn in_words(occupancy: &Occupancy, rules: DirtRules) -> Option<String> {
    let processes = occupancy.processes.as_deref().unwrap_or_default();
    let pids: Vec<String> = processes.iter().take(NAMED).map(u32::to_string).collect();
    let running = match processes {
        [] => None,
        [one] => Some(format!("process {one} runs on it")),
        [..] => {
            let more = if processes.len() > NAMED { ", …" } else { "" };
            Some(format!("{} processes ({}{more}) run on it", processes.len(), pids.join(", ")))
        }
    };
    let memory = occupancy.memory_bytes.filter(|bytes| *bytes > rules.tolerated_bytes);
    let memory = memory.map(|bytes| format!("{} MiB of its memory are in use", bytes >> 20));
    let used: Vec<String> = running.into_iter().chain(memory).collect();
    (!used.is_empty()).then(|| format!("{}, and no pod holds it", used.join(", ")))
}

#[cfg(test)]
mod tests;
