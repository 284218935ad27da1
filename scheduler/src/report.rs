//! What is written for people and other programs: gangs' status, pods' conditions, events.

use k8s_openapi::{
    api::core::v1::{ObjectReference, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use plasma_api::{
    Gang, GangStatus,
    condition::{Holds, Statement, merge},
    gang::{Blocker as ApiBlocker, GangPhase},
};
use plasma_runtime::is_conflict;

use crate::{
    commit::Obstacle,
    condition,
    event::{self, Told},
    said::{News, Recipient},
    waits::Waits,
};

/// The condition by which a gang's status says whether it has its places.
const SCHEDULED: &str = "Scheduled";

/// Tells the cluster what was decided.
#[derive(Clone)]
pub(crate) struct Reporter {
    client: Client,
}

/// Which gang's status is written.
#[derive(Clone, Copy)]
pub(crate) struct Whose<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// One made anew under its name is another one.
    pub(crate) uid: &'a str,
}

impl Whose<'_> {
    fn reference(&self) -> ObjectReference {
        let (version, kind) = (Gang::api_version(&()), Gang::kind(&()));
        event::reference((&version, &kind), self.namespace, self.name, self.uid)
    }
}

impl std::fmt::Display for Whose<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "gang {}/{}", self.namespace, self.name)
    }
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

/// A gang's status, written where it changed.
struct Change {
    gang: Gang,
    before: Option<GangStatus>,
    has_changed: bool,
}

/// How the writing of a gang's status ended.
pub(crate) enum Written {
    /// It stands there: the gang as it is now, where it still is.
    Yes(Option<Box<Gang>>),
    /// It wasn't written, and why; nothing where somebody else wrote meanwhile, or it isn't time.
    No(Option<Obstacle>),
}

impl Reporter {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Every pod of the plan is bound, and so many of the gang's in all. The gang may be known as it was just written.
    pub(crate) async fn scheduled(&self, whose: Whose<'_>, known: Option<Gang>, bound: usize) -> Written {
        let message = format!("{bound} pods are bound");
        let verdict = Verdict {
            phase: GangPhase::Scheduled,
            bound,
            message: None,
            blockers: Vec::new(),
            scheduled: statement(Holds::True, "Scheduled", &message),
            ends_plan: true,
        };
        self.write_and_tell(whose, known, verdict, Some((false, "Scheduled", &message))).await
    }

    /// The plan was undone, and why; so many pods of the gang are bound all the same.
    pub(crate) async fn rolled_back(&self, whose: Whose<'_>, bound: usize, why: &str) -> Written {
        let message = format!(
            "not every pod could be bound: {why}; those that were are deleted, and made anew by their owner"
        );
        let verdict = Verdict {
            phase: GangPhase::RollingBack,
            bound,
            message: Some(message.clone()),
            blockers: Vec::new(),
            scheduled: statement(Holds::False, "RolledBack", &message),
            ends_plan: true,
        };
        self.write_and_tell(whose, None, verdict, Some((true, "GangRolledBack", &message))).await
    }

    /// What a gang waits for. Whether it stands there now, and the gang where it was written: not where the gang has changed
    /// meanwhile, which may mean that it waits no more.
    pub(crate) async fn tell_gang(&self, gang: Gang, news: &News) -> (bool, Option<Gang>) {
        let (namespace, name) = (gang.namespace().unwrap_or_default(), gang.name_any());
        let uid = gang.uid().unwrap_or_default();
        let whose = Whose { namespace: &namespace, name: &name, uid: &uid };
        let Waits { why, message, blockers, bound } = &news.waits;
        let verdict = Verdict {
            phase: why.phase(),
            bound: *bound,
            message: Some(message.clone()),
            blockers: blockers.clone(),
            scheduled: statement(Holds::False, why.reason(), message),
            ends_plan: false,
        };
        let event = news.alarms.then_some((true, "FailedScheduling", message.as_str()));
        // As it was known when this was found: where it is another by now, it is found anew.
        match self.write_status(whose, Some(gang), verdict).await {
            Ok(Some(Change { gang, before, has_changed: true, .. })) => {
                // One that began anew doesn't know what was told before, but for what stands there.
                if let (false, Some(event)) = (says_like(before.as_ref(), gang.status.as_ref()), event) {
                    self.publish(&gang, event).await;
                }
                (true, Some(gang))
            }
            Ok(_) => (true, None),
            Err(fault) if is_conflict(&fault) => (false, None),
            Err(fault) => {
                tracing::warn!("{whose}: its status can't be written: {fault}");
                (false, None)
            }
        }
    }

