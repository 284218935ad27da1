//! SettlementBatch: the receipts that one transaction settles for one rental, and the outbox that follows it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use plasma_types::{Duration, Hash, JobUid, Leaf, PodUid, RentalId, UnixMillis, UnixSeconds, Xpl};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// What is settled: written once, never changed. `docs/design/0001-first-path.md` has the formats.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "compute.plasma.dev",
    version = "v1alpha1",
    kind = "SettlementBatch",
    plural = "settlementbatches",
    shortname = "sb",
    category = "plasma",
    namespaced,
    status = "SettlementBatchStatus",
    doc = "The receipts that one transaction settles for one rental.",
    derive = "PartialEq",
    printcolumn(name = "Pods", type_ = "integer", json_path = ".spec.count"),
    printcolumn(name = "Total", type_ = "string", json_path = ".spec.total", description = "XPL"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Transaction", type_ = "string", json_path = ".status.transaction"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("spec of a SettlementBatch cannot be changed: what was recorded stays recorded"))]
pub struct SettlementBatchSpec {
    /// The ComputeQueue whose pods these are.
    #[schemars(length(max = 63))]
    pub queue: String,
    /// The rental that pays.
    #[schemars(schema_with = "schema::hash")]
    pub rental: RentalId,
    /// The chain's id.
    #[schemars(schema_with = "schema::unsigned")]
    pub chain_id: u64,
    /// The Rental contract.
    #[schemars(schema_with = "schema::address")]
    pub contract: plasma_types::Address,
    /// Sequence of the first receipt; the others count on from it.
    #[schemars(schema_with = "schema::unsigned")]
    pub first_sequence: u64,
    /// How many receipts.
    #[schemars(schema_with = "schema::unsigned32")]
    pub count: u32,
    /// The head that this batch follows.
    #[schemars(schema_with = "schema::hash")]
    pub prev_head: Hash,
    /// The head once it is settled.
    #[schemars(schema_with = "schema::hash")]
    pub head: Hash,
    /// The watermark before it, in Unix seconds: every receipt ends after it.
    #[schemars(schema_with = "schema::unsigned")]
    pub through: UnixSeconds,
    /// The watermark after it, in Unix seconds: every receipt ends by it.
    #[schemars(schema_with = "schema::unsigned")]
    pub to: UnixSeconds,
    /// The rental's prices in wei per device-second, as decimal strings, in their classes' order.
    #[schemars(length(min = 1, max = 64), inner(length(max = 39), regex(pattern = "^[0-9]+$")))]
    pub prices: Vec<String>,
    /// The longest time that one receipt of the rental bills, in milliseconds, as its contract has it.
    #[schemars(schema_with = "schema::unsigned")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Duration>,
    /// Σ amounts, in XPL.
    #[schemars(schema_with = "schema::xpl")]
    pub total: Xpl,
    /// The receipts, in ascending order of pod UID.
    #[schemars(length(min = 1, max = 512))]
    pub receipts: Vec<Receipt>,
}

/// One receipt: its leaf, and the names that the leaf has no room for.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The pod's namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// The pod's name.
    #[schemars(length(max = 253))]
    pub pod: String,
    /// The ComputeJob's name; empty for a pod of no job.
    #[schemars(length(max = 253))]
    pub job: String,
    /// The node it ran on.
    #[schemars(length(max = 253))]
    pub node: String,
    /// The pod's UID.
    #[schemars(schema_with = "schema::uid")]
    pub pod_uid: PodUid,
    /// The ComputeJob's UID.
    #[schemars(schema_with = "schema::uid")]
    pub job_uid: JobUid,
    /// The end of the billed time, in Unix milliseconds.
    #[schemars(schema_with = "schema::unsigned")]
    pub end: UnixMillis,
    /// How long the pod held its GPUs, in milliseconds.
    #[schemars(schema_with = "schema::unsigned")]
    pub duration: Duration,
    /// Σ over its GPUs of the healthy milliseconds.
    #[schemars(schema_with = "schema::unsigned")]
    pub device_ms: u64,
    /// Place of its price in `prices`.
    #[schemars(schema_with = "schema::unsigned16")]
    pub price_class: u16,
    /// The node's index in the provider's inventory; 0 until nodes are registered.
    #[schemars(schema_with = "schema::unsigned32")]
    pub node_index: u32,
    /// Which devices, one bit each; 0 where it isn't known.
    #[schemars(schema_with = "schema::unsigned")]
    pub device_mask: u64,
    /// 1 metered, 2 from pod status, 4 void, 8 simulated, 16 late.
    #[schemars(schema_with = "schema::unsigned8")]
    pub flags: u8,
    /// What the contract computes for it, in XPL.
    #[schemars(schema_with = "schema::xpl")]
    pub amount: Xpl,
}

/// The outbox: how far the payment is. Each step is durable here before the next is taken.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SettlementBatchStatus {
    /// How far the payment is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<BatchPhase>,
    /// The nonce that its transaction has, once one is reserved.
    #[schemars(schema_with = "schema::unsigned")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<u64>,
    /// Every transaction that was ever signed for it at that nonce, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// The transaction that is in a block.
    #[schemars(schema_with = "schema::optional_hash")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<Hash>,
    /// The number of that block.
    #[schemars(schema_with = "schema::unsigned")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_number: Option<u64>,
    /// The hash of that block.
    #[schemars(schema_with = "schema::optional_hash")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_hash: Option<Hash>,
    /// What it waits for, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `ChainReachable`, `Settled`.
    #[schemars(schema_with = "schema::conditions")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// One signed transaction. Replaying it is harmless, so it is no secret.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// The signed bytes, `0x…`.
    pub raw: String,
    /// The transaction's hash.
    #[schemars(schema_with = "schema::hash")]
    pub hash: Hash,
    /// The most it pays for a unit of gas, in wei, as a decimal string.
    pub max_fee_per_gas: String,
    /// The tip for a unit of gas, in wei, as a decimal string.
    pub max_priority_fee_per_gas: String,
    /// When it was signed.
    pub signed_at: Time,
}

/// How far a batch's payment is.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BatchPhase {
    /// The receipts are durable.
    Recorded,
    /// A nonce is set aside for it.
    Reserved,
    /// A transaction is signed.
    Signed,
    /// A node has been given the transaction.
    Broadcast,
    /// The transaction is in a block that may still be undone.
    Mined,
    /// The block can't be undone any more: paid.
    Final,
    /// The transaction was reverted in a final block: planned anew.
    Reverted,
}

impl Receipt {
    /// What goes on chain for it.
    pub fn leaf(&self) -> Leaf {
        Leaf {
            pod_uid: self.pod_uid,
            job_uid: self.job_uid,
            end: self.end,
            duration: self.duration,
            device_ms: self.device_ms,
            price_class: self.price_class,
            node_index: self.node_index,
            device_mask: self.device_mask,
            flags: self.flags,
        }
    }
}
