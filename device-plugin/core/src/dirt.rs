//! Dirty devices: those that somebody uses although no pod holds them. A pod that got one would share it with a stranger, or
//! miss the memory that a program left behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{Holdings, holding::SHARE};

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
    /// How long a device that was free may be used before it is known which pod holds it.
    pub grace: Duration,
}

/// What is known of each device's use. Times count from any moment, the same for all.
#[derive(Clone, Debug, Default)]
pub struct Dirt {
    devices: BTreeMap<String, Known>,
    /// The version of the driver that told it.
    driver: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    used: Use,
    /// What it ever told of its use under this driver, processes and memory: a look in which it tells less finds nothing clean.
    tells: (bool, bool),
    /// When the kubelet was last granted it.
    granted: Option<Duration>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Use {
    /// No look told how it is used while it was known who holds it.
    #[default]
    New,
    /// Nobody uses it, as far as is known.
    Free,
    /// A pod holds it.
    Held,
    /// Its pod let go of it then; who still uses it in a later look is left over.
    Released(Duration),
    /// It was free or was just granted, is in use since then, and no pod is known: it may have started before its pod was known.
    Strange(Duration),
    /// In use, and maybe by a container of which nobody tells what it was given.
    Untold {
        /// Whether it was free before: else it may as well be a stranger's, and isn't given to the next pod.
        was_free: bool,
    },
    /// In use, and not by a pod: how.
    Dirty(String),
}

impl Dirt {
    /// Takes in what a look that began at `looked` saw, and who holds what `now`. Devices that aren't `present` any more are
    /// forgotten; one that is, and told nothing, is what it was before.
    pub fn observe(
        &mut self,
        rules: DirtRules,
        (looked, now): (Duration, Duration),
        (present, seen): (&BTreeSet<String>, &BTreeMap<String, Occupancy>),
        holdings: &Holdings,
    ) {
        self.devices.retain(|device, _| present.contains(device));
        for device in present {
            let known = self.devices.entry(device.clone()).or_default();
            let occupancy = seen.get(device);
            let told = occupancy.map_or(Told::Nothing, |occupancy| known.told(occupancy, rules));
            let before = std::mem::take(&mut known.used);
            known.used = match held(holdings, device) {
                Held::ByPod => Use::Held,
                Held::ByNobody => not_held(before, told, (looked, now), known.patience(rules)),
                Held::Untold => maybe_held(before, told, (looked, now)),
                // A pod's device may rest; only the kubelet says when it is over.
                Held::Unknown => match (before, told) {
                    (Use::Dirty(_) | Use::Strange(_) | Use::Untold { .. }, Told::Clean) => Use::Free,
                    (before, _) => before,
                },
            };
        }
    }

    /// That driver answers. What was told under another version may never be told again.
    pub fn driver(&mut self, version: Option<&str>) {
        if self.driver.as_deref() != version {
            self.driver = version.map(str::to_owned);
            self.devices.values_mut().for_each(|known| known.tells = (false, false));
        }
    }

    /// The kubelet was granted the device at that moment: its pod may use it before anybody tells of that pod.
    pub fn granted(&mut self, device: &str, at: Duration) {
        self.devices.entry(device.to_owned()).or_default().granted = Some(at);
    }

    /// Why the device is dirty, if it is: how it is used.
    pub fn why(&self, device: &str) -> Option<&str> {
        match &self.devices.get(device)?.used {
            Use::Dirty(how) => Some(how),
            _ => None,
        }
    }

    /// Every dirty device, and why.
    pub fn all(&self) -> BTreeMap<String, String> {
        let all = self.devices.keys();
        all.filter_map(|device| Some((device.clone(), self.why(device)?.to_owned()))).collect()
    }

    /// The devices that are neither dirty nor known to be free for the next pod: whose pod has let go of them, and which no
    /// look has found clean or dirty since, though it could; and those that weren't seen free, and that an untold container may
    /// be using.
    pub fn unsure(&self) -> BTreeSet<String> {
        let is_unsure =
            |known: &Known| matches!(known.used, Use::Released(_) | Use::Untold { was_free: false });
        self.devices.iter().filter(|(_, known)| is_unsure(known)).map(|(device, _)| device.clone()).collect()
    }

