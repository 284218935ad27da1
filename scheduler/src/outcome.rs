//! What the tasks do that carry decisions out, and how they end.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::{api::core::v1::ObjectReference, jiff::Timestamp};
use kube::{Client, ResourceExt as _};
use plasma_api::Gang;
use plasma_scheduler_core::{Bound, Nomination, Placement};

use crate::{
    commit::Binder,
    event::{self, Told},
    evict::{Evicted, Eviction, Evictor},
    journal::{self, JournalError, Plan, Step},
    report::{Reporter, Written},
    state::{self, Ended},
    volumes::VolumeBinder,
    waits::Waits,
};

/// After how long a binding is tried again of which nothing is known.
const AGAIN: Duration = Duration::from_secs(1);
/// How many pods of a gang are told at once that there is no room.
const TOLD_AT_ONCE: usize = 8;

/// How a task ended.
pub(crate) enum Outcome {
    /// The pods of a group without a journal are where they were sent, or lost to it.
    Bound { group: String, pods: usize, is_lost: bool },
    /// The volumes of a group's pods were asked for, or can't be had as planned.
    Asked { group: String, why_not: Option<String> },
    /// Nothing was bound, and nothing will be.
    Refused { group: String, pods: usize },
    /// Whether the gang's plan is journalled isn't known. Nothing was bound.
    Unknown { group: String, pods: usize },
    /// The gang's plan is journalled and isn't over.
    Begun { group: String, pods: usize },
    /// The gang's plan is over: every pod is bound.
    Over { group: String, pods: usize, ended: Option<Ended> },
    /// A journalled plan was carried on.
    CarriedOn { group: String, step: Step },
    /// Others were evicted for a group, or not.
    Evicted { group: String, evicted: Evicted },
    /// The pods whose status still names a node that isn't kept for them.
    Cleared { failed: Vec<Nomination> },
    /// It was told on an object what of it makes no sense.
    Complained,
    /// A group was told what it waits for, or not.
    Told { group: String, is_told: bool },
}

/// What tasks work with.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) client: Client,
    pub(crate) binder: Binder,
    pub(crate) volumes: VolumeBinder,
    pub(crate) reporter: Reporter,
    pub(crate) evictor: Evictor,
}

impl Work {
    /// Asks for the volumes of a group's pods.
    pub(crate) async fn ask_for_volumes(self, group: String, placements: Vec<Placement>) -> Outcome {
        let why_not = self.volumes.ask(&placements).await.err();
        Outcome::Asked { group, why_not }
    }

    /// Binds a pod of no gang. While nobody knows whether it is bound it stays where it was sent.
    pub(crate) async fn bind_single(self, group: String, placements: Vec<Placement>) -> Outcome {
        let (namespace, pods) =
            (group.split_once('/').map_or("", |(namespace, _)| namespace).to_owned(), placements.len());
        let mut is_lost = false;
        for placement in &placements {
            loop {
                match self.binder.bind(&namespace, placement).await {
                    Bound::Yes | Bound::Started => break,
                    Bound::Never => {
                        is_lost = true;
                        break;
                    }
                    Bound::Refused => return Outcome::Refused { group, pods },
                    Bound::NotYet => tokio::time::sleep(AGAIN).await,
                }
            }
        }
        Outcome::Bound { group, pods, is_lost }
    }

    /// Journals a gang's plan, then binds its pods, of which so many are bound in the end.
    pub(crate) async fn bind_gang(
        self,
        gang: Gang,
        placements: Vec<Placement>,
        deadline: Timestamp,
        bound: usize,
    ) -> Outcome {
        let (group, pods) = (state::key(&gang), placements.len());
        let (namespace, name) = (gang.namespace().unwrap_or_default(), gang.name_any());
        // The plan is durable before its first binding: a successor finishes or undoes what we began.
        let gang = match journal::write(&self.client, gang, &placements, deadline).await {
            Ok(gang) => gang,
            Err(fault) => {
                tracing::debug!("gang {group}: the plan can't be journalled: {fault}");
                let is_written_for_sure_not = match &fault {
                    JournalError::Uid(_) | JournalError::Open => true,
                    JournalError::Kube(fault) => {
                        matches!(&**fault, kube::Error::Api(status) if status.code < 500)
                    }
                };
                return if is_written_for_sure_not {
                    Outcome::Refused { group, pods }
                } else {
                    Outcome::Unknown { group, pods }
                };
            }
        };
        let outcomes = self.binder.bind_all(&namespace, &placements).await;
        if !outcomes.iter().all(|outcome| outcome.is_done()) {
            if outcomes.contains(&Bound::Never) {
                tracing::warn!("gang {group}: not every pod can be bound as planned");
            }
            return Outcome::Begun { group, pods };
        }
        tracing::debug!("gang {group}: bound {pods} pods");
        match self.reporter.scheduled((&namespace, &name), Some(gang), bound).await {
            Written::Yes(ended) => Outcome::Over { group, pods, ended },
            Written::No => Outcome::Begun { group, pods },
        }
    }

    /// Carries a journalled plan on.
    pub(crate) async fn carry_on(self, plan: Plan) -> Outcome {
        let step = plan.carry_on(&self.binder, &self.reporter).await;
        Outcome::CarriedOn { group: plan.key, step }
    }

    /// Evicts others for a group.
    pub(crate) async fn evict(self, eviction: Eviction) -> Outcome {
        let evicted = self.evictor.make_room(&eviction).await;
        Outcome::Evicted { group: eviction.group, evicted }
    }

    /// Says of pods that no node is kept for them any more.
    pub(crate) async fn clear(self, nominations: Vec<Nomination>) -> Outcome {
        Outcome::Cleared { failed: self.evictor.clear(nominations).await }
    }

    /// Tells on an object what of it makes no sense.
    pub(crate) async fn complain(self, about: ObjectReference, why: String) -> Outcome {
        let told = Told { about, is_warning: true, reason: "Unreadable", note: &why };
        event::publish(&self.client, told).await;
        Outcome::Complained
    }

    /// Tells a group what it waits for, and its pods that don't say so yet.
    pub(crate) async fn tell(self, group: String, waits: Waits, untold: Vec<(String, String)>) -> Outcome {
        let (namespace, name) = group.split_once('/').unwrap_or_default();
        let is_told = match (name.strip_prefix("pod:"), untold.first()) {
            (Some(pod), Some((_, uid))) => self.reporter.tell_pod((namespace, pod), uid, &waits).await,
            // It says so already, since before this process began.
            (Some(_), None) => true,
            (None, _) => {
                let is_told = self.reporter.tell_gang((namespace, name), &waits).await;
                let tell = |pod: (String, String)| {
                    let (reporter, waits) = (&self.reporter, &waits);
                    async move { reporter.condition(namespace, (&pod.0, &pod.1), waits).await }
                };
                let pods = if waits.wants_room { untold } else { Vec::new() };
                let pods = stream::iter(pods).map(tell).buffer_unordered(TOLD_AT_ONCE);
                pods.all(|is_told| async move { is_told }).await && is_told
            }
        };
        Outcome::Told { group, is_told }
    }
}
