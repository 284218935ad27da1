//! Volumes before pods: what a plan says must be done for them is done, and waited for until the watches show that all are
//! bound. Nothing of a group is bound before.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::{
    api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim},
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
};
use plasma_scheduler_core::{ClaimName, Cluster, Placement, VolumeStep, VolumesState};
use serde_json::{Value, json};

use crate::shares::Turns;

/// How often a step is tried while nobody knows whether it was done, or another write was faster.
const TRIES: usize = 5;
/// How long is waited between.
const AGAIN: Duration = Duration::from_millis(500);
/// How many steps of a group are under way at once.
const AT_ONCE: usize = 16;

/// After how long it is said that volumes are waited for.
const TOLD_AFTER: SignedDuration = SignedDuration::from_secs(2);

const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

/// Asks for volumes.
#[derive(Clone)]
pub(crate) struct VolumeBinder {
    client: Client,
    turns: Turns,
}

/// Why a step wasn't done.
enum Undone {
    /// The objects aren't any more as they were planned over.
    Lost(String),
    /// The write or the read failed: whether it was done is read again.
    Unknown(kube::Error),
}

impl From<kube::Error> for Undone {
    fn from(fault: kube::Error) -> Self {
        Self::Unknown(fault)
    }
}

impl VolumeBinder {
    pub(crate) fn new(client: Client, turns: Turns) -> Self {
        Self { client, turns }
    }

    /// Does what must be done for the volumes of all these pods. `Err` says what can't be done: what of the rest is under way
    /// then is dropped, and may have been done.
    pub(crate) async fn ask(&self, placements: &[Placement]) -> Result<(), String> {
        let steps = placements.iter().flat_map(|placement| &placement.volumes);
        let steps: Vec<_> = steps.map(|step| self.step(step)).collect();
        stream::iter(steps).buffer_unordered(AT_ONCE).try_collect().await
    }

    async fn step(&self, step: &VolumeStep) -> Result<(), String> {
        let mut last = String::new();
        for _ in 0..TRIES {
            let (VolumeStep::Bind { claim, .. } | VolumeStep::Provision { claim, .. }) = step;
            match self.turns.take(&claim.namespace, self.attempt(step)).await {
                Ok(()) => return Ok(()),
                Err(Undone::Lost(why)) => return Err(why),
                Err(Undone::Unknown(fault)) => last = fault.to_string(),
            }
            tracing::debug!("{step:?}: {last}; it is looked up and tried again");
            tokio::time::sleep(AGAIN).await;
        }
        Err(last)
    }

    async fn attempt(&self, step: &VolumeStep) -> Result<(), Undone> {
        match step {
            VolumeStep::Bind { claim, volume } => self.bind(claim, volume).await,
            VolumeStep::Provision { claim, node } => self.select(claim, node).await,
        }
    }

    /// Keeps a volume for a claim, as the volume controller does itself: it completes the binding.
    async fn bind(&self, claim: &ClaimName, volume: &str) -> Result<(), Undone> {
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let Some(found) = volumes.get_opt(volume).await? else {
            return Err(Undone::Lost(format!("volume {volume} isn't there any more")));
        };
        let owner = found.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        let mut annotations = json!({});
        match owner {
            None => annotations[BOUND_BY_CONTROLLER] = json!("yes"),
            Some(owner) if owner.uid.as_ref() == Some(&claim.uid) => return Ok(()),
            Some(owner) if is_kept_for(owner, claim) => {}
            Some(_) => return Err(Undone::Lost(format!("volume {volume} was given to another claim"))),
        }
        let reference = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "namespace": claim.namespace, "name": claim.name, "uid": claim.uid,
        });
        let version = found.resource_version();
        let patch = json!({
            "metadata": { "resourceVersion": version, "annotations": annotations },
            "spec": { "claimRef": reference },
        });
        patch_with(&volumes, volume, &patch).await
    }

    /// Names the node that a claim's volume is to be made for: its provisioner waits for that.
    async fn select(&self, claim: &ClaimName, node: &str) -> Result<(), Undone> {
        let ClaimName { namespace, name, uid } = claim;
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        let found = claims.get_opt(name).await?.filter(|found| found.uid().as_ref() == Some(uid));
        let Some(found) = found else {
            return Err(Undone::Lost(format!("claim {namespace}/{name} isn't there any more")));
        };
        match found.annotations().get(SELECTED_NODE) {
            Some(selected) if selected == node => return Ok(()),
            Some(other) => {
                let why = format!("the volume of claim {namespace}/{name} is being made for node {other}");
                return Err(Undone::Lost(why));
            }
            None => {}
        }
        let version = found.resource_version();
        let patch =
            json!({ "metadata": { "resourceVersion": version, "annotations": { SELECTED_NODE: node } } });
        patch_with(&claims, name, &patch).await
    }
}

