//! What gangs and pods are told: Gang.status, conditions and events, written only when they change.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
    runtime::events::{Event, EventType, Recorder, Reporter as EventReporter},
};
use plasma_api::{
    Gang, GangStatus,
    condition::{self, Holds, Statement},
    gang::{Blocker as ApiBlocker, GangPhase, Journal},
    names,
};
use plasma_scheduler_core::Blocker;
use serde_json::json;

use crate::{
    observe::{Watched, pod_resource},
    world::{self, Aside, World},
};

/// The reason of a gang that hasn't all its pods yet: every gang is that for a moment, so it gets no event.
const GATHERING: &str = "Gathering";

/// Tells the cluster what was decided, and remembers what it told.
pub(crate) struct Reporter {
    client: Client,
    recorder: Recorder,
    /// What was said last about each gang or pod that isn't placed.
    said: HashMap<String, Waits>,
    /// Gangs whose journal we ended, by key, until the watch shows that.
    ended: HashMap<String, Ended>,
}

/// A journal that was ended, and the version of the gang in which it is gone.
struct Ended {
    uid: Option<String>,
    journal: Journal,
    version: Option<String>,
}

/// Why a gang, or a pod of no gang, has no place.
#[derive(Clone, PartialEq)]
struct Waits {
    reason: &'static str,
    message: String,
    blockers: Vec<ApiBlocker>,
    bound: usize,
}

/// What is to stand in a gang's status.
struct Verdict {
    phase: GangPhase,
    bound: usize,
    message: Option<String>,
    blockers: Vec<ApiBlocker>,
    scheduled: Statement,
    ends_plan: bool,
}

impl Reporter {
    pub(crate) fn new(client: Client) -> Self {
        let reporter =
            EventReporter { controller: names::field_manager::SCHEDULER.to_owned(), instance: None };
        let recorder = Recorder::new(client.clone(), reporter);
        Self { client, recorder, said: HashMap::new(), ended: HashMap::new() }
    }

    /// Whether the gang, or the pod of no gang, was last told that it has no place.
    pub(crate) fn is_held(&self, key: &str) -> bool {
        self.said.contains_key(key)
    }

    /// Whether the gang's journal was ended by us and only the watch doesn't know yet.
    pub(crate) fn has_ended(&self, gang: &Gang) -> bool {
        let journal = gang.status.as_ref().and_then(|status| status.journal.as_ref());
        self.ended.get(&world::key(gang)).is_some_and(|ended| {
            ended.uid == gang.metadata.uid && journal.is_some_and(|journal| *journal == ended.journal)
        })
    }

    /// Forgets the ended journals of gangs that the watch shows as we wrote them, or shows no more.
    pub(crate) fn forget_shown(&mut self, watched: &Watched) {
        if self.ended.is_empty() {
            return;
        }
        let gangs = watched.gangs.state();
        let shown: HashMap<String, _> =
            gangs.iter().map(|gang| (world::key(&**gang), (gang.uid(), gang.resource_version()))).collect();
        let is_behind = |key: &String, ended: &mut Ended| {
            shown.get(key).is_some_and(|(uid, version)| *uid == ended.uid && *version != ended.version)
        };
        self.ended.retain(is_behind);
    }

    /// Every pod of the plan is bound, and so many of the gang's in all. Whether that stands there now.
    pub(crate) async fn scheduled(&mut self, namespace: &str, name: &str, bound: usize) -> bool {
        self.said.remove(&format!("{namespace}/{name}"));
        if name.starts_with("pod:") {
            return true;
        }
        let message = format!("{bound} pods are bound");
        let verdict = Verdict {
            phase: GangPhase::Scheduled,
            bound,
            message: None,
            blockers: Vec::new(),
            scheduled: statement(Holds::True, "Scheduled", &message),
            ends_plan: true,
        };
        let written = self.write_status(namespace, name, verdict).await;
        if written {
            self.event(namespace, name, EventType::Normal, "Scheduled", message).await;
        }
        written
    }

    /// The plan was undone; so many pods of the gang are bound all the same. Whether that stands there now.
    pub(crate) async fn rolled_back(&mut self, namespace: &str, name: &str, bound: usize) -> bool {
        let message =
            "not every pod could be bound; those that were are deleted, and made anew by their owner";
        let verdict = Verdict {
            phase: GangPhase::RollingBack,
            bound,
            message: Some(message.to_owned()),
            blockers: Vec::new(),
            scheduled: statement(Holds::False, "RolledBack", message),
            ends_plan: true,
        };
        let written = self.write_status(namespace, name, verdict).await;
        if written {
            self.event(namespace, name, EventType::Warning, "GangRolledBack", message.to_owned()).await;
        }
        written
    }

    /// There is no room.
    pub(crate) async fn held(
        &mut self,
        watched: &Watched,
        world: &World,
        (key, message): (&str, String),
        blockers: &[Blocker],
    ) {
        let blockers = blockers.iter().map(api_blocker).collect();
        let waits = Waits { reason: "Unschedulable", message, blockers, bound: world.bound_of(key) };
        self.tell(watched, key, waits).await;
    }

