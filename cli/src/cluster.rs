//! What is read from the cluster.

use kube::{
    Api, Client, Config, ResourceExt as _,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use plasma_api::{ComputeJob, SettlementBatch};
use plasma_settlement_core::Recorded;
use plasma_types::{JobUid, WeiPerGpuSecond};

use crate::{args::Connection, failure::Failure};

/// A cluster and a namespace in it.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Cluster {
    /// The cluster that the kubeconfig names.
    pub(crate) async fn connect(connection: &Connection) -> Result<Self, Failure> {
        let config = |fault| Failure::Config(Box::new(fault));
        let options =
            KubeConfigOptions { context: connection.context.clone(), ..KubeConfigOptions::default() };
        let kubeconfig = Kubeconfig::read().map_err(config)?;
        let found = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(config)?;
        let namespace = connection.namespace.clone().unwrap_or_else(|| found.default_namespace.clone());
        let client = Client::try_from(found).map_err(Failure::kube("the Kubernetes client"))?;
        Ok(Self { client, namespace })
    }

    /// The UID of a ComputeJob.
    pub(crate) async fn job_uid(&self, name: &str) -> Result<JobUid, Failure> {
        let jobs: Api<ComputeJob> = Api::namespaced(self.client.clone(), &self.namespace);
        let job = jobs.get_opt(name).await.map_err(Failure::kube("reading the ComputeJob"))?;
        let missing = || Failure::NotFound {
            kind: "ComputeJob",
            namespace: self.namespace.clone(),
            name: name.to_owned(),
        };
        job.and_then(|job| job.job_uid()).ok_or_else(missing)
    }

    /// Every batch, by rental and sequence.
    pub(crate) async fn batches(&self) -> Result<Vec<SettlementBatch>, Failure> {
        let batches: Api<SettlementBatch> = Api::all(self.client.clone());
        let listed =
            batches.list(&ListParams::default()).await.map_err(Failure::kube("listing SettlementBatches"))?;
        let mut found = listed.items;
        found.sort_by_key(|batch| (batch.spec.rental, batch.spec.first_sequence));
        Ok(found)
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
