//! Joins what is told of pods, which have UIDs and times, with what the kubelet lists of devices, which has names alone.
//!
//! A name is used again within seconds, so a name never decides alone. Where a container's status names its devices
//! (Kubernetes 1.36 and later), that is the join. Elsewhere the pods are asked for just before and just after the list:
//! a pod that is there both times, not over, and the only one of its name, is the one that the list means. All else is
//! unknown until it is clear. A container keeps its devices for good, so one clear answer is enough.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    End, Holder, Holdings, Tenure,
    seen::{Listed, PodSeen, first_after},
};

/// All pods of the node that are known, and what is known of their devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenants {
    /// How the names of our resources begin: `nvidia.com/`. What a pod asks for beside them isn't looked at.
    domain: String,
    /// By UID.
    pods: BTreeMap<String, Tenant>,
    /// Of pods that came again under their UIDs, the lives before.
    former: Vec<(String, Tenant)>,
    /// Whether all pods were told of.
    synced: bool,
    /// When an earlier process knew all pods last.
    remembered_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tenant {
    namespace: String,
    name: String,
    /// When its life before this one ended.
    born_ms: Option<u64>,
    /// As the first status that said so told it, or when it was found gone without one.
    end: Option<End>,
    /// Whether nobody tells of it any more.
    gone: bool,
    containers: BTreeMap<String, Contained>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Contained {
    init: bool,
    started_ms: Option<u64>,
    /// When its newest run started.
    run_started_ms: Option<u64>,
    /// Whether it has ever finished.
    finished: bool,
    /// `None` until it is clear.
    devices: Option<BTreeSet<String>>,
    /// As it was told last: a container that is started again has another id.
    running: Option<String>,
    /// Of our resources, how many devices it asks for.
    asks: BTreeMap<String, u64>,
}

impl Tenants {
    /// None yet. `resource` is one of ours; all of ours have the same domain.
    pub fn with_resources_like(resource: &str) -> Self {
        let domain = resource.split_once('/').map_or(String::new(), |(domain, _)| format!("{domain}/"));
        Self { domain, ..Self::default() }
    }

    /// A holding that was known before this program was started, last at `last_ms`: its pod turns up, or it is gone.
    pub fn remember(&mut self, held: &Tenure, last_ms: u64) {
        let Holder { pod_uid, namespace, pod, container } = &held.holder;
        let is_missing = self.synced && !self.pods.contains_key(pod_uid);
        let tenant = self.pods.entry(pod_uid.clone()).or_default();
        if is_missing {
            (tenant.gone, tenant.end) = (true, Some(End { at_ms: last_ms, told: false }));
        }
        (tenant.namespace, tenant.name) = (namespace.clone(), pod.clone());
        let contained = tenant.containers.entry(container.clone()).or_default();
        contained.started_ms = earlier(contained.started_ms, Some(held.started_ms));
        contained.devices.get_or_insert_default().insert(held.device.clone());
        self.remembered_ms = self.remembered_ms.max(last_ms);
    }

    /// A life of a pod that an earlier process recorded to its end: what its containers did until then was in that life.
    /// To be told after what is held still.
    pub fn remember_end(&mut self, uid: &str, end_ms: u64) {
        match self.pods.get_mut(uid) {
            Some(tenant) => tenant.begin_after(end_ms),
            None => {
                let end = Some(End { at_ms: end_ms, told: true });
                self.pods.insert(uid.to_owned(), Tenant { end, gone: true, ..Tenant::default() });
            }
        }
    }

    /// An end is final for what ran until then. What a pod of that UID runs later is another life, with an end of its own: a
    /// static pod, whose UID is made of its manifest, comes again under the same one.
    fn begin_anew(&mut self, seen: &PodSeen) {
        let ended = self.pods.get_mut(&seen.uid).and_then(|tenant| Some((tenant.end?.at_ms, tenant)));
        let Some((end_ms, tenant)) = ended.filter(|(end_ms, _)| seen.ran_after(*end_ms)) else { return };
        let former = std::mem::replace(tenant, Tenant { born_ms: Some(end_ms), ..Tenant::default() });
        self.former.push((seen.uid.clone(), Tenant { gone: true, ..former }));
    }

    /// Takes in what is told of a pod. In whatever order it is told, the outcome is the same: an end is final, and the
    /// earliest start counts. `at_ms` is when the pod ended at the latest, where it is over and doesn't say itself.
    pub fn observe(&mut self, seen: &PodSeen, at_ms: u64) {
        self.begin_anew(seen);
        let tenant = self.pods.entry(seen.uid.clone()).or_default();
        (tenant.namespace, tenant.name) = (seen.namespace.clone(), seen.name.clone());
        let of_this_life = tenant.born_ms.map(|born_ms| seen.after(born_ms));
        let seen = of_this_life.as_ref().unwrap_or(seen);
        if seen.over {
            tenant.end.get_or_insert_with(|| seen.end(at_ms));
        }
        for seen in &seen.containers {
            let contained = tenant.containers.entry(seen.name.clone()).or_default();
            contained.init = seen.init;
            contained.running.clone_from(&seen.running);
            let ours = seen.asks.iter().filter(|(resource, _)| resource.starts_with(&self.domain));
            contained.asks = ours.map(|(resource, count)| (resource.clone(), *count)).collect();
            contained.started_ms = earlier(contained.started_ms, seen.started_ms);
            contained.run_started_ms = contained.run_started_ms.max(seen.run_started_ms);
            contained.finished |= seen.finished_ms.is_some();
            if contained.devices.is_none() && !seen.devices.is_empty() {
                contained.devices = Some(seen.devices.iter().cloned().collect());
            }
        }
    }

    /// A pod is gone. `at_ms` is when it ended at the latest, where it didn't say itself.
    pub fn remove(&mut self, uid: &str, at_ms: u64) {
        if let Some(tenant) = self.pods.get_mut(uid) {
            tenant.gone = true;
            tenant.end.get_or_insert(End { at_ms, told: false });
        }
    }

    /// All pods that there are were told of: who isn't among them went meanwhile, after `last_ms`, when all were known
    /// last.
    pub fn synced(&mut self, present: &BTreeSet<String>, last_ms: u64) {
        self.synced = true;
        let last_ms = last_ms.max(self.remembered_ms);
        let missing = self.pods.iter().filter(|(uid, tenant)| !tenant.gone && !present.contains(*uid));
        let missing: Vec<String> = missing.map(|(uid, _)| uid.clone()).collect();
        for uid in missing {
            self.remove(&uid, last_ms);
        }
    }

    /// Takes in a list of devices, and the pods as they were just before and just after it was made.
    pub fn assign(&mut self, before: &[PodSeen], listed: &[Listed], after: &[PodSeen]) {
        let mut times = BTreeMap::<(&str, &str, &str), u32>::new();
        for one in listed {
            *times.entry((&one.namespace, &one.pod, &one.container)).or_default() += 1;
        }
        for one in listed.iter().filter(|one| times[&(&*one.namespace, &*one.pod, &*one.container)] == 1) {
            let (Some(pod), Some(same)) = (only(before, one), only(after, one)) else { continue };
            if pod.uid != same.uid {
                continue;
            }
            // What hasn't started may not have been given its devices yet.
            let started =
                pod.containers.iter().any(|had| had.name == one.container && had.started_ms.is_some());
            if !started && one.devices.is_empty() {
                continue;
            }
            let Some(tenant) = self.pods.get_mut(&pod.uid) else { continue };
            let contained = tenant.containers.entry(one.container.clone()).or_default();
            contained.devices.get_or_insert_with(|| one.devices.iter().cloned().collect());
        }
    }

    /// Whether a list of devices would tell something new.
    pub fn wants_list(&self) -> bool {
        let open = self.pods.values().filter(|tenant| tenant.end.is_none());
        let is_wanted = |one: &Contained| one.devices.is_none() && (!one.init || one.runs());
        self.synced && open.flat_map(|tenant| tenant.containers.values()).any(is_wanted)
    }

    /// Of the pods that have started and aren't over, the one that started first and of which it isn't clear what it
    /// holds: when it started, and its namespace and name.
    pub fn unclear(&self) -> Option<(u64, String)> {
        let open = self.pods.values().filter(|tenant| tenant.end.is_none());
        let unclear = open.filter_map(|tenant| {
            let unclear = |one: &Contained| {
                one.devices.is_none() && one.started_ms.is_some() && (!one.init || tenant.has_side_car(one))
            };
            let is_unclear = tenant.containers.values().any(unclear);
            let since_ms = tenant.started_ms().filter(|_| is_unclear)?;
            Some((since_ms, format!("{}/{}", tenant.namespace, tenant.name)))
        });
        unclear.min()
    }

    /// Who was given what, and isn't over. Unknown while it isn't clear what some container that has started holds; known in
    /// part while an init container runs that was given more than its pod's other containers, of which nobody ever tells.
    pub fn holdings(&self) -> Holdings {
        let open = || self.pods.iter().filter(|(_, tenant)| tenant.end.is_none());
        if !self.synced || self.unclear().is_some() {
            return Holdings::Unknown;
        }
        let mut holders = BTreeMap::<String, Vec<Holder>>::new();
        for (uid, tenant) in open() {
            for (device, container) in tenant.devices() {
                holders.entry(device.clone()).or_default().push(tenant.holder(uid, container));
            }
        }
        match open().any(|(_, tenant)| tenant.holds_untold()) {
            true => Holdings::Partly(holders),
            false => Holdings::Known(holders),
        }
    }

    /// Who runs now, with the runtime's id of the container.
    pub fn running(&self) -> BTreeMap<Holder, String> {
        let open = self.pods.iter().filter(|(_, tenant)| tenant.end.is_none());
        let of_pod = |(uid, tenant): (&String, &Tenant)| {
            let running =
                tenant.containers.iter().filter_map(|(name, one)| Some((name, one.running.clone()?)));
            running.map(|(name, id)| (tenant.holder(uid, name), id)).collect::<Vec<_>>()
        };
        open.flat_map(of_pod).collect()
    }

    /// Every holding that has begun, with its end where there is one.
    pub fn tenures(&self) -> Vec<Tenure> {
        let mut tenures = Vec::new();
        let former = self.former.iter().map(|(uid, tenant)| (uid, tenant));
        for (uid, tenant) in former.chain(&self.pods) {
            let Some(started_ms) = tenant.started_ms() else { continue };
            let end = tenant.end.map(|end| End { at_ms: end.at_ms.max(started_ms), ..end });
            for (device, container) in tenant.devices() {
                let (device, holder) = (device.clone(), tenant.holder(uid, container));
                tenures.push(Tenure { device, holder, started_ms, end });
            }
        }
        tenures
    }

    /// Forgets the pods that are gone and ended before that moment.
    pub fn forget_before(&mut self, ms: u64) {
        let matters = |tenant: &Tenant| !tenant.gone || tenant.end.is_some_and(|end| end.at_ms >= ms);
        self.pods.retain(|_, tenant| matters(tenant));
        self.former.retain(|(_, tenant)| matters(tenant));
    }
}

impl Contained {
    fn runs(&self) -> bool {
        self.started_ms.is_some() && !self.finished
    }
}

impl Tenant {
    /// What it did until then was in a life before this one, if it did anything since.
    fn begin_after(&mut self, end_ms: u64) {
        let since = |one: &Contained| first_after([one.started_ms, one.run_started_ms], end_ms).is_some();
        if self.containers.values().any(since) {
            self.born_ms = Some(end_ms);
            for one in self.containers.values_mut() {
                one.started_ms = first_after([one.started_ms, one.run_started_ms], end_ms);
            }
        }
    }

    /// When its first container started: all its devices are its own from then on, as the kubelet gives them together.
    fn started_ms(&self) -> Option<u64> {
        self.containers.values().filter_map(|one| one.started_ms).min()
    }

    /// Its devices, each with the container that it was given to. The kubelet gives what an init container had to another
    /// container again, and that one counts.
    fn devices(&self) -> BTreeMap<&String, &String> {
        let mut devices = BTreeMap::new();
        for is_init in [false, true] {
            for (container, one) in self.containers.iter().filter(|(_, one)| one.init == is_init) {
                for device in one.devices.iter().flatten() {
                    devices.entry(device).or_insert(container);
                }
            }
        }
        devices
    }

    /// Whether an init container of it is a side-car: the others start when all plain ones have finished.
    fn has_side_car(&self, init: &Contained) -> bool {
        init.runs() && self.containers.values().any(|one| !one.init && one.started_ms.is_some())
    }

    /// Whether an init container of it runs that has devices which aren't told. The kubelet gives what such a container had to
    /// the pod's other containers, as far as they ask for as many; theirs are told.
    fn holds_untold(&self) -> bool {
        let others = || self.containers.values().filter(|one| !one.init && one.devices.is_some());
        let told = |resource: &String| {
            others()
                .filter_map(|one| one.asks.get(resource))
                .fold(0_u64, |sum, count| sum.saturating_add(*count))
        };
        let runs = |one: &&Contained| one.init && one.running.is_some() && one.devices.is_none();
        let has_more = |one: &Contained| one.asks.iter().any(|(resource, count)| *count > told(resource));
        self.containers.values().filter(runs).any(has_more)
    }

    fn holder(&self, uid: &str, container: &str) -> Holder {
        Holder {
            pod_uid: uid.to_owned(),
            namespace: self.namespace.clone(),
            pod: self.name.clone(),
            container: container.to_owned(),
        }
    }
}

/// The one pod of that name that isn't over; none where there are several.
fn only<'a>(pods: &'a [PodSeen], listed: &Listed) -> Option<&'a PodSeen> {
    let named = |pod: &&PodSeen| !pod.over && pod.name == listed.pod && pod.namespace == listed.namespace;
    let mut named = pods.iter().filter(named);
    named.next().filter(|_| named.next().is_none())
}

fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests;
