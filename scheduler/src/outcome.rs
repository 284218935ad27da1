//! What the tasks do that carry decisions out, and how they end.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::{FutureExt as _, StreamExt as _, stream};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Client, ResourceExt as _};
use plasma_api::Gang;
use plasma_scheduler_core::{Bound, Nomination, Placement, is_single, namespace_of};
use tokio::time::Instant;

use crate::{
    commit::{Binder, Deadline, Obstacle},
    event::{self, Told},
    evict::{Evicted, Eviction, Evictor},
    journal::{self, Journalled, Plan, Sent, Step},
    pod_groups::{Made, Stands, Target, Wanted, group_of},
    report::Reporter,
    said::{News, Recipient},
    shares::Turns,
    volumes::VolumeBinder,
    waits::Why,
};

/// After how long a binding is tried again of which nothing is known.
const AGAIN: Duration = Duration::from_secs(1);
/// How many pods of a gang are told at once that there is no room.
const TOLD_AT_ONCE: usize = 8;
/// For how long a binding is tried again at once that ends in the API server's own fault, and without an effect. Where it
/// doesn't answer, that is over by then.
const TRIED_AT_ONCE: Duration = Duration::from_secs(2);

/// How a task ended.
pub(crate) enum Outcome {
    /// The pods of a group without a journal are where they were sent.
    Bound { group: String, placements: Vec<Placement> },
    /// The volumes of a group's pods were asked for, or can't be had as planned.
    Asked { group: String, why_not: Option<String> },
    /// Nothing was bound, and nothing will be.
    Refused { group: String, placements: Vec<Placement>, obstacle: Option<Obstacle> },
    /// Nobody knows how far the plan came.
    Unknown { group: String, placements: Vec<Placement>, obstacle: Option<Obstacle> },
    /// Pods that were left on their way were read: these, by UID, aren't bound.
    StraysRead { unbound: Vec<String> },
    /// The gang's plan is journalled, and its bindings were sent. The gang is as it was written.
    Begun { group: String, placements: Vec<Placement>, gang: Box<Gang>, sent: Sent },
    /// A journalled plan was carried on.
    CarriedOn { group: String, placements: Vec<Placement>, step: Step },
    /// Others were evicted for a group, or not.
    Evicted { group: String, evicted: Evicted },
    /// The pods whose status still names a node that isn't kept for them.
    Cleared { failed: Vec<Nomination> },
    /// It was told on an object what of it makes no sense, or it couldn't be.
    Complained { untold: Option<(ObjectReference, String)> },
    /// A group was told what it waits for, or not everybody of it was; the gang where it was written, and whether its event
    /// was, too.
    Told { group: String, is_told: bool, has_alarmed: bool, gang: Option<Box<Gang>> },
    /// A gang was made for a PodGroup's pods, or can't be.
    GangMade { group: String, made: Made },
    /// A PodGroup was told that its pods have their places; if not, it is told again.
    Confirmed,
}

/// Runs a task to its end. One that panics ends otherwise.
pub(crate) async fn unless_it_panics(task: impl Future<Output = Outcome>, otherwise: Outcome) -> Outcome {
    // What a task shares with others is behind locks of its libraries; everything else of it is gone with it.
    AssertUnwindSafe(task).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!("a task panicked: what it did isn't known, and is found out");
        otherwise
    })
}

/// What a group is told, and where.
pub(crate) struct Telling {
    pub(crate) group: String,
    pub(crate) news: News,
    /// Its gang, where it has one that can say it, as it was known then.
    pub(crate) gang: Option<Gang>,
    /// The PodGroup of its pods, where they have one.
    pub(crate) pod_group: Option<Target>,
}

/// What tasks work with.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) client: Client,
    pub(crate) binder: Binder,
    pub(crate) volumes: VolumeBinder,
    pub(crate) reporter: Reporter,
    pub(crate) evictor: Evictor,
    /// How much may be told at once: people wait, pods don't.
    pub(crate) telling: Turns,
}

impl Work {
    /// Asks for the volumes of a group's pods.
    pub(crate) async fn ask_for_volumes(self, group: String, placements: Vec<Placement>) -> Outcome {
        let why_not = self.volumes.ask(&placements).await.err();
        Outcome::Asked { group, why_not }
    }

    /// Binds a pod of no gang.
    pub(crate) async fn bind_single(self, group: String, placements: Vec<Placement>) -> Outcome {
        let namespace = namespace_of(&group).to_owned();
        for placement in &placements {
            let (bound, obstacle) = self.bind_one(&namespace, placement).await;
            match bound {
                Bound::Yes | Bound::Started => {}
                Bound::Never | Bound::Refused => return Outcome::Refused { group, placements, obstacle },
                Bound::NotYet | Bound::Unknown => return Outcome::Unknown { group, placements, obstacle },
            }
        }
        Outcome::Bound { group, placements }
    }

