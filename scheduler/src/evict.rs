//! Making room: the pods that are to get it are named in their status, then whole groups of lower priority are told and
//! deleted. Every read is of the API server itself, and what isn't known evicts nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use k8s_openapi::{
    api::core::v1::{ObjectReference, Pod},
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use plasma_scheduler_core::{Nomination, Placement, Victim, namespace_of};
use serde_json::json;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    condition,
    event::{self, Told},
    shares::Turns,
};

/// How many requests for one group are under way at once.
const AT_ONCE: usize = 16;
/// After how long it is looked once more whether anybody still waits for the room, before the next one is evicted.
const STALE: Duration = Duration::from_secs(2);
/// How long is waited until a nomination is cleared again that couldn't be: the API server may never let that be done.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// What was decided, and the objects that events are about.
pub(crate) struct Eviction {
    /// Who gets the room.
    pub(crate) group: String,
    /// Its priority: only pods below it are evicted.
    pub(crate) priority: i32,
    pub(crate) victims: Vec<Victim>,
    pub(crate) nominations: Vec<Placement>,
    pub(crate) message: String,
    /// The group's object.
    pub(crate) about: ObjectReference,
    /// The objects of the gangs that are evicted, by group.
    pub(crate) gangs: BTreeMap<String, ObjectReference>,
}

/// How it ended.
pub(crate) struct Evicted {
    /// The UIDs of the victims that stay.
    pub(crate) spared: Vec<String>,
    /// How many were evicted.
    pub(crate) count: u64,
    /// Whether the room is being made for the group: it is still there and waits, and its status says for which nodes.
    pub(crate) is_nominated: bool,
}

impl Eviction {
    /// It came to nothing: every victim stays.
    pub(crate) fn of_nobody(&self) -> Evicted {
        let spared = self.victims.iter().map(|victim| victim.uid.clone()).collect();
        Evicted { spared, count: 0, is_nominated: false }
    }
}

/// How a victim stands.
enum Found {
    /// As it was planned: the pod as it was read.
    There(Box<Pod>),
    /// Gone or going by itself.
    Going,
    /// It must not be evicted, or nobody knows.
    Stays,
}

/// The pods, by UID, whose status names a node that isn't kept for them any more, and couldn't be cleared; and when that is
/// tried again.
#[derive(Default)]
pub(crate) struct Uncleared(Vec<(Timestamp, String)>);

impl Uncleared {
    /// These couldn't be cleared now.
    pub(crate) fn owes(&mut self, pods: Vec<Nomination>, now: Timestamp) {
        self.0.extend(pods.into_iter().map(|pod| (now + AGAIN, pod.uid)));
    }

    /// Those for which it is time to try again.
    pub(crate) fn due(&mut self, now: Timestamp) -> Vec<String> {
        self.0.extract_if(.., |(at, _)| *at <= now).map(|(_, uid)| uid).collect()
    }
}

/// Evicts pods.
#[derive(Clone)]
pub(crate) struct Evictor {
    client: Client,
    turns: Turns,
}

impl Evictor {
    pub(crate) fn new(client: Client, turns: Turns) -> Self {
        Self { client, turns }
    }

    /// Nominates the group's pods, then evicts the victims. Where one of these can't be, nobody is evicted.
    pub(crate) async fn make_room(&self, eviction: &Eviction) -> Evicted {
        if !self.nominate_all(eviction).await {
            return eviction.of_nobody();
        }
        let wanted = Mutex::new((Instant::now(), true));
        let look = |victim: &Victim| {
            let victim = victim.clone();
            async move {
                let look = self.look_up(&victim, eviction.priority);
                self.turns.take(&victim.namespace, look).await
            }
        };
        let looks: Vec<_> = eviction.victims.iter().map(look).collect();
        let found: Vec<Found> = stream::iter(looks).buffered(AT_ONCE).collect().await;
        if found.iter().any(|found| matches!(found, Found::Stays)) {
            return eviction.of_nobody();
        }
        let there = eviction.victims.iter().zip(found).filter_map(|(victim, found)| match found {
            Found::There(pod) => Some((victim, pod)),
            _ => None,
        });
        let (there, pods): (Vec<&Victim>, Vec<_>) = there.unzip();
        let spared = self.evict_all(eviction, there.iter().copied().zip(pods), &wanted).await;
        self.tell(eviction, &there, &spared).await;
        let count = u64::try_from(there.len() - spared.len()).unwrap_or(u64::MAX);
        Evicted { spared, count, is_nominated: true }
    }

