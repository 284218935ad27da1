//! Devices: what a device plugin hands out, which is any resource with a domain in its name.

use super::{Cluster, room::Lot};
use crate::{document::PodDocument, pod::Stage, read};

impl Cluster {
    /// Whether a pod that was deleted gives devices of its node back once this is taken in: that it is over, or, without a
    /// document, that it is gone.
    pub fn gives_devices_back(&self, uid: &str, document: Option<&PodDocument>) -> bool {
        let is_deleted =
            |document: &PodDocument| document.metadata.is_terminating() && read::is_over(document);
        let Some(known) = self.known_by_uid(uid).filter(|known| known.on.is_some()) else { return false };
        let is_of_devices = |name: &str| name.contains('/');
        let mut holds = known.pod.holds.iter().flat_map(|holds| holds.iter());
        known.pod.node.is_some()
            && holds.any(|(id, amount)| amount > 0 && is_of_devices(self.shared.resources.name(id)))
            && document.is_none_or(is_deleted)
    }

    /// The pod is deleted, and over or gone, and what it had isn't given back yet: it counts for its group no more.
    pub fn is_at_rest(&mut self, uid: &str) {
        let Some(id) = self.pod_id(uid) else { return };
        if self.known(id).is_none_or(|known| known.pod.stage.is_terminating) {
            return;
        }
        let Some(left) = self.take(id) else { return };
        let mut pod = left.pod.clone();
        pod.stage = Stage { is_terminating: true, ends: Some(self.now.unwrap_or_default()), ..pod.stage };
        let lot = Lot {
            assumed: left.assumed,
            steps: left.steps.clone(),
            reserved: left.reserved,
            is_leaving: left.is_leaving,
        };
        self.put(id, pod, lot, Some(&left));
        self.notice(Some(&left), id);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        aside::Aside,
        plan::Decision,
        testing::{World, gpus},
    };

    fn document(resource: &str, phase: &str, is_deleted: bool) -> PodDocument {
        let deleted = is_deleted.then_some("2026-01-01T00:00:00Z");
        let requests: Value = [(resource.to_owned(), json!("1"))].into_iter().collect();
        let pod = json!({
            "metadata": { "name": "p", "namespace": "ns", "uid": "u", "deletionTimestamp": deleted },
            "spec": { "nodeName": "n", "containers": [{ "name": "c", "resources": { "requests": requests } }] },
            "status": { "phase": phase },
        });
        serde_json::from_value(pod).unwrap()
    }

    fn with(resource: &str, phase: &str) -> Cluster {
        let mut cluster = World::default().cluster;
        cluster.set_pod(&document(resource, phase, false));
        cluster
    }

    #[test]
    fn who_was_deleted_gives_devices_back_when_it_is_over_or_gone() {
        let cluster = with("example.com/gpu", "Running");
        let gives = |phase: &str, is_deleted: bool| {
            cluster.gives_devices_back("u", Some(&document("example.com/gpu", phase, is_deleted)))
        };
        assert!(gives("Failed", true) && gives("Succeeded", true) && cluster.gives_devices_back("u", None));
        assert!(!gives("Running", true), "it still runs");
        assert!(!gives("Succeeded", false), "its devices were looked at before that was told");
        assert!(!cluster.gives_devices_back("another", None));
    }

    #[test]
    fn who_is_at_rest_holds_what_it_had_and_is_not_of_its_gang_any_more() {
        let mut world = World::default();
        world.node("n0", &gpus(2));
        world.gang("g", &[&gpus(1), &gpus(1)]);
        let of_the_gang =
            |pod: &mut Value| pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "g" });
        for pod in ["g-0", "g-1"] {
            world.pod(pod, &gpus(1), |pod| {
                of_the_gang(pod);
                pod["spec"]["nodeName"] = json!("n0");
            });
        }
        world.cluster.is_at_rest("g-1");
        world.cluster.remove_pod("g-0");
        world.pod("g-0-anew", &gpus(1), of_the_gang);
        let decisions = world.cluster.plan(100);
        let is_gathering = |decision: &Decision| {
            matches!(decision, Decision::Aside { why: Aside::Gathering { there: 1, .. }, .. })
        };
        assert!(matches!(&decisions[..], [decision] if is_gathering(decision)), "{decisions:?}");
        world.gang("h", &[&gpus(2)]);
        assert!(matches!(&world.cluster.plan(100)[..], [Decision::Hold { .. }]), "its device rests");
    }

    #[test]
    fn who_has_no_device_or_gave_it_back_before_gives_none() {
        assert!(!with("cpu", "Running").gives_devices_back("u", None));
        assert!(!with("example.com/gpu", "Failed").gives_devices_back("u", None));
    }
}
