//! What the scheduler decides: which pods go where, all of a gang or none of it, and if not, why, in numbers.
//!
//! Pure: a snapshot goes in, a plan comes out. Nothing here reads a clock or a cluster.

mod filter;
mod journal;
mod missing;
mod node;
mod plan;
mod pod;
mod quantity;
mod question;
mod search;
mod supported;

pub use filter::Refusal;
pub use journal::{Bound, Next, SLACK_SECONDS, next};
pub use node::{Node, Taint};
pub use plan::{Blocker, Decision, Gang, Placement, Plan, Snapshot, plan};
pub use pod::{Affinity, NodeTerm, Operator, Pod, Requirement, Toleration, requests, shared_resource};
pub use quantity::{ParseQuantityError, Quantity, Resources};
pub use supported::{Unsupported, understand};
