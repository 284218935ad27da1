//! Readiness: named gates, all of which must be open.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The gates of one program. Alive is whoever answers; ready is who has every gate open.
#[derive(Clone, Debug, Default)]
pub struct Health {
    gates: Arc<Mutex<BTreeMap<&'static str, bool>>>,
}

/// One condition of readiness, closed at first.
#[derive(Clone, Debug)]
pub struct Gate {
    name: &'static str,
    health: Health,
}

impl Health {
    /// A new gate, closed until it is opened.
    pub fn gate(&self, name: &'static str) -> Gate {
        self.gates().insert(name, false);
        Gate { name, health: self.clone() }
    }

    /// The gates that are still closed. A program that has none yet is still starting: whoever took that for ready would
    /// end the old plugin of an upgrade before the new one is there.
    pub fn closed(&self) -> Vec<&'static str> {
        let gates = self.gates();
        if gates.is_empty() {
            return vec!["start"];
        }
        gates.iter().filter(|(_, open)| !**open).map(|(name, _)| *name).collect()
    }

    fn gates(&self) -> MutexGuard<'_, BTreeMap<&'static str, bool>> {
        // A panic elsewhere can't leave a map of booleans half changed.
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    /// Opens or closes the gate.
    pub fn set(&self, open: bool) {
        self.health.gates().insert(self.name, open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_who_has_every_gate_open() {
        let health = Health::default();
        assert_eq!(health.closed(), ["start"], "nobody has said yet what there is to wait for");
        let (watches, chain) = (health.gate("watches"), health.gate("chain"));
        watches.set(true);
        assert_eq!(health.closed(), ["chain"]);
        chain.set(true);
        assert!(health.closed().is_empty());
        watches.set(false);
        assert_eq!(health.closed(), ["watches"]);
    }
}
