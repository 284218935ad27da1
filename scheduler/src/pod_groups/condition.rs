//! The condition by which a PodGroup says whether its pods have their places, as kube-scheduler writes it.

use k8s_openapi::{api::core::v1::ObjectReference, jiff::Timestamp};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use plasma_scheduler_core::{ConditionDocument, PodGroupDocument};
use serde_json::{Value, json};

use super::{PodGroup, Target};
use crate::{
    event::{self, Told},
    waits::{Waits, Why},
};

/// Its type. Once it is true, it stays true.
pub(crate) const INITIALLY_SCHEDULED: &str = "PodGroupInitiallyScheduled";

/// What it is to say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stands {
    is_placed: bool,
    reason: &'static str,
    message: String,
}

impl Stands {
    /// So many of its pods are on nodes, and enough of them.
    pub(crate) fn placed(pods: usize) -> Self {
        Self { is_placed: true, reason: "Scheduled", message: format!("{pods} pods are bound") }
    }

    /// It waits. The reasons are those that upstream knows.
    pub(crate) fn waits(waits: &Waits) -> Self {
        let reason = if waits.why == Why::NoRoom { "Unschedulable" } else { "SchedulerError" };
        Self { is_placed: false, reason, message: waits.message.clone() }
    }

    fn status(&self) -> &'static str {
        if self.is_placed { "True" } else { "False" }
    }

    /// The condition, where it isn't said already.
    fn patch(&self, document: &PodGroupDocument, now: Timestamp) -> Option<Value> {
        let generation = document.metadata.generation;
        let before = document.condition(INITIALLY_SCHEDULED).unwrap_or_default();
        if before.status == "True" && !self.is_placed {
            return None;
        }
        let ConditionDocument { status, reason, message, observed_generation, .. } = &before;
        let is_said = (status.as_str(), reason.as_str()) == (self.status(), self.reason)
            && *message == self.message
            && *observed_generation == generation;
        if is_said {
            return None;
        }
        let since = before.last_transition_time.filter(|_| before.status == self.status());
        Some(json!({
            "type": INITIALLY_SCHEDULED, "status": self.status(), "reason": self.reason, "message": self.message,
            "observedGeneration": generation,
            "lastTransitionTime": since.unwrap_or_else(|| format!("{now:.0}")),
        }))
    }
}

impl Target {
    /// Says it on the PodGroup, and tells people by an event, where that is news. Whether it is said.
    pub(crate) async fn tell(&self, client: &Client, stands: &Stands, alarms: bool) -> bool {
        match self.write(client, stands).await {
            Ok(true) if alarms => {
                let about = self.reference();
                let told =
                    Told { about, is_warning: true, reason: "FailedScheduling", note: &stands.message };
                event::publish(client, told).await;
                true
            }
            Ok(_) => true,
            Err(kube::Error::Api(status)) if status.code == 404 => true,
            Err(fault) => {
                let Self { namespace, name, .. } = self;
                tracing::warn!("PodGroup {namespace}/{name}: its condition can't be written: {fault}");
                false
            }
        }
    }

    /// Whether it was news.
    async fn write(&self, client: &Client, stands: &Stands) -> Result<bool, kube::Error> {
        let pod_groups: Api<PodGroup> = Api::namespaced_with(client.clone(), &self.namespace, &self.resource);
        let found = pod_groups.get_opt(&self.name).await?;
        let Some(found) = found.filter(|found| found.document.metadata.uid == self.uid) else {
            return Ok(false);
        };
        let Some(condition) = stands.patch(&found.document, Timestamp::now()) else { return Ok(false) };
        // In the version that was read: what others say meanwhile is not undone.
        let version = &found.document.metadata.resource_version;
        let patch = json!({
            "metadata": { "uid": self.uid, "resourceVersion": version }, "status": { "conditions": [condition] },
        });
        let patch = Patch::Strategic(&patch);
        pod_groups.patch_status(&self.name, &PatchParams::default(), &patch).await?;
        Ok(true)
    }

    fn reference(&self) -> ObjectReference {
        let kind = (self.resource.api_version.as_str(), self.resource.kind.as_str());
        event::reference(kind, &self.namespace, &self.name, &self.uid)
    }
}
