//! Why a group is not planned over.

use crate::unsupported::Unsupported;

/// Why pods are not planned over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aside {
    /// Fewer pods exist than must start together.
    Gathering {
        /// How many exist.
        there: usize,
        /// How many must.
        needed: usize,
        /// How many there are beside them that have failed.
        failed: usize,
    },
    /// Somebody wants them to wait: some pods have a scheduling gate.
    Gated {
        /// The first gate by name.
        gate: String,
        /// How many pods have one.
        pods: usize,
        /// How many pods there are.
        of: usize,
    },
    /// They can't be scheduled here.
    Refused(Unsupported),
    /// Something must be there first, or be gone: what, in words.
    Awaits(String),
    /// Pods of an upstream PodGroup that start together have no gang yet: somebody must make it.
    NoGang {
        /// The PodGroup's UID.
        uid: String,
        /// How many pods must start together.
        min_count: usize,
        /// The PodGroup's priority.
        priority: i32,
    },
    /// Their label names a gang that isn't there: how many must start together isn't known.
    GangMissing,
    /// Their labels name the gang, but another job than its own.
    OfAnotherJob,
}
