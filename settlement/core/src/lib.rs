//! What settlement decides: what a pod's receipt says, which receipts make a batch, how its payment is followed, and
//! whether what stands on chain is what was recorded.
//!
//! Pure: pods, chain and clock are arguments. Formats are those of `docs/design/0001-first-path.md`.

use plasma_types::Duration;

mod batch;
mod beside;
mod head;
mod ledger;
mod maturity;
mod metered;
mod node_clock;
mod outbox;
mod source;
mod standing;
mod usage;
mod verify;

// A receipt's leaf is a word that its object in the cluster shares.
pub use plasma_types::{Leaf, LeafError, flag};

pub use batch::{Batch, Position, Terms, Unbilled, plan_batch};
pub use beside::{Beside, beside};
pub use head::{genesis, next_head, price_hash};
pub use ledger::{FromTheFuture, Ledger, Line, OutOfOrder, Place, Sums};
pub use maturity::{Kept, Progress, Unreleased, is_ripe, unreleased};
pub use metered::{Held, Kind, Life, PodMeter, Told, Unit, WHOLE};
pub use node_clock::NodeClock;
pub use outbox::{Attempt, ChainView, Follow, MinedAt, Payment, Refusal, Seen, Stage, follow};
pub use source::{Evidence, Extent, NodeMeter, Source, Why, source};
pub use standing::{Span, Standing, is_whole, standing};
pub use usage::{ContainerRun, PodRun, Usage, measure};
pub use verify::{ChainBatch, ChainPod, Difference, Recorded, each_is_recorded, verify};

/// So far two clocks of a cluster may be apart, and so far one is put right at once, while that is no fault: NTP keeps them
/// within a second, and a machine that has just started needs a while.
pub const CLOCKS: Duration = Duration(60_000);
