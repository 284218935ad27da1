//! What the meters' records add up to, kept in the cluster: so that a node may forget the records of a pod that runs for long.
//!
//! One ConfigMap a node, in our own namespace, with the place in the node's journal up to which it stands for all records.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use plasma_settlement_core::{Place, Sums};

use super::Meters;
use crate::failure::Failure;

/// So often what a node told is kept, where a pod that runs holds its records back.
const EVERY: Duration = Duration::from_secs(600);
/// So many records that are held back are kept sooner: a node that was cut off for long brings many.
const MANY: u64 = 20_000;
/// What a node told isn't kept more often than this, whatever it tells.
const SELDOM: Duration = Duration::from_secs(30);
/// Label of the objects: which node each is of stands in it.
const LABEL: (&str, &str) = ("compute.plasma.dev/meter-sums", "true");

/// Keeps sums, and remembers how its objects stood.
pub(crate) struct Keeper {
    objects: Api<ConfigMap>,
    /// By node.
    kept: HashMap<String, Kept>,
}

struct Kept {
    /// When, and as which version.
    at: Instant,
    version: Option<String>,
    /// What was written since then without an answer.
    tried: Vec<Place>,
}

impl Kept {
    fn new() -> Self {
        Self { at: Instant::now(), version: None, tried: Vec::new() }
    }

    /// Whether all that an object stands for is in, at this place. What is of another journal, or can't be read, is somebody
    /// else's, unless we wrote it.
    fn knows_all_of(&self, object: &ConfigMap, at: &Place) -> bool {
        read(object).is_ok_and(|(_, Sums { place, .. })| {
            self.tried.contains(&place) || (place.journal == at.journal && place.through <= at.through)
        })
    }
}

impl Keeper {
    /// What was kept: the keeper, and each node's sums.
    ///
    /// # Errors
    /// When it can't be read. Then no node may be heard: what it was told to forget would be missed.
    pub(crate) async fn load(
        client: Client,
        namespace: &str,
    ) -> Result<(Self, Vec<(String, Sums)>), Failure> {
        let objects: Api<ConfigMap> = Api::namespaced(client, namespace);
        let selector = ListParams::default().labels(&format!("{}={}", LABEL.0, LABEL.1));
        let listed = objects.list(&selector).await;
        let listed = listed.map_err(Failure::kube("reading what the meters told (ConfigMaps)"))?;
        let (mut kept, mut all) = (HashMap::new(), Vec::new());
        for object in listed {
            match read(&object) {
                Ok((node, sums)) => {
                    kept.insert(node.clone(), Kept { version: object.resource_version(), ..Kept::new() });
                    all.push((node, sums));
                }
                Err(why) => tracing::error!(
                    "ConfigMap {}: {why}: what it kept of running pods is not billed. Delete it",
                    object.name_any()
                ),
            }
        }
        Ok((Self { objects, kept }, all))
    }

    /// Keeps what is due, and has the nodes forget it; says which node's could not be kept.
    pub(crate) async fn keep(&mut self, meters: &Meters) -> Vec<(String, Failure)> {
        let mut failures = Vec::new();
        for (node, held_back) in meters.held_back() {
            if !self.is_due(&node, held_back) {
                continue;
            }
            let Some(sums) = meters.sums(&node) else { continue };
            match self.put(&node, &sums).await {
                Ok(()) => meters.kept(&node, &sums.place),
                Err(fault) => {
                    let what =
                        format!("keeping what the meter of node {node} told (ConfigMap {})", name(&node));
                    failures.push((node, Failure::kube(what)(fault)));
                }
            }
        }
        failures.extend(self.tidy(meters).await);
        failures
    }

    /// Writes a node's sums.
    async fn put(&mut self, node: &str, sums: &Sums) -> Result<(), kube::Error> {
        let kept = self.kept.entry(node.to_owned()).or_insert_with(Kept::new);
        // Also after a failure: it isn't tried again in each round.
        kept.at = Instant::now();
        kept.tried.push(sums.place.clone());
        let written = match write(&self.objects, node, sums, kept.version.clone()).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                // Our own write whose answer was lost, or somebody who knows no more than we do, or nobody any more.
                let found = self.objects.get_opt(&name(node)).await?;
                if found.as_ref().is_some_and(|found| !kept.knows_all_of(found, &sums.place)) {
                    return Err(kube::Error::Api(status));
                }
                write(&self.objects, node, sums, found.and_then(|found| found.resource_version())).await
            }
            written => written,
        };
        kept.version = written?;
        kept.tried.clear();
        Ok(())
    }

    fn is_due(&mut self, node: &str, held_back: u64) -> bool {
        // A node that is new begins to wait now.
        let kept = self.kept.entry(node.to_owned()).or_insert_with(Kept::new);
        let waited = kept.at.elapsed();
        waited >= EVERY || (held_back >= MANY && waited >= SELDOM)
    }

    /// Takes away what stands for no pod any more.
    async fn tidy(&mut self, meters: &Meters) -> Vec<(String, Failure)> {
        let idle: Vec<String> = self.kept.keys().filter(|node| !meters.remembers(node)).cloned().collect();
        let mut failures = Vec::new();
        for node in idle {
            if self.kept.get(&node).is_some_and(|kept| kept.version.is_some()) {
                let deleted = self.objects.delete(&name(&node), &DeleteParams::default()).await;
                match deleted.map(drop) {
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(fault) => {
                        let what = format!("deleting ConfigMap {}", name(&node));
                        failures.push((node, Failure::kube(what)(fault)));
                        continue;
                    }
                    Ok(()) => {}
                }
            }
            self.kept.remove(&node);
        }
        failures
    }
}

fn name(node: &str) -> String {
    format!("plasma-meter-{node}")
}

fn read(object: &ConfigMap) -> Result<(String, Sums), String> {
    let data = object.data.clone().unwrap_or_default();
    let node = data.get("node").ok_or("it names no node")?;
    let sums = data.get("sums").ok_or("it has no sums")?;
    let sums = serde_json::from_str(sums).map_err(|fault| format!("its sums can't be read: {fault}"))?;
    Ok((node.clone(), sums))
}

/// Writes over that version, and over no other: who wrote another one may know more.
async fn write(
    objects: &Api<ConfigMap>,
    node: &str,
    sums: &Sums,
    before: Option<String>,
) -> Result<Option<String>, kube::Error> {
    let text = serde_json::to_string(sums).map_err(kube::Error::SerdeError)?;
    let labels = BTreeMap::from([(LABEL.0.to_owned(), LABEL.1.to_owned())]);
    let data = [("node".to_owned(), node.to_owned()), ("sums".to_owned(), text)];
    let object = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name(node)),
            labels: Some(labels),
            resource_version: before.clone(),
            ..ObjectMeta::default()
        },
        data: Some(data.into()),
        ..ConfigMap::default()
    };
    let written = match before {
        None => objects.create(&PostParams::default(), &object).await,
        Some(_) => objects.replace(&name(node), &PostParams::default(), &object).await,
    };
    Ok(written?.resource_version())
}

#[cfg(test)]
mod tests;
