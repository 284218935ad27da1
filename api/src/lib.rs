//! Plasma's Kubernetes kinds as Rust types: what users write, what programs report, and the names they share.
//!
//! The YAML in `crds/` is generated from here; CEL rules stand beside the fields they guard.
//! This crate knows the shape of objects and nothing of how to reach a cluster.

// Every printcolumn repeats names such as `type_`; clippy takes that for a mistake.
#![allow(clippy::duplicated_attributes)]
// KubeSchema copies each struct into a function, where its `pub` reaches nobody.
#![allow(unreachable_pub)]

pub mod compute_job;
pub mod compute_queue;
pub mod condition;
mod finalizer;
pub mod gang;
pub mod gpu_node;
mod gpus;
pub mod names;
mod runs;
mod schema;
pub mod settlement_batch;
pub mod size;

pub use compute_job::{ComputeJob, ComputeJobSpec, ComputeJobStatus};
pub use compute_queue::{ComputeQueue, ComputeQueueSpec};
pub use finalizer::release_patch;
pub use gang::{Gang, GangSpec, GangStatus};
pub use gpu_node::{GpuNode, GpuNodeSpec, GpuNodeStatus};
pub use gpus::{NotWhole, devices, gpus};
pub use runs::{has_run, is_told, started_at};
pub use settlement_batch::{SettlementBatch, SettlementBatchSpec, SettlementBatchStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// Every kind of Plasma, in the order in which a newcomer should meet them.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![ComputeJob::crd(), ComputeQueue::crd(), Gang::crd(), GpuNode::crd(), SettlementBatch::crd()]
}

#[cfg(test)]
mod tests;