/// Changes an object that is still in the version that the patch names.
async fn patch_with<K>(api: &Api<K>, name: &str, patch: &Value) -> Result<(), Undone>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

fn is_kept_for(owner: &ObjectReference, claim: &ClaimName) -> bool {
    owner.uid.as_ref().is_none_or(String::is_empty)
        && owner.namespace.as_ref() == Some(&claim.namespace)
        && owner.name.as_ref() == Some(&claim.name)
}

/// Groups whose volumes are on their way.
#[derive(Default)]
pub(crate) struct Awaited(BTreeMap<String, Awaits>);

struct Awaits {
    placements: Vec<Placement>,
    since: Timestamp,
    /// How long others have for them, from when all are asked for.
    patience: SignedDuration,
    /// Until when that is; nothing while some are still to be asked for.
    until: Option<Timestamp>,
}

impl Awaited {
    /// Volumes are being asked for, now, and then waited for so long.
    pub(crate) fn begin(
        &mut self,
        group: &str,
        placements: Vec<Placement>,
        (since, patience): (Timestamp, SignedDuration),
    ) {
        self.0.insert(group.to_owned(), Awaits { placements, since, patience, until: None });
    }

    /// The groups that have waited for their volumes for long enough to say so, and a claim that is still to be bound.
    pub(crate) fn pending(&self, cluster: &Cluster, now: Timestamp) -> Vec<(String, String)> {
        let state = |placement: &Placement| cluster.volumes_state(&placement.uid);
        let claim = |awaits: &Awaits| {
            awaits.placements.iter().map(state).find_map(|state| match state {
                VolumesState::Pending(claim) => Some(claim),
                _ => None,
            })
        };
        let long = self.0.iter().filter(|(_, awaits)| now.duration_since(awaits.since) >= TOLD_AFTER);
        long.filter_map(|(group, awaits)| Some((group.clone(), claim(awaits)?))).collect()
    }

    /// All were asked for: from now on it is up to others.
    pub(crate) fn asked(&mut self, group: &str, now: Timestamp) {
        if let Some(awaits) = self.0.get_mut(group) {
            awaits.until = Some(now + awaits.patience);
        }
    }

    /// They aren't waited for any more: the plan that they are for.
    pub(crate) fn forget(&mut self, group: &str) -> Vec<Placement> {
        self.0.remove(group).map_or_else(Vec::new, |awaits| awaits.placements)
    }

    /// The groups that wait no longer: because their volumes are bound, or for a reason.
    pub(crate) fn over(
        &mut self,
        cluster: &Cluster,
        now: Timestamp,
    ) -> Vec<(String, Result<Vec<Placement>, String>)> {
        let ended = |awaits: &Awaits| {
            let until = awaits.until?;
            let states = awaits.placements.iter().map(|placement| cluster.volumes_state(&placement.uid));
            let mut pending = None;
            for state in states {
                match state {
                    VolumesState::Bound => {}
                    VolumesState::Pending(claim) => pending = Some(claim),
                    VolumesState::Failed(why) => return Some(Err(why)),
                }
            }
            match pending {
                None => Some(Ok(awaits.placements.clone())),
                Some(claim) if now >= until => {
                    Some(Err(format!("claim {claim} wasn't bound in time; it is waited for again")))
                }
                Some(_) => None,
            }
        };
        let over: Vec<_> =
            self.0.iter().filter_map(|(group, awaits)| Some((group.clone(), ended(awaits)?))).collect();
        for (group, _) in over.iter().filter(|(_, ended)| ended.is_ok()) {
            self.forget(group);
        }
        over
    }
}
