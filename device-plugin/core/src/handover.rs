//! Whether GPUs can be handed to containers: a matter beside their health.

use std::collections::BTreeSet;

/// What is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HandOver {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// Nothing has to be prepared: every GPU can be.
    NeedsNothing,
    /// None can be; why, and what to do.
    Refused(String),
    /// Those that have been made ready for containers can be.
    Ready(BTreeSet<String>),
}

impl HandOver {
    /// Why the device can't be handed over, where it can't.
    pub fn obstacle(&self, device: &str) -> Option<String> {
        match self {
            // Nothing is offered before it is known.
            Self::Unknown | Self::NeedsNothing => None,
            Self::Refused(why) => Some(why.clone()),
            Self::Ready(_) => self.is_pending(device).then(|| "it isn't ready for containers yet".to_owned()),
        }
    }

    /// Whether the device is still being made ready: that takes a moment for one that has just come.
    pub fn is_pending(&self, device: &str) -> bool {
        matches!(self, Self::Ready(devices) if !devices.contains(device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_ready_can_be_handed_over() {
        let ready = HandOver::Ready(BTreeSet::from(["A".to_owned()]));
        assert_eq!(ready.obstacle("A"), None);
        assert!(ready.obstacle("B").is_some() && ready.is_pending("B") && !ready.is_pending("A"));
        assert_eq!(HandOver::NeedsNothing.obstacle("A"), None);
        assert_eq!(HandOver::Refused("a full disk".to_owned()).obstacle("A"), Some("a full disk".to_owned()));
    }
}
