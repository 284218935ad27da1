//! Which pods have finished, or are gone, and wait for their receipts.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::ListParams};
use plasma_api::names::{GANG_LABEL, JOB_UID_LABEL};
use plasma_settlement_core::{Usage, measure};
use plasma_types::{JobUid, PodUid, UnixMillis};

use crate::{
    bill::{Bill, Prices},
    cost::JobKey,
    failure::Failure,
    meter::{Need, gone::Gone},
    pods,
    settle::{Surroundings, now_millis},
};

/// A pod that runs no more and waits for its receipt.
pub(crate) struct Finished {
    pub(crate) pod: Pod,
    pub(crate) pod_uid: PodUid,
    /// When it was first seen to run no more.
    pub(crate) seen: UnixMillis,
    pub(crate) bill: Bill,
}

impl Finished {
    /// The job that its receipt is told to.
    pub(crate) fn job_uid(&self) -> Option<JobUid> {
        let label = self.pod.labels().get(JOB_UID_LABEL)?;
        label.parse().ok()
    }

    /// The job, where the pod waits for a receipt.
    pub(crate) fn waits_for_receipt(&self) -> Option<JobKey> {
        let Bill::Receipt(receipt) = &self.bill else { return None };
        Some((self.job_uid()?, (self.pod.namespace()?, receipt.job.clone())))
    }
}

/// A pod that is over, with what its status says.
pub(crate) struct Over {
    pub(crate) pod_uid: PodUid,
    pub(crate) pod: Pod,
    /// What its status says that it used.
    pub(crate) usage: Usage,
    /// When it was first seen to run no more.
    pub(crate) seen: UnixMillis,
}

/// Reads the finished pods, and remembers those that run: one that vanishes gets a receipt all the same.
#[derive(Default)]
pub(crate) struct Collector {
    held: HashMap<PodUid, Pod>,
    /// When each was first seen to run no more: however long it waits for its receipt, it used nothing afterwards.
    seen_over: HashMap<PodUid, UnixMillis>,
    gone: Gone,
}

impl Collector {
    /// Reads the finished pods, and what prices them.
    pub(crate) async fn collect(&mut self, around: &Surroundings) -> Result<Vec<Finished>, Failure> {
        let pods: Api<Pod> = Api::all(around.client.clone());
        let of_gangs = ListParams::default().labels(GANG_LABEL);
        let listed = pods.list(&of_gangs).await.map_err(Failure::kube("listing pods"))?;
        let held = listed.into_iter().filter(pods::is_held);
        let held: HashMap<PodUid, Pod> =
            held.filter_map(|pod| Some((pod.uid()?.parse().ok()?, pod))).collect();
        let mut vanished = Vec::new();
        for (uid, pod) in &self.held {
            // One that only lost its label or our finalizer is let alone: whoever may do that has answered for it.
            if !held.contains_key(uid) && pods::is_gone(&around.client, pod).await? {
                vanished.push((*uid, pod.clone()));
            }
        }
        let over = self.over(&held, &vanished);
        // A vanished one is remembered until it has its receipt.
        self.held = held.into_iter().chain(vanished).collect();
        if over.is_empty() {
            return Ok(Vec::new());
        }
        let prices = Prices::read(around).await?;
        // Where nobody knows whether a node is gone, it isn't.
        if let Err(failure) = self.gone.look(&around.client, &prices.awaited_nodes(&over)).await {
            around.try_again("nodes", &failure);
        }
        let bill = |over: Over| {
            let bill = prices.bill(&over, &self.gone);
            Finished { pod: over.pod, pod_uid: over.pod_uid, seen: over.seen, bill }
        };
        Ok(over.into_iter().map(bill).collect())
    }

    fn over(&mut self, held: &HashMap<PodUid, Pod>, vanished: &[(PodUid, Pod)]) -> Vec<Over> {
        let now = now_millis();
        let is_over = held.iter().filter(|(_, pod)| pods::is_over(pod, now)).map(|(uid, pod)| (*uid, pod));
        let all: Vec<_> = is_over.chain(vanished.iter().map(|(uid, pod)| (*uid, pod))).collect();
        let uids: HashSet<PodUid> = all.iter().map(|(uid, _)| *uid).collect();
        self.seen_over.retain(|uid, _| uids.contains(uid));
        let over = |(pod_uid, pod): (PodUid, &Pod)| {
            let seen = *self.seen_over.entry(pod_uid).or_insert(now);
            Over { pod_uid, pod: pod.clone(), usage: measure(&pods::run_of(pod, seen)), seen }
        };
        all.into_iter().map(over).collect()
    }

    /// Who needs what that node tells of a pod.
    pub(crate) fn need(&self, node: &str, pod: PodUid) -> Need {
        match self.held.get(&pod).map(pods::node) {
            None => Need::Nobody,
            Some(its) if its == Some(node) => Need::Receipt,
            Some(_) => Need::OtherNode,
        }
    }

    /// These are recorded, or have nothing to be paid.
    pub(crate) fn forget(&mut self, pods: &[PodUid]) {
        pods.iter().for_each(|uid| drop(self.held.remove(uid)));
    }
}
