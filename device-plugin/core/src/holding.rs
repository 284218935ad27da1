//! Who holds which device, as the kubelet says.

mod known;
mod otherwise;
mod seen;
mod tenants;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use known::Known;
pub use otherwise::held_otherwise;
pub use seen::{ContainerSeen, Listed, PodSeen};
pub use tenants::Tenants;

/// What separates a device's id from the number of its share, where it is shared.
pub(crate) const SHARE: &str = "::";

/// One container of one pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// The pod's UID: names are used again, UIDs aren't.
    pub pod_uid: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The container's name.
    pub container: String,
}

/// That a pod holds a device, from the start of its first container until it is over: nobody else could have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// The kubelet's id of the device.
    pub device: String,
    /// The pod, and the container that was given it.
    pub holder: Holder,
    /// When the first container of its pod started. Milliseconds since 1970.
    pub started_ms: u64,
    /// When the last container of its pod finished; `None` while it isn't over.
    pub end: Option<End>,
}

/// The end of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// When. Milliseconds since 1970.
    pub at_ms: u64,
    /// Whether the pod's status told so; else the pod was found gone, and this is when it was known to be there last.
    pub told: bool,
}

/// What is known of who holds what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Holdings {
    /// Nobody could be asked yet, or the last answer is too old to be believed.
    #[default]
    Unknown,
    /// By the kubelet's device id: who holds it. An id that isn't here is held by nobody. Only a device that is shared has
    /// several holders.
    Known(BTreeMap<String, Vec<Holder>>),
    /// The same, except that a container runs which was given devices of which nobody tells: an id that isn't here may be its.
    Partly(BTreeMap<String, Vec<Holder>>),
}

impl Holdings {
    /// Who holds the device; none where nobody does, or nobody knows.
    pub fn of(&self, device: &str) -> &[Holder] {
        self.named().and_then(|holders| holders.get(device)).map_or(&[], Vec::as_slice)
    }

    /// Every holder that is told of; `None` where nobody knows.
    pub fn named(&self) -> Option<&BTreeMap<String, Vec<Holder>>> {
        match self {
            Self::Unknown => None,
            Self::Known(holders) | Self::Partly(holders) => Some(holders),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_a_holder_is_free_and_an_unknown_one_isnt_held_by_anybody_known() {
        let holder = Holder {
            pod_uid: "u".to_owned(),
            namespace: "n".to_owned(),
            pod: "p".to_owned(),
            container: "c".to_owned(),
        };
        let held = Holdings::Known(BTreeMap::from([("GPU-0".to_owned(), vec![holder.clone()])]));
        assert_eq!(held.of("GPU-0"), [holder]);
        assert!(held.of("GPU-1").is_empty() && Holdings::Unknown.of("GPU-0").is_empty());
    }
}
