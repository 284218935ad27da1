//! Volumes that can't be had together with those of other pods.

use super::{Refusal, VolumeFilter, claim_of};
use crate::{
    cluster::Cluster,
    node::{Node, PodId},
    pod::{Disk, Pod},
};

/// A claim that isn't there, or that one pod alone may use while another one does.
pub(super) fn everywhere(cluster: &Cluster, pod: &Pod) -> Option<Refusal> {
    let storage = &cluster.storage;
    let is_on_a_node = |id: &PodId| {
        let on = cluster.known(*id).and_then(|known| known.on);
        on.is_some_and(|node| cluster.nodes[node.index()].exists)
    };
    pod.claims.iter().filter(|wanted| !wanted.is_ephemeral).find_map(|wanted| {
        let claim = match claim_of(storage, pod, wanted, VolumeFilter::Restrictions) {
            Ok(claim) => claim,
            Err(refusal) => return Some(refusal),
        };
        let is_for_one_pod = claim.access_modes.iter().any(|mode| **mode == *"ReadWriteOncePod");
        (is_for_one_pod && storage.users(&wanted.key).iter().any(is_on_a_node))
            .then(|| Refusal::ClaimInUse(wanted.key.to_string()))
    })
}

/// A disk that a pod on the node has, and that can't be had twice.
pub(super) fn conflict(cluster: &Cluster, pod: &Pod, node: &Node) -> Option<Refusal> {
    let disks = &pod.kind.volumes.as_ref()?.disks;
    if disks.is_empty() {
        return None;
    }
    let others = node.pods.iter().filter_map(|id| cluster.known(*id)?.pod.kind.volumes.as_deref());
    let mut taken = others.flat_map(|volumes| &volumes.disks);
    let disk = taken.find_map(|taken| disks.iter().find(|disk| disk.collides(taken)))?;
    Some(Refusal::DiskInUse(disk.to_string()))
}

impl Disk {
    /// Whether both can't be had on one node.
    fn collides(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Aws { id }, Self::Aws { id: other }) => id == other,
            (Self::Gce { name, read_only }, Self::Gce { name: other, read_only: also }) => {
                name == other && !(*read_only && *also)
            }
            (Self::Iscsi { iqn, read_only }, Self::Iscsi { iqn: other, read_only: also }) => {
                iqn == other && !(*read_only && *also)
            }
            (
                Self::Rbd { monitors, image, read_only },
                Self::Rbd { monitors: others, image: other, read_only: also },
            ) => {
                image == other
                    && monitors.iter().any(|monitor| others.contains(monitor))
                    && !(*read_only && *also)
            }
            _ => false,
        }
    }
}
