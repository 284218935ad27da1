//! What the scheduler decides: which pods go where, all of a gang or none of it, and if not, why, in numbers.
//!
//! Pure: what the watches say goes in, a plan comes out. Nothing here reads a clock or a cluster.

mod amounts;
mod around;
mod aside;
mod cluster;
mod document;
mod elastic;
mod filter;
mod gang;
mod journal;
mod labels;
mod missing;
mod node;
mod notice;
mod order;
mod outlook;
mod places;
mod plan;
mod pod;
mod pod_group;
mod preempt;
mod quantity;
mod question;
mod read;
mod replay;
mod requests;
mod search;
mod storage;
mod sweep;
#[cfg(test)]
mod testing;
mod unsupported;

pub use aside::Aside;
pub use cluster::{
    ClaimName, Cluster, Fault, Names, Nomination, Served, StorageKind, Verdict, VolumeStep, VolumesState,
    is_single, namespace_of, upstream_key, upstream_names,
};
pub use document::{
    AttachmentDocument, BudgetDocument, CapacityDocument, ClaimDocument, ClassDocument, ConditionDocument,
    CsiDriverDocument, CsiNodeDocument, Meta, NamespaceDocument, NodeDocument, PodDocument, PodGroupDocument,
    StorageMeta, Taint, VolumeDocument,
};
pub use filter::{Refusal, VolumeFilter};
pub use gang::GangFacts;
pub use journal::{Bound, Next, SLACK_SECONDS, Stand, next};
pub use notice::{NotScheduled, Unplaced};
pub use plan::{Blocker, Decision, Placement, Victim};
pub use quantity::{ParseQuantityError, Quantity};
pub use replay::Outdated;
pub use unsupported::Unsupported;
