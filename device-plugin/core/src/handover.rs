//! Whether devices can be handed to containers: a matter beside their health.

use std::collections::BTreeSet;

use crate::{HandOut, Inventory, hand_outs};

/// What containers need to get their devices: as it is, or as it was when it was written down for the container runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// What each device is.
    pub devices: Vec<HandOut>,
    /// The device nodes that every device's user needs.
    pub shared_nodes: Vec<String>,
    /// The version of the driver whose files containers get.
    pub driver_version: Option<String>,
}

impl Needs {
    /// As the last look that NVML answered has it.
    pub fn of(inventory: &Inventory) -> Self {
        Self {
            devices: hand_outs(inventory),
            shared_nodes: inventory.shared_nodes().to_vec(),
            driver_version: inventory.driver_version.clone(),
        }
    }

    /// Whether a container that gets the device as it is written here gets it as it is `now`.
    fn serve(&self, now: &Self, device: &HandOut) -> bool {
        self.shared_nodes == now.shared_nodes
            && self.driver_version == now.driver_version
            && self.devices.contains(device)
    }
}

/// What is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HandOver {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// Nothing has to be prepared: every device can be.
    NeedsNothing,
    /// None can be; why, and what to do.
    Refused(String),
    /// Those can be that are still what was written for the container runtime. A name alone says little: after a reload of the
    /// driver or in another layout the same one may be other device nodes.
    Ready(Needs),
}

impl HandOver {
    /// Why no device can be handed over, where none can.
    pub fn obstacle(&self) -> Option<&str> {
        match self {
            Self::Refused(why) => Some(why),
            // Nothing is offered before it is known.
            Self::Unknown | Self::NeedsNothing | Self::Ready(_) => None,
        }
    }

    /// Of the devices that there are `now`, those for which the runtime has yet to be told what they are.
    pub fn pending(&self, now: &Needs) -> BTreeSet<String> {
        let Self::Ready(written) = self else { return BTreeSet::new() };
        let pending = now.devices.iter().filter(|device| !written.serve(now, device));
        pending.map(|device| device.id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(devices: &[(&str, &str)]) -> Needs {
        let device = |(id, node): &(&str, &str)| HandOut {
            id: (*id).to_owned(),
            device_nodes: vec![(*node).to_owned()],
        };
        Needs {
            devices: devices.iter().map(device).collect(),
            shared_nodes: vec!["/dev/nvidiactl".to_owned()],
            driver_version: Some("580.1".to_owned()),
        }
    }

    fn pending(written: &Needs, now: &Needs) -> Vec<String> {
        HandOver::Ready(written.clone()).pending(now).into_iter().collect()
    }

    #[test]
    fn only_what_is_still_as_it_was_written_can_be_handed_over() {
        let written = needs(&[("A", "/dev/nvidia0"), ("B", "/dev/nvidia1")]);
        assert!(pending(&written, &written).is_empty());
        assert!(
            pending(&written, &needs(&[("B", "/dev/nvidia1")])).is_empty(),
            "who left is nobody's matter"
        );
        let now = needs(&[("A", "/dev/nvidia0"), ("B", "/dev/nvidia2"), ("C", "/dev/nvidia1")]);
        assert_eq!(pending(&written, &now), ["B", "C"], "other nodes, and a new one");
        for now in [
            Needs { driver_version: Some("580.2".to_owned()), ..written.clone() },
            Needs { shared_nodes: vec![], ..written.clone() },
        ] {
            assert_eq!(pending(&written, &now), ["A", "B"], "{now:?}");
        }
    }

    #[test]
    fn where_nothing_is_written_nothing_is_waited_for() {
        let refused = HandOver::Refused("a full disk".to_owned());
        for hand_over in [HandOver::Unknown, HandOver::NeedsNothing, refused.clone()] {
            assert!(hand_over.pending(&needs(&[("A", "/dev/nvidia0")])).is_empty());
        }
        assert_eq!((refused.obstacle(), HandOver::NeedsNothing.obstacle()), (Some("a full disk"), None));
    }
}
