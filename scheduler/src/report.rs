//! What gangs and pods are told: Gang.status, conditions and events, written only when they change.

use std::collections::{HashMap, HashSet};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
    runtime::events::{Event, EventType, Recorder, Reporter as EventReporter},
};
use plasma_api::{
    Gang, GangStatus,
    condition::{self, Holds, Statement},
    gang::{Blocker as ApiBlocker, GangPhase},
    names,
};
use plasma_scheduler_core::Blocker;
use serde_json::json;

use crate::{
    observe::{Watched, pod_resource},
    world::World,
};

/// Tells the cluster what was decided, and remembers what it told.
pub(crate) struct Reporter {
    client: Client,
    recorder: Recorder,
    /// What was said last about each gang or pod that isn't placed.
    said: HashMap<String, String>,
    /// Gangs whose journal we ended, by the version that the watch still shows.
    finished: HashSet<String>,
}

/// What is to stand in a gang's status.
struct Verdict {
    phase: GangPhase,
    bound: Option<usize>,
    message: Option<String>,
    blockers: Vec<ApiBlocker>,
    scheduled: Statement,
}

impl Reporter {
    pub(crate) fn new(client: Client) -> Self {
        let reporter =
            EventReporter { controller: names::field_manager::SCHEDULER.to_owned(), instance: None };
        let recorder = Recorder::new(client.clone(), reporter);
        Self { client, recorder, said: HashMap::new(), finished: HashSet::new() }
    }

    /// Whether the gang, or the pod of no gang, was last told that it has no place.
    pub(crate) fn is_held(&self, key: &str) -> bool {
        self.said.contains_key(key)
    }

    /// Whether this plan was finished by us and only the watch doesn't know yet.
    pub(crate) fn has_finished(&self, namespace: &str, name: &str, version: Option<&str>) -> bool {
        version.is_some_and(|version| self.finished.contains(&format!("{namespace}/{name}@{version}")))
    }

    /// Every pod of the plan is bound.
    pub(crate) async fn scheduled(&mut self, namespace: &str, name: &str, bound: usize) {
        self.said.remove(&format!("{namespace}/{name}"));
        if name.starts_with("pod:") {
            return;
        }
        let message = format!("{bound} pods are bound");
        let scheduled = statement(Holds::True, "Scheduled", &message);
        let verdict = Verdict {
            phase: GangPhase::Scheduled,
            bound: Some(bound),
            message: None,
            blockers: Vec::new(),
            scheduled,
        };
        if self.write_status(namespace, name, verdict, true).await {
            self.event(namespace, name, EventType::Normal, "Scheduled", message).await;
        }
    }

    /// The plan was undone.
    pub(crate) async fn rolled_back(&mut self, namespace: &str, name: &str) {
        let message =
            "not every pod could be bound; those that were are deleted, and made anew by their owner";
        let scheduled = statement(Holds::False, "RolledBack", message);
        let verdict = Verdict {
            phase: GangPhase::RollingBack,
            bound: Some(0),
            message: Some(message.to_owned()),
            blockers: Vec::new(),
            scheduled,
        };
        if self.write_status(namespace, name, verdict, true).await {
            self.event(namespace, name, EventType::Warning, "GangRolledBack", message.to_owned()).await;
        }
    }

    /// There is no room.
    pub(crate) async fn held(&mut self, watched: &Watched, key: &str, message: &str, blockers: &[Blocker]) {
        let blockers = blockers.iter().map(api_blocker).collect();
        self.tell(watched, key, "Unschedulable", message, blockers).await;
    }

    /// Gangs that still gather, and those with a field that isn't taken on.
    pub(crate) async fn rest(&mut self, watched: &Watched, world: &World) {
        for (key, there, needed) in &world.gathering {
            let message = format!("{there} of {needed} pods exist");
            self.tell(watched, key, "Gathering", &message, Vec::new()).await;
        }
        for (key, why) in &world.refused {
            let subject = why.field.clone();
            let blocker = ApiBlocker {
                reason: "UnsupportedField".to_owned(),
                subject,
                nodes: 0,
                needed: None,
                free: None,
            };
            self.tell(watched, key, "UnsupportedField", &why.to_string(), vec![blocker]).await;
        }
        let waiting = world.snapshot.waiting.iter().map(|gang| &gang.key);
        let gathering = world.gathering.iter().map(|(key, ..)| key);
        let refused = world.refused.iter().map(|(key, _)| key);
        let known: HashSet<&String> = waiting.chain(gathering).chain(refused).collect();
        self.said.retain(|key, _| known.contains(key));
    }

