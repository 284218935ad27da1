//! What is read from the cluster.

use std::time::Duration;

use kube::{
    Api, Client, Config, ResourceExt as _,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
    core::DeserializeGuard,
};
use plasma_api::{ComputeJob, SettlementBatch};
use plasma_settlement_core::Recorded;
use plasma_types::{JobUid, WeiPerGpuSecond};

use crate::{args::Connection, failure::Failure, output};

/// How long the API server may be silent: nothing here watches.
const SILENCE: Duration = Duration::from_secs(30);

/// A cluster and a namespace in it.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    system_namespace: String,
}

impl Cluster {
    /// The cluster that the kubeconfig names.
    pub(crate) async fn connect(connection: &Connection) -> Result<Self, Failure> {
        let config = |fault| Failure::Config(Box::new(fault));
        let options =
            KubeConfigOptions { context: connection.context.clone(), ..KubeConfigOptions::default() };
        let kubeconfig = Kubeconfig::read().map_err(config)?;
        let mut found = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(config)?;
        let namespace = connection.namespace.clone().unwrap_or_else(|| found.default_namespace.clone());
        found.read_timeout = Some(SILENCE);
        let client = Client::try_from(found).map_err(Failure::kube("the Kubernetes client"))?;
        Ok(Self { client, namespace, system_namespace: connection.system_namespace.clone() })
    }

    /// A ComputeJob, and its UID.
    pub(crate) async fn job(&self, name: &str) -> Result<(JobUid, ComputeJob), Failure> {
        let jobs: Api<ComputeJob> = Api::namespaced(self.client.clone(), &self.namespace);
        let job = jobs.get_opt(name).await.map_err(Failure::kube("reading the ComputeJob"))?;
        let missing = || Failure::NotFound {
            kind: "ComputeJob",
            namespace: self.namespace.clone(),
            name: name.to_owned(),
        };
        job.and_then(|job| job.job_uid().map(|uid| (uid, job))).ok_or_else(missing)
    }

    /// Every batch of Plasma's own namespace, by rental and sequence: one that somebody made elsewhere is no record.
    pub(crate) async fn batches(&self) -> Result<Vec<SettlementBatch>, Failure> {
        let namespace = &self.system_namespace;
        let batches = Api::namespaced(self.client.clone(), namespace);
        let listed = batches.list(&ListParams::default()).await;
        let listed =
            listed.map_err(Failure::kube(&format!("listing the SettlementBatches of {namespace}")))?;
        let mut found: Vec<_> = listed.items.into_iter().filter_map(readable).collect();
        found.sort_by_key(|batch| (batch.spec.rental, batch.spec.first_sequence));
        Ok(found)
    }

    /// How the lack of receipts is told.
    pub(crate) fn no_receipts(&self, job: &str) -> Failure {
        let job = format!("{}/{job}", self.namespace);
        Failure::NoReceipts { job, system_namespace: self.system_namespace.clone() }
    }
}

/// A batch, or what is wrong with it, said aside: one that can't be read hides no others.
fn readable(batch: DeserializeGuard<SettlementBatch>) -> Option<SettlementBatch> {
    match batch.0 {
        Ok(batch) => Some(batch),
        Err(fault) => {
            let name = fault.metadata.name.as_deref().unwrap_or_default();
            output::note(&format!("SettlementBatch {name} is left out: it can't be read: {fault}"));
            None
        }
    }
}

/// A stored batch as the core verifies it.
pub(crate) fn recorded(batch: &SettlementBatch) -> Result<Recorded, Failure> {
    let spec = &batch.spec;
    let price = |text: &String| {
        let parsed = text.parse().map(WeiPerGpuSecond);
        parsed.map_err(|fault| Failure::Batch(batch.name_any(), format!("price {text:?}: {fault}")))
    };
    Ok(Recorded {
        name: batch.name_any(),
        rental: spec.rental,
        first_sequence: spec.first_sequence,
        prev_head: spec.prev_head,
        head: spec.head,
        to: spec.to,
        prices: spec.prices.iter().map(price).collect::<Result<_, _>>()?,
        leaves: spec.receipts.iter().map(|receipt| (receipt.leaf(), receipt.amount)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_cannot_be_read_hides_no_others() {
        let malformed = serde_json::json!({
            "apiVersion": "compute.plasma.dev/v1alpha1", "kind": "SettlementBatch",
            "metadata": { "name": "odd" }, "spec": { "count": 4_294_967_296_u64 },
        });
        let guarded: DeserializeGuard<SettlementBatch> =
            serde_json::from_value(malformed).expect("an object");
        assert_eq!(readable(guarded), None);
    }
}
