//! Carrying a plan out: journal first, then bindings that name the pod's UID. A time-out is unknown, and is looked up.

use futures::{StreamExt as _, stream};
use k8s_openapi::{
    api::core::v1::{Binding, ObjectReference, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use plasma_scheduler_core::Placement;
use serde_json::json;

use crate::{args::Args, journal, metrics::Metrics, report::Reporter, world::Assumed};

/// How many bindings of one gang are under way at once.
const AT_ONCE: usize = 16;

/// How a binding ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// The pod is bound to the planned node.
    Yes,
    /// The pod is gone, or is bound to another node: this plan can't be finished.
    Never,
    /// Nobody knows yet, or the API server refused for now.
    NotYet,
}

impl Bound {
    fn label(self) -> &'static str {
        match self {
            Self::Yes => "bound",
            Self::Never => "lost",
            Self::NotYet => "unknown",
        }
    }
}

/// Binds pods, and deletes those that must not stay bound.
pub(crate) struct Binder {
    client: Client,
    metrics: Metrics,
}

impl Binder {
    pub(crate) fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics }
    }

    /// Carries out the decision to place a gang, or a pod of no gang.
    pub(crate) async fn place(
        &self,
        args: &Args,
        group: &str,
        placements: &[Placement],
        reporter: &mut Reporter,
        assumed: &mut Assumed,
    ) {
        let (namespace, name) = group.split_once('/').unwrap_or_default();
        let is_gang = !name.starts_with("pod:");
        if is_gang {
            // The plan is durable before its first binding: a successor finishes or undoes what we began.
            let written =
                journal::write(&self.client, namespace, name, placements, args.gang_deadline_seconds).await;
            if let Err(fault) = written {
                tracing::warn!("gang {group}: the plan can't be journalled: {fault}; planning it anew");
                return;
            }
        }
        assumed.extend(placements.iter().map(|place| (place.uid.clone(), place.node.clone())));
        let outcomes = self.bind_all(namespace, placements).await;
        if outcomes.iter().all(|outcome| *outcome == Bound::Yes) {
            tracing::info!("{group}: bound {} pods", placements.len());
            reporter.scheduled(namespace, name, placements.len()).await;
        } else if !is_gang {
            placements.iter().for_each(|place| drop(assumed.remove(&place.uid)));
        }
    }

    /// Binds each pod to its node; the outcomes are in the placements' order.
    pub(crate) async fn bind_all(&self, namespace: &str, placements: &[Placement]) -> Vec<Bound> {
        let bind = |placement| self.bind(namespace, placement);
        stream::iter(placements).map(bind).buffered(AT_ONCE).collect().await
    }

    async fn bind(&self, namespace: &str, placement: &Placement) -> Bound {
        let outcome = match self.post_binding(namespace, placement).await {
            Ok(()) => Bound::Yes,
            Err(fault) => {
                tracing::debug!("binding {namespace}/{} to {}: {fault}", placement.pod, placement.node);
                self.look_up(namespace, placement).await
            }
        };
        self.metrics.binds.with_label_values(&[outcome.label()]).inc();
        outcome
    }

    async fn post_binding(&self, namespace: &str, placement: &Placement) -> Result<(), kube::Error> {
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(placement.pod.clone()),
                // The precondition: another pod under the same name is not bound.
                uid: Some(placement.uid.clone()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(placement.node.clone()),
                ..Default::default()
            },
        };
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let _: k8s_openapi::apimachinery::pkg::apis::meta::v1::Status =
            pods.create_subresource("binding", &placement.pod, &PostParams::default(), &binding).await?;
        Ok(())
    }

    /// Reads the pod itself, not the watch: what a failed binding did is a fact there.
    async fn look_up(&self, namespace: &str, placement: &Placement) -> Bound {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        match pods.get_opt(&placement.pod).await {
            Err(_) => Bound::NotYet,
            Ok(None) => Bound::Never,
            Ok(Some(pod)) if pod.uid().as_ref() != Some(&placement.uid) => Bound::Never,
            Ok(Some(pod)) if pod.metadata.deletion_timestamp.is_some() => Bound::Never,
            Ok(Some(pod)) => match pod.spec.and_then(|spec| spec.node_name).filter(|node| !node.is_empty()) {
                Some(node) if node == placement.node => Bound::Yes,
                Some(_) => Bound::Never,
                None => Bound::NotYet,
            },
        }
    }

    /// Deletes a pod that was bound by a plan that can't be finished; its owner makes it anew.
    pub(crate) async fn undo(&self, namespace: &str, placement: &Placement) {
        self.metrics.rollbacks.inc();
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        // Tells the Job controller that this is no failure of the pod's own.
        let condition = json!({ "metadata": { "uid": placement.uid }, "status": { "conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "GangNotPlaced",
            "message": "not every pod of the gang could be bound by its deadline",
        }] } });
        let patched =
            pods.patch_status(&placement.pod, &PatchParams::default(), &Patch::Strategic(&condition)).await;
        let preconditions = Preconditions { uid: Some(placement.uid.clone()), resource_version: None };
        let deleted =
            pods.delete(&placement.pod, &DeleteParams::default().preconditions(preconditions)).await;
        for fault in [patched.err(), deleted.err()].into_iter().flatten() {
            if !matches!(&fault, kube::Error::Api(status) if matches!(status.code, 404 | 409)) {
                tracing::warn!("undoing {namespace}/{}: {fault}", placement.pod);
            }
        }
    }
}
