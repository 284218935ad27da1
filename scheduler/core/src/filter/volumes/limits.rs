//! How many volumes of a driver a node can attach.

use std::collections::{HashMap, HashSet};

use super::{Refusal, VolumeFilter, claim_of};
use crate::{
    cluster::Cluster,
    node::Node,
    pod::Pod,
    storage::{Claim, CsiNode, Source, Storage, driver_of_plugin},
};

/// A volume as it counts towards its driver's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Counted<'a> {
    driver: &'a str,
    name: CountedName<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum CountedName<'a> {
    /// What the driver calls it.
    Handle(&'a str),
    /// The claim for which it will be made.
    Claim(&'a str),
}

/// A driver that can't attach so many more there, or that isn't there.
pub(super) fn refusal(cluster: &Cluster, pod: &Pod, node: &Node) -> Option<Refusal> {
    let storage = &cluster.storage;
    let here = storage.nodes.get(&node.name);
    let mut new = HashSet::new();
    if let Err(refusal) = count(storage, pod, here, true, &mut new) {
        return Some(refusal);
    }
    let is_missing = |driver: &&str| {
        let must_be_there = storage.drivers.get(*driver).is_some_and(|driver| driver.must_be_there);
        must_be_there && !here.is_some_and(|here| here.has(driver))
    };
    if let Some(driver) = new.iter().map(|counted| counted.driver).filter(is_missing).min() {
        return Some(Refusal::DriverMissing(driver.to_owned()));
    }
    let here = here.filter(|here| here.has_limits() && !new.is_empty())?;
    let mut attached = HashSet::new();
    for other in node.pods.iter().filter_map(|id| cluster.known(*id)) {
        if let Err(refusal) = count(storage, &other.pod, Some(here), false, &mut attached) {
            return Some(refusal);
        }
    }
    new.retain(|counted| !attached.contains(counted));
    attached.extend(being_attached(storage, node));
    let mut by_driver: HashMap<&str, (i64, i64)> = HashMap::new();
    new.iter().for_each(|counted| by_driver.entry(counted.driver).or_default().0 += 1);
    attached.iter().for_each(|counted| by_driver.entry(counted.driver).or_default().1 += 1);
    let exceeds = |(driver, (more, there)): &(&str, (i64, i64))| {
        *more > 0 && here.limit(driver).is_some_and(|limit| there + more > limit)
    };
    let (driver, _) = by_driver.into_iter().filter(exceeds).min()?;
    Some(Refusal::TooManyVolumes(driver.to_owned()))
}

/// The volumes of a pod that count. Of a pod that is there already, what can't be found isn't counted.
fn count<'a>(
    storage: &'a Storage,
    pod: &'a Pod,
    here: Option<&CsiNode>,
    is_new: bool,
    counted: &mut HashSet<Counted<'a>>,
) -> Result<(), Refusal> {
    for wanted in &pod.claims {
        match claim_of(storage, pod, wanted, VolumeFilter::Limits) {
            Ok(claim) => counted.extend(of_claim(storage, &wanted.key, claim, here)),
            Err(_) if !is_new && !storage.claims.contains_key(&wanted.key) => {}
            Err(refusal) => return Err(refusal),
        }
    }
    let inline = pod.kind.volumes.iter().flat_map(|volumes| &volumes.inline);
    for source in inline.filter(|_| here.is_some()) {
        match source {
            Ok(source) => counted.insert(named(source)),
            Err(why) => return Err(Refusal::ClaimNotUsable(VolumeFilter::Limits, why.clone())),
        };
    }
    Ok(())
}

fn named(source: &Source) -> Counted<'_> {
    Counted { driver: &source.driver, name: CountedName::Handle(&source.handle) }
}

/// The volume that a claim has; of one that has none yet, the volume that it will get by its class.
fn of_claim<'a>(
    storage: &'a Storage,
    key: &'a str,
    claim: &'a Claim,
    here: Option<&CsiNode>,
) -> Option<Counted<'a>> {
    if let Some(volume) = claim.volume.as_ref().and_then(|name| storage.volumes.get(name)) {
        let source = volume.source.as_ref();
        let counts =
            |source: &&Source| !source.handle.is_empty() && (source.plugin.is_none() || here.is_some());
        return source.filter(counts).map(named);
    }
    let provisioner: &str = &storage.classes.get(&claim.class)?.provisioner;
    let driver = match driver_of_plugin(provisioner) {
        None => provisioner,
        Some(driver) => driver.ok().filter(|_| here.is_some())?,
    };
    (!driver.is_empty()).then_some(Counted { driver, name: CountedName::Claim(key) })
}

/// What is attached to the node, or about to be, whether or not a pod there uses it.
fn being_attached<'a>(storage: &'a Storage, node: &Node) -> impl Iterator<Item = Counted<'a>> {
    storage.attached_to(&node.name).filter(|attachment| !attachment.driver.is_empty()).filter_map(
        |attachment| {
            let volume = storage.volumes.get(attachment.volume.as_ref()?)?;
            let source = volume.source.as_ref().filter(|source| source.plugin.is_none())?;
            Some(Counted { driver: &attachment.driver, name: CountedName::Handle(&source.handle) })
        },
    )
}