    /// Whether the status of every pod of the group names its node now, and it still waits for one.
    async fn nominate_all(&self, eviction: &Eviction) -> bool {
        let namespace = namespace_of(&eviction.group);
        let nominations = stream::iter(eviction.nominations.clone());
        let nominate = |place: Placement| async move {
            let nominate = self.nominate(namespace, &place.pod, &place.uid, Some(&place.node));
            let waits = self.turns.take(namespace, nominate).await;
            waits.is_ok_and(|pod| pod.is_some_and(|pod| still_waits(&pod, eviction.priority)))
        };
        nominations.map(nominate).buffer_unordered(AT_ONCE).all(|waits| async move { waits }).await
    }

    /// Writes into a pod's status which node is kept for it, or none. Nothing where the pod is gone.
    ///
    /// # Errors
    /// It isn't known to stand there.
    async fn nominate(
        &self,
        namespace: &str,
        pod: &str,
        uid: &str,
        node: Option<&str>,
    ) -> Result<Option<Pod>, kube::Error> {
        let pods = self.pods(namespace);
        let patch = json!({ "metadata": { "uid": uid }, "status": { "nominatedNodeName": node } });
        let fault = match pods.patch_status(pod, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(pod) => return Ok(Some(pod)),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return Ok(None),
            Err(fault) => fault,
        };
        // Whether it was done all the same is read.
        let found = pods.get_opt(pod).await?.filter(|found| found.uid().as_deref() == Some(uid));
        let named = |pod: &Pod| pod.status.as_ref().and_then(|status| status.nominated_node_name.clone());
        match found {
            Some(found) if named(&found).as_deref() != node => Err(fault),
            found => Ok(found),
        }
    }

    /// Takes the name of a node out of the status of pods for which none is kept any more. Answers those where that failed.
    pub(crate) async fn clear(&self, nominations: Vec<Nomination>) -> Vec<Nomination> {
        let clear = |Nomination { namespace, pod, uid }: Nomination| async move {
            let fault =
                self.turns.take(&namespace, self.nominate(&namespace, &pod, &uid, None)).await.err()?;
            tracing::warn!("pod {namespace}/{pod}: its nominatedNodeName can't be cleared: {fault}");
            Some(Nomination { namespace, pod, uid })
        };
        let cleared = stream::iter(nominations).map(clear).buffer_unordered(AT_ONCE);
        cleared.filter_map(|failed| async move { failed }).collect().await
    }

    async fn look_up(&self, victim: &Victim, priority: i32) -> Found {
        let found = self.pods(&victim.namespace).get_opt(&victim.pod).await;
        match found {
            Ok(None) => Found::Going,
            Ok(Some(pod)) if is_going(&pod, &victim.uid) => Found::Going,
            Ok(Some(pod)) if priority_of(&pod) < priority => Found::There(Box::new(pod)),
            Ok(Some(_)) => {
                tracing::warn!(
                    "{}/{} isn't evicted: its priority is not lower",
                    victim.namespace,
                    victim.pod
                );
                Found::Stays
            }
            Err(fault) => {
                tracing::warn!("{}/{} can't be read: {fault}", victim.namespace, victim.pod);
                Found::Stays
            }
        }
    }

    /// Answers the UIDs of those that couldn't be.
    async fn evict_all(
        &self,
        eviction: &Eviction,
        victims: impl Iterator<Item = (&Victim, Box<Pod>)>,
        wanted: &Mutex<(Instant, bool)>,
    ) -> Vec<String> {
        let evict = |(victim, pod): (Victim, Box<Pod>)| async move {
            let evict = async {
                self.is_still_wanted(eviction, wanted).await && self.evict(eviction, &victim, &pod).await
            };
            (!self.turns.take(&victim.namespace, evict).await).then_some(victim.uid)
        };
        let victims: Vec<_> = victims.map(|(victim, pod)| (victim.clone(), pod)).collect();
        let spared = stream::iter(victims).map(evict).buffer_unordered(AT_ONCE);
        spared.filter_map(|spared| async move { spared }).collect().await
    }