    /// Whether a look would tell more about a device whose pod has let go of it.
    pub fn wants_look(&self) -> bool {
        self.devices.values().any(|known| matches!(known.used, Use::Released(_)))
    }
}

/// What a look told of a device's use.
enum Told {
    /// Nothing, or too little to call it clean.
    Nothing,
    /// Nothing, and nothing was ever told under this driver: nobody will know more.
    Never,
    Clean,
    /// In use: how.
    Used(String),
}

/// How long a device may be in use before it is known which pod holds it.
#[derive(Clone, Copy)]
struct Patience {
    grace: Duration,
    granted: Option<Duration>,
}

impl Patience {
    /// Whether somebody who uses the device since then may still turn out to be a pod. A grant gives it time anew.
    fn has_time(self, since: Duration, looked: Duration) -> bool {
        looked.saturating_sub(self.granted.map_or(since, |granted| granted.max(since))) < self.grace
    }

    /// Whether it was granted so lately that its pod may not be told of yet.
    fn is_new_grant(self, looked: Duration) -> bool {
        self.granted.is_some_and(|granted| self.has_time(granted, looked))
    }
}

impl Known {
    fn patience(&self, rules: DirtRules) -> Patience {
        Patience { grace: rules.grace, granted: self.granted }
    }

    fn told(&mut self, occupancy: &Occupancy, rules: DirtRules) -> Told {
        let tells = (occupancy.processes.is_some(), occupancy.memory_bytes.is_some());
        self.tells = (self.tells.0 || tells.0, self.tells.1 || tells.1);
        match in_words(occupancy, rules) {
            Some(how) => Told::Used(how),
            None if self.tells == (false, false) => Told::Never,
            None if tells != self.tells => Told::Nothing,
            None => Told::Clean,
        }
    }
}

/// A device that no pod holds.
fn not_held(before: Use, told: Told, (looked, now): (Duration, Duration), patience: Patience) -> Use {
    match (before, told) {
        // What was seen until now was its pod's.
        (Use::Held | Use::Untold { .. }, _) => Use::Released(now),
        (Use::Released(since), _) if looked <= since => Use::Released(since),
        (Use::Released(_), Told::Never) => Use::Free,
        (before, Told::Nothing | Told::Never) => before,
        (_, Told::Clean) => Use::Free,
        // As it was found: figures change all the time, and are told elsewhere.
        (Use::Dirty(how), Told::Used(_)) => Use::Dirty(how),
        (Use::Free, Told::Used(_)) => Use::Strange(looked),
        (Use::Strange(since), Told::Used(_)) if patience.has_time(since, looked) => Use::Strange(since),
        (Use::New | Use::Released(_), Told::Used(_)) if patience.is_new_grant(looked) => Use::Strange(looked),
        (Use::New | Use::Released(_) | Use::Strange(_), Told::Used(how)) => Use::Dirty(how),
    }
}

/// A device that no pod is known to hold, and that a container may have of which nobody tells.
fn maybe_held(before: Use, told: Told, (looked, now): (Duration, Duration)) -> Use {
    match (before, told) {
        (Use::Held, _) => Use::Released(now),
        (Use::Released(since), _) if looked <= since => Use::Released(since),
        (Use::Released(_), Told::Never) => Use::Free,
        (before, Told::Nothing | Told::Never) => before,
        (_, Told::Clean) => Use::Free,
        // It was found so when nobody held it, and has been given to nobody since.
        (before @ (Use::Dirty(_) | Use::Untold { .. }), Told::Used(_)) => before,
        (Use::Free | Use::Strange(_), Told::Used(_)) => Use::Untold { was_free: true },
        (Use::New | Use::Released(_), Told::Used(_)) => Use::Untold { was_free: false },
    }
}

/// Who holds a device or a share of it.
enum Held {
    ByPod,
    ByNobody,
    /// No pod that is told of; maybe a container of which nobody tells.
    Untold,
    Unknown,
}

fn held(holdings: &Holdings, device: &str) -> Held {
    let is_it =
        |id: &str| id.strip_prefix(device).is_some_and(|rest| rest.is_empty() || rest.starts_with(SHARE));
    let mut named = holdings.named().into_iter().flatten();
    let is_named = named.any(|(id, holders)| is_it(id) && !holders.is_empty());
    match holdings {
        _ if is_named => Held::ByPod,
        Holdings::Unknown => Held::Unknown,
        Holdings::Known(_) => Held::ByNobody,
        Holdings::Partly(_) => Held::Untold,
    }
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
