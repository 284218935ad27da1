//! What settlement decides: what a pod's receipt says, which receipts make a batch, how its payment is followed, and
//! whether what stands on chain is what was recorded.
//!
//! Pure: pods, chain and clock are arguments. Formats are those of `docs/design/0001-first-path.md`.

mod batch;
mod head;
mod leaf;
mod outbox;
mod standing;
mod usage;
mod verify;

pub use batch::{Batch, Position, plan_batch};
pub use head::{genesis, next_head, price_hash};
pub use leaf::{Leaf, LeafError, flag};
pub use outbox::{Attempt, ChainView, Follow, MinedAt, Payment, Seen, Stage, follow};
pub use standing::{Standing, standing};
pub use usage::{ContainerRun, PodRun, Usage, measure};
pub use verify::{ChainBatch, ChainPod, Difference, Recorded, verify};