    /// Whether those for whom others are evicted still wait, and for these nodes: looked at anew when that is some time ago.
    async fn is_still_wanted(&self, eviction: &Eviction, wanted: &Mutex<(Instant, bool)>) -> bool {
        let (looked, is_wanted) = &mut *wanted.lock().await;
        if *is_wanted && looked.elapsed() >= STALE {
            let waits = |place: Placement| async move {
                let pod = self.pods(namespace_of(&eviction.group)).get_opt(&place.pod).await.ok().flatten();
                pod.is_some_and(|pod| waits_for(&pod, &place) && still_waits(&pod, eviction.priority))
            };
            let all = stream::iter(eviction.nominations.clone()).map(waits).buffer_unordered(AT_ONCE);
            *is_wanted = all.all(|waits| async move { waits }).await;
            *looked = Instant::now();
            if !*is_wanted {
                tracing::warn!("{}: not all of it waits any more: nobody else is evicted", eviction.group);
            }
        }
        *is_wanted
    }

    /// Whether the victim is gone or going.
    async fn evict(&self, eviction: &Eviction, victim: &Victim, pod: &Pod) -> bool {
        let pods = self.pods(&victim.namespace);
        let Eviction { group, priority, .. } = eviction;
        let why = format!("plasma-scheduler makes room for {group}, whose priority is {priority}");
        let told = ("PreemptionByScheduler", why.as_str());
        let Err(fault) = disrupt_and_delete(&pods, pod, told).await else {
            return true;
        };
        // What it did is read, not guessed from the fault.
        let is_going = match pods.get_opt(&victim.pod).await {
            Ok(pod) => pod.is_none_or(|pod| is_going(&pod, &victim.uid)),
            Err(_) => false,
        };
        if !is_going {
            tracing::warn!("evicting {}/{}: {fault}", victim.namespace, victim.pod);
        }
        is_going
    }

    /// One event for each group that is evicted, and one for the group for which.
    async fn tell(&self, eviction: &Eviction, victims: &[&Victim], spared: &[String]) {
        let Eviction { group, priority, message, about, .. } = eviction;
        let note = format!("evicted to make room for {group}, whose priority is {priority}");
        let mut told = BTreeSet::new();
        for victim in victims.iter().filter(|victim| !spared.contains(&victim.uid)) {
            if told.insert(&victim.group) {
                let about = eviction.gangs.get(&victim.group).cloned();
                let about = about
                    .unwrap_or_else(|| event::pod_reference(&victim.namespace, &victim.pod, &victim.uid));
                let event = Told { about, is_warning: true, reason: "Preempted", note: &note };
                event::publish(&self.client, event).await;
            }
        }
        let event = Told { about: about.clone(), is_warning: false, reason: "Preempting", note: message };
        event::publish(&self.client, event).await;
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

/// Tells by the condition of a pod, as it was read, that it is taken away through no fault of its own, and why; then deletes it.
///
/// # Errors
/// One of the two failed: then whether it is deleted isn't known.
pub(crate) async fn disrupt_and_delete(
    pods: &Api<Pod>,
    pod: &Pod,
    (reason, why): (&str, &str),
) -> Result<(), kube::Error> {
    let name = pod.name_any();
    // Tells the Job controller that this is no failure of the pod's own. Without it the pod must not be deleted: it would
    // count as failed, and its job with it.
    let told = condition::disrupted(pod, reason, why);
    pods.patch_status(&name, &PatchParams::default(), &Patch::Strategic(&told)).await?;
    let preconditions = Preconditions { uid: pod.uid(), resource_version: None };
    pods.delete(&name, &DeleteParams::default().preconditions(preconditions)).await?;
    Ok(())
}

/// Whether the pod still waits for a node, at the priority for which others are evicted.
fn still_waits(pod: &Pod, priority: i32) -> bool {
    let has_node =
        pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()).is_some_and(|node| !node.is_empty());
    pod.metadata.deletion_timestamp.is_none() && !has_node && priority_of(pod) >= priority
}

/// Whether it is this pod, and its status says that this node is kept for it.
fn waits_for(pod: &Pod, place: &Placement) -> bool {
    let kept = pod.status.as_ref().and_then(|status| status.nominated_node_name.as_ref());
    pod.uid().as_ref() == Some(&place.uid) && kept == Some(&place.node)
}

/// Whether it is another pod under the name, or one that ends or has ended.
fn is_going(pod: &Pod, uid: &str) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    is_another_or_ending(pod, uid) || matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether it is another pod under the name, or one that is being deleted.
pub(crate) fn is_another_or_ending(pod: &Pod, uid: &str) -> bool {
    pod.uid().as_deref() != Some(uid) || pod.metadata.deletion_timestamp.is_some()
}

fn priority_of(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}