    async fn tell(
        &mut self,
        watched: &Watched,
        key: &str,
        reason: &str,
        message: &str,
        blockers: Vec<ApiBlocker>,
    ) {
        if self.said.get(key).is_some_and(|said| said == message) {
            return;
        }
        let (namespace, name) = key.split_once('/').unwrap_or_default();
        let told = match name.strip_prefix("pod:") {
            Some(pod) => self.tell_pod(watched, namespace, pod, reason, message).await,
            None => {
                let phase = if reason == "Gathering" { GangPhase::Gathering } else { GangPhase::Waiting };
                let scheduled = statement(Holds::False, reason, message);
                let verdict =
                    Verdict { phase, bound: None, message: Some(message.to_owned()), blockers, scheduled };
                let written = self.write_status(namespace, name, verdict, false).await;
                if written && reason != "Gathering" {
                    self.event(namespace, name, EventType::Warning, "FailedScheduling", message.to_owned())
                        .await;
                }
                written
            }
        };
        if told {
            self.said.insert(key.to_owned(), message.to_owned());
        }
    }

    /// Writes the gang's status where it would change; whether it stands there now.
    async fn write_status(&mut self, namespace: &str, name: &str, verdict: Verdict, ends_plan: bool) -> bool {
        let gangs: Api<Gang> = Api::namespaced(self.client.clone(), namespace);
        let outcome = async {
            let mut gang = gangs.get(name).await?;
            if ends_plan {
                let version = gang.metadata.resource_version.clone().unwrap_or_default();
                self.finished.insert(format!("{namespace}/{name}@{version}"));
            }
            let before = gang.status.clone();
            let generation = gang.metadata.generation;
            apply(gang.status.get_or_insert_default(), verdict, generation, ends_plan);
            if gang.status != before {
                gangs.replace_status(name, &PostParams::default(), &gang).await?;
            }
            Ok::<_, kube::Error>(())
        };
        match outcome.await {
            Ok(()) => true,
            Err(kube::Error::Api(status)) if status.code == 404 => true,
            Err(fault) => {
                tracing::warn!("gang {namespace}/{name}: its status can't be written: {fault}");
                false
            }
        }
    }

    async fn tell_pod(
        &self,
        watched: &Watched,
        namespace: &str,
        name: &str,
        reason: &str,
        message: &str,
    ) -> bool {
        let resource: ApiResource = pod_resource();
        let pods: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        let condition = json!({ "status": { "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message }
        ] } });
        let told = pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(&condition)).await;
        if let Err(fault) = &told {
            tracing::warn!("pod {namespace}/{name}: its condition can't be written: {fault}");
        }
        let same = |pod: &&std::sync::Arc<DynamicObject>| {
            pod.name_any() == name && pod.namespace().as_deref() == Some(namespace)
        };
        if let Some(pod) = watched.pods.state().iter().find(same) {
            let note = format!("{reason}: {message}");
            self.publish(&pod.object_ref(&resource), EventType::Warning, "FailedScheduling", note).await;
        }
        told.is_ok()
    }

    async fn event(&self, namespace: &str, name: &str, kind: EventType, reason: &str, note: String) {
        let gangs: Api<Gang> = Api::namespaced(self.client.clone(), namespace);
        if let Ok(gang) = gangs.get(name).await {
            self.publish(&gang.object_ref(&()), kind, reason, note).await;
        }
    }

    async fn publish(
        &self,
        about: &k8s_openapi::api::core::v1::ObjectReference,
        type_: EventType,
        reason: &str,
        note: String,
    ) {
        let note = note.chars().take(1000).collect();
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Scheduling".to_owned(),
            secondary: None,
        };
        if let Err(fault) = self.recorder.publish(&event, about).await {
            tracing::warn!("an event can't be written: {fault}");
        }
    }
}

fn apply(status: &mut GangStatus, verdict: Verdict, generation: Option<i64>, ends_plan: bool) {
    status.observed_generation = generation;
    status.phase = Some(verdict.phase);
    status.bound =
        verdict.bound.map(|bound| i32::try_from(bound).unwrap_or(i32::MAX)).or(status.bound).or(Some(0));
    status.message = verdict.message;
    status.blockers = verdict.blockers;
    if ends_plan {
        status.journal = None;
    }
    condition::merge(&mut status.conditions, verdict.scheduled, generation, &Time(Timestamp::now()));
}

fn statement(holds: Holds, reason: &str, message: &str) -> Statement {
    Statement { kind: "Scheduled", holds, reason: reason.to_owned(), message: message.to_owned() }
}

fn api_blocker(blocker: &Blocker) -> ApiBlocker {
    ApiBlocker {
        reason: blocker.reason.to_owned(),
        subject: blocker.subject.clone(),
        nodes: i32::try_from(blocker.nodes).unwrap_or(i32::MAX),
        needed: blocker.needed.map(|amount| amount.to_string()),
        free: blocker.free.map(|amount| amount.to_string()),
    }
}