    /// Gangs, and pods of no gang, that were not planned over.
    pub(crate) async fn rest(&mut self, watched: &Watched, world: &World) {
        for (key, why) in &world.aside {
            self.tell(watched, key, waits(why, world.bound_of(key))).await;
        }
        let waiting = world.snapshot.waiting.iter().map(|gang| &gang.key);
        let known: HashSet<&String> = waiting.chain(world.aside.iter().map(|(key, _)| key)).collect();
        self.said.retain(|key, _| known.contains(key));
    }

    async fn tell(&mut self, watched: &Watched, key: &str, waits: Waits) {
        if self.said.get(key) == Some(&waits) {
            return;
        }
        let (namespace, name) = key.split_once('/').unwrap_or_default();
        let told = match name.strip_prefix("pod:") {
            Some(pod) => self.tell_pod(watched, namespace, pod, &waits).await,
            None => self.tell_gang(namespace, name, &waits).await,
        };
        if told {
            self.said.insert(key.to_owned(), waits);
        }
    }

    async fn tell_gang(&mut self, namespace: &str, name: &str, waits: &Waits) -> bool {
        let Waits { reason, message, blockers, bound } = waits.clone();
        let is_gathering = reason == GATHERING;
        let verdict = Verdict {
            phase: if is_gathering { GangPhase::Gathering } else { GangPhase::Waiting },
            bound,
            message: Some(message.clone()),
            blockers,
            scheduled: statement(Holds::False, reason, &message),
            ends_plan: false,
        };
        let written = self.write_status(namespace, name, verdict).await;
        if written && !is_gathering {
            self.event(namespace, name, EventType::Warning, "FailedScheduling", message).await;
        }
        written
    }

    /// Writes the gang's status where it would change; whether it stands there now.
    async fn write_status(&mut self, namespace: &str, name: &str, verdict: Verdict) -> bool {
        let gangs: Api<Gang> = Api::namespaced(self.client.clone(), namespace);
        let ends_plan = verdict.ends_plan;
        let outcome = async {
            let mut gang = gangs.get(name).await?;
            let before = gang.status.clone();
            let generation = gang.metadata.generation;
            apply(gang.status.get_or_insert_default(), verdict, generation);
            if gang.status != before {
                gang = gangs.replace_status(name, &PostParams::default(), &gang).await?;
            }
            Ok::<_, kube::Error>((gang, before.and_then(|before| before.journal)))
        };
        match outcome.await {
            Ok((gang, journal)) => {
                // Only now: had the write failed, the journal would still stand, and must be carried on.
                if let (true, Some(journal)) = (ends_plan, journal) {
                    let (uid, version) = (gang.uid(), gang.resource_version());
                    self.ended.insert(world::key(&gang), Ended { uid, journal, version });
                }
                true
            }
            Err(kube::Error::Api(status)) if status.code == 404 => true,
            Err(fault) => {
                tracing::warn!("gang {namespace}/{name}: its status can't be written: {fault}");
                false
            }
        }
    }

    async fn tell_pod(&self, watched: &Watched, namespace: &str, name: &str, waits: &Waits) -> bool {
        let Waits { reason, message, .. } = waits;
        let resource: ApiResource = pod_resource();
        let pods: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        let condition = json!({ "status": { "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message }
        ] } });
        let told = pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(&condition)).await;
        if let Err(fault) = &told {
            tracing::warn!("pod {namespace}/{name}: its condition can't be written: {fault}");
        }
        let same = |pod: &&Arc<DynamicObject>| {
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

#[cfg(test)]
impl Reporter {
    /// How many journals are remembered as ended.
    pub(crate) fn remembers(&self) -> usize {
        self.ended.len()
    }
}

fn apply(status: &mut GangStatus, verdict: Verdict, generation: Option<i64>) {
    status.observed_generation = generation;
    status.phase = Some(verdict.phase);
    status.bound = Some(i32::try_from(verdict.bound).unwrap_or(i32::MAX));
    status.message = verdict.message;
    status.blockers = verdict.blockers;
    if verdict.ends_plan {
        status.journal = None;
    }
    condition::merge(&mut status.conditions, verdict.scheduled, generation, &Time(Timestamp::now()));
}

fn waits(why: &Aside, bound: usize) -> Waits {
    let blocker = |reason: &str, subject: &String| ApiBlocker {
        reason: reason.to_owned(),
        subject: subject.clone(),
        nodes: 0,
        needed: None,
        free: None,
    };
    match why {
        Aside::Gathering { there, needed } => {
            let message = format!("{there} of {needed} pods exist");
            Waits { reason: GATHERING, message, blockers: Vec::new(), bound }
        }
        Aside::Gated { gate, pods, of } => {
            let reason = "SchedulingGated";
            let message = format!("{pods} of {of} pods wait for scheduling gate {gate} to be taken off");
            Waits { reason, message, blockers: vec![blocker(reason, gate)], bound }
        }
        Aside::Refused(why) => {
            let reason = "UnsupportedField";
            Waits { reason, message: why.to_string(), blockers: vec![blocker(reason, &why.field)], bound }
        }
    }
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
