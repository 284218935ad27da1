//! The words of Plasma as Rust types: money, prices, identities, hashes, instants.
//!
//! No I/O and no Kubernetes: everything here is a value, and parsing is where a value can be wrong.

mod hash;
mod id;
mod leaf;
mod price;
mod time;
mod xpl;

pub use hash::{Hash, keccak256};
pub use id::{Address, JobUid, ParseIdError, PodUid, RentalId};
pub use leaf::{Leaf, LeafError, flag};
pub use price::{PricePerGpuHour, WeiPerGpuSecond};
pub use time::{Duration, UnixMillis, UnixSeconds};
pub use xpl::{ParseXplError, Xpl};