    async fn write_and_tell(
        &self,
        whose: Whose<'_>,
        known: Option<Gang>,
        verdict: Verdict,
        event: Option<(bool, &str, &str)>,
    ) -> Written {
        match self.write_status(whose, known, verdict).await {
            Ok(Some(Change { gang, has_changed, .. })) => {
                if let (true, Some(event)) = (has_changed, event) {
                    self.publish(&gang, event).await;
                }
                Written::Yes(Some(Box::new(gang)))
            }
            Ok(None) => Written::Yes(None),
            Err(fault) if is_conflict(&fault) => Written::No(None),
            Err(fault) => {
                tracing::warn!("{whose}: the end of its plan can't be written: {fault}");
                let obstacle =
                    Obstacle::new(&format!("the end of the plan of {whose} isn't written"), &fault);
                if obstacle.is_refusal {
                    let note = obstacle.words.as_str();
                    let told =
                        Told { about: whose.reference(), is_warning: true, reason: "PlanNotEnded", note };
                    event::publish_once(&self.client, told).await;
                }
                Written::No(Some(obstacle))
            }
        }
    }

    async fn publish(&self, gang: &Gang, (is_warning, reason, note): (bool, &str, &str)) {
        let about = gang.object_ref(&());
        event::publish(&self.client, Told { about, is_warning, reason, note }).await;
    }

    /// Writes the gang's status where it would change. Nothing where the gang is gone, or is another one.
    async fn write_status(
        &self,
        whose: Whose<'_>,
        known: Option<Gang>,
        verdict: Verdict,
    ) -> Result<Option<Change>, kube::Error> {
        let Whose { namespace, name, uid } = whose;
        let gangs: Api<Gang> = Api::namespaced(self.client.clone(), namespace);
        let found = match known {
            Some(gang) => Some(gang),
            None => gangs.get_opt(name).await?,
        };
        let found = found.filter(|gang| gang.metadata.uid.as_deref() == Some(uid));
        let Some(mut gang) = found else { return Ok(None) };
        let before = gang.status.clone();
        if before.as_ref().is_some_and(|status| status.journal.is_some()) && !verdict.ends_plan {
            // A plan has begun meanwhile: what the gang waited for before is no news.
            return Ok(None);
        }
        let generation = gang.metadata.generation;
        apply(gang.status.get_or_insert_default(), verdict, generation);
        let has_changed = gang.status != before;
        if has_changed {
            match gangs.replace_status(name, &PostParams::default(), &gang).await {
                Ok(written) => gang = written,
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
                Err(fault) => return Err(fault),
            }
        }
        Ok(Some(Change { gang, before, has_changed }))
    }

    /// What pods of no gang wait for: an event on the first of them.
    pub(crate) async fn alarm(&self, namespace: &str, news: &News) {
        let Waits { why, message, .. } = &news.waits;
        if let Some(pod) = news.pods.iter().find(|pod| news.alarms && pod.reason.is_some()) {
            let about = event::pod_reference(namespace, &pod.pod, &pod.uid);
            let note = format!("{}: {message}", why.reason());
            let event = Told { about, is_warning: true, reason: "FailedScheduling", note: &note };
            event::publish(&self.client, event).await;
        }
    }

    /// Says on a pod, by the condition that kube-scheduler uses, why it has no place. Whether it stands there: not where the
    /// pod has changed meanwhile, which may mean that it has one.
    pub(crate) async fn condition(&self, namespace: &str, pod: &Recipient, message: &str) -> bool {
        let patch = condition::not_scheduled(pod, message);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        match pods.patch_status(&pod.pod, &PatchParams::default(), &Patch::Strategic(&patch)).await {
            Ok(_) => true,
            Err(kube::Error::Api(status)) if status.code == 404 => true,
            Err(fault) if is_conflict(&fault) => false,
            Err(fault) => {
                tracing::warn!("pod {namespace}/{}: its condition can't be written: {fault}", pod.pod);
                false
            }
        }
    }
}

/// Whether a gang's status says the same but for numbers, as far as people are told of it.
fn says_like(one: Option<&GangStatus>, other: Option<&GangStatus>) -> bool {
    let gist = |status: Option<&GangStatus>| {
        let status = status?;
        let scheduled = status.conditions.iter().find(|condition| condition.type_ == SCHEDULED)?;
        let blockers =
            status.blockers.iter().map(|blocker| (blocker.reason.clone(), blocker.subject.clone()));
        Some((scheduled.reason.clone(), blockers.collect::<Vec<_>>()))
    };
    gist(one) == gist(other)
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
    merge(&mut status.conditions, verdict.scheduled, generation, &Time(Timestamp::now()));
}

fn statement(holds: Holds, reason: &str, message: &str) -> Statement {
    Statement { kind: SCHEDULED, holds, reason: reason.to_owned(), message: message.to_owned() }
}
