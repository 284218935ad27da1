//! Replicas: of which devices how many can be in a set that is spread as evenly as can be.

use std::collections::BTreeMap;

use super::Placed;

/// Drops the replicas that an even spread of `wanted` more over the devices has no use for: replicas of one device are alike,
/// and comparing them all would take long. The first `fixed` must be taken and stay.
///
/// The fewest pairs of one device come of filling the devices level by level, so nothing above the level at which there are
/// enough is ever taken.
pub(super) fn thin(devices: &mut Vec<Placed>, fixed: usize, wanted: usize) {
    // Of each device: how many must be taken, and how many more can be.
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (place, device) in devices.iter().enumerate() {
        let (must, can) = counts.entry(device.whole.clone()).or_default();
        *(if place < fixed { must } else { can }) += 1;
    }
    let up_to = |level: usize| -> usize {
        counts.values().map(|(must, can)| level.saturating_sub(*must).min(*can)).sum()
    };
    let level = (0..=fixed + wanted).find(|level| up_to(*level) >= wanted).unwrap_or(fixed + wanted);
    let mut room: BTreeMap<String, usize> =
        counts.iter().map(|(whole, (must, _))| (whole.clone(), level.saturating_sub(*must))).collect();
    let mut place = 0..;
    devices.retain(|device| {
        let must = place.next().is_some_and(|place| place < fixed);
        must || room.get_mut(&device.whole).is_some_and(|room| {
            let has_room = *room > 0;
            *room = room.saturating_sub(1);
            has_room
        })
    });
}
