//! ComputeQueue: where jobs wait, and who pays. Admins own it; a job names a queue and never a payer.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use plasma_types::{Address, PricePerGpuHour, RentalId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// Which namespaces may use the queue, and from which rental their pods are paid.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "compute.plasma.dev",
    version = "v1alpha1",
    kind = "ComputeQueue",
    plural = "computequeues",
    shortname = "cq",
    category = "plasma",
    status = "ComputeQueueStatus",
    doc = "Where jobs wait, and who pays.",
    derive = "PartialEq",
    printcolumn(name = "Namespaces", type_ = "string", json_path = ".spec.namespaces"),
    printcolumn(name = "Payer", type_ = "string", json_path = ".spec.billing.payer"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Rental", type_ = "string", json_path = ".spec.billing.rental", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(oldSelf.billing) || (has(self.billing) && self.billing.rental == oldSelf.billing.rental && self.billing.prices == oldSelf.billing.prices)")
        .message("spec.billing.rental and prices cannot be changed, the chain holds their hash: open a new rental and make a new queue"),
)]
pub struct ComputeQueueSpec {
    /// The namespaces whose jobs may name this queue.
    #[schemars(length(max = 256), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub namespaces: Vec<String>,

    /// Who pays, from which rental, at which prices. Left out: jobs run unbilled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billing: Option<Billing>,
}

/// Who pays, from which rental, at which prices.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.prices.all(price, self.prices.exists_one(other, (has(price.gpuProduct) ? price.gpuProduct : '') == (has(other.gpuProduct) ? other.gpuProduct : '')))")
        .message("spec.billing.prices must name each gpuProduct once, and have at most one entry without it"),
)]
pub struct Billing {
    /// The account that opened the rental. It is here for people to read: what pays is the rental, whoever opened it.
    #[schemars(schema_with = "schema::address")]
    pub payer: Address,
    /// The rental in the contract; nothing is ever drawn outside it.
    #[schemars(schema_with = "schema::hash")]
    pub rental: RentalId,
    /// The prices whose hash the rental holds; a price's place is its class on chain.
    #[schemars(length(min = 1, max = 64))]
    pub prices: Vec<Price>,
}

/// What one model of GPU costs.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Price {
    /// The model as the node's label `nvidia.com/gpu.product` has it. Left out: every model without a price of its own.
    #[schemars(length(min = 1, max = 63))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_product: Option<String>,
    /// XPL for one GPU for one hour, as a decimal string.
    #[schemars(schema_with = "schema::xpl")]
    pub price_per_gpu_hour: PricePerGpuHour,
}

/// What holds of a queue. No program writes it yet.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComputeQueueStatus {
    /// What holds of the queue.
    #[schemars(schema_with = "schema::conditions")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl Billing {
    /// The class that prices this model: its own entry, else the one for every other model.
    pub fn class_of(&self, gpu_product: Option<&str>) -> Option<usize> {
        let own = self
            .prices
            .iter()
            .position(|price| gpu_product.is_some() && price.gpu_product.as_deref() == gpu_product);
        own.or_else(|| self.prices.iter().position(|price| price.gpu_product.is_none()))
    }
}