    /// Binds a pod, trying again at once where nobody knows whether it is bound.
    async fn bind_one(&self, namespace: &str, placement: &Placement) -> (Bound, Option<Obstacle>) {
        let (begun, mut may_arrive) = (Instant::now(), false);
        loop {
            let last = self.binder.bind(namespace, placement, None).await;
            if last.0 == Bound::Refused && may_arrive {
                // This one wasn't carried out; one before it may be.
                return (Bound::Unknown, last.1);
            }
            may_arrive |= last.0.may_arrive();
            if !last.0.may_arrive() || begun.elapsed() >= TRIED_AT_ONCE {
                return last;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Journals a gang's plan, then binds its pods.
    pub(crate) async fn bind_gang(
        self,
        gang: Gang,
        placements: Vec<Placement>,
        deadline: Deadline,
    ) -> Outcome {
        let group = group_of(&gang);
        let namespace = gang.namespace().unwrap_or_default();
        // The plan is durable before its first binding: a successor finishes or undoes what we began.
        let journalled = journal::write_for_sure(&self.client, gang, &placements, deadline.said);
        let gang = match self.binder.wire.take_by(&namespace, deadline.ours, journalled).await {
            None => {
                let words = format!(
                    "requests of namespace {namespace} take long: its turn didn't come by its deadline"
                );
                let obstacle = Some(Obstacle { words, is_refusal: false });
                return Outcome::Refused { group, placements, obstacle };
            }
            Some(Journalled::Yes(gang)) => gang,
            Some(Journalled::No(obstacle)) => return Outcome::Refused { group, placements, obstacle },
            Some(Journalled::Unknown(obstacle)) => {
                return Outcome::Unknown { group, placements, obstacle: Some(obstacle) };
            }
        };
        let outcomes = self.binder.bind_all(&namespace, &placements, deadline.ours).await.outcomes;
        let sent = Sent {
            is_bound: outcomes.iter().all(|outcome| outcome.is_done()),
            may_arrive: outcomes.iter().any(|outcome| outcome.may_arrive()),
        };
        if outcomes.contains(&Bound::Never) {
            tracing::warn!("gang {group}: not every pod can be bound as planned");
        }
        Outcome::Begun { group, placements, gang, sent }
    }

    /// Carries a journalled plan on.
    pub(crate) async fn carry_on(self, plan: Plan) -> Outcome {
        let step = plan.carry_on(&self.binder, &self.reporter).await;
        Outcome::CarriedOn { placements: plan.ours(), group: plan.key, step }
    }

    /// Reads whether pods that were left on their way are bound.
    pub(crate) async fn read_strays(self, strays: Vec<(String, Placement)>) -> Outcome {
        Outcome::StraysRead { unbound: self.binder.unbound(strays).await }
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
        let namespace = about.namespace.clone().unwrap_or_default();
        let told = Told { about: about.clone(), is_warning: true, reason: "Unreadable", note: &why };
        let is_told = self.telling.take(&namespace, event::publish_once(&self.client, told)).await;
        Outcome::Complained { untold: (!is_told).then_some((about, why)) }
    }

    /// Makes a gang for the pods of a PodGroup.
    pub(crate) async fn make_gang(self, group: String, wanted: Wanted) -> Outcome {
        let made = wanted.make(&self.client).await;
        Outcome::GangMade { group, made }
    }

    /// Tells a PodGroup that so many of its pods have their places.
    pub(crate) async fn confirm(self, pod_group: Target, pods: usize) -> Outcome {
        pod_group.tell(&self.client, &Stands::placed(pods), false).await;
        Outcome::Confirmed
    }

    /// Tells a group, and its pods, what it waits for.
    pub(crate) async fn tell(self, telling: Telling) -> Outcome {
        let group = telling.group.clone();
        let namespace = namespace_of(&group);
        self.telling.take(namespace, self.tell_now(telling, namespace)).await
    }

    async fn tell_now(&self, telling: Telling, namespace: &str) -> Outcome {
        let Telling { group, news, gang: teller, pod_group } = telling;
        let is_of_pods = is_single(&group) || news.waits.why.is_of_pods();
        let has_teller = teller.is_some();
        let (mut is_written, gang) = match teller.filter(|_| news.is_for_gang && !is_of_pods) {
            Some(gang) => self.reporter.tell_gang(gang, &news).await,
            None => (true, None),
        };
        if let Some(pod_group) = pod_group.filter(|_| news.is_for_gang && news.waits.why != Why::Gathering) {
            let alarms = news.alarms && !has_teller;
            is_written &= pod_group.tell(&self.client, &Stands::waits(&news.waits), alarms).await;
        }
        let tell = |pod: Recipient| {
            let (reporter, message) = (&self.reporter, &news.waits.message);
            async move { reporter.condition(namespace, &pod, message).await }
        };
        let pods = stream::iter(news.pods.clone()).map(tell).buffer_unordered(TOLD_AT_ONCE);
        let failed = pods.filter(|is_told| std::future::ready(!is_told)).count().await;
        if is_of_pods && failed == 0 {
            self.reporter.alarm(namespace, &news).await;
        }
        let (is_told, has_alarmed) = (is_written && failed == 0, is_written && (failed == 0 || !is_of_pods));
        Outcome::Told { group, is_told, has_alarmed, gang: gang.map(Box::new) }
    }
}
